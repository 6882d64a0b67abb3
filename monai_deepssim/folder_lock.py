"""One run in a folder at a time: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ensure_writable, unwritable
from monai_deepssim.progress import warn

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LOCK_FILE", "locked_folder"]

#: The file in the folder that is locked, and names the process that holds it. A kill leaves the file and no lock.
LOCK_FILE = ".lock"

# Windows keeps others from reading what is locked: a byte behind all that is written.
_LOCKED_BYTE = 1 << 20
_IS_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}
_HAS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass
class _Lock:
    """A folder that this process holds."""

    file: int
    thread: int
    depth: int = 0


_locks: dict[str, _Lock] = {}
_guard = threading.Lock()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep all other processes, and other threads of this one, out of an output folder while the block runs.

    The lock is the operating system's, which takes it back when the process ends or is killed; processes that it has
    forked, such as those that read images, do not keep it. A training in several processes is one run: the first of
    them (``RANK`` 0) holds the lock.

    Args:
        folder: made when missing.

    Raises:
        UnusableInputError: if another run is at work in it, or it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with locked_folder(folder), locked_folder(folder):  # a step of the same run may ask for it again
        ...     (folder / LOCK_FILE).exists()
        True
        >>> list(folder.iterdir())
        []
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    ensure_writable(folder)
    name = os.path.realpath(folder)
    with _guard:
        if name not in _locks:
            _locks[name] = _Lock(_acquire(folder), threading.get_ident())
        lock = _locks[name]
        if lock.thread != threading.get_ident():
            raise _in_use(folder, "another thread of this process")
        lock.depth += 1
    try:
        yield
    finally:
        with _guard:
            lock.depth -= 1
            if not lock.depth:
                _release(name, _locks.pop(name).file)


def _acquire(folder: Path) -> int:
    path = folder / LOCK_FILE
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            _lock(file)
            if not _is_at(path, file):  # the run that held it has ended in this moment, and removed it
                os.close(file)
                continue
            holder = {"process": os.getpid(), "host": socket.gethostname(), "since": _now()}
            os.ftruncate(file, 0)
            os.write(file, json.dumps(holder).encode())
        except OSError as error:
            if error.errno in _HAS_NO_LOCKS:
                warn(f"{folder} is on a file system without locks: nothing keeps a second run out of this folder.")
                return file
            os.close(file)
            if error.errno in _IS_HELD:
                raise _in_use(folder, _name_holder(path)) from error
            raise unwritable(path, error) from error
        return file


def _release(folder: str, file: int) -> None:
    # Removed while it is locked: who has opened it by then sees that it is gone.
    with suppress(OSError):
        os.unlink(os.path.join(folder, LOCK_FILE))
    os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _lock(file: int) -> None:
    if sys.platform == "win32":
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _name_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only begun, or says nothing
        return "another process"


def _in_use(folder: Path, holder: str) -> UnusableInputError:
    return UnusableInputError(
        f"--output_dir: another run is at work in {folder} ({holder}). Wait until it has ended, or give another "
        "--output_dir."
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _forget_locks() -> None:
    """Let a forked process hold no lock: it would keep the folder locked when it outlives a parent that was killed."""
    for lock in _locks.values():
        with suppress(OSError):
            os.close(lock.file)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
