"""Files that are written whole or not at all, with an error that names the folder, and checked stores of arrays."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "ArrayStore",
    "atomic_file",
    "ensure_writable",
    "hash_file",
    "printable",
    "remove_files",
    "unwritable",
    "write_text",
]


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing such that its name holds either the old content or the new one, whenever we are killed.

    What is written goes to ``<name>.partial`` beside it, which is renamed when the block ends without an error; a
    leftover of a kill is overwritten the next time.

    Args:
        path: path of the file to write; its folder has to exist.

    Yields:
        The open file.

    Raises:
        OSError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def ensure_writable(folder: Path) -> None:
    """Make a folder and try to write into it, before an hour is spent on what goes there.

    Args:
        folder: made with its parents when missing.

    Raises:
        UnusableInputError: if that fails.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the content of a file, in hexadecimal digits.

    Args:
        path: path of the file; it is read in blocks, so that its size does not matter.

    Raises:
        OSError: if it cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> _ = path.write_bytes(b"abc")
        >>> hash_file(path)[:16]  # FIPS 180-4, appendix B.1
        'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files where they are there.

    Raises:
        UnusableInputError: if one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file by an atomic rename; file names that are no UTF-8 keep their bytes.

    Args:
        path: path of the file to write or replace.
        text: what goes in, line ends unchanged.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    try:
        with atomic_file(path) as file:
            file.write(text.encode("utf-8", errors="surrogateescape"))
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UnusableInputError:
    """The error for a place that cannot be written."""
    return UnusableInputError(
        f"{path}: cannot be written ({error.strerror or error}). Give an --output_dir on a disk with free space where "
        "you may write."
    )


def printable(text: str) -> str:
    """Make a file's name safe for a terminal and for HTML: what cannot be printed is shown as an escape.

    Example:
        >>> printable("a\\x1b[2Jb.png")
        'a\\\\x1b[2Jb.png'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


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
        """Read a cell; ``None`` if there is none of this key, or it is damaged and has to be made again.

        Args:
            name: name of the cell, a relative path without suffix.
            key: key of all that the cell was made from.
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
            name: name of the cell.
            key: key of all that the cell was made from.
            arrays: arrays by name.

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
