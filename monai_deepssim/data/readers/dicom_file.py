"""DICOM files as bytes: known by their content, their elements read up to the pixels, lengths checked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.filereader import dcmread, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from monai_deepssim.data.readers.limits import MAX_DICOM_PIXELS, MAX_INFLATED_BYTES
from monai_deepssim.errors import UnusableInputError

__all__ = [
    "PixelElement",
    "check_length",
    "is_cut_short",
    "is_dicom",
    "read_dataset",
    "read_elements",
]

_MAX_PLAIN_READ = 2**16  # bytes; most elements are smaller, and asking for the position takes time
_HEAD_BYTES = 132  # the preamble and the letters DICM
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_VRS = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)
# Groups 0002 and 0008 begin with short elements: UIDs of 64 bytes, dates and names.
_LONGEST_FIRST_ELEMENT = 1024


@dataclass(frozen=True)
class PixelElement:
    """The element of a file that holds its pixels.

    Attributes:
        keyword: ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
        num_bytes: Its length as the file says it; ``None`` where it is compressed, or the whole file is.
        num_bytes_left: What is left of the file behind the beginning of the pixels.
    """

    keyword: str
    num_bytes: int | None
    num_bytes_left: int


class _BoundedFile(io.BufferedReader):
    """A file of which no more is read than there is: a damaged length of 4 GB would ask for as much memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._num_bytes = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_PLAIN_READ:
            size = min(size, max(0, self._num_bytes - self.tell()))
        return super().read(size)


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, by its first 132 bytes: with the preamble of the standard, or without.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"<html><body>404</body></html>")
        (True, False)
    """
    return head[128:132] == b"DICM" or any(_has_elements(head, order) for order in "<>")


def _has_elements(head: bytes, order: str) -> bool:
    """Whether bytes begin with an element of group 0002 or 0008 and another one of a higher tag."""
    position, last_tag = 0, 0
    for _ in range(2):
        if position + 8 > len(head):
            return False
        group, element, vr, short_length = struct.unpack_from(f"{order}HH2sH", head, position)
        tag = group << 16 | element
        length = short_length if vr in _VRS else struct.unpack_from(f"{order}L", head, position + 4)[0]
        is_first = position == 0
        if tag <= last_tag or (is_first and (group not in (0x0002, 0x0008) or length > _LONGEST_FIRST_ELEMENT)):
            return False
        position, last_tag = position + 8 + length, tag
    return vr in _VRS or order == "<"  # only explicit types are written in big endian


def read_elements(path: Path, tags: Sequence[str | int]) -> tuple[Dataset, PixelElement | None]:
    """Read some elements of a DICOM file, and where its pixels are, without reading these.

    Args:
        path: Path of the file.
        tags: Keywords or tags.

    Returns:
        The elements, with the transfer syntax in ``file_meta``; and the element with the pixels, ``None`` for none.

    Raises:
        UnusableInputError: The content is not DICOM, or grows beyond the limit when it is inflated.
    """
    pixels: list[tuple[str, int, int]] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXEL_KEYWORDS:
            pixels.append((_PIXEL_KEYWORDS[int(tag)], length, 8 if vr is None else 12))
        return bool(pixels)

    force = _checked_head(path)
    with _BoundedFile(path) as file:
        dataset = read_partial(file, at_pixels, force=force, specific_tags=[Tag(tag) for tag in tags])
        num_bytes_left = path.stat().st_size - file.tell()
    _complete_transfer_syntax(dataset)
    if not pixels:
        return dataset, None
    keyword, length, header_length = pixels[-1]
    is_plain = dataset.file_meta.TransferSyntaxUID in _PLAIN_SYNTAXES and length != _UNDEFINED_LENGTH
    return dataset, PixelElement(keyword, length if is_plain else None, num_bytes_left - header_length)


def read_dataset(path: Path) -> Dataset:
    """Read a whole DICOM file, pixels too, with the transfer syntax in ``file_meta``."""
    force = _checked_head(path)
    with _BoundedFile(path) as file:
        dataset = dcmread(file, force=force)
    _complete_transfer_syntax(dataset)
    return dataset


def _checked_head(path: Path) -> bool:
    """Check that a file is DICOM by content; return whether it lacks the preamble."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if not is_dicom(head):
            raise UnusableInputError(
                f"{path}: the file cannot be read as DICOM: its content begins with {head[:16]!r}, which is something "
                "else or damaged. Export it again, or remove it."
            )
        meta = file.read(1024)
    if str(DeflatedExplicitVRLittleEndian).encode() in head + meta:
        _check_inflated_size(path)
    return head[128:132] != b"DICM"


