"""DICOM images, and series and multi-frame files that form a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from monai_deepssim.data.readers.dicom_classes import passed_over
from monai_deepssim.data.readers.dicom_file import is_dicom
from monai_deepssim.data.readers.dicom_header import SPACING_TAGS, DicomHeader, read_header
from monai_deepssim.data.readers.dicom_pixels import decode, decode_stack, decode_volume, fill_padding
from monai_deepssim.data.readers.dicom_series import DicomVolume, images_of_series, volume_of
from monai_deepssim.data.readers.dicom_window import in_hounsfield_units, viewing_windows
from monai_deepssim.data.readers.volumes import check_is_volume
from monai_deepssim.errors import UnusableInputError

__all__ = ["DicomReader"]


class DicomReader(Reader):
    """DICOM by pydicom: the modality's rescaling is applied and MONOCHROME1 inverted; windows are not applied.

    The usual axial, coronal and sagittal acquisitions are shown as stored; other orientations are turned by
    ImageOrientationPatient. A file without orientation is shown as stored. Padding gets the minimum of the rest.
    """

    name = "DICOM"
    suffixes = (".dcm", ".dicom", ".ima")
    taken_as = (
        "an image; the files of a folder that share a SeriesInstanceUID and lie behind one another are one volume, and "
        "so are the frames of a file. A file without one of these suffixes is known by its content"
    )
    pixel_size_from = (
        f"{SPACING_TAGS[0]}, else {SPACING_TAGS[1]}, {SPACING_TAGS[2]} or {SPACING_TAGS[3]}; across the slices of "
        "a volume, the distance between their positions"
    )
    extra = "dicom"
    extra_for = "some compressed transfer syntaxes"

    def recognizes(self, head: bytes) -> bool:
        return is_dicom(head)

    def gather(
        self, paths: Sequence[Path], *, all_files: bool = False
    ) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        images: list[tuple[Path, ...]] = []
        headers: list[DicomHeader] = []
        for path in paths:
            try:
                headers.append(read_header(path))
            except Exception:  # a damaged file stays in the list, and says what is wrong with it when it is loaded
                images.append((path,))
        ignored = passed_over(headers, all_files=all_files)
        series: dict[tuple[Path, str], list[DicomHeader]] = {}
        for header in headers:
            if header.path not in ignored:
                key = header.path.parent, header.series_uid or header.path.name
                series.setdefault(key, []).append(header)
        for of_one_series in series.values():
            images += images_of_series(of_one_series)
        return images, ignored

    def volume_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        volume = volume_of(files)
        return None if volume is None else ras_shape(volume.axes, volume.shape)

    def in_hounsfield_units(self, files: Sequence[str]) -> bool | None:
        return in_hounsfield_units(Path(files[0]))

    def viewing_windows(self, files: Sequence[str]) -> tuple[tuple[float, float], ...]:
        return viewing_windows(Path(files[0]))

    def read(
        self, files: Sequence[str], index: int | None, slice_axis: int
    ) -> tuple[np.ndarray, tuple[float, float] | None]:
        header = _header_of_image(files)
        volume = volume_of(files)
        if volume is not None:
            return _read_slice(volume, index, slice_axis, files[0])
        plane, size = fill_padding(decode(header.path, 0)), header.planes[0].pixel_size_mm
        if header.planes[0].affine is None:
            return plane, size
        axes = ras_axes(header.planes[0].affine)
        return as_viewed(plane, axes, 2), None if size is None else viewed_pixel_size((*size, 1.0), axes, 2)

    def read_volume(self, files: Sequence[str]) -> tuple[np.ndarray, tuple[float, float, float] | None]:
        header, volume = _header_of_image(files), volume_of(files)
        if volume is None:
            return super().read_volume(files)
        check_is_volume(header.path, volume.shape)
        _check_distances(volume, files[0], "Convert the series to NIfTI, for example with dcm2niix.")
        return as_ras(decode_volume(volume.slices), volume.axes), self.whole_spacing(files)

    def whole_spacing(self, files: Sequence[str]) -> tuple[float, float, float] | None:
        volume = volume_of(files)
        size = None if volume is None else volume.voxel_size_mm
        return None if volume is None or size is None else ras_voxel_size(size, volume.axes)


def _header_of_image(files: Sequence[str]) -> DicomHeader:
    """Read the header of the first file, and refuse what holds no image or many beside one another."""
    header = read_header(Path(files[0]))
    if header.shape is None:
        raise UnusableInputError(f"{header.path}: the DICOM file holds no image. Remove it from the list.")
    if header.mosaic_of:
        raise UnusableInputError(
            f"{header.path}: the image is a mosaic of {header.mosaic_of}: all slices of a volume beside one "
            "another. Convert it to NIfTI with dcm2niix."
        )
    return header


def _check_distances(volume: DicomVolume, name: str, advice: str) -> None:
    if volume.distortion:
        raise UnusableInputError(f"{name}: {volume.distortion}, and planes across them would be distorted. {advice}")


def _read_slice(
    volume: DicomVolume, index: int | None, slice_axis: int, name: str
) -> tuple[np.ndarray, tuple[float, float] | None]:
    stored_axis, position = stored_position(volume.axes, volume.shape, slice_axis, index, name)
    if stored_axis == 2:
        plane = decode(volume.slices[position].path, volume.slices[position].frame)
    else:
        way_out = "Choose the slice_axis in which they were acquired, or convert the series to NIfTI, for example with "
        _check_distances(volume, name, f"{way_out}dcm2niix.")
        plane = decode_stack(volume.slices).take(position, axis=stored_axis)
    size = volume.voxel_size_mm
    pixel_size = None if size is None else viewed_pixel_size(size, volume.axes, stored_axis)
    return as_viewed(fill_padding(plane), volume.axes, stored_axis), pixel_size
