"""Compressed DICOM pixels: what decodes them, and whether a frame is whole and as large as its header says."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.common import CoderBase
from pydicom.pixels.utils import get_expected_length

from monai_deepssim.data.readers.dicom_gdcm import decode_with_gdcm
from monai_deepssim.errors import UnusableInputError

__all__ = ["COMPRESSED_SYNTAXES", "decode_frame"]

_ALWAYS, _EXTRA = "nothing more", "`pip install 'monai-deepssim[dicom]'`"
_GPL = "pip install pylibjpeg pylibjpeg-libjpeg"

#: Compressed transfer syntaxes that are read, and what they need.
COMPRESSED_SYNTAXES: dict[uid.UID, str] = {
    uid.JPEGBaseline8Bit: _ALWAYS,
    uid.JPEGExtended12Bit: f"{_ALWAYS} for 8 bits; `{_GPL}`, which is under the GPL, for 12 bits",
    uid.JPEGLossless: _EXTRA,
    uid.JPEGLosslessSV1: _EXTRA,
    uid.JPEGLSLossless: _EXTRA,
    uid.JPEGLSNearLossless: _EXTRA,
    uid.JPEG2000Lossless: f"{_ALWAYS}; {_EXTRA} for colours of more than 8 bits",
    uid.JPEG2000: f"{_ALWAYS}; {_EXTRA} for colours of more than 8 bits",
    uid.HTJ2KLossless: _EXTRA,
    uid.HTJ2KLosslessRPCL: _EXTRA,
    uid.HTJ2K: _EXTRA,
    uid.RLELossless: f"{_ALWAYS}; {_EXTRA} makes it faster",
    uid.DeflatedExplicitVRLittleEndian: _ALWAYS,
}
# The frame headers of JPEG (ITU T.81 B.1.1.3) and JPEG-LS (ITU T.87 C.1.1), which hold the size of the picture.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_JPEG_START, _END = b"\xff\xd8", b"\xff\xd9"
_JPEG_2000_START = b"\xff\x4f\xff\x51"  # ISO 15444-1 A.4.1 and A.5.1


def decode_frame(path: Path, dataset: Dataset, frame: int) -> np.ndarray:
    """Return the stored values of a frame, decompressed.

    Args:
        path: Path of the file.
        dataset: Its elements, with the pixels.
        frame: Which of its images, from 0.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for colour, in red, green and blue.

    Raises:
        UnusableInputError: There is no decoder, or it does not succeed.
    """
    code = _checked_code(path, dataset, frame)
    plugins = get_decoder(dataset.file_meta.TransferSyntaxUID).available_plugins
    try:
        if plugins == ("gdcm",):
            return decode_with_gdcm(dataset, code)
        others = [name for name in plugins if name != "gdcm"]
        return pixel_array(dataset, index=frame, decoding_plugin=others[0] if others else "", correct_unused_bits=False)
    except Exception as error:
        raise _decoding_error(path, dataset, error) from error


def _checked_code(path: Path, dataset: Dataset, frame: int) -> bytes:
    """Return a compressed frame, which has a decoder, is whole and is what its header says; nothing for others."""
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = _decoder(path, syntax)
    if not syntax.is_encapsulated:
        _check_plain(path, dataset)
        return b""
    if not decoder.is_available:
        raise UnusableInputError(
            f"{path}: the pixels cannot be read: they are compressed as {syntax.name}, which needs another package: "
            f"{COMPRESSED_SYNTAXES[syntax].strip('`')}."
        )
    try:
        code = get_frame(dataset.PixelData, frame, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
        coded = _coded_picture(code)
    except Exception as error:
        raise _decoding_error(path, dataset, error) from error
    if syntax == uid.RLELossless:
        return code
    if code.rstrip(b"\0\xff")[-2:] != _END:
        raise UnusableInputError(
            f"{path}: the pixels cannot be read: the {syntax.name} of frame {frame} is cut short. Export it again."
        )
    if coded is None or not coded.fits(dataset):
        size = "something else" if coded is None else f"{coded.rows} x {coded.columns} of {coded.bits} bits"
        raise UnusableInputError(
            f"{path}: the pixels cannot be read: the header promises {dataset.Rows} x {dataset.Columns} pixels of "
            f"{dataset.BitsStored} bits, and the {syntax.name} holds {size}. Export the file again."
        )
    return code


def _decoding_error(path: Path, dataset: Dataset, error: Exception) -> UnusableInputError:
    """Say why pixels could not be decoded, and what might help."""
    syntax = dataset.file_meta.TransferSyntaxUID
    reason = " ".join(str(error).split()) or type(error).__name__
    remedy = "The file may be damaged: export it again, or remove it."
    if syntax == uid.JPEGExtended12Bit and int(dataset.get("BitsStored") or 0) > 8:
        remedy = f"Twelve bits need {_GPL} (GPL)."
    elif syntax in COMPRESSED_SYNTAXES and any("pylibjpeg-libjpeg" not in name for name in _missing(syntax)):
        remedy = f"More decoders come with {_EXTRA.strip('`')}; or the file is damaged: export it again."
    return UnusableInputError(f"{path}: the pixels cannot be read as {syntax.name}: {reason}. {remedy}")


def _missing(syntax: uid.UID) -> tuple[str, ...]:
    return tuple(get_decoder(syntax).missing_dependencies)


def _decoder(path: Path, syntax: uid.UID) -> CoderBase:
    try:
        return get_decoder(syntax)
    except NotImplementedError as error:
        raise UnusableInputError(
            f"{path}: the pixels cannot be read: the transfer syntax is {syntax.name}, which is not read. Convert the "
            "file to an uncompressed transfer syntax, or to NIfTI."
        ) from error


def _check_plain(path: Path, dataset: Dataset) -> None:
    """Check that pixels are not compressed without saying so, and that nothing but zeros is left over."""
    element = next(dataset[name] for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in dataset)
    if element.is_undefined_length:
        raise UnusableInputError(
            f"{path}: the pixels cannot be read: they are compressed, and the header does not say how. Export it again."
        )
    num_bytes = get_expected_length(dataset) if element.keyword == "PixelData" else len(element.value)
    if any(element.value[num_bytes + num_bytes % 2 :]):
        raise UnusableInputError(
            f"{path}: the file has {len(element.value):,} bytes of pixels, and its header promises {num_bytes:,}. "
            "Correct Rows, Columns, BitsAllocated or NumberOfFrames."
        )


@dataclass(frozen=True)
class _CodedPicture:
    """What a compressed picture says of itself.

    Attributes:
        rows: Its height.
        columns: Its width.
        bits: Of each sample.
        num_samples: 1 for grey, 3 for colour.
    """

    rows: int
    columns: int
    bits: int
    num_samples: int

    def fits(self, dataset: Dataset) -> bool:
        """Whether it is the picture that a header promises. Decoders may crash on another one, or fill the memory."""
        expected = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
        return (self.rows, self.columns, self.num_samples) == expected and self.bits <= int(dataset.BitsAllocated)


def _coded_picture(code: bytes) -> _CodedPicture | None:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 picture; ``None`` where there is none."""
    start = code.find(_JPEG_2000_START)
    if start in range(4096):  # behind the boxes of a JP2 file, which do not belong there
        right, bottom, left, top = struct.unpack_from(">4L", code, start + 8)
        (num_samples,) = struct.unpack_from(">H", code, start + 40)
        return _CodedPicture(bottom - top, right - left, (code[start + 42] & 0x7F) + 1, num_samples)
    position = 2 if code[:2] == _JPEG_START else len(code)
    while position + 10 <= len(code):
        marker, length = code[position + 1], int.from_bytes(code[position + 2 : position + 4], "big")
        if marker in _FRAME_MARKERS:
            bits, rows, columns, num_samples = struct.unpack_from(">BHHB", code, position + 4)
            return _CodedPicture(rows, columns, bits, num_samples)
        position += 1 if marker == 0xFF else 2 + length
    return None
