"""Files of which every byte is checked when they are read: what is damaged is named and made again, never believed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.files import atomic_file, hash_file, make_folder, remove_files, unwritable
from monai_deepssim.progress import warn

__all__ = [
    "IN_MEMORY",
    "ArrayStore",
    "discard_damaged",
    "read_sealed",
    "read_sealed_array",
    "write_sealed",
    "write_sealed_array",
]

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


def write_sealed_array(path: Path, array: np.ndarray, notes: Mapping[str, Any]) -> np.ndarray:
    """Write an array and, after it, its notes with the SHA-256 of both.

    Args:
        path: path of the array, ``<name>.npy``; the notes go to ``<name>.json`` beside it. Its folder has to exist.
        array: what is written.
        notes: what :func:`json.dumps` takes.

    Returns:
        The array as it was read back, mapped from its file.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array))
    with atomic_file(path) as file:
        file.write(stream.getbuffer())
    # The notes go last: when they are there, so is the array, and they say which bytes it has.
    write_sealed(path.with_suffix(".json"), {**notes, "sha256": hashlib.sha256(stream.getbuffer()).hexdigest()})
    written = read_sealed_array(path)
    if written is None:
        raise unwritable(path, OSError("what was written is not what is there"))
    return written[0]


def read_sealed_array(
    path: Path, fits_name: Callable[[Any], bool] = lambda _: True
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Map an array that :func:`write_sealed_array` wrote, with its notes; ``None`` where a byte of them has changed.

    Files that are damaged are named on the terminal and removed.

    Args:
        path: path of the array.
        fits_name: whether notes are those of a file of this name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.npy")
        >>> write_sealed_array(path, np.arange(3), {"of": "an example"}).tolist()
        [0, 1, 2]
        >>> read_sealed_array(path)[1]["of"]
        'an example'
    """
    notes = read_sealed(path.with_suffix(".json"))
    if notes is None:
        return None
    try:
        if not fits_name(notes):  # somebody has renamed it
            raise ValueError("its name does not fit")
        if hash_file(path) != notes["sha256"]:
            raise ValueError("its checksum does not fit")
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)), notes
    except (OSError, ValueError) as error:
        remove_files([path.with_suffix(".json")])
        discard_damaged(path, error)
        return None


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
