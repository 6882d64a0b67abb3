"""NIfTI."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from monai_deepssim.data.orientation import as_viewed, ras_axes, ras_shape, stored_position, viewed_pixel_size
from monai_deepssim.data.readers.base import Reader
from monai_deepssim.errors import UnusableInputError

__all__ = ["NiftiReader"]


class NiftiReader(Reader):
    """NIfTI by nibabel, turned by its affine matrix.

    A file with one axis of length 1, or with two axes, is an image; its affine tells which plane it shows.
    """

    name = "NIfTI"
    suffixes = (".nii", ".nii.gz")
    taken_as = "a volume, or an image where there is one slice"
    pixel_size_from = "the affine matrix"

    def volume_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        image = _open(Path(files[0]))
        shape = _spatial_shape(files[0], image)
        return None if 1 in shape else ras_shape(ras_axes(image.affine), shape)

    def read(
        self, files: Sequence[str], index: int | None, slice_axis: int
    ) -> tuple[np.ndarray, tuple[float, float] | None]:
        path = Path(files[0])
        image = _open(path)
        shape = _spatial_shape(path, image)
        axes = ras_axes(image.affine)
        if 1 in shape:
            # Of several axes of length 1 the last is the one that was sliced.
            stored_axis, position = max(axis for axis in range(3) if shape[axis] == 1), 0
        else:
            stored_axis, position = stored_position(axes, shape, slice_axis, index, path)
        where: list[slice | int] = [slice(None), slice(None), slice(None), *(0 for _ in image.shape[3:])]
        where[stored_axis] = position
        if path.name.lower().endswith(".gz"):
            # A compressed file can only be read from its start: all slices of one volume share one pass.
            status = path.stat()
            voxels, slope, intercept = _whole_volume(str(path), status.st_mtime_ns, status.st_size)
            plane = voxels[tuple(where[: voxels.ndim])].astype(np.float64) * slope + intercept
        else:
            plane = np.asanyarray(image.dataobj[tuple(where[: len(image.shape)])])
        pixel_size_mm = viewed_pixel_size(nib.affines.voxel_sizes(image.affine), axes, stored_axis)
        return as_viewed(plane, axes, stored_axis), pixel_size_mm


@lru_cache(maxsize=1)
def _whole_volume(path: str, modified_ns: int, num_bytes: int) -> tuple[np.ndarray, float, float]:
    """Return the voxels as stored, which are a quarter of the size of scaled ones, with their scale."""
    # Read to the end, where the checksum is: nibabel stops at the last voxel, and takes damaged ones without a word.
    with gzip.open(path) as file:
        content = file.read()
    stored = type(_open(Path(path))).from_bytes(content).dataobj
    assert isinstance(stored, ArrayProxy)  # as of every image that was not made in memory
    return np.asanyarray(stored.get_unscaled()), stored.slope, stored.inter


def _open(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise UnusableInputError(f"{path}: the file is {type(image).__name__}, wanted NIfTI. Convert it.")
    return image


def _spatial_shape(path: str | Path, image: nib.Nifti1Image) -> tuple[int, int, int]:
    if image.get_data_dtype().names is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableInputError(
            f"{path}: the voxels are {'colours' if image.get_data_dtype().names else 'complex numbers'}. Save the file "
            "with one number per voxel."
        )
    shape = tuple(int(length) for length in image.shape)
    if any(length > 1 for length in shape[3:]):
        raise UnusableInputError(
            f"{path}: the file has {len(shape)} dimensions {shape}, wanted an image or a volume with two or "
            "three. Save the volumes that you want to compare as files of their own."
        )
    if len(shape) < 2 or 0 in shape:
        raise UnusableInputError(f"{path}: the file has the size {shape}, so it holds no image. Export it again.")
    padded = (*shape[:3], 1)
    return padded[0], padded[1], padded[2]
