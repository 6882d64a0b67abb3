"""DICOM images, and series of them that form a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom

from monai_deepssim.data.grey import colour_to_grey
from monai_deepssim.data.orientation import as_viewed, ras_axes, stored_position, viewed_pixel_size
from monai_deepssim.data.slices import checked_index
from monai_deepssim.errors import UnusableInputError

__all__ = ["DicomHeader", "are_one_volume", "dicom_volume_shape", "read_dicom_header", "read_dicom_slice"]

# From the patient's own plane to what is known of the detector's: DICOM PS3.3 10.7.1.3. The last one is a ratio alone.
_SPACING_TAGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"]
_HEADER_TAGS = [
    "SeriesInstanceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SOPClassUID",
    *_SPACING_TAGS,
]
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM PS3.3 C.7.6.2: x to the left, y to the back
_SAME_DIRECTION = 1e-3
_SAME_POSITION_MM = 1e-3


@dataclass(frozen=True)
class DicomHeader:
    """What the header of a DICOM file tells about its place in a volume.

    Args:
        path: of the file.
        series_uid: SeriesInstanceUID, ``""`` where absent.
        shape: rows and columns.
        num_frames: images in the file.
        row_direction: RAS unit vector in which the row index grows, down the image; ``None`` where unknown.
        column_direction: RAS unit vector in which the column index grows.
        position: RAS position of the first pixel in millimetres; ``None`` where unknown.
        pixel_size_mm: height and width of a pixel as stored, or two numbers in their ratio; ``None`` where unknown.
    """

    path: str
    series_uid: str
    shape: tuple[int, int]
    num_frames: int
    row_direction: tuple[float, ...] | None
    column_direction: tuple[float, ...] | None
    position: tuple[float, ...] | None
    pixel_size_mm: tuple[float, float] | None

    @property
    def affine(self) -> np.ndarray | None:
        """``(4, 4)`` with the directions of the rows, the columns and the slices, or ``None`` where unknown."""
        if self.row_direction is None or self.column_direction is None:
            return None
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = self.row_direction, self.column_direction
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
        return affine


def read_dicom_header(path: Path) -> DicomHeader | None:
    """Read the header of a DICOM file, not its pixels.

    Args:
        path: the file.

    Returns:
        The header, or ``None`` where the file is DICOM but no image, such as a report, a plan or a DICOMDIR.

    Raises:
        Exception: whatever pydicom raises for a damaged file.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    if "Rows" not in dataset or "Columns" not in dataset:
        return None
    cosines = [float(value) for value in dataset.get("ImageOrientationPatient") or ()]
    position = [float(value) for value in dataset.get("ImagePositionPatient") or ()]
    oriented = len(cosines) == 6 and np.linalg.norm(np.cross(cosines[:3], cosines[3:])) > 0.5
    return DicomHeader(
        path=str(path),
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        num_frames=int(dataset.get("NumberOfFrames") or 1),
        row_direction=tuple(_LPS_TO_RAS * cosines[3:]) if oriented else None,
        column_direction=tuple(_LPS_TO_RAS * cosines[:3]) if oriented else None,
        position=tuple(_LPS_TO_RAS * position) if len(position) == 3 else None,
        pixel_size_mm=_pixel_size(dataset),
    )


