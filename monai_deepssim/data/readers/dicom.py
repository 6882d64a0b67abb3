"""DICOM images, and series of them that form a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom

from monai_deepssim.data.orientation import as_viewed, ras_axes, ras_shape, stored_position, viewed_pixel_size
from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.dicom_window import in_hounsfield_units, viewing_windows
from monai_deepssim.errors import UnusableInputError

__all__ = ["DicomReader"]

# From the patient's own plane to what is known of the detector's: DICOM PS3.3 10.7.1.3. The last one is a ratio alone.
_SPACING_TAGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"]
_HEADER_TAGS = [
    *("SeriesInstanceUID", "ImageOrientationPatient", "ImagePositionPatient"),
    *("Rows", "Columns", "NumberOfFrames", "SOPClassUID"),
    *_SPACING_TAGS,
]
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM PS3.3 C.7.6.2: x to the left, y to the back
_SAME_DIRECTION = 1e-3
_SAME_POSITION_MM = 1e-3


class DicomReader(Reader):
    """DICOM by pydicom: the modality's rescaling is applied and MONOCHROME1 inverted; windows are not applied.

    The usual axial, coronal and sagittal acquisitions are shown as stored; other orientations are turned by
    ImageOrientationPatient. A file without orientation is shown as stored.
    """

    name = "DICOM"
    suffixes = (".dcm", ".dicom", ".ima")
    taken_as = (
        "an image; the files of a folder that share a SeriesInstanceUID and lie behind one another are one volume. A "
        "file without one of these suffixes is known by its content"
    )
    pixel_size_from = (
        f"{_SPACING_TAGS[0]}, else {_SPACING_TAGS[1]}, {_SPACING_TAGS[2]} or {_SPACING_TAGS[3]}; across the slices of "
        "a series, the distance between their positions"
    )

    def recognizes(self, head: bytes) -> bool:
        return head[128:] == b"DICM"

    def gather(self, paths: Sequence[Path]) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        images: list[tuple[Path, ...]] = []
        ignored: dict[Path, str] = {}
        series: dict[tuple[Path, str], list[_Header]] = {}
        for path in paths:
            try:
                header = _read_header(path)
            except Exception:  # a damaged file stays in the list, and says what is wrong with it when it is loaded
                images.append((path,))
                continue
            if header is None:
                ignored[path] = "DICOM without an image"
            else:
                series.setdefault((path.parent, header.series_uid or path.name), []).append(header)
        for headers in series.values():
            files = tuple(header.path for header in headers)
            images += [files] if _are_one_volume(headers) else [(file,) for file in files]
        return images, ignored

    def volume_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        if len(files) == 1:
            return None
        headers, _, axes = _sorted_series(tuple(files))
        return ras_shape(axes, (*headers[0].shape, len(headers)))

    def in_hounsfield_units(self, files: Sequence[str]) -> bool | None:
        return in_hounsfield_units(Path(files[0]))

    def viewing_windows(self, files: Sequence[str]) -> tuple[tuple[float, float], ...]:
        return viewing_windows(Path(files[0]))

    def read(
        self, files: Sequence[str], index: int | None, slice_axis: int
    ) -> tuple[np.ndarray, tuple[float, float] | None]:
        if len(files) == 1:
            return _read_image(Path(files[0]))
        headers, heights, axes = _sorted_series(tuple(files))
        shape = (*headers[0].shape, len(headers))
        stored_axis, position = stored_position(axes, shape, slice_axis, index, files[0])
        if stored_axis == 2:
            plane = _decode(headers[position].path)
        else:
            plane = _whole_volume(tuple(header.path for header in headers)).take(position, axis=stored_axis)
        size = headers[0].pixel_size_mm
        if size is not None:
            # Not SliceThickness: slices may overlap, or leave gaps.
            distance = (heights[-1] - heights[0]) / (len(headers) - 1)
            size = viewed_pixel_size((*size, distance), axes, stored_axis)
        return as_viewed(plane, axes, stored_axis), size


@dataclass(frozen=True)
class _Header:
    """What the header of a DICOM file tells about its place in a volume.

    Attributes:
        path: Path of the file.
        series_uid: SeriesInstanceUID, ``""`` where absent.
        shape: Rows and columns.
        num_frames: Images in the file.
        affine: ``(4, 4)`` with the RAS unit vectors in which rows, columns and slices grow, and without a position;
            ``None`` where unknown.
        position: RAS position of the first pixel in millimetres; ``None`` where unknown.
        pixel_size_mm: Height and width of a pixel as stored, or two numbers in their ratio; ``None`` where unknown.
    """

    path: Path
    series_uid: str
    shape: tuple[int, int]
    num_frames: int
    affine: np.ndarray | None
    position: np.ndarray | None
    pixel_size_mm: tuple[float, float] | None


def _read_header(path: Path) -> _Header | None:
    """Read the header of a DICOM file; ``None`` where it is not an image, such as a report, a plan or a DICOMDIR."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    if "Rows" not in dataset or "Columns" not in dataset:
        return None
    cosines = np.array([float(value) for value in dataset.get("ImageOrientationPatient") or ()])
    position = np.array([float(value) for value in dataset.get("ImagePositionPatient") or ()])
    affine = None
    if len(cosines) == 6 and np.linalg.norm(np.cross(cosines[:3], cosines[3:])) > 0.5:
        down, across = _LPS_TO_RAS * cosines[3:], _LPS_TO_RAS * cosines[:3]
        affine = np.eye(4)
        affine[:3, :3] = np.stack([down, across, np.cross(down, across)], axis=1)
    return _Header(
        path=path,
        series_uid=str(dataset.get("SeriesInstanceUID", "")),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        num_frames=int(dataset.get("NumberOfFrames") or 1),
        affine=affine,
        position=_LPS_TO_RAS * position if len(position) == 3 else None,
        pixel_size_mm=_pixel_size(dataset),
    )


