"""From the axes that a scanner or a program stored to the picture that a radiologist sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "AXIS_LETTERS",
    "as_ras",
    "as_viewed",
    "ras_axes",
    "ras_shape",
    "ras_voxel_size",
    "stored_position",
    "viewed_pixel_size",
]

AXIS_LETTERS = "xyz"
_AXIS_NAMES = ("sagittal", "coronal", "axial")


def ras_axes(affine: np.ndarray) -> np.ndarray:
    """Return for each stored axis the anatomical axis closest to it and its direction.

    Args:
        affine: ``(4, 4)``, from stored indices to millimetres, x to the patient's right, y to the front, z to the head
            (RAS, as in NIfTI).

    Returns:
        ``(3, 2)``: the anatomical axis (0, 1, 2 for x, y, z) and 1 or -1 for each stored axis.

    Raises:
        ValueError: the affine tells no direction for one of the axes.

    Example:
        >>> ras_axes(np.diag([-1.0, 1.0, 1.0, 1.0])).tolist()
        [[0, -1], [1, 1], [2, 1]]
    """
    if not np.isfinite(affine).all():
        raise ValueError("its affine matrix has NaN or infinite entries")
    axes = nib.orientations.io_orientation(affine)
    if np.isnan(axes).any():
        raise ValueError("its affine matrix is singular: it tells no direction for one of the axes")
    return axes.astype(int)


def ras_shape(axes: np.ndarray, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the number of sagittal, coronal and axial slices of a volume.

    Args:
        axes: as :func:`ras_axes` returns them.
        shape: ``(3,)``, as stored.

    Example:
        >>> ras_shape(np.array([[2, 1], [0, 1], [1, -1]]), (30, 10, 20))
        (10, 20, 30)
    """
    first, second, third = (int(shape[position]) for position in np.argsort(axes[:, 0]))
    return first, second, third


def as_ras(voxels: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Turn a stored volume so that its axes run from left to right, from back to front and from feet to head.

    Args:
        voxels: the three stored axes.
        axes: as :func:`ras_axes` returns them.

    Returns:
        ``(X, Y, Z)``, a view of ``voxels``.

    Example:
        >>> as_ras(np.arange(6).reshape(1, 2, 3), ras_axes(np.diag([1.0, -1.0, 1.0, 1.0])))[0].tolist()
        [[3, 4, 5], [0, 1, 2]]
    """
    backwards = tuple(position for position in range(3) if axes[position, 1] < 0)
    return np.flip(voxels, backwards).transpose(np.argsort(axes[:, 0]))


def ras_voxel_size(voxel_size_mm: Sequence[float] | np.ndarray, axes: np.ndarray) -> tuple[float, float, float]:
    """Return the sides of a voxel along the axes of what :func:`as_ras` returns.

    Args:
        voxel_size_mm: ``(3,)``, along the stored axes.
        axes: as :func:`ras_axes` returns them.

    Example:
        >>> ras_voxel_size((1.0, 2.0, 5.0), np.array([[2, 1], [0, 1], [1, -1]]))
        (2.0, 5.0, 1.0)
    """
    first, second, third = (float(voxel_size_mm[position]) for position in np.argsort(axes[:, 0]))
    return first, second, third


def stored_position(
    axes: np.ndarray, shape: Sequence[int], slice_axis: int, index: int | None, path: str | Path
) -> tuple[int, int]:
    """Return which stored axis is ``slice_axis``, and which position along it is slice ``index`` in RAS order.

    Args:
        axes: as :func:`ras_axes` returns them.
        shape: ``(3,)``, as stored.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        index: counted from the patient's left, back or feet, negative from the other end; ``None`` is the middle.
        path: path of the volume, for the message.

    Returns:
        The stored axis and the stored position.

    Raises:
        UnusableInputError: there is no such slice.

    Example:
        >>> stored_position(ras_axes(np.diag([1.0, 1.0, -1.0, 1.0])), (8, 8, 10), 2, 0, "t1.nii.gz")
        (2, 9)
    """
    stored_axis = int(np.flatnonzero(axes[:, 0] == slice_axis)[0])
    num_slices = int(shape[stored_axis])
    index = num_slices // 2 if index is None else index
    if not -num_slices <= index < num_slices:
        raise UnusableInputError(
            f"{path}: slice {index} was asked for, and the volume has {num_slices} {_AXIS_NAMES[slice_axis]} slices "
            f"(0 to {num_slices - 1}). Choose other slices, or another slice_axis."
        )
    index %= num_slices
    return stored_axis, index if axes[stored_axis, 1] > 0 else num_slices - 1 - index


def as_viewed(plane: np.ndarray, axes: np.ndarray, stored_axis: int) -> np.ndarray:
    """Turn a stored plane into rows and columns as a radiologist sees them.

    Axial: the front is up and the patient's right is on the left. Coronal: the head is up and the patient's right is
    on the left. Sagittal: the head is up and the front is on the left.

    Args:
        plane: the two stored axes that are left, in stored order; behind them may be an axis of colours.
        axes: as :func:`ras_axes` returns them.
        stored_axis: the stored axis that the plane was taken from.

    Returns:
        ``(rows, columns)``, or with colours behind, a view of ``plane``.

    Example:
        >>> plane = np.array([[1, 2], [3, 4]])  # x to the right, y to the front
        >>> as_viewed(plane, ras_axes(np.eye(4)), 2).tolist()
        [[4, 2], [3, 1]]
    """
    left_over = [axis for position, axis in enumerate(axes) if position != stored_axis]
    for position, (_, direction) in enumerate(left_over):
        if direction < 0:
            plane = np.flip(plane, position)
    if left_over[0][0] > left_over[1][0]:
        plane = plane.swapaxes(0, 1)
    # (x, y), (x, z) and (y, z) all want their second axis upright as rows, and both axes reversed.
    return plane.swapaxes(0, 1)[::-1, ::-1]


def viewed_pixel_size(
    voxel_size_mm: Sequence[float] | np.ndarray, axes: np.ndarray, stored_axis: int
) -> tuple[float, float]:
    """Return the height and width of a pixel of what :func:`as_viewed` returns.

    Args:
        voxel_size_mm: ``(3,)``, along the stored axes.
        axes: as :func:`ras_axes` returns them.
        stored_axis: the stored axis that the plane was taken from.

    Example:
        >>> viewed_pixel_size(np.array([1.0, 2.0, 5.0]), ras_axes(np.eye(4)), 2)
        (2.0, 1.0)
    """
    left_over = [position for position in range(3) if position != stored_axis]
    # As there: the anatomical axis that comes later is upright.
    width, height = sorted(left_over, key=lambda position: int(axes[position, 0]))
    return float(voxel_size_mm[height]), float(voxel_size_mm[width])
