"""Size and slices of NIfTI files, in anatomical order."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from monai_deepssim.data.orientation import as_viewed, ras_axes, stored_position, viewed_pixel_size
from monai_deepssim.data.slices import checked_index
from monai_deepssim.errors import UnusableInputError

__all__ = ["nifti_volume_shape", "read_nifti_slice"]


def nifti_volume_shape(path: Path) -> tuple[int, int, int] | None:
    """Return the size of a NIfTI volume in RAS order, from its header alone.

    Args:
        path: the file.

    Returns:
        Number of sagittal, coronal and axial slices, or ``None`` where the file holds a single image.

    Raises:
        UnusableInputError: the file has more than three dimensions.
        Exception: whatever nibabel raises for a damaged file.
    """
    image = _open(path)
    shape = _spatial_shape(path, image)
    if 1 in shape:
        return None
    axes = ras_axes(image.affine)
    first, second, third = (shape[int(np.flatnonzero(axes[:, 0] == axis)[0])] for axis in range(3))
    return first, second, third


def read_nifti_slice(path: Path, index: int | None, slice_axis: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Read one slice of a NIfTI volume, or a NIfTI image, as a radiologist sees it.

    A file with one axis of length 1, or with two axes, is an image; its affine tells which plane it shows.

    Args:
        path: the file.
        index: position along ``slice_axis`` in RAS order, negative from the end; ``None`` is the middle.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.

    Returns:
        ``(rows, columns)`` in the file's own units, and the height and width of a pixel in millimetres.

    Raises:
        UnusableInputError: there is no such slice, or the file has more than three dimensions or colour.
        Exception: whatever nibabel raises for a damaged file.
    """
    image = _open(path)
    shape = _spatial_shape(path, image)
    axes = ras_axes(image.affine)
    if 1 in shape:
        # Of several axes of length 1 the last is the one that was sliced.
        stored_axis, position = max(axis for axis in range(3) if shape[axis] == 1), 0
    else:
        num_slices = shape[int(np.flatnonzero(axes[:, 0] == slice_axis)[0])]
        chosen = checked_index(path, index, num_slices, slice_axis)
        stored_axis, position = stored_position(axes, slice_axis, chosen, num_slices)
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
    return as_viewed(plane.astype(np.float64), axes, stored_axis), pixel_size_mm


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
        raise UnusableInputError(f"{path}: the file is {type(image).__name__}, and NIfTI is wanted. Convert it.")
    return image


def _spatial_shape(path: Path, image: nib.Nifti1Image) -> tuple[int, int, int]:
    if image.get_data_dtype().names is not None or np.issubdtype(image.get_data_dtype(), np.complexfloating):
        raise UnusableInputError(
            f"{path}: the voxels are {'colours' if image.get_data_dtype().names else 'complex numbers'}. Save the file "
            "with one number a voxel."
        )
    shape = tuple(int(length) for length in image.shape)
    if any(length > 1 for length in shape[3:]):
        raise UnusableInputError(
            f"{path}: the file has {len(shape)} dimensions {shape}, and an image or a volume with two or three is "
            "wanted. Save the volumes that you want to compare as files of their own."
        )
    if len(shape) < 2 or 0 in shape:
        raise UnusableInputError(f"{path}: the file has the size {shape}, which is no image. Export it again.")
    padded = (*shape[:3], 1)
    return padded[0], padded[1], padded[2]
