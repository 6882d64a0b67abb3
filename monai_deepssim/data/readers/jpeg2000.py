"""JPEG 2000 as Pillow reads it, where that keeps the values."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image, features

from monai_deepssim.data.readers.pictures import PictureReader
from monai_deepssim.errors import UnusableInputError

__all__ = ["Jpeg2000Reader", "is_jpeg2000_compiled_in"]

_SIZE_MARKER = b"\xff\x4f\xff\x51"  # start of the codestream and its first segment, ISO/IEC 15444-1 A.5.1
_NUM_COMPONENTS = struct.Struct(">H")
_COMPONENTS_AT, _COMPONENT_BYTES = 42, 3  # from the start of the codestream
_MAX_HEADER_BYTES = 2**20


class Jpeg2000Reader(PictureReader):
    """JPEG 2000 by Pillow: grey up to 16 bits, colours up to 8, as it cuts what is deeper."""

    def __init__(self) -> None:
        super().__init__(
            "JPEG2000", (".jp2", ".j2k", ".jpx", ".j2c"), "one image: grey up to 16 bits, colours of 8 bits"
        )

    def pixels_of(self, picture: Image.Image, file: str) -> np.ndarray:
        depths = _component_depths(file)
        deepest = 16 if len(depths) == 1 else 8
        if not depths or max(depths) > deepest:
            raise UnusableInputError(
                f"{file}: the file has {len(depths)} channels of {max(depths, default=0)} bits, and {deepest} are "
                "read. Save it as PNG or TIFF."
            )
        return super().pixels_of(picture, file)


def is_jpeg2000_compiled_in() -> bool:
    """Whether this Pillow was built with OpenJPEG."""
    return bool(features.check("jpg_2000"))


def _component_depths(file: str) -> list[int]:
    with open(file, "rb") as stream:
        start = stream.read(_MAX_HEADER_BYTES)
    _, _, codestream = start.partition(_SIZE_MARKER)
    codestream = _SIZE_MARKER + codestream
    if len(codestream) < _COMPONENTS_AT:
        return []
    (count,) = _NUM_COMPONENTS.unpack_from(codestream, _COMPONENTS_AT - _NUM_COMPONENTS.size)
    depths = codestream[_COMPONENTS_AT : _COMPONENTS_AT + count * _COMPONENT_BYTES : _COMPONENT_BYTES]
    return [(depth & 0x7F) + 1 for depth in depths]  # the highest bit is the sign
