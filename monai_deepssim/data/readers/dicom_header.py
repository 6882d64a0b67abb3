"""What the header of a DICOM file says of its images: which kind they are, how large, and where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from monai_deepssim.data.readers.dicom_file import check_length, is_cut_short, read_elements
from monai_deepssim.errors import UnusableInputError

__all__ = ["SPACING_TAGS", "DicomHeader", "Plane", "file_stamp", "read_header"]

# From the patient's own plane to what is known of the detector's: DICOM PS3.3 10.7.1.3. The last one is a ratio alone.
SPACING_TAGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_HEADER_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImageType", "ConversionType"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation"),
    *("ImageOrientationPatient", "ImagePositionPatient", _SHARED, _PER_FRAME, *SPACING_TAGS),
)
# By which elements dcm2niix knows mosaics beside ImageType: whose private elements these are, how many slices Siemens
# and United Imaging put into one picture, when each was acquired, Siemens's own header, and its copy of ImageType.
_CREATOR, _NUM_SLICES, _SLICE_TIMES, _NUM_IN_GRID = 0x00190010, 0x0019100A, 0x00191029, 0x00651050
_CSA_HEADER, _IMAGE_TYPE_TEXT, _GROUP_OF_TEXT = 0x00291010, 0x00211175, 0x0021
_MOSAIC_TAGS = (_CREATOR, _NUM_SLICES, _SLICE_TIMES, _NUM_IN_GRID, _CSA_HEADER, _IMAGE_TYPE_TEXT, "Manufacturer")
# A tag of that header: its name in 64 bytes, five numbers, of which the fourth counts its items, four more, and the
# text of the first item. https://nipy.org/nibabel/dicom/siemens_csa.html
_CSA_NUM_SLICES = re.compile(rb"NumberOfImagesInMosaic\0.{41}.{12}(?!\0{4}).{24}\s*(\d{1,9})", re.DOTALL)
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])  # DICOM PS3.3 C.7.6.2: x to the left, y to the back


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one image of a file lies.

    Attributes:
        affine: ``(4, 4)`` with the RAS unit vectors in which rows, columns and slices grow, and without a position;
            ``None`` where unknown.
        position: RAS position of the first pixel in millimetres; ``None`` where unknown.
        pixel_size_mm: Height and width of a pixel as stored, or two numbers in their ratio; ``None`` where unknown.
    """

    affine: np.ndarray | None
    position: np.ndarray | None
    pixel_size_mm: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class DicomHeader:
    """What the header of a DICOM file says of its images.

    Attributes:
        path: Path of the file.
        sop_class: SOPClassUID, ``""`` where absent.
        instance_uid: SOPInstanceUID, ``""`` where absent.
        series_uid: SeriesInstanceUID, ``""`` where absent.
        image_type: Values of ImageType, in upper case.
        conversion_type: ConversionType, by which a secondary capture says where it comes from.
        shape: Rows and columns; ``None`` where the file holds no image, such as a report, a plan or a DICOMDIR.
        planes: Where each image of the file lies.
        mosaic_of: The scanner that put several slices beside one another into this picture, ``""`` for none.
    """

    path: Path
    sop_class: UID
    instance_uid: str
    series_uid: str
    image_type: tuple[str, ...]
    conversion_type: str
    shape: tuple[int, int] | None
    planes: tuple[Plane, ...]
    mosaic_of: str


def file_stamp(path: str | Path) -> tuple[str, int, int]:
    """Return the path, time of change in nanoseconds and size in bytes of a file, by which its content is cached."""
    status = os.stat(path)
    return str(path), status.st_mtime_ns, status.st_size


def read_header(path: Path) -> DicomHeader:
    """Read the header of a DICOM file and check that its pixels are all there, without reading them.

    Raises:
        UnusableInputError: The content is not DICOM, an element makes no sense, or pixels are missing.
    """
    return _read_header(*file_stamp(path))


