"""How large an image or a volume may be: checked against the header, before anything is unpacked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "MAX_LENGTH",
    "MAX_VALUES",
    "MAX_VOLUME_BYTES",
    "MAX_VOXELS",
    "check_image_size",
    "check_num_voxels",
    "check_volume_size",
]

#: Values (pixels times channels) of one image or slice: 11,585 x 11,585 in grey, 1 GiB as float64. Whole-slide images
#: are larger, and are read in tiles by other programs.
MAX_VALUES = 2**27
#: A volume that has to be unpacked as a whole, as stored: 1,000 slices of 512 x 512 as float64 fit.
MAX_VOLUME_BYTES = 2**31
#: Voxels of a volume that is taken whole: 1,024 slices of 512 x 512, 1 GiB as float32.
MAX_VOXELS = 2**28
#: Voxels along one axis of a volume, which may all be listed as slices: what NIfTI-1 can hold.
MAX_LENGTH = 2**15 - 1


def check_image_size(file: str | Path, shape: Sequence[int]) -> None:
    """Check the size of an image, or of a slice, as its header tells it.

    Args:
        file: Path of the file, for the message.
        shape: Rows, columns and, where there are several, channels.

    Raises:
        UnusableInputError: it is empty or larger than :data:`MAX_VALUES`.

    Example:
        >>> check_image_size("scan.png", (512, 512))
        >>> check_image_size("scan.png", (30000, 30000))
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: scan.png: the header tells a size of 30000 x 30000, which is more than
        the 134,217,728 values that an image may have. Crop or shrink it, or remove it.
    """
    _check_is_not_empty(file, shape)
    if math.prod(map(int, shape)) > MAX_VALUES:
        raise UnusableInputError(
            f"{file}: the header tells a size of {_times(shape)}, which is more than the {MAX_VALUES:,} values that an "
            "image may have. Crop or shrink it, or remove it."
        )


def check_volume_size(file: str | Path, shape: Sequence[int], dtype: np.dtype, *, is_read_whole: bool) -> None:
    """Check the size of a volume as its header tells it.

    Args:
        file: Path of the file, for the message.
        shape: ``(3,)``, voxels along the stored axes.
        dtype: Type of the voxels as stored.
        is_read_whole: Whether all of it has to be in memory to read one slice, as where it is compressed.

    Raises:
        UnusableInputError: it is empty, has an axis longer than :data:`MAX_LENGTH`, a slice larger than
            :data:`MAX_VALUES`, or is read whole and larger than :data:`MAX_VOLUME_BYTES`.

    Example:
        >>> check_volume_size("t1.nii.gz", (512, 512, 1000), np.dtype("f8"), is_read_whole=True)
        >>> check_volume_size("t1.nii.gz", (2048, 2048, 1024), np.dtype("u1"), is_read_whole=True)
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: t1.nii.gz: the header tells a size of 2048 x 2048 x 1024 with 1 byte
        each, which is more than the 2,147,483,648 bytes that a compressed volume may have. Crop or resample it, or save
        it uncompressed as .nii, which is read slice by slice.
    """
    _check_is_not_empty(file, shape)
    lengths = sorted(map(int, shape))
    if lengths[-1] > MAX_LENGTH:
        raise UnusableInputError(
            f"{file}: the header tells a size of {_times(shape)}, and an axis may have {MAX_LENGTH:,} voxels. Crop or "
            "resample it, or remove it."
        )
    check_image_size(file, lengths[1:])
    if is_read_whole and math.prod(lengths) * dtype.itemsize > MAX_VOLUME_BYTES:
        raise UnusableInputError(
            f"{file}: the header tells a size of {_times(shape)} with {dtype.itemsize} "
            f"byte{'s' if dtype.itemsize > 1 else ''} each, which is more than the {MAX_VOLUME_BYTES:,} bytes that a "
            "compressed volume may have. Crop or resample it, or save it uncompressed as .nii, which is read slice by "
            "slice."
        )


def check_num_voxels(file: str | Path, shape: Sequence[int]) -> None:
    """Check the size of a volume that is taken whole, as its header tells it.

    Args:
        file: Path of the file, for the message.
        shape: ``(3,)``.

    Raises:
        UnusableInputError: it has more than :data:`MAX_VOXELS`.

    Example:
        >>> check_num_voxels("t1.nii", (512, 512, 1024))
        >>> check_num_voxels("t1.nii", (2048, 2048, 1024))
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: t1.nii: the header tells a size of 2048 x 2048 x 1024, which is more
        than the 268,435,456 voxels that a whole volume may have. Crop or resample it, or compare its slices.
    """
    if math.prod(map(int, shape)) > MAX_VOXELS:
        raise UnusableInputError(
            f"{file}: the header tells a size of {_times(shape)}, which is more than the {MAX_VOXELS:,} voxels that a "
            "whole volume may have. Crop or resample it, or compare its slices."
        )


def _check_is_not_empty(file: str | Path, shape: Sequence[int]) -> None:
    if any(int(length) < 1 for length in shape):
        raise UnusableInputError(
            f"{file}: the header tells a size of {_times(shape)}, so it holds no image. Export it again."
        )


def _times(shape: Sequence[int]) -> str:
    lengths = [int(length) for length in shape]
    # The one channel of a grey image is not a size.
    return " x ".join(map(str, lengths[:2] if len(lengths) == 3 and lengths[2] == 1 else lengths))
