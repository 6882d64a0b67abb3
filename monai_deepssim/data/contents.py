"""What the files of images held when they were hashed: the bytes that are read are the bytes that were hashed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import torch

from monai_deepssim.data.derived_image import DerivedImage
from monai_deepssim.data.items import files_of
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import hash_stream

__all__ = [
    "CHANGED",
    "DAMAGED",
    "UNREADABLE",
    "FileChangedError",
    "FileContent",
    "check_unchanged",
    "content_of",
    "digest_of_images",
    "hash_items",
    "kind_of_problem",
    "read_unchanged",
]

#: Kinds of problems of an image: the file is bad, could not be read this time, or changed after it was hashed.
DAMAGED, UNREADABLE, CHANGED = "damaged", "unreadable", "changed"

Item = Mapping[str, Any]
Read = TypeVar("Read")
State = tuple[int, ...]
# Times that a file which is touched while it is read is read again.
_ATTEMPTS = 3
_ADVICE = "Leave the images alone while they are audited, and start again."


class FileChangedError(UnusableInputError):
    """A file holds something else than what was hashed."""


class FileUnreadableError(UnusableInputError):
    """A file could not be read, and perhaps can be another time."""


class FileContent(NamedTuple):
    """What a file held at one moment.

    Attributes:
        sha256: SHA-256 in hexadecimal digits; of a file that cannot be read, ``unreadable:`` and why.
        state: inode, size in bytes and times of change in nanoseconds, as they were before and after the file was
            hashed, on whichever machine; ``None`` where it cannot be read.
    """

    sha256: str
    state: State | None


def hash_items(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Hash the files of images, each once; from then on only images with this content are read.

    Args:
        items: as :func:`~monai_deepssim.data.list_images` lists them. What has ``contents`` is not hashed again.

    Returns:
        The items with ``contents``: a :class:`FileContent` for each of their files, which :func:`load_slice` and
        :class:`~monai_deepssim.data.ImageDataset` compare with the file when they have read it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> _ = path.write_bytes(b"abc")
        >>> content_of(hash_items([{"image": str(path)}])[0])[:16]  # FIPS 180-4, appendix B.1
        'ba7816bf8f01cfea'
    """
    known: dict[str, FileContent] = {}
    shared: dict[tuple[str, ...], tuple[FileContent, ...]] = {}
    hashed = []
    for item in items:
        files = files_of(item)
        if "contents" not in item and files not in shared:
            known.update({file: _read_content(file) for file in files if file not in known})
            shared[files] = tuple(known[file] for file in files)
        hashed.append({**item, "contents": item["contents"] if "contents" in item else shared[files]})
    return hashed


def content_of(item: Item) -> str:
    """Digest of the content of an image: of its files, parted by blanks; of a tensor; or of what it is made of.

    Args:
        item: one of :func:`hash_items`; the files of another one are hashed now.

    Returns:
        SHA-256 in hexadecimal digits, several of a series; ``unreadable:`` and why for a file that cannot be read.
    """
    image = item["image"]
    if isinstance(image, torch.Tensor):
        return hashlib.sha256(image.numpy().tobytes()).hexdigest()
    if isinstance(image, DerivedImage):
        sources = [digest_of_images([source]) for source in image.sources]
        return hashlib.sha256(json.dumps([image.identity, *sources]).encode()).hexdigest()
    contents = item["contents"] if "contents" in item else hash_items([item])[0]["contents"]
    return " ".join(content.sha256 for content in contents)