@lru_cache(maxsize=2**14)
def _read_header(path: str, modified_ns: int, num_bytes: int) -> DicomHeader:
    dataset, pixels = read_elements(Path(path), (*_HEADER_TAGS, *_MOSAIC_TAGS))
    try:
        shape, num_frames = _size(dataset, has_pixels=pixels is not None)
        planes = tuple(_planes(dataset, num_frames)) if shape else ()
        if shape:
            check_length(dataset, pixels, (*shape, num_frames))
        return DicomHeader(
            path=Path(path),
            sop_class=UID(_text(dataset, "SOPClassUID")),
            instance_uid=_text(dataset, "SOPInstanceUID"),
            series_uid=_text(dataset, "SeriesInstanceUID"),
            image_type=tuple(value.strip().upper() for value in _text(dataset, "ImageType").split("\\")),
            conversion_type=_text(dataset, "ConversionType"),
            shape=shape,
            planes=planes,
            mosaic_of=_mosaic_of(dataset, planes),
        )
    except ValueError as error:
        remedy = "Export it again" if is_cut_short(pixels) else "Correct the header, or export the file again"
        raise UnusableInputError(f"{path}: the file cannot be read: {error}. {remedy}.") from error


def _size(dataset: Dataset, has_pixels: bool) -> tuple[tuple[int, int] | None, int]:
    """Return rows and columns, ``None`` for what is no image, and the number of frames."""
    rows, columns = (_whole_number(dataset, keyword) for keyword in ("Rows", "Columns"))
    if rows is None or columns is None:
        name = UID(_text(dataset, "SOPClassUID")).name
        if has_pixels or name.endswith("Image Storage"):
            missing = "Rows" if rows is None else "Columns"
            raise ValueError(f"the header has no {missing}, so the size of its image is unknown")
        return None, 0
    if min(rows, columns) < 1:
        raise ValueError(f"Rows is {rows} and Columns {columns}, want at least 1")
    frames = _whole_number(dataset, "NumberOfFrames")
    if frames is not None and frames < 0:
        raise ValueError(f"NumberOfFrames is {frames}, want at least 1")
    return (rows, columns), frames or 1


