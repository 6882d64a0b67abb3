"""DICOM slices that lie behind one another: which of them form a volume, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from monai_deepssim.data.orientation import ras_axes
from monai_deepssim.data.readers.dicom_header import DicomHeader, Plane, file_stamp, read_header
from monai_deepssim.errors import UnusableInputError

__all__ = ["DicomSlice", "DicomVolume", "images_of_series", "volume_of"]

_SAME_DIRECTION = 1e-3
_SAME_POSITION_MM = 1e-3
# Slices may lie beside the line through the first one by half a pixel: less is not seen across them.
_MAX_DRIFT_PIXELS = 0.5
# The widest gap between slices against the usual one: positions are rounded, and a missing slice makes it 2.
_MAX_GAP_RATIO = 1.5
# One file too many is passed over as an image of its own; where so many positions repeat, these are echoes or times.
_MAX_REPEATED_SHARE = 0.25
_MIN_SLICES_BESIDE_OTHERS = 3
_CONVERT = "convert the series to NIfTI volumes, for example with dcm2niix"


@dataclass(frozen=True, eq=False)
class DicomSlice:
    """One image of one file.

    Attributes:
        path: Path of the file.
        frame: Which of its images, from 0.
        shape: Rows and columns.
        plane: Where it lies.
    """

    path: Path
    frame: int
    shape: tuple[int, int]
    plane: Plane


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """Slices in the order of their positions.

    Attributes:
        slices: Their files and frames.
        axes: ``(3, 2)``, anatomical axis and direction of rows, columns and slices, as
            :func:`~monai_deepssim.data.orientation.ras_axes` returns them.
        shape: Rows, columns and slices.
        voxel_size_mm: Along these; ``None`` where unknown.
        distortion: Why planes across the slices would be distorted, ``""`` where they are not.
    """

    slices: tuple[DicomSlice, ...]
    axes: np.ndarray
    shape: tuple[int, int, int]
    voxel_size_mm: tuple[float, float, float] | None
    distortion: str


def images_of_series(headers: Sequence[DicomHeader]) -> list[tuple[Path, ...]]:
    """Gather the files of one series: those that lie behind one another are a volume, any other is an image.

    A file that does not fit, by its size, direction or a position that is taken, is an image of its own. So is every
    file where the header was copied from one to the next: with one position, or with one SOPInstanceUID at several.

    Args:
        headers: Files of one folder with the same SeriesInstanceUID.
    """
    images: list[tuple[Path, ...]] = [(header.path,) for header in headers if not _may_be_a_slice(header)]
    slices = [_slices(header)[0] for header in headers if _may_be_a_slice(header)]
    if _have_copied_headers(headers):
        return images + [(part.path,) for part in slices]
    stacks = _parallel_stacks(slices)
    min_slices = _MIN_SLICES_BESIDE_OTHERS if len(stacks) + len(images) > 1 else 2
    for stack in stacks:
        kept, repeated = _without_repeats(stack)
        if len(repeated) > _MAX_REPEATED_SHARE * len(kept) and len(kept) > 1:
            kept, repeated = stack, []  # refused in words when it is read
        is_volume = len(kept) >= min_slices
        images += [tuple(part.path for part in kept)] if is_volume else [(part.path,) for part in kept]
        images += [(part.path,) for part in repeated]
    return images


def volume_of(files: Sequence[str]) -> DicomVolume | None:
    """Return the volume that files form: those of a series, or the frames of one file; ``None`` for one image.

    Raises:
        UnusableInputError: There are several images, and they form no volume.
    """
    return _volume_of(tuple(file_stamp(file) for file in files))


@lru_cache(maxsize=4)
def _volume_of(stamps: tuple[tuple[str, int, int], ...]) -> DicomVolume | None:
    headers = [read_header(Path(path)) for path, _, _ in stamps]
    slices = [part for header in headers for part in _slices(header)]
    if len(headers) == 1 and len(slices) < 2:
        return None
    name = str(slices[0].path if slices else headers[0].path)
    what = f"the {len(slices)} frames of the file" if len(headers) == 1 else f"the {len(headers)} files of the series"
    if any(part.plane.affine is None or part.plane.position is None for part in slices):
        raise UnusableInputError(
            f"{name}: {what} have no positions in the patient, so they are times or views and not a volume; want one "
            "image per file. Save the images that you want to compare as files of their own."
        )
    stacks = _parallel_stacks(slices)
    if len(stacks) != 1 or len(slices) < len(headers):
        raise UnusableInputError(
            f"{name}: {what} differ in size, direction or pixel size, so they do not form one volume. List the images "
            f"again, or {_CONVERT}."
        )
    kept, repeated = _without_repeats(slices)
    if repeated:
        raise UnusableInputError(
            f"{repeated[0].path}: several of the {len(slices)} images of its series lie at this position (echoes, time "
            f"points, stacks or directions of diffusion). Keep one of them, or {_CONVERT}."
        )
    return _ordered(kept)


def _may_be_a_slice(header: DicomHeader) -> bool:
    is_one = len(header.planes) == 1 and not header.mosaic_of
    return is_one and header.planes[0].affine is not None and header.planes[0].position is not None


def _slices(header: DicomHeader) -> list[DicomSlice]:
    shape = header.shape
    return [DicomSlice(header.path, frame, shape, plane) for frame, plane in enumerate(header.planes) if shape]


def _have_copied_headers(headers: Sequence[DicomHeader]) -> bool:
    """Whether files have one SOPInstanceUID at several positions: an instance lies at one."""
    positions: dict[str, np.ndarray] = {}
    for header in headers:
        position = header.planes[0].position if header.planes else None
        if header.instance_uid and position is not None:
            first = positions.setdefault(header.instance_uid, position)
            if np.abs(first - position).max() > _SAME_POSITION_MM:
                return True
    return False


def _parallel_stacks(slices: Sequence[DicomSlice]) -> list[list[DicomSlice]]:
    """Part slices by their size, direction and pixel size."""
    stacks: list[list[DicomSlice]] = []
    for part in slices:
        for stack in stacks:
            if _are_parallel(stack[0], part):
                stack.append(part)
                break
        else:
            stacks.append([part])
    return stacks


def _are_parallel(first: DicomSlice, second: DicomSlice) -> bool:
    first_size, second_size = (part.plane.pixel_size_mm or (0.0, 0.0) for part in (first, second))
    return (
        first.shape == second.shape
        and np.allclose(first.plane.affine, second.plane.affine, atol=_SAME_DIRECTION)  # type: ignore[arg-type]
        and np.allclose(first_size, second_size, rtol=_SAME_DIRECTION)
    )


def _positions(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Return ``(n, 3)``: positions in millimetres along rows, columns and the normal of the first slice."""
    directions = slices[0].plane.affine[:3, :3]  # type: ignore[index]
    return np.array([part.plane.position for part in slices]) @ directions