def _check_inflated_size(path: Path) -> None:
    """Inflate a deflated file piece by piece, without keeping it, to see that it stays within the limit."""
    content = path.read_bytes()
    inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), content[_end_of_meta(content) :], 0
    while rest and not inflater.eof:
        try:
            piece = inflater.decompress(rest, 2**24)
        except zlib.error as error:
            raise UnusableInputError(f"{path}: the deflated DICOM file cannot be read ({error}).") from error
        rest, size = inflater.unconsumed_tail, size + len(piece)
        if size > MAX_INFLATED_BYTES:
            raise UnusableInputError(
                f"{path}: the deflated DICOM file of {len(content):,} bytes grows beyond {MAX_INFLATED_BYTES:,}, "
                "which is more than is read. Remove it."
            )


def _end_of_meta(content: bytes) -> int:
    """Return where group 0002 ends, which is never deflated: PS3.10 7.1, PS3.5 7.1.2."""
    position = _HEAD_BYTES
    while content[position : position + 2] == b"\x02\x00":
        if content[position + 4 : position + 6] in (b"OB", b"UN"):
            position += 12 + int.from_bytes(content[position + 8 : position + 12], "little")
        else:
            position += 8 + int.from_bytes(content[position + 6 : position + 8], "little")
    return position


def _complete_transfer_syntax(dataset: Dataset) -> None:
    """Name the encoding that pydicom noticed where a file does not name it."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little_endian = dataset.original_encoding
        syntax = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else syntax
    else:
        dataset.file_meta.TransferSyntaxUID = UID(str(dataset.file_meta.TransferSyntaxUID).strip())


def is_cut_short(pixels: PixelElement | None) -> bool:
    """Whether a file ends before its pixels do."""
    return pixels is None or (pixels.num_bytes is not None and pixels.num_bytes_left < pixels.num_bytes)


def check_length(dataset: Dataset, pixels: PixelElement | None, shape: tuple[int, int, int]) -> None:
    """Check that a file holds the pixels that its header promises.

    Args:
        dataset: Its header.
        pixels: The element with its pixels.
        shape: Rows, columns and frames.

    Raises:
        ValueError: There are more pixels than are read, none, or another number than promised.
    """
    rows, columns, frames = shape
    size = f"{rows} x {columns} pixels" + (f" x {frames} frames" if frames > 1 else "")
    if rows * columns * frames > MAX_DICOM_PIXELS:
        raise ValueError(f"the header promises {size}, more than the {MAX_DICOM_PIXELS:,} pixels that are read")
    if pixels is None:
        raise ValueError("it ends before its pixels")
    if pixels.num_bytes is None:
        return
    bits = int(dataset.get("BitsAllocated") or 0) * int(dataset.get("SamplesPerPixel") or 1)
    num_bytes = -(-rows * columns * frames * bits // 8)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        num_bytes = num_bytes // 3 * 2
    if is_cut_short(pixels):
        raise ValueError(
            f"it is cut short: {pixels.num_bytes_left:,} bytes are left for the {pixels.num_bytes:,} of its pixels"
        )
    if pixels.num_bytes < num_bytes:
        raise ValueError(
            f"the header promises {size} of {bits} bits, which are {num_bytes:,} bytes, and the pixels have "
            f"{pixels.num_bytes:,}"
        )
