"""Pictures of one page: PNG, JPEG, TIFF."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.errors import UnusableInputError

__all__ = ["PictureReader"]

_PHOTOMETRIC_INTERPRETATION = 262
_WHITE_IS_ZERO = 0


class _CompleteFilesOnly:
    """While any thread reads, Pillow refuses truncated files.

    Training scripts often tell Pillow to fill truncated files with black; such an image must not be audited. The
    setting is Pillow's own and global, so readers are counted: the last one out puts it back, and none waits for
    another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_readers = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if self._num_readers == 0:
                self._before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._num_readers += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_readers -= 1
            if self._num_readers == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._before


_complete_files_only = _CompleteFilesOnly()


class PictureReader(Reader):
    """Rows and columns of a picture, as an image viewer shows them, read by Pillow.

    8-bit, 16-bit, 32-bit integer and 32-bit float pixels keep their values. Orientation tags are followed, a TIFF in
    which white is 0 is inverted, and transparency is laid over black. Not through MONAI's ``PILReader``: it transposes,
    does not know ``.tif``, and takes the first page of many without a word.

    Args:
        name: Pillow's name of the format.
        suffixes: Its suffixes.
        taken_as: For the documentation.
    """

    pixel_size_from = "nothing: they are square, as viewers take them"

    def __init__(self, name: str, suffixes: tuple[str, ...], taken_as: str) -> None:
        self.name, self.suffixes, self.taken_as = name, suffixes, taken_as

    def recognizes(self, head: bytes) -> bool:
        # A DICOM file of a microscope may begin as a TIFF.
        Image.init()
        accepts = Image.OPEN[self.name][1]
        return head[128:132] != b"DICM" and accepts is not None and accepts(head) is True

    def read(self, files: Sequence[str], index: int | None, slice_axis: int) -> tuple[np.ndarray, None]:
        # Through an open file: given a path, Pillow 13 maps an uncompressed TIFF that has an orientation tag into
        # memory with its sides exchanged, and scrambles it without a word. A PNG named .jpg is read as well.
        with (
            _complete_files_only,
            Path(files[0]).open("rb") as file,
            Image.open(file, formats=["PNG", "JPEG", "TIFF", self.name]) as picture,
        ):
            num_pages = getattr(picture, "n_frames", 1)
            if num_pages > 1:
                raise UnusableInputError(
                    f"{files[0]}: the file holds {num_pages} pages, and a picture file is read as one slice. Save each "
                    "page as a file of its own, or the stack as NIfTI."
                )
            # Pillow inverts such files only up to 8 bits.
            white_is_zero = (
                picture.format == "TIFF"
                and picture.mode not in ("1", "L")
                and picture.tag_v2.get(_PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
            )
            picture.load()
            pixels = _pixels(ImageOps.exif_transpose(picture))
        return (-pixels if white_is_zero else pixels), None


def _pixels(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    elif picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    pixels = np.asarray(picture).astype(np.float64)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        pixels, opacity = pixels[..., :-1], pixels[..., -1:] / 255
        if (opacity < 1).any():
            pixels = pixels * opacity
    return pixels