def _without_repeats(slices: Sequence[DicomSlice]) -> tuple[list[DicomSlice], list[DicomSlice]]:
    """Part slices of one stack into the first at each position along the normal, and the others."""
    heights = _positions(slices)[:, 2]
    order = np.argsort(heights, kind="stable")
    is_repeated = np.zeros(len(slices), dtype=bool)
    is_repeated[order[1:]] = np.diff(heights[order]) < _SAME_POSITION_MM
    kept = [part for part, repeated in zip(slices, is_repeated, strict=True) if not repeated]
    return kept, [part for part, repeated in zip(slices, is_repeated, strict=True) if repeated]


def _ordered(slices: Sequence[DicomSlice]) -> DicomVolume:
    positions = _positions(slices)
    order = np.argsort(positions[:, 2])
    positions = positions[order]
    size = slices[0].plane.pixel_size_mm
    gaps = np.diff(positions[:, 2])
    # Not SliceThickness: slices may overlap, or leave gaps.
    voxel_size = None if size is None else (*size, float(gaps.mean()))
    drift = float(np.abs(positions[:, :2] - positions[0, :2]).max()) / min(size or (1.0,))
    distortion = ""
    if gaps.max() > _MAX_GAP_RATIO * np.median(gaps):
        distortion = f"the slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart, so slices are missing"
    elif drift > _MAX_DRIFT_PIXELS:
        distortion = f"the slices are shifted against one another by up to {drift:.3g} pixels (a tilted gantry)"
    return DicomVolume(
        slices=tuple(slices[position] for position in order),
        axes=ras_axes(slices[0].plane.affine),  # type: ignore[arg-type]
        shape=(*slices[0].shape, len(slices)),
        voxel_size_mm=voxel_size,
        distortion=distortion,
    )