def digest_of_images(items: Sequence[Item]) -> str:
    """SHA-256 over what images are and hold: path, slice, window and content.

    Args:
        items: as for :func:`content_of`. A file that cannot be read counts as such.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for item in items:
        named = [str(item.get(name)) for name in ("path", "slice", "slice_axis")]
        named += [item["window"]] if item.get("window") else []
        named += ["volume", str(item.get("spacing") or "")] if item.get("volume") else []
        digest.update(json.dumps([*named, *content_of(item).split(" ")]).encode())
    return digest.hexdigest()


def read_unchanged(item: Item, read: Callable[[], Read]) -> Read:
    """Read an image, and see that its files held all the while what they held when they were hashed.

    A file whose state has changed is hashed again, and if it still holds the same, what was read of it is read again:
    nothing else tells whether it held something else in between.

    Args:
        item: one of :func:`hash_items`; the files of another one are read as they are.
        read: reads the image.

    Returns:
        What ``read`` returns.

    Raises:
        FileChangedError: if a file holds something else.
        FileUnreadableError: if a file could not be read, now or when it was hashed.
        UnusableInputError: what ``read`` raises of files that have not changed.
    """
    known = dict(zip(files_of(item), item.get("contents", ()), strict=False))
    for _ in range(_ATTEMPTS):
        problem = None
        try:
            result = read()
        except UnusableInputError as error:
            problem = error
        touched = [file for file, content in known.items() if _state_now(file, problem) != content.state]
        if not touched:
            if problem is not None:
                raise problem
            return result
        known.update({file: _same_content(file, known[file], problem) for file in touched})
    raise FileChangedError(f"{touched[0]}: is written to all the while. {_ADVICE}")


def check_unchanged(items: Iterable[Item]) -> None:
    """See that the files of images still hold what they held when they were hashed.

    Args:
        items: some of :func:`hash_items`.

    Raises:
        FileChangedError: naming files that do not.
    """
    pairs = (pair for item in items for pair in zip(files_of(item), item.get("contents", ()), strict=False))
    changed = []
    for file, content in dict(pairs).items():
        try:
            if content.state is not None and _state_now(file) != content.state:
                _same_content(file, content)
        except UnusableInputError as error:
            changed.append(str(error))
    if changed:
        more = f" And {len(changed) - 1} more files have changed." if changed[1:] else ""
        raise FileChangedError(changed[0] + more)


def kind_of_problem(error: UnusableInputError) -> str:
    """Tell a bad file (:data:`DAMAGED`) from one that changed, and from one that may be readable the next time.

    Example:
        >>> kind_of_problem(UnusableInputError("a.png: every pixel is 0"))
        'damaged'
    """
    if isinstance(error, FileChangedError):
        return CHANGED
    cause: BaseException | None = error
    while cause is not None:
        # Parsers raise OSError without a number for what they cannot parse, and seek to where there is no place.
        has_number = isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL)
        if has_number or isinstance(cause, (MemoryError, FileUnreadableError)):
            return UNREADABLE
        cause = cause.__cause__
    return DAMAGED


def _read_content(file: str) -> FileContent:
    for _ in range(_ATTEMPTS):
        try:
            with Path(file).open("rb") as stream:
                state = _state_of(stream)
                sha256 = hash_stream(stream)
                if _state_of(stream) == state:
                    return FileContent(sha256, state)
        except OSError as error:
            return FileContent(f"unreadable: {error.strerror}", None)
    raise FileChangedError(f"{file}: is written to while it is read. {_ADVICE}")


def _state_of(stream: BinaryIO) -> State:
    found = os.fstat(stream.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _state_now(file: str, problem: UnusableInputError | None = None) -> State:
    try:
        # Opened, since a network share asks its server only then.
        with Path(file).open("rb") as stream:
            return _state_of(stream)
    except OSError as error:
        raise FileUnreadableError(str(problem or f"{file}: cannot be read ({error.strerror}). {_ADVICE}")) from error


def _same_content(file: str, content: FileContent, problem: UnusableInputError | None = None) -> FileContent:
    """The content of a file in its new state; an error where it is another one."""
    now = _read_content(file)
    if content.state is None:
        raise FileUnreadableError(str(problem or f"{file}: could not be read when it was hashed ({content.sha256})."))
    if now.sha256 != content.sha256:
        raise FileChangedError(
            f"{file}: changed while the audit was running: it had SHA-256 {content.sha256}, now {now.sha256}. {_ADVICE}"
        )
    return now
