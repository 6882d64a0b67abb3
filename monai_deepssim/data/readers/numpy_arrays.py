"""Arrays as NumPy saves them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import closing
from typing import IO

import numpy as np
from numpy.lib import format as npy

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.limits import check_image_size
from monai_deepssim.data.readers.volumes import check_voxel_type
from monai_deepssim.errors import UnusableInputError

__all__ = ["NumpyReader"]

_ZIP = b"PK\x03\x04"


class NumpyReader(Reader):
    """One image, as rows and columns from the upper left corner; a stack or a volume is refused.

    An array has no affine matrix: nothing tells which way the axes of a volume run, nor an image from a stack of one.
    """

    name = "NumPy"
    suffixes = (".npy", ".npz")
    taken_as = (
        "one image: an array `(rows, columns)`, `(1, rows, columns)`, `(rows, columns, 1)` or `(rows, columns, 3)`; a "
        "`.npz` with one array"
    )

    def recognizes(self, head: bytes) -> bool | None:
        name_length = int.from_bytes(head[26:28], "little")
        return head.startswith(npy.MAGIC_PREFIX) or (
            head.startswith(_ZIP) and head[30 : 30 + name_length].endswith(b".npy")
        )

    def read(self, files: Sequence[str], index: int | None, slice_axis: int) -> tuple[np.ndarray, None]:
        with open(files[0], "rb") as file:
            is_archive = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            array = _array_of_archive(files[0], file) if is_archive else _array(files[0], file)
        return array[0] if len(array) == 1 and array.ndim == 3 else array, None


def _array_of_archive(path: str, file: IO[bytes]) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(names) != 1 or not names[0].endswith(".npy"):
            raise UnusableInputError(
                f"{path}: the file holds {', '.join(names[:5]) or 'nothing'}, wanted one array. Save each image as a "
                "file of its own."
            )
        with closing(archive.open(names[0])) as member:
            return _array(path, member)


def _array(path: str, file: IO[bytes]) -> np.ndarray:
    """Read an array after its header was checked."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    check_voxel_type(path, dtype)
    is_image = len(shape) == 2 or (len(shape) == 3 and (shape[0] == 1 or shape[2] in (1, 3)))
    if not is_image:
        raise UnusableInputError(
            f"{path}: the array has the shape {shape}, wanted (rows, columns), (1, rows, columns), (rows, columns, 1) "
            "or (rows, columns, 3). Save each slice as a file of its own, or a volume as NIfTI, which tells its "
            "orientation."
        )
    check_image_size(path, shape)
    num_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise UnusableInputError(
            f"{path}: the file cannot be read to its end: the header tells {num_bytes:,} bytes of numbers, and there "
            f"are {len(content):,}. It is cut short: export it again, or remove it."
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