def _whole_number(dataset: Dataset, keyword: str) -> int | None:
    (number,) = _numbers(dataset, keyword, 1) or (None,)
    if number is not None and not float(number).is_integer():
        raise ValueError(f"{keyword} is {number:g}, want a whole number")
    return None if number is None else int(number)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Return the numbers of an element: ``count`` of them, or none where it is absent or empty."""
    if keyword not in dataset:
        return ()
    raw = dataset.get_item(keyword).value
    text = raw.decode("latin-1").strip(" \0") if isinstance(raw, bytes) else str(raw)
    try:
        value = dataset.get(keyword)
        values = [] if value is None or value == "" else value if isinstance(value, MultiValue | list) else [value]
        numbers = tuple(float(entry) for entry in values)
    except (ValueError, TypeError, OverflowError):
        numbers = (np.nan,)
    if numbers and (len(numbers) != count or not np.isfinite(numbers).all()):
        wanted = f"{count} numbers with a backslash between them" if count > 1 else "a number"
        raise ValueError(f"{keyword} is {text!r}, want {wanted}")
    return numbers


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue | list) else [] if value is None else [value]
    return "\\".join(str(entry).strip() for entry in values)


def _planes(dataset: Dataset, num_frames: int) -> list[Plane]:
    """Return where each frame lies: by the group of the frame, by that of all frames, or by the file itself."""
    frames = dataset.get(_PER_FRAME) or []
    if len(frames) not in (0, num_frames):
        raise ValueError(f"{_PER_FRAME} describes {len(frames)} frames, and NumberOfFrames is {num_frames}")
    shared = list(dataset.get(_SHARED) or [])[:1]
    if not frames and num_frames > 1:
        return [Plane(None, None, None)] * num_frames
    if not frames:
        return [_plane([*shared, dataset])]
    return [_plane([frame, *shared, dataset]) for frame in frames]


def _plane(groups: Sequence[Dataset]) -> Plane:
    cosines = np.array(_first(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6))
    position = np.array(_first(groups, "PlanePositionSequence", "ImagePositionPatient", 3))
    affine = None
    if len(cosines) and np.linalg.norm(np.cross(cosines[:3], cosines[3:])) > 0.5:
        down, across = _LPS_TO_RAS * cosines[3:], _LPS_TO_RAS * cosines[:3]
        affine = np.eye(4)
        affine[:3, :3] = np.stack([down, across, np.cross(down, across)], axis=1)
    sizes = (_first(groups, "PixelMeasuresSequence", tag, 2) for tag in SPACING_TAGS)
    # In each of these tags the distance between rows, which is the height of a pixel, comes first.
    size = next(((values[0], values[1]) for values in sizes if values and min(values) > 0), None)
    return Plane(affine, _LPS_TO_RAS * position if len(position) else None, size)


def _first(groups: Sequence[Dataset], sequence: str, keyword: str, count: int) -> tuple[float, ...]:
    """Return the numbers of the first group that has them, in its sequence or directly."""
    for group in groups:
        for macro in (*list(group.get(sequence) or [])[:1], group):
            if numbers := _numbers(macro, keyword, count):
                return numbers
    return ()


def _mosaic_of(dataset: Dataset, planes: Sequence[Plane]) -> str:
    """Name the scanner that put several slices beside one another; anonymised files may have one sign of it alone."""
    if len(planes) > 1 and all(plane.position is not None for plane in planes):
        return ""  # Siemens's XA30 takes mosaics apart and leaves their ImageType: rordenlab/dcm2niix, issue 553
    image_type = _text(dataset, "ImageType").upper()
    if "MOSAIC" in image_type or _names_mosaic(dataset):
        return "Siemens"
    if "VFRAME" in image_type or _private_count(_private_value(dataset, _NUM_IN_GRID), is_text=True) > 1:
        return "United Imaging"
    maker = f"{_private_value(dataset, _CREATOR)!r} {_text(dataset, 'Manufacturer')}".upper()
    return "Siemens" if "SIEMENS" in maker and _num_slices(dataset) > 1 else ""


def _num_slices(dataset: Dataset) -> int:
    """Return how many slices Siemens's private elements tell of; 0 where they tell of none."""
    times, header = _private_value(dataset, _SLICE_TIMES), _private_value(dataset, _CSA_HEADER)
    in_header = _CSA_NUM_SLICES.search(header) if isinstance(header, bytes) else None
    return max(
        _private_count(_private_value(dataset, _NUM_SLICES), is_text=False),
        len(times) // 8 if isinstance(times, bytes) else np.size(times),
        int(in_header[1]) if in_header else 0,
    )


def _names_mosaic(dataset: Dataset) -> bool:
    """Whether Siemens's copy of ImageType, which may be in the groups of a frame alone, says that this is a mosaic."""
    for tag in dataset.keys():  # noqa: SIM118 - a data set itself gives its elements, and would decode all of them
        value = dataset.get_item(tag).value
        if isinstance(value, DicomSequence):
            says_so = any(map(_names_mosaic, value))
        else:
            says_so = tag.group == _GROUP_OF_TEXT and "MOSAIC" in str(value)  # also of bytes
        if says_so:
            return True
    return False


def _private_value(dataset: Dataset, tag: int) -> Any:
    return dataset[tag].value if tag in dataset else b""


def _private_count(value: object, is_text: bool) -> int:
    """Return a number whose type pydicom does not know where the file does not tell it."""
    if isinstance(value, bytes) and not is_text:
        return int.from_bytes(value, "little")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return int(text) if text.strip(" \0").isdigit() else 0
