"""MGH, the format of FreeSurfer."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import nibabel as nib

from monai_deepssim.data.readers.limits import MAX_LENGTH
from monai_deepssim.data.readers.nibabel_volumes import NibabelReader, NibabelVolume, read_start
from monai_deepssim.data.readers.streams import inflated_head

__all__ = ["MghReader"]

# Version, four lengths and the type of the voxels, big-endian: surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
_START = struct.Struct(">6i")
_VERSION = 1
_HEADER_BYTES = 90
_VOXEL_TYPES = (0, 1, 3, 4, 10)  # unsigned 8 bits, int32, float32, int16, uint16


class MghReader(NibabelReader):
    """MGH by nibabel, plain or compressed, turned by its matrix."""

    name = "MGH"
    suffixes = (".mgh", ".mgz", ".mgh.gz")

    def recognizes(self, head: bytes) -> bool | None:
        start = inflated_head(head)
        if start is None or len(start) < _START.size:
            return start if start is None else False
        version, *lengths, voxel_type = _START.unpack_from(start)
        return version == _VERSION and all(0 < n <= MAX_LENGTH for n in lengths) and voxel_type in _VOXEL_TYPES

    def open_volume(self, files: Sequence[str]) -> NibabelVolume:
        start = read_start(files[0], _HEADER_BYTES)
        if int.from_bytes(start[:4], "big") != _VERSION:
            raise ValueError(f"it does not begin with version {_VERSION}")
        header_class = nib.freesurfer.mghformat.MGHHeader
        # Behind the voxels are times of the sequence, which no image needs.
        header = header_class(start.ljust(header_class.template_dtype.itemsize, b"\0"))
        return NibabelVolume(header, header.get_affine(), files[0])
