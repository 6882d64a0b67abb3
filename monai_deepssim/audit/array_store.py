"""Arrays on disk that are read again only if they belong to the same inputs: what makes a grid of cells resumable."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_deepssim.files import atomic_file, unwritable

__all__ = ["ArrayStore"]


class ArrayStore:
    """The cells of a grid that are known, a file each, so that a run that was interrupted goes on where it stopped.

    Args:
        directory: of the files; made when the first is written.

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
        """Read a cell; ``None`` if there is none of this key, or it is damaged and has to be made again.

        Args:
            name: of the cell, a relative path without suffix.
            key: of all that it was made of.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    return None
                return {field: arrays[field] for field in arrays.files if field != "key"}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, name: str, key: str, arrays: Mapping[str, np.ndarray | float]) -> None:
        """Write a cell, whole or not at all.

        Args:
            name: of the cell.
            key: of all that it was made of.
            arrays: by name.

        Raises:
            UnusableInputError: if it cannot be written.
        """
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                np.savez(file, key=np.array(key), **arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise unwritable(path, error) from error

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npz"
