"""Files that are written whole or not at all, for their owner alone, with an error that names the place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "atomic_file",
    "ensure_writable",
    "hash_file",
    "hash_stream",
    "make_folder",
    "open_private",
    "printable",
    "private_umask",
    "remove_files",
    "unwritable",
    "write_text",
]

# What holds pixels or names of patients is its owner's alone.
_PRIVATE_FILE, _PRIVATE_FOLDER, _BY_UMASK = 0o600, 0o700, 0o666
_PROBE = ".writable-"


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, private: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing such that its name holds either the old content or the new one, whenever we are killed.

    What is written goes to ``<name>.partial`` beside it, which reaches the disk before it is renamed, when the block
    ends without an error. It is removed when the block fails, and what a kill leaves is replaced the next time.

    Args:
        path: path of the file to write; its folder has to exist.
        private: whether only its owner may read it, from the first byte on; else the process's umask says who may.

    Yields:
        The open file.

    Raises:
        UnusableInputError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"whole")
        >>> path.read_bytes(), oct(path.stat().st_mode & 0o777)
        (b'whole', '0o600')
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open_private(partial, _PRIVATE_FILE if private else _BY_UMASK) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        failure = _failed_write(error)
        if failure is None:
            raise
        raise unwritable(path, failure) from error


def open_private(path: Path, mode: int = _PRIVATE_FILE) -> BinaryIO:
    """Open a new file for writing that nobody else may read, in the place of any other of its name.

    Args:
        path: path of the file. A link of that name is replaced, not followed.
        mode: who may read and write it, as for :func:`os.open`.

    Raises:
        OSError: if it cannot be written.
    """
    # A file that is there already would keep its mode.
    path.unlink(missing_ok=True)
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))


def _failed_write(error: BaseException | None) -> OSError | None:
    """The error of the disk behind another one: torch.save puts its own in front."""
    while isinstance(error, RuntimeError):
        error = error.__cause__ or error.__context__
    return error if isinstance(error, OSError) else None


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing; those that are made are their owner's alone.

    Args:
        folder: path of the folder.

    Raises:
        UnusableInputError: if it cannot be made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "a", "b")
        >>> make_folder(folder)
        >>> oct(folder.parent.stat().st_mode & 0o777)
        '0o700'
    """
    try:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        folder.mkdir(exist_ok=True)  # says what is wrong where it is no folder
    except OSError as error:
        raise unwritable(folder, error) from error


@contextmanager
def private_umask() -> Iterator[None]:
    """Let other packages, such as TensorBoard, write files that only their owner may read; of the whole process."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def ensure_writable(folder: Path) -> None:
    """Make a folder and try to write into it, before an hour is spent on what goes there.

    Args:
        folder: made with its parents when missing.

    Raises:
        UnusableInputError: if that fails.
    """
    make_folder(folder)
    try:
        open_private(folder / f"{_PROBE}{os.getpid()}").close()
    except OSError as error:
        raise unwritable(folder, error) from error
    remove_files(folder.glob(f"{_PROBE}*"))  # also what was left by a run that was killed here


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
    with Path(path).open("rb") as stream:
        return hash_stream(stream)


def hash_stream(stream: BinaryIO) -> str:
    """SHA-256 of what is left of an open file, in hexadecimal digits."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files where they are there, and what a killed run has left of writing them.

    Args:
        paths: paths of the files.

    Raises:
        UnusableInputError: if one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".partial").unlink(missing_ok=True)
        except NotADirectoryError:
            continue
        except OSError as error:
            raise unwritable(path, error) from error


def write_text(path: Path, text: str, *, private: bool = True) -> None:
    """Write a UTF-8 file by an atomic rename; file names that are no UTF-8 keep their bytes.

    Args:
        path: path of the file to write or replace.
        text: what goes in, line ends unchanged.
        private: as for :func:`atomic_file`.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    with atomic_file(path, private=private) as file:
        file.write(text.encode("utf-8", errors="surrogateescape"))


def unwritable(path: Path, error: OSError) -> UnusableInputError:
    """The error for a place that cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return UnusableInputError(
            f"{path}: cannot be written, since it is, or lies below, a file where a folder is wanted. Give another "
            "--output_dir."
        )
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
