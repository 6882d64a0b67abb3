"""MetaImage and NRRD."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.data.readers.itk_headers import check_voxels, data_file_of, is_itk_header, read_itk_header
from monai_deepssim.data.readers.volumes import VolumeHeader, VolumeReader, check_voxel_type, spatial_shape

__all__ = ["ItkReader"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's x runs to the left and its y to the back
_HEADER_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_TYPES = (
    *(("UInt8", "u1"), ("Int8", "i1"), ("UInt16", "u2"), ("Int16", "i2"), ("UInt32", "u4"), ("Int32", "i4")),
    *(("UInt64", "u8"), ("Int64", "i8"), ("Float32", "f4"), ("Float64", "f8")),
)


class ItkReader(VolumeReader):
    """MetaImage and NRRD by SimpleITK, turned by their directions; without any, the axes run as in ITK: left, back, up.

    The file with the voxels lies beside its header: a header that names one elsewhere is refused.
    """

    name = "MetaImage/NRRD"
    suffixes = (*_HEADER_SUFFIXES, ".raw", ".zraw", ".raw.gz")
    taken_as = "a volume, or an image where there is one slice; `.raw` with the `.mhd` or `.nhdr` that names it"
    pixel_size_from = "the spacing of the header"
    extra = "itk"

    def recognizes(self, head: bytes) -> bool | None:
        return is_itk_header(head)

    def gather(
        self, paths: Sequence[Path], *, all_files: bool = False
    ) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        headers = [path for path in paths if path.name.lower().endswith(_HEADER_SUFFIXES)]
        volumes = [_files(path, paths) for path in headers]
        with_header = {path for volume in volumes for path in volume}
        return volumes + [(path,) for path in paths if path not in with_header], {}

    def files_with(self, path: Path) -> tuple[Path, ...]:
        return _files(path) if path.name.lower().endswith(_HEADER_SUFFIXES) else (path,)

    def read_header(self, files: Sequence[str]) -> VolumeHeader:
        path = Path(files[0])
        data_file_of(path, read_itk_header(path), files)
        reader = _reader(path)
        _run(reader.ReadImageInformation)
        dtype = _dtype(reader.GetPixelID(), reader.GetNumberOfComponents())
        check_voxel_type(files[0], dtype)
        num_axes = reader.GetDimension()
        shape = spatial_shape(files[0], reader.GetSize())
        affine, spatial = np.eye(4), min(num_axes, 3)
        direction = np.reshape(reader.GetDirection(), (num_axes, num_axes))[:spatial, :spatial]
        affine[:spatial, :spatial] = direction * np.array(reader.GetSpacing()[:spatial])
        return VolumeHeader(shape, _LPS_TO_RAS @ affine, dtype, is_read_whole=True)

    def read_plane(self, files: Sequence[str], stored_axis: int, position: int) -> np.ndarray:
        path, data_file, header, num_bytes = self._parts(files)
        status = [file.stat() for file in (path, data_file)]
        versions = tuple((entry.st_mtime_ns, entry.st_size) for entry in status)
        voxels = _whole_volume(path, data_file, num_bytes, versions)
        return voxels.reshape(header.shape).take(position, stored_axis)

    def read_voxels(self, files: Sequence[str]) -> np.ndarray:
        path, data_file, header, num_bytes = self._parts(files)
        return _read_whole(path, data_file, num_bytes).reshape(header.shape)

    def _parts(self, files: Sequence[str]) -> tuple[Path, Path, VolumeHeader, int]:
        path, header = Path(files[0]), self.read_header(files)
        num_bytes = math.prod(header.shape) * header.dtype.itemsize
        return path, data_file_of(path, read_itk_header(path), files), header, num_bytes


@lru_cache(maxsize=1)
def _whole_volume(path: Path, data_file: Path, num_bytes: int, versions: tuple[tuple[int, int], ...]) -> np.ndarray:
    return _read_whole(path, data_file, num_bytes)


def _read_whole(path: Path, data_file: Path, num_bytes: int) -> np.ndarray:
    import SimpleITK

    check_voxels(data_file, read_itk_header(path), num_bytes)
    image = _run(_reader(path).Execute)
    return SimpleITK.GetArrayViewFromImage(image).T.copy()


def _reader(path: Path) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if read_itk_header(path).is_nrrd else "MetaImageIO")
    return reader


def _run(step: Any) -> Any:
    try:
        return step()
    except RuntimeError as error:
        # Of several lines the last says most, but for MetaIO's, which is the system's last error of any kind.
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError("SimpleITK cannot read it to its end" if reason.startswith("Reason") else reason) from error


def _dtype(pixel_id: int, num_components: int) -> np.dtype:
    import SimpleITK

    if num_components > 1:
        return np.dtype([("", "u1")] * num_components)
    types = {getattr(SimpleITK, f"sitk{itk_name}"): np.dtype(name) for itk_name, name in _TYPES}
    return types.get(pixel_id, np.dtype("c16"))


def _files(path: Path, listed: Collection[Path] = ()) -> tuple[Path, ...]:
    """The header and the file with the voxels, where the header can be read and that lies beside it."""
    with suppress(OSError, ValueError):
        data_file = data_file_of(path, read_itk_header(path), listed)
        return (path,) if data_file == path else (path, data_file)
    return (path,)
