"""MetaImage and NRRD."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.data.readers.volumes import VolumeHeader, VolumeReader, check_voxel_type, spatial_shape
from monai_deepssim.errors import UnusableInputError

__all__ = ["ItkReader"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's x runs to the left and its y to the back
_HEADER_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_MAX_HEADER_BYTES = 2**20
# In one line of a MetaImage header, and of an NRRD header, whose fields are written with or without a space.
_DATA_FILE = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_COMPRESSED_SIZE = re.compile(rb"^CompressedDataSize[ \t]*=[ \t]*(\d+)", re.MULTILINE)


class ItkReader(VolumeReader):
    """MetaImage and NRRD by SimpleITK, turned by their directions; without any, the axes run as in ITK: left, back, up.

    The file with the voxels lies beside its header: a header that names one elsewhere is refused.
    """

    name = "MetaImage/NRRD"
    suffixes = (*_HEADER_SUFFIXES, ".raw", ".zraw", ".raw.gz")
    taken_as = "a volume, or an image where there is one slice; `.raw` with its `.mhd` or `.nhdr`"
    pixel_size_from = "the spacing of the header"
    extra = "itk"

    def recognizes(self, head: bytes) -> bool | None:
        return head.startswith((b"NRRD000", b"ObjectType", b"NDims"))

    def gather(
        self, paths: Sequence[Path], *, all_files: bool = False
    ) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        headers = [path for path in paths if path.name.lower().endswith(_HEADER_SUFFIXES)]
        volumes = [(path, *_data_file(path)) for path in headers]
        with_header = {path for volume in volumes for path in volume}
        return volumes + [(path,) for path in paths if path not in with_header], {}

    def read_header(self, files: Sequence[str]) -> VolumeHeader:
        path = files[0]
        _check_data_file(path)
        reader = _reader(path)
        reader.ReadImageInformation()
        num_axes, num_components = reader.GetDimension(), reader.GetNumberOfComponents()
        dtype = _dtype(reader.GetPixelID())
        if num_components > 1:
            dtype = np.dtype([("", dtype)] * num_components)
        check_voxel_type(path, dtype)
        affine = np.eye(4)
        spatial_axes = min(num_axes, 3)
        direction = np.reshape(reader.GetDirection(), (num_axes, num_axes))[:spatial_axes, :spatial_axes]
        affine[:spatial_axes, :spatial_axes] = direction * np.array(reader.GetSpacing()[:spatial_axes])
        return VolumeHeader(spatial_shape(path, reader.GetSize()), _LPS_TO_RAS @ affine, dtype, is_read_whole=True)

    def read_plane(self, files: Sequence[str], stored_axis: int, position: int) -> np.ndarray:
        status = [Path(file).stat() for file in (files[0], *map(str, _data_file(Path(files[0]))))]
        voxels = _whole_volume(files[0], tuple((entry.st_mtime_ns, entry.st_size) for entry in status))
        return voxels.take(position, stored_axis)


@lru_cache(maxsize=1)
def _whole_volume(path: str, versions: tuple[tuple[int, int], ...]) -> np.ndarray:
    import SimpleITK

    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        # The last line says it; those before are places in ITK's sources.
        reason = str(error).strip().splitlines()[-1].strip()
        raise UnusableInputError(
            f"{path}: the voxels cannot be read to their end ({reason}). The file, or the one with its voxels, is "
            "damaged or cut short: export it again, or remove it."
        ) from error
    voxels = SimpleITK.GetArrayViewFromImage(image).T.copy(order="K")
    return voxels.reshape((*voxels.shape, 1, 1)[:3] if voxels.ndim < 3 else voxels.shape[:3])


def _reader(path: str) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    return reader


def _dtype(pixel_id: int) -> np.dtype:
    import SimpleITK

    types = {
        getattr(SimpleITK, f"{family}{itk_name}"): np.dtype(name)
        for family in ("sitk", "sitkVector")
        for itk_name, name in (
            *(("UInt8", "u1"), ("Int8", "i1"), ("UInt16", "u2"), ("Int16", "i2"), ("UInt32", "u4"), ("Int32", "i4")),
            *(("UInt64", "u8"), ("Int64", "i8"), ("Float32", "f4"), ("Float64", "f8")),
        )
    }
    return types.get(pixel_id, np.dtype("c16"))


def _data_file_name(path: Path) -> str:
    """What the header names as the file with its voxels, ``""`` where it is the same file."""
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER_BYTES)
    is_nrrd = start.startswith(b"NRRD")
    if is_nrrd:  # the header ends with an empty line
        start = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
    match = _DATA_FILE.search(start)
    name = match[1].decode("utf-8", "replace") if match else ""
    return "" if name.upper() == "LOCAL" and not is_nrrd else name


def _data_file(path: Path) -> tuple[Path, ...]:
    """The file with the voxels of a header, where there is one and it lies beside it."""
    try:
        name = _data_file_name(path)
    except OSError:
        return ()
    beside = path.parent / name
    return (beside,) if name and Path(name).name == name and beside.is_file() else ()


def _check_data_file(path: str) -> None:
    if not path.lower().endswith(_HEADER_SUFFIXES):
        raise UnusableInputError(
            f"{path}: these are voxels without a header. Restore the .mhd or .nhdr file that names them, or remove "
            "this one."
        )
    name = _data_file_name(Path(path))
    if not name:
        return
    if Path(name).name != name or "%" in name or name.split()[0] == "LIST":
        raise UnusableInputError(
            f"{path}: the header names {name!r} as the file with its voxels, wanted one file in the same folder. Save "
            "the volume again, best in one file (.mha, .nrrd or .nii.gz)."
        )
    if not (Path(path).parent / name).is_file():
        raise UnusableInputError(
            f"{path}: the file with its voxels, {name}, is not beside it. Restore it, or remove this one."
        )