def _pixel_size(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Height and width: in each of these tags the distance between rows comes first."""
    for tag in _SPACING_TAGS:
        sizes = [float(value) for value in dataset.get(tag) or ()]
        if len(sizes) == 2 and all(np.isfinite(size) and size > 0 for size in sizes):
            return sizes[0], sizes[1]
    return None


def _are_one_volume(headers: Sequence[_Header]) -> bool:
    """Whether the files of one series lie behind one another in space, and so form a volume.

    They do not where a file has several frames, where sizes or directions differ (a localizer), where positions are
    missing, or where all positions are the same, as in images that were written with a copied header.
    """
    for header in headers:
        if (
            header.num_frames != 1
            or header.shape != headers[0].shape
            or header.position is None
            or header.affine is None
        ):
            return False
        if not np.allclose(header.affine, headers[0].affine, atol=_SAME_DIRECTION):  # type: ignore[arg-type]
            return False
    return float(np.ptp(_heights(headers))) > _SAME_POSITION_MM


def _heights(headers: Sequence[_Header]) -> np.ndarray:
    """Positions in millimetres along the normal of the first of the files of a volume."""
    return np.array([header.position for header in headers]) @ headers[0].affine[:3, 2]  # type: ignore[index]


@lru_cache(maxsize=4)
def _sorted_series(files: tuple[str, ...]) -> tuple[list[_Header], np.ndarray, np.ndarray]:
    """Return the headers in the order of their positions along the normal, these, and the anatomical axes."""
    headers = [header for file in files if (header := _read_header(Path(file))) is not None]
    if len(headers) != len(files) or not _are_one_volume(headers):
        raise UnusableInputError(
            f"{files[0]}: the {len(files)} DICOM files that were listed as its volume do not form one. List them again."
        )
    heights = _heights(headers)
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    if (gaps < _SAME_POSITION_MM).any():
        raise UnusableInputError(
            f"{headers[order[gaps.argmin()]].path}: several of the {len(files)} images of its series lie at this "
            "position (echoes, time points or directions of diffusion). Keep one of them, or convert the series to "
            "NIfTI volumes."
        )
    axes = ras_axes(headers[0].affine)  # type: ignore[arg-type]
    return [headers[position] for position in order], heights[order], axes


def _read_image(path: Path) -> tuple[np.ndarray, tuple[float, float] | None]:
    header = _read_header(path)
    if header is None:
        raise UnusableInputError(f"{path}: the DICOM file holds no image. Remove it from the list.")
    if header.num_frames > 1:
        raise UnusableInputError(
            f"{path}: the DICOM file holds {header.num_frames} frames, wanted one image per file. Convert it to "
            "NIfTI, for example with dcm2niix."
        )
    plane, size = _decode(path), header.pixel_size_mm
    if header.affine is None:
        return plane, size
    axes = ras_axes(header.affine)
    return as_viewed(plane, axes, 2), None if size is None else viewed_pixel_size((*size, 1.0), axes, 2)


@lru_cache(maxsize=1)
def _whole_volume(paths: tuple[Path, ...]) -> np.ndarray:
    return np.stack([_decode(path) for path in paths], axis=2)


def _decode(path: Path) -> np.ndarray:
    """Return ``(rows, columns)``, or ``(rows, columns, 3)`` for colour, as stored."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    photometric = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if photometric == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, dataset)[..., :3]
    if pixels.ndim == 3:
        return pixels
    grey = np.asarray(pydicom.pixels.apply_modality_lut(pixels, dataset), dtype=np.float64)
    return -grey if photometric == "MONOCHROME1" else grey
