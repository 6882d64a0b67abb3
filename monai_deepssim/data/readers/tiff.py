"""TIFF with every type of numbers that it can have."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import tifffile

from monai_deepssim.data.readers.limits import check_image_size
from monai_deepssim.data.readers.pictures import PictureReader, laid_over_black, refuse_pages, turned_upright
from monai_deepssim.data.readers.volumes import check_voxel_type
from monai_deepssim.errors import UnusableInputError

__all__ = ["TiffReader"]

# TIFF 6.0: PhotometricInterpretation, ExtraSamples, SampleFormat, and the tag of the orientation.
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_UNSPECIFIED, _PREMULTIPLIED, _OPACITY = 0, 1, 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_ORIENTATION_TAG = 274
_DEFLATE = (8, 32946)
# What tifffile decodes without imagecodecs: nothing, deflate and PackBits; no or horizontal differences.
_BUILT_IN, _BUILT_IN_PREDICTORS = (1, *_DEFLATE, 32773), (1, 2)
_WHOLE_BYTES = (8, 16, 32, 64)
# What Pillow reads of one channel with more than 8 bits, and does not cut or wrap.
_KEPT_BY_PILLOW = ((12, _UNSIGNED), (16, _UNSIGNED), (16, _SIGNED), (32, _SIGNED), (32, _FLOAT))


class TiffReader(PictureReader):
    """TIFF by tifffile, and by Pillow where tifffile lacks the codec or the colours are not RGB.

    Pillow alone wraps ``int8`` and ``uint32``, cuts 16-bit colours to 8 bits and refuses ``float16`` and ``float64``.
    A TIFF in which white is 0 is inverted.
    """

    def __init__(self) -> None:
        super().__init__(
            "TIFF", (".tif", ".tiff"), "one image, grey or colours, integers or floats; several pages are refused"
        )

    def read(self, files: Sequence[str], index: int | None, slice_axis: int) -> tuple[np.ndarray, None]:
        with tifffile.TiffFile(files[0]) as tiff:
            page = _only_page(files[0], tiff)
            decodes = _can_decode(page)
            if decodes:
                _check_segments(files[0], page)
                pixels = turned_upright(_decode(files[0], page), page.tags.valueof(_ORIENTATION_TAG))
            else:
                _check_that_pillow_keeps(files[0], page)
        if not decodes:
            pixels, _ = super().read(files, index, slice_axis)
            pixels = pixels.astype(np.float64)
        # Pillow inverts up to 8 bits.
        is_inverted = page.photometric == _MIN_IS_WHITE and (decodes or page.bitspersample > 8)
        return (-pixels if is_inverted else pixels), None


def _only_page(file: str, tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    num_pages = len(tiff.pages)
    if tiff.imagej_metadata:  # ImageJ writes large stacks behind one page
        num_pages = max(num_pages, int(tiff.imagej_metadata.get("images", 1)))
    refuse_pages(file, num_pages)
    page = tiff.pages.first
    if page.imagedepth > 1:
        raise UnusableInputError(f"{file}: the file holds a volume of {page.imagedepth} slices. Save it as NIfTI.")
    check_image_size(file, (page.imagelength, page.imagewidth, page.samplesperpixel))
    return page


def _can_decode(page: tifffile.TiffPage) -> bool:
    """Whether tifffile decodes a page; most compressions need imagecodecs, which not everybody has."""
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
        return False
    is_whole = page.bitspersample in _WHOLE_BYTES or (page.bitspersample, page.samplesperpixel) == (1, 1)
    is_built_in = page.compression in _BUILT_IN and page.predictor in _BUILT_IN_PREDICTORS
    return (is_whole and is_built_in) or find_spec("imagecodecs") is not None


def _check_that_pillow_keeps(file: str, page: tifffile.TiffPage) -> None:
    is_short = page.sampleformat == _UNSIGNED and (
        page.bitspersample == 8 or (page.bitspersample in (1, 2, 4) and page.samplesperpixel == 1)
    )
    is_long = page.samplesperpixel == 1 and (page.bitspersample, page.sampleformat) in _KEPT_BY_PILLOW
    if not (is_short or (is_long and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK))):
        raise UnusableInputError(
            f"{file}: the file has {page.samplesperpixel} x {page.bitspersample}-bit samples of type {page.dtype}, "
            f"compressed by {getattr(page.compression, 'name', page.compression)} with predictor {page.predictor}. "
            "Save it uncompressed with 8 or 16 bits, or pip install imagecodecs, which decodes most of what is left."
        )


def _check_segments(file: str, page: tifffile.TiffPage) -> None:
    """Check that all strips or tiles are there, and unpack to no more than the header says."""
    if page.is_tiled:
        check_image_size(file, (page.tilelength, page.tilewidth, page.samplesperpixel))
    num_segments = math.prod(page.chunked)
    if len(page.databytecounts) < num_segments or not all(page.databytecounts[:num_segments]):
        raise UnusableInputError(f"{file}: strips or tiles of the image are missing. Export it again, or remove it.")
    if page.compression not in _DEFLATE:
        return
    # tifffile unpacks each segment whole, also where it is a decompression bomb.
    most = max(math.prod(page.chunks), 1) * max(page.bitspersample, 8) // 8 + 2**20
    with open(file, "rb") as stream:
        for offset, num_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            unpacker = zlib.decompressobj()
            unpacker.decompress(stream.read(num_bytes), most)
            if unpacker.unconsumed_tail:
                raise UnusableInputError(
                    f"{file}: a strip or tile unpacks to more than {most:,} bytes, and the header tells less. Export "
                    "the image again, or remove it."
                )


def _decode(file: str, page: tifffile.TiffPage) -> np.ndarray:
    """Return ``(rows, columns)`` or ``(rows, columns, 3)``, float64, as stored."""
    pixels = page.asarray()
    check_voxel_type(file, pixels.dtype)
    num_samples = page.samplesperpixel
    if num_samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, num_samples)
    num_colours = 3 if page.photometric == _RGB else 1
    # OpenCV writes opacity behind colours without saying so.
    extra = page.extrasamples[0] if page.extrasamples else _OPACITY if num_samples > num_colours == 3 else None
    is_readable = num_samples == num_colours or (
        num_samples == num_colours + 1
        and (extra in (_PREMULTIPLIED, _OPACITY) or (extra == _UNSPECIFIED and num_colours == 3))
    )
    if not is_readable:
        raise UnusableInputError(
            f"{file}: the image has {num_samples} channels, wanted grey or RGB, with or without opacity. Save one "
            "image per file."
        )
    return laid_over_black(pixels if extra == _OPACITY else pixels[..., :num_colours])
