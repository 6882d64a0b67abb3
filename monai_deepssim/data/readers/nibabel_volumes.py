"""Volumes that nibabel knows, read header first and no further than the header says."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from nibabel.arrayproxy import ArrayProxy

from monai_deepssim.data.readers.streams import is_compressed, open_stream, read_exactly
from monai_deepssim.data.readers.volumes import VolumeHeader, VolumeReader, check_voxel_type, spatial_shape
from monai_deepssim.errors import UnusableInputError

__all__ = ["NibabelReader", "NibabelVolume", "read_start"]

# Extensions of a NIfTI header lie between it and the voxels. Those of scanners have some kilobytes.
_MAX_OFFSET = 2**24


@dataclass(frozen=True)
class NibabelVolume:
    """A header of nibabel's, and the file with the voxels.

    Attributes:
        header: Any of nibabel's headers that an ``ArrayProxy`` takes.
        affine: ``(4, 4)``, from stored indices to RAS millimetres.
        data_file: Path of the file with the voxels.
    """

    header: Any
    affine: np.ndarray
    data_file: str

    @property
    def num_bytes(self) -> int:
        """Bytes of the file up to the last voxel."""
        return self.header.get_data_offset() + math.prod(map(int, self.header.get_data_shape())) * self.dtype.itemsize

    @property
    def is_compressed(self) -> bool:
        """Whether the file with the voxels is: by its content, but not where two of its voxels look like gzip."""
        return is_compressed(self.data_file) and os.path.getsize(self.data_file) != self.num_bytes

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels as stored."""
        return self.header.get_data_dtype()


class NibabelReader(VolumeReader):
    """A format of which nibabel parses the header. What is compressed is known by its content, not by its suffix."""

    @abstractmethod
    def open_volume(self, files: Sequence[str]) -> NibabelVolume:
        """Parse the header, and nothing else.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """

    def read_header(self, files: Sequence[str]) -> VolumeHeader:
        volume = self.open_volume(files)
        check_voxel_type(files[0], volume.dtype)
        shape = spatial_shape(files[0], volume.header.get_data_shape())
        offset = volume.header.get_data_offset()
        if not 0 <= offset <= _MAX_OFFSET:
            raise UnusableInputError(
                f"{files[0]}: the header says that the voxels begin at byte {offset:,}, wanted at most "
                f"{_MAX_OFFSET:,}. Export it again."
            )
        compressed = volume.is_compressed
        num_bytes = os.path.getsize(volume.data_file)
        if not compressed and num_bytes < volume.num_bytes:
            raise UnusableInputError(
                f"{volume.data_file}: the file cannot be read to its end: it has {num_bytes:,} bytes, and its header "
                f"tells {volume.num_bytes:,}. It is cut short, or its header is damaged: export it again, or remove it."
            )
        return VolumeHeader(shape, volume.affine, volume.dtype, is_read_whole=compressed)

    def read_plane(self, files: Sequence[str], stored_axis: int, position: int) -> np.ndarray:
        volume = self.open_volume(files)
        where: list[slice | int] = [slice(None), slice(None), slice(None), 0, 0, 0, 0]
        where[stored_axis] = position
        selection = tuple(where[: len(volume.header.get_data_shape())])
        if not volume.is_compressed:
            with open(volume.data_file, "rb") as file:
                return np.asanyarray(ArrayProxy(file, volume.header)[selection])
        # A compressed file can only be read from its start: all slices of one volume share one pass.
        status = os.stat(volume.data_file)
        voxels, slope, intercept = _whole_volume(self, tuple(files), status.st_mtime_ns, status.st_size)
        return voxels[selection].astype(np.float64) * slope + intercept

    def read_voxels(self, files: Sequence[str]) -> np.ndarray:
        volume = self.open_volume(files)
        if volume.is_compressed:
            voxels = np.asarray(_unpacked(volume), dtype=np.float32)
        else:
            with open(volume.data_file, "rb") as file:
                voxels = np.asarray(ArrayProxy(file, volume.header), dtype=np.float32)
        return voxels.reshape(voxels.shape[:3])  # further axes have length 1


@lru_cache(maxsize=1)
def _whole_volume(
    reader: NibabelReader, files: tuple[str, ...], modified_ns: int, num_bytes: int
) -> tuple[np.ndarray, float, float]:
    """Return the voxels as stored, which are a quarter of the size of scaled ones, with their scale."""
    stored = _unpacked(reader.open_volume(files))
    return np.asanyarray(stored.get_unscaled()), stored.slope, stored.inter


def _unpacked(volume: NibabelVolume) -> ArrayProxy:
    # To the end, where the checksum is: nibabel stops at the last voxel, and takes damaged ones without a word.
    return ArrayProxy(BytesIO(read_exactly(volume.data_file, volume.num_bytes)), volume.header)


def read_start(file: str, num_bytes: int) -> bytes:
    """Read the first bytes of a file that may be compressed.

    Raises:
        EOFError: there are fewer.
    """
    with open_stream(file) as stream:
        start = stream.read(num_bytes)
    if len(start) < num_bytes:
        raise EOFError(f"it ends within its header, after {len(start)} of {num_bytes} bytes")
    return start
