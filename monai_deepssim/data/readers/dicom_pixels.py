"""The pixels of DICOM files: decompressed, in the modality's units, with padding marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut

from monai_deepssim.data.readers.dicom_codecs import decode_frame
from monai_deepssim.data.readers.dicom_file import read_dataset
from monai_deepssim.data.readers.dicom_header import file_stamp
from monai_deepssim.data.readers.dicom_series import DicomSlice
from monai_deepssim.errors import UnusableInputError

__all__ = ["decode", "decode_stack", "decode_volume", "fill_padding"]

_GREY = ("MONOCHROME1", "MONOCHROME2")
# What pydicom turns into RGB.
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
# The value and the limit of padding, by the element that holds the pixels: PS3.3 C.7.5.1.1.2.
_PADDING_KEYWORDS = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}


def decode(path: Path, frame: int) -> np.ndarray:
    """Return one image of a file as stored, from the top left corner on.

    Args:
        path: Path of the file.
        frame: Which of its images, from 0.

    Returns:
        ``(rows, columns)``, float64 in the modality's units, masked where it is padding; or ``(rows, columns, 3)`` for
        colour.

    Raises:
        UnusableInputError: The pixels cannot be decompressed, or do not fit the header.
    """
    dataset = _dataset(*file_stamp(path))
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in (*_GREY, *_COLOURS):
        raise UnusableInputError(
            f"{path}: PhotometricInterpretation is {photometric!r}, which is not read. Convert the file to "
            f"{', '.join(_GREY)} or RGB."
        )
    pixels = decode_frame(path, dataset, frame)
    if photometric == "PALETTE COLOR":
        return apply_color_lut(pixels, dataset)[..., :3]
    if pixels.ndim == 3:
        return pixels
    is_padding = _padding(path, dataset, pixels, frame)
    grey = _rescaled(path, _used_bits(path, dataset, pixels, is_padding), dataset, frame)
    return np.ma.array(-grey if photometric == "MONOCHROME1" else grey, mask=is_padding)


def decode_stack(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Return the slices of a volume as ``(rows, columns, slices)``, masked where they are padding."""
    return _stack(tuple((file_stamp(part.path), part.frame) for part in slices))


