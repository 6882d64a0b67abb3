"""PNG with every depth that it can have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from monai_deepssim.data.readers.pictures import PictureReader
from monai_deepssim.errors import UnusableInputError

__all__ = ["PngReader"]

_DEPTH_BYTE, _COLOUR_TYPE_BYTE = 24, 25  # of the header, PNG specification 11.2.2
_GREY = 0


class PngReader(PictureReader):
    """PNG by Pillow, and 16-bit colours, which Pillow cuts to 8 bits, by OpenCV."""

    def __init__(self) -> None:
        super().__init__(
            "PNG", (".png",), "one image, grey or colours, 1 to 16 bits; several frames (APNG) are refused"
        )

    def pixels_of(self, picture: Image.Image, file: str) -> np.ndarray:
        with open(file, "rb") as stream:
            header = stream.read(_COLOUR_TYPE_BYTE + 1)
        depth = header[_DEPTH_BYTE]
        if depth == 16 and header[_COLOUR_TYPE_BYTE] != _GREY:
            picture.load()  # refuses what is cut short
            pixels = _sixteen_bit_colours(file)
        else:
            pixels = super().pixels_of(picture.convert("L") if picture.mode == "1" else picture, file)
        transparent = picture.info.get("transparency")
        if transparent is not None and picture.mode != "P":
            # One grey value or colour is transparent. Pillow spreads 2 and 4 bits over 0 to 255, but not this value.
            value = np.multiply(transparent, 255 // (2**depth - 1) if depth in (2, 4) else 1)
            channels = pixels.reshape(*pixels.shape[:2], -1)[..., : value.size]
            pixels = np.where((channels == value).all(axis=2, keepdims=True), 0, channels)
        return pixels


def _sixteen_bit_colours(file: str) -> np.ndarray:
    """Decode red, green, blue and, where there is one, opacity."""
    pixels = cv2.imdecode(np.frombuffer(Path(file).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise UnusableInputError(f"{file}: OpenCV cannot decode the file. Export it again with 8 bits, or as grey.")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
