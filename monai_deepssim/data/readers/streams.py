"""Files that may be compressed, read no further than their header says."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from monai_deepssim.errors import UnusableInputError

__all__ = ["inflated_head", "is_compressed", "open_stream", "read_exactly"]

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
_CHUNK = 2**20
# What may lie behind the voxels of a volume without its header saying so.
_SPARE_BYTES = 2**24


def is_compressed(path: str | Path) -> bool:
    """Whether the content, not the name, is gzip or bzip2."""
    with open(path, "rb") as file:
        return file.read(3).startswith((_GZIP, _BZIP2))


@contextmanager
def open_stream(path: str | Path) -> Iterator[BinaryIO | gzip.GzipFile | bz2.BZ2File]:
    """Open a file for reading, through gzip or bzip2 where its content is that, whatever its name says."""
    with open(path, "rb") as file:
        magic = file.read(3)
        file.seek(0)
        if magic.startswith(_GZIP):
            with gzip.open(file) as stream:
                yield stream
        elif magic.startswith(_BZIP2):
            with bz2.open(file) as stream:
                yield stream
        else:
            yield file


def inflated_head(head: bytes) -> bytes | None:
    """Return the first bytes of what a file holds: unpacked where that is gzip, ``None`` where it is bzip2.

    The blocks of bzip2 are too large to unpack their beginning alone.

    Example:
        >>> inflated_head(gzip.compress(b"voxels")), inflated_head(b"voxels"), inflated_head(bz2.compress(b"voxels"))
        (b'voxels', b'voxels', None)
    """
    if head.startswith(_BZIP2):
        return None
    if not head.startswith(_GZIP):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, len(head))
    except zlib.error:
        return b""


def read_exactly(file: str | Path, num_bytes: int) -> bytes:
    """Unpack a compressed file of which the header has told the size, to the end, where the checksum is.

    Args:
        file: Path of the file.
        num_bytes: Bytes to return.

    Returns:
        The first ``num_bytes``, or fewer where there are no more.

    Raises:
        UnusableInputError: it goes on much longer than the header says, as a decompression bomb does.
        Exception: what gzip or bzip2 raise for a damaged stream.
    """
    with open_stream(file) as stream:
        content = stream.read(num_bytes)
        spare = 0
        while chunk := stream.read(_CHUNK):
            spare += len(chunk)
            if spare > _SPARE_BYTES:
                raise UnusableInputError(
                    f"{file}: the file unpacks to more than {(num_bytes + _SPARE_BYTES):,} bytes, and its header tells "
                    f"{num_bytes:,}. Export it again, or remove it."
                )
    return content
