"""Volumes with an affine matrix: what all of their formats have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from monai_deepssim.data.orientation import (
    as_ras,
    as_viewed,
    ras_axes,
    ras_shape,
    ras_voxel_size,
    stored_position,
    viewed_pixel_size,
)
from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.limits import check_num_voxels, check_volume_size
from monai_deepssim.errors import UnusableInputError

__all__ = ["VolumeHeader", "VolumeReader", "check_is_volume", "check_voxel_type", "is_beside", "spatial_shape"]


@dataclass(frozen=True)
class VolumeHeader:
    """What the header of a volume tells.

    Attributes:
        shape: ``(3,)``, voxels along the stored axes.
        affine: ``(4, 4)``, from stored indices to RAS millimetres.
        dtype: Type of the voxels as stored.
        is_read_whole: Whether all of it has to be in memory to read one slice, as where it is compressed.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    is_read_whole: bool


class VolumeReader(Reader):
    """A format of volumes. A subclass reads the header, and one plane of the voxels as stored.

    A volume with one axis of length 1 is an image; its affine tells which plane it shows.
    """

    taken_as = "a volume, or an image where there is one slice"
    pixel_size_from = "the affine matrix"

    @abstractmethod
    def read_header(self, files: Sequence[str]) -> VolumeHeader:
        """Read the header.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """

    @abstractmethod
    def read_plane(self, files: Sequence[str], stored_axis: int, position: int) -> np.ndarray:
        """Read one plane, ``(rows, columns)`` in stored order, after its header was checked.

        Args:
            files: Paths of the files that :meth:`gather` put together.
            stored_axis: The axis that the plane is taken from.
            position: Position along that axis.
        """

    def read_voxels(self, files: Sequence[str]) -> np.ndarray:
        """Read all voxels, ``(3 stored axes)``, after the header was checked; overridden where there is a faster way.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """
        num_planes = self.read_header(files).shape[2]
        return np.stack([self.read_plane(files, 2, position) for position in range(num_planes)], axis=2)

    def volume_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        header = self._checked_header(files)
        return None if 1 in header.shape else ras_shape(ras_axes(header.affine), header.shape)

    def read(
        self, files: Sequence[str], index: int | None, slice_axis: int
    ) -> tuple[np.ndarray, tuple[float, float] | None]:
        header = self._checked_header(files)
        axes = ras_axes(header.affine)
        if 1 in header.shape:
            # Of several axes of length 1 the last is the one that was sliced.
            stored_axis, position = max(axis for axis in range(3) if header.shape[axis] == 1), 0
        else:
            stored_axis, position = stored_position(axes, header.shape, slice_axis, index, files[0])
        plane = self.read_plane(files, stored_axis, position)
        pixel_size_mm = viewed_pixel_size(nib.affines.voxel_sizes(header.affine), axes, stored_axis)
        return as_viewed(plane, axes, stored_axis), pixel_size_mm

    def read_volume(self, files: Sequence[str]) -> tuple[np.ndarray, tuple[float, float, float] | None]:
        header = self._checked_header(files)
        check_is_volume(files[0], header.shape)
        return as_ras(self.read_voxels(files), ras_axes(header.affine)), self.whole_spacing(files)

    def whole_spacing(self, files: Sequence[str]) -> tuple[float, float, float]:
        affine = self._checked_header(files).affine
        return ras_voxel_size(nib.affines.voxel_sizes(affine), ras_axes(affine))

    def _checked_header(self, files: Sequence[str]) -> VolumeHeader:
        header = self.read_header(files)
        check_volume_size(files[0], header.shape, header.dtype, is_read_whole=header.is_read_whole)
        return header


def spatial_shape(file: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the three axes of an image or volume; more are taken where their length is 1.

    Args:
        file: Path of the file, for the message.
        shape: As the header tells it.

    Raises:
        UnusableInputError: the file holds several volumes, or no image.

    Example:
        >>> spatial_shape("t1.nii", (256, 256)), spatial_shape("t1.nii", (8, 9, 10, 1))
        ((256, 256, 1), (8, 9, 10))
    """
    lengths = tuple(int(length) for length in shape)
    if any(length > 1 for length in lengths[3:]):
        raise UnusableInputError(
            f"{file}: the file has {len(lengths)} dimensions {lengths}, wanted an image or a volume with two or three. "
            "Save the volumes that you want to compare as files of their own."
        )
    if len(lengths) < 2 or any(length < 1 for length in lengths):
        raise UnusableInputError(f"{file}: the file has the size {lengths}, so it holds no image. Export it again.")
    padded = (*lengths[:3], 1)
    return padded[0], padded[1], padded[2]


def check_is_volume(file: str | Path, shape: Sequence[int]) -> None:
    """Check that there are several slices along each axis, and not too many voxels to take them whole.

    Args:
        file: Path of the file, for the message.
        shape: ``(3,)``.

    Raises:
        UnusableInputError: there is a single slice, or the volume is too large.

    Example:
        >>> check_is_volume("t1.nii", (256, 256, 1))
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: t1.nii: the file holds a single slice (256 x 256 x 1), and whole
        volumes are wanted. Take it out, or compare slices: leave the option volumes away.
    """
    if min(shape) < 2:
        raise UnusableInputError(
            f"{file}: the file holds a single slice ({' x '.join(map(str, shape))}), and whole volumes are wanted. "
            "Take it out, or compare slices: leave the option volumes away."
        )
    check_num_voxels(file, shape)


def check_voxel_type(file: str, dtype: np.dtype) -> None:
    """Check that a voxel is one real number.

    Args:
        file: Path of the file, for the message.
        dtype: Type of the voxels as stored.

    Raises:
        UnusableInputError: it is a colour, a complex number or no number.
    """
    if dtype.names is None and dtype.kind in "buif":
        return
    kind = "colours" if dtype.names is not None else "complex numbers" if dtype.kind == "c" else f"of type {dtype}"
    raise UnusableInputError(f"{file}: the voxels are {kind}. Save the file with one number per voxel.")


def is_beside(file: Path, listed: Collection[str | Path] = ()) -> bool:
    """Whether the second file of a volume is there and may be read, of which only its name is known.

    Args:
        file: Path of the file, in the folder of the first one.
        listed: Files that were listed. Any other one must not be a link, which could lead anywhere.
    """
    return file.is_file() and (not file.is_symlink() or str(file) in map(str, listed))
