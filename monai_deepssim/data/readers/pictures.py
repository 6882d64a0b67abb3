"""Pictures of one page that Pillow reads: JPEG, BMP, WebP, GIF and others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.limits import check_image_size
from monai_deepssim.errors import UnusableInputError

__all__ = ["PictureReader", "laid_over_black", "open_picture", "refuse_pages", "turned_upright"]

_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_STARTS: dict[str, Callable[[bytes], bool]] = {
    "PNG": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "JPEG": lambda head: head.startswith(b"\xff\xd8\xff") and head[3:4] != b"\xf7",  # which is JPEG-LS
    "TIFF": lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "BMP": lambda head: head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES,
    "WebP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "GIF": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "JPEG2000": lambda head: head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
}
_ORIENTATION_TAG = 0x0112
# What a viewer does with a stored picture of each orientation: EXIF 2.32, 4.6.4.A.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


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

    Pixels keep their values. Orientation tags are followed and transparency is laid over black; colour profiles and
    gamma are not applied. Not through MONAI's ``PILReader``: it transposes, does not know ``.tif``, and takes the first
    page of many without a word.

    Args:
        name: Pillow's name of the format.
        suffixes: Its suffixes.
        taken_as: For the documentation.
    """

    pixel_size_from = "nothing: they are square, as viewers take them"

    def __init__(self, name: str, suffixes: tuple[str, ...], taken_as: str) -> None:
        self.name, self.suffixes, self.taken_as = name, suffixes, taken_as

    def recognizes(self, head: bytes) -> bool | None:
        return _STARTS[self.name](head) if self.name in _STARTS else None

    def read(self, files: Sequence[str], index: int | None, slice_axis: int) -> tuple[np.ndarray, None]:
        with open_picture(files[0], self.name) as picture:
            pixels = self.pixels_of(picture, files[0])
            return turned_upright(laid_over_black(pixels), picture.getexif().get(_ORIENTATION_TAG)), None

    def pixels_of(self, picture: Image.Image, file: str) -> np.ndarray:
        """Return the pixels as stored, ``(rows, columns)`` or with channels behind, the last of which may be opacity.

        Args:
            picture: The opened picture.
            file: Its path.
        """
        picture.load()
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGBA")
        elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
            picture = picture.convert("RGB")
        elif picture.mode in ("La", "RGBa"):
            picture = picture.convert(picture.mode.upper())
        return np.asarray(picture)


@contextmanager
def open_picture(file: str, name: str) -> Iterator[Image.Image]:
    """Open a picture with Pillow: its header, which must tell one page of a size that is read.

    Args:
        file: Path of the file.
        name: Pillow's name of its format.

    Raises:
        UnusableInputError: it has several pages, or is too large.
        Exception: what Pillow raises for a damaged file.
    """
    Image.init()
    make_picture, _ = Image.OPEN[name.upper()]
    # Not Image.open: it hides why a format refuses a file, and has a limit of its own. Through an open file: given a
    # path, Pillow 13 maps an uncompressed TIFF that has an orientation tag into memory with its sides exchanged.
    with _complete_files_only, Path(file).open("rb") as stream, _opened(make_picture, stream, file) as picture:
        check_image_size(file, (picture.height, picture.width, len(picture.getbands())))
        refuse_pages(file, getattr(picture, "n_frames", 1))
        yield picture


def _opened(make_picture: Callable[..., Image.Image], stream: BinaryIO, file: str) -> Image.Image:
    try:
        return make_picture(stream, file)
    except Image.DecompressionBombError as error:
        raise UnusableInputError(
            f"{file}: the picture is too large ({error}). Crop or shrink it, or remove it."
        ) from error


def refuse_pages(file: str, num_pages: int) -> None:
    """Refuse a file of several pages, frames or pictures.

    Raises:
        UnusableInputError: it has.
    """
    if num_pages > 1:
        raise UnusableInputError(
            f"{file}: the file holds {num_pages} pages, and a picture file is read as one slice. Save each page as a "
            "file of its own, or the stack as NIfTI."
        )


def laid_over_black(pixels: np.ndarray) -> np.ndarray:
    """Return grey or colour without its opacity, where that is a second or fourth channel.

    Args:
        pixels: ``(rows, columns)``, or ``(rows, columns, channels)``.

    Returns:
        Float64, ``(rows, columns)`` or ``(rows, columns, 1 or 3)``.

    Example:
        >>> laid_over_black(np.array([[[200, 255], [200, 0]]], dtype=np.uint8)).tolist()
        [[[200.0], [0.0]]]
    """
    values = pixels.astype(np.float64)
    if pixels.ndim == 2 or pixels.shape[-1] not in (2, 4):
        return values
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 1.0
    values, opacity = values[..., :-1], values[..., -1:] / opaque
    return values * opacity if (opacity < 1).any() else values


def turned_upright(pixels: np.ndarray, orientation: int | None) -> np.ndarray:
    """Turn stored pixels as viewers do.

    Args:
        pixels: ``(rows, columns)``, or with channels behind.
        orientation: Tag of EXIF and TIFF, 1 to 8; 1, ``None`` and what has no meaning leave the pixels as they are.

    Example:
        >>> turned_upright(np.array([[1, 2], [3, 4]]), 6).tolist()
        [[3, 1], [4, 2]]
    """
    return _TURNS[orientation](pixels) if orientation in _TURNS else pixels