def decode_volume(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Return the slices of a volume as ``(rows, columns, slices)``, float32, padding with the minimum of the rest.

    Raises:
        UnusableInputError: The slices are in colour.
    """
    shape = (*slices[0].shape, len(slices))
    voxels, is_padding = np.empty(shape, np.float32), np.zeros(shape, bool)
    for position, part in enumerate(slices):
        plane = decode(part.path, part.frame)
        if plane.ndim != 2:
            raise UnusableInputError(f"{part.path}: the voxels are colours. Save the volume with one number per voxel.")
        voxels[..., position] = np.ma.getdata(plane)
        is_padding[..., position] = np.ma.getmaskarray(plane)
    if is_padding.any() and not is_padding.all():
        voxels[is_padding] = voxels[~is_padding].min()
    return voxels


def fill_padding(plane: np.ndarray) -> np.ndarray:
    """Give padding the minimum of the rest, which is what surrounds a body: a picture has no other background.

    Example:
        >>> fill_padding(np.ma.array([[-2000, -1000], [40, 60]], mask=[[True, False], [False, False]])).tolist()
        [[-1000, -1000], [40, 60]]
    """
    if not np.ma.isMaskedArray(plane):
        return plane
    return plane.data if np.all(plane.mask) else plane.filled(plane.min())


@lru_cache(maxsize=1)
def _stack(stamped: tuple[tuple[tuple[str, int, int], int], ...]) -> np.ndarray:
    return np.ma.stack([decode(Path(path), frame) for (path, _, _), frame in stamped], axis=2)


@lru_cache(maxsize=1)
def _dataset(path: str, modified_ns: int, num_bytes: int) -> Dataset:
    """Read a file once for all its frames."""
    return read_dataset(Path(path))


def _used_bits(path: Path, dataset: Dataset, pixels: np.ndarray, is_padding: np.ndarray) -> np.ndarray:
    """Take the values from the bits that are used: the others may hold an old overlay."""
    used = _without_unused_bits(dataset, pixels)
    if used is pixels or not ((used != pixels) & ~is_padding).any():
        return pixels
    low, high = int(pixels[~is_padding].min()), int(pixels[~is_padding].max())
    # Or signed numbers of which the sign was not written into the bits that are not used.
    if _has_overlay_bits(dataset) or (low >= 0 and high < 1 << dataset.BitsStored):
        return used
    raise UnusableInputError(
        f"{path}: BitsStored is {dataset.BitsStored}, and pixels have values from {low} to {high}, which do not fit. "
        "Correct BitsStored and HighBit."
    )


def _without_unused_bits(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    num_bits, num_used = pixels.dtype.itemsize * 8, int(dataset.get("BitsStored") or 0)
    if pixels.dtype.kind not in "iu" or not 0 < num_used < num_bits:
        return pixels
    return pixels << (num_bits - num_used) >> (num_bits - num_used)


def _has_overlay_bits(dataset: Dataset) -> bool:
    """Whether overlays lie in the pixels, as they did until 2004: PS3.3 C.9.2."""
    positions = (dataset.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    return any(position is not None and position.value for position in positions)


def _padding(path: Path, dataset: Dataset, pixels: np.ndarray, frame: int) -> np.ndarray:
    """Return which pixels are padding, by their stored values.

    Some scanners call 0 the padding of every MR image. There it is the black that it is in other images, and stays.
    """
    value_keyword, limit_keyword = next(names for keyword, names in _PADDING_KEYWORDS.items() if keyword in dataset)
    bounds = [_in_type(path, dataset, name, pixels.dtype) for name in (value_keyword, limit_keyword)]
    value, limit = bounds
    if value is None:
        return np.zeros(pixels.shape, dtype=bool)
    if limit is None and value == 0 and dataset.PhotometricInterpretation == "MONOCHROME2":
        is_black = _rescaled(path, np.zeros((1, 1), pixels.dtype), dataset, frame) == 0
        if is_black.all():
            return np.zeros(pixels.shape, dtype=bool)
    low, high = sorted((value, value if limit is None else limit))
    return np.logical_or.reduce(
        [(low <= values) & (values <= high) for values in (pixels, _without_unused_bits(dataset, pixels))]
    )


def _in_type(path: Path, dataset: Dataset, keyword: str, dtype: np.dtype) -> Any:
    """Return an element in the type of the pixels: many a file stores -2000 as the unsigned 63536."""
    value = dataset.get(keyword)
    if value is None or value == "" or value == b"":
        return None
    try:
        if dtype.kind == "f":
            return dtype.type(value)
        number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(value)
        unsigned = np.array(number % (1 << dtype.itemsize * 8), f"u{dtype.itemsize}")
        return unsigned.view(f"{dtype.kind}{dtype.itemsize}")[()]
    except (TypeError, ValueError) as error:
        raise UnusableInputError(f"{path}: {keyword} is {value!r}, want a number. Correct or remove it.") from error


def _rescaled(path: Path, pixels: np.ndarray, dataset: Dataset, frame: int) -> np.ndarray:
    """Return stored values in the modality's units, by the groups of the frame and of all frames, or the file."""
    frames, shared = (list(dataset.get(f"{name}FunctionalGroupsSequence") or []) for name in ("PerFrame", "Shared"))
    for group in (*frames[frame : frame + 1], *shared[:1], dataset):
        for source in (*(group.get("PixelValueTransformationSequence") or []), group):
            if source.get("ModalityLUTSequence"):
                return apply_modality_lut(pixels, source).astype(np.float64)
            if "RescaleSlope" in source or "RescaleIntercept" in source:
                slope = _number(path, source, "RescaleSlope", 1.0)
                return pixels * slope + _number(path, source, "RescaleIntercept", 0.0)
    return pixels.astype(np.float64)


def _number(path: Path, dataset: Dataset, keyword: str, default: float) -> float:
    try:
        value = dataset.get(keyword)
        return default if value is None or value == "" else float(value)
    except (TypeError, ValueError) as error:
        raise UnusableInputError(f"{path}: {keyword} is no number ({error}). Correct it.") from error
