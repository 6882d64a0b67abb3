"""Files of which every byte is checked when they are read: what is damaged is named and made again, never believed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.files import atomic_file, make_folder, remove_files
from monai_deepssim.progress import warn

__all__ = ["IN_MEMORY", "ArrayStore", "discard_damaged", "read_sealed", "write_sealed"]

#: In the place of an output folder where nothing is to be written; there is no folder of that name, nor can there be.
IN_MEMORY = Path(os.devnull)

_SEALED = re.compile(rb'\{"sha256": "([0-9a-f]{64})", "content": (.*)\}\n', re.DOTALL)


def write_sealed(path: Path, content: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Write plain values as JSON, with the SHA-256 of all that follows it.

    Args:
        path: path of the file; its folder has to exist.
        content: what :func:`json.dumps` takes.
        default: as for :func:`json.dumps`.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    text = json.dumps(content, default=default).encode()
    with atomic_file(path) as file:
        file.write(b'{"sha256": "%s", "content": %s}\n' % (hashlib.sha256(text).hexdigest().encode(), text))


def read_sealed(path: Path) -> Any:
    """Read what :func:`write_sealed` wrote; ``None`` where there is no such file, or one in which a byte has changed.

    A file that is damaged is named on the terminal and removed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.json")
        >>> write_sealed(path, {"score": 0.5})
        >>> read_sealed(path)
        {'score': 0.5}
    """
    if not path.is_file():
        return None
    try:
        sealed = _SEALED.fullmatch(path.read_bytes())
        if sealed is None or hashlib.sha256(sealed[2]).hexdigest().encode() != sealed[1]:
            raise ValueError("its checksum does not fit")
        return json.loads(sealed[2])
    except (OSError, ValueError, RecursionError) as error:
        discard_damaged(path, error)
        return None


def discard_damaged(path: Path, error: object) -> None:
    """Name a file that cannot be believed, and remove it, so that it is made again.

    Raises:
        UnusableInputError: if it cannot be removed.
    """
    warn(f"{path}: is damaged ({error}), and what it held is computed again.")
    remove_files([path])


class ArrayStore:
    """The cells of a grid that are known, a file each, so that a run that was interrupted goes on where it stopped.

    Args:
        directory: folder of the files; made when the first is written.

    Example:
        >>> import tempfile
        >>> store = ArrayStore(Path(tempfile.mkdtemp()))
        >>> store.save("ssim/none", "key of the inputs", {"scores": np.ones(2)})
        >>> store.load("ssim/none", "key of the inputs")
        {'scores': array([1., 1.])}
        >>> store.load("ssim/none", "key of other inputs") is None
        True
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, name: str, key: str) -> dict[str, np.ndarray] | None:
        """Read a cell; ``None`` if there is none of this key, or it is damaged, which is said.

        Args:
            name: name of the cell, a relative path without suffix.
            key: key of all that the cell was made from.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {field: archive[field] for field in archive.files}
            if str(arrays.pop("sha256", "")) != _digest_of_arrays(arrays):
                raise ValueError("its checksum does not fit")
        # A changed byte can be anywhere: in a header, a name, a length, the kind of a compression.
        except Exception as error:
            discard_damaged(path, error)
            return None
        return arrays if str(arrays.pop("key")) == key else None

    def save(self, name: str, key: str, arrays: Mapping[str, np.ndarray | float]) -> None:
        """Write a cell, whole or not at all.

        Args:
            name: name of the cell.
            key: key of all that the cell was made from.
            arrays: arrays by name.

        Raises:
            UnusableInputError: if it cannot be written.
        """
        path = self._path(name)
        make_folder(path.parent)
        content = {name: np.asarray(value) for name, value in {**arrays, "key": key}.items()}
        with atomic_file(path) as file:
            np.savez(file, sha256=np.array(_digest_of_arrays(content)), **content)  # type: ignore[arg-type]

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npz"


def _digest_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode() + array.tobytes())
    return digest.hexdigest()