def _pixel_size(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Height and width: in each of these tags the distance between rows comes first."""
    for tag in _SPACING_TAGS:
        sizes = [float(value) for value in dataset.get(tag) or ()]
        if len(sizes) == 2 and all(np.isfinite(size) and size > 0 for size in sizes):
            return sizes[0], sizes[1]
    return None


def are_one_volume(headers: Sequence[DicomHeader]) -> bool:
    """Return whether the files of one series lie behind one another in space, and so form a volume.

    They do not where a file has several frames, where sizes or directions differ (a localizer), where positions are
    missing, or where all positions are the same, as in images that were written with a copied header.

    Args:
        headers: of files that share a SeriesInstanceUID.
    """
    first = headers[0]
    affine = first.affine
    if len(headers) < 2 or affine is None:
        return False
    for header in headers:
        if header.num_frames != 1 or header.shape != first.shape or header.position is None or header.affine is None:
            return False
        if not np.allclose(header.affine, affine, atol=_SAME_DIRECTION):
            return False
    heights = [float(np.dot(affine[:3, 2], header.position)) for header in headers]  # type: ignore[arg-type]
    return max(heights) - min(heights) > _SAME_POSITION_MM


@lru_cache(maxsize=4)
def _sorted_series(paths: tuple[str, ...]) -> tuple[tuple[DicomHeader, ...], np.ndarray]:
    """Return the headers in the order of ImagePositionPatient along the normal, and the anatomical axes."""
    headers = [header for path in paths if (header := read_dicom_header(Path(path))) is not None]
    if len(headers) != len(paths) or not are_one_volume(headers):
        raise UnusableInputError(
            f"{paths[0]}: the {len(paths)} DICOM files that were listed as its volume do not form one. List them again."
        )
    affine = headers[0].affine
    assert affine is not None  # are_one_volume
    heights = [float(np.dot(affine[:3, 2], header.position)) for header in headers]  # type: ignore[arg-type]
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(np.array(heights)[order])
    if (gaps < _SAME_POSITION_MM).any():
        here = headers[order[int(np.argmin(gaps))]].path
        raise UnusableInputError(
            f"{here}: several of the {len(paths)} images of its series lie at this position (echoes, time points or "
            "directions of diffusion). Keep one of them, or convert the series to NIfTI volumes."
        )
    return tuple(headers[position] for position in order), ras_axes(affine)


def dicom_volume_shape(paths: Sequence[str]) -> tuple[int, int, int]:
    """Return the number of sagittal, coronal and axial slices of a series, from its headers.

    Args:
        paths: of the files of the series.

    Raises:
        UnusableInputError: several files lie at the same position.
    """
    headers, axes = _sorted_series(tuple(paths))
    stored = (*headers[0].shape, len(headers))
    first, second, third = (stored[int(np.flatnonzero(axes[:, 0] == axis)[0])] for axis in range(3))
    return first, second, third


def read_dicom_slice(
    paths: Sequence[str], index: int | None, slice_axis: int
) -> tuple[np.ndarray, bool, tuple[float, float] | None]:
    """Read a DICOM image, or one slice of a series, as a radiologist sees it.

    The modality's rescaling is applied and MONOCHROME1 is inverted; windows are not applied. The usual axial, coronal
    and sagittal acquisitions are shown as stored; other orientations are turned by ImageOrientationPatient. A file
    without orientation is shown as stored.

    Args:
        paths: one file for an image; all files of a series for a volume.
        index: position along ``slice_axis`` in RAS order, negative from the end; ``None`` is the middle. Images have
            none.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.

    Returns:
        ``(rows, columns)`` as float64 in the modality's units; whether colour was converted to grey; and the height and
        width of a pixel in millimetres, or two numbers in their ratio, ``None`` where the file does not tell.

    Raises:
        UnusableInputError: there is no such slice, or the files hold no image or several frames.
        Exception: whatever pydicom raises for a damaged file.
    """
    if len(paths) == 1:
        return _read_image(Path(paths[0]))
    headers, axes = _sorted_series(tuple(paths))
    shape = dicom_volume_shape(paths)
    chosen = checked_index(Path(paths[0]), index, shape[slice_axis], slice_axis)
    stored_axis, position = stored_position(axes, slice_axis, chosen, shape[slice_axis])
    pixel_size_mm = _pixel_size_in_volume(headers, axes, stored_axis)
    if stored_axis == 2:
        plane, converted = _decode(Path(headers[position].path))
    else:
        volume, converted = _whole_volume(tuple(header.path for header in headers))
        plane = np.take(volume, position, axis=stored_axis)
    return as_viewed(plane, axes, stored_axis), converted, pixel_size_mm


def _pixel_size_in_volume(
    headers: Sequence[DicomHeader], axes: np.ndarray, stored_axis: int
) -> tuple[float, float] | None:
    in_plane = headers[0].pixel_size_mm
    if in_plane is None:
        return None
    affine, first, last = headers[0].affine, headers[0].position, headers[-1].position
    assert affine is not None, "or they are no volume"
    assert first is not None, "likewise"
    assert last is not None, "likewise"
    # Not SliceThickness: slices may overlap, or leave gaps.
    distance = float(np.dot(affine[:3, 2], np.subtract(last, first))) / (len(headers) - 1)
    return viewed_pixel_size(np.array([*in_plane, distance]), axes, stored_axis)


def _read_image(path: Path) -> tuple[np.ndarray, bool, tuple[float, float] | None]:
    header = read_dicom_header(path)
    if header is None:
        raise UnusableInputError(f"{path}: the DICOM file holds no image. Remove it from the list.")
    if header.num_frames > 1:
        raise UnusableInputError(
            f"{path}: the DICOM file holds {header.num_frames} frames, and one image a file is wanted. Convert it to "
            "NIfTI, for example with dcm2niix."
        )
    plane, converted = _decode(path)
    size = header.pixel_size_mm
    if header.affine is None:
        return plane, converted, size
    axes = ras_axes(header.affine)
    if size is not None:
        size = viewed_pixel_size(np.array([*size, 1.0]), axes, 2)
    return as_viewed(plane, axes, 2), converted, size


@lru_cache(maxsize=1)
def _whole_volume(paths: tuple[str, ...]) -> tuple[np.ndarray, bool]:
    planes = [_decode(Path(path)) for path in paths]
    return np.stack([plane for plane, _ in planes], axis=-1), any(converted for _, converted in planes)


def _decode(path: Path) -> tuple[np.ndarray, bool]:
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    photometric = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, dataset)[..., :3]
    if pixels.ndim == 3:
        return colour_to_grey(pixels)
    grey = np.asarray(pydicom.pixels.apply_modality_lut(pixels, dataset), dtype=np.float64)
    return (-grey if photometric == "MONOCHROME1" else grey), False
