"""Arrays as NumPy saves them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.lib import format as npy

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.limits import check_image_size
from monai_deepssim.data.readers.volumes import check_is_volume, check_voxel_type
from monai_deepssim.errors import UnusableInputError

__all__ = ["NumpyReader"]

_ZIP = b"PK\x03\x04"


class NumpyReader(Reader):
    """One image, as rows and columns from the upper left corner; a stack or a volume is refused.

    An array has no affine matrix: nothing tells which way the axes of a volume run, nor an image from a stack of one.
    Where whole volumes are asked for, an array ``(X, Y, Z)`` is taken as one in RAS order with cubic voxels.
    """

    name = "NumPy"
    suffixes = (".npy", ".npz")
    taken_as = (
        "one image: an array `(rows, columns)`, `(1, rows, columns)`, `(rows, columns, 1)` or `(rows, columns, 3)`; a "
        "`.npz` with one array. Among whole volumes `(x, y, z)`, from left to right, back to front and feet to head"
    )

    def recognizes(self, head: bytes) -> bool | None:
        name_length = int.from_bytes(head[26:28], "little")
        return head.startswith(npy.MAGIC_PREFIX) or (
            head.startswith(_ZIP) and head[30 : 30 + name_length].endswith(b".npy")
        )

    def read(self, files: Sequence[str], index: int | None, slice_axis: int) -> tuple[np.ndarray, None]:
        with _opened(files[0]) as array:
            if not array.is_image:
                raise UnusableInputError(
                    f"{files[0]}: the array has the shape {array.shape}, wanted (rows, columns), (1, rows, columns), "
                    "(rows, columns, 1) or (rows, columns, 3). Save each slice as a file of its own, or a volume as "
                    "NIfTI, which tells its orientation."
                )
            check_image_size(files[0], array.shape)
            pixels = array.read()
        return pixels[0] if len(pixels) == 1 and pixels.ndim == 3 else pixels, None

    def whole_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        with _opened(files[0]) as array:
            return array.volume_shape

    def whole_spacing(self, files: Sequence[str]) -> None:
        return None

    def read_volume(self, files: Sequence[str]) -> tuple[np.ndarray, None]:
        with _opened(files[0]) as array:
            if array.volume_shape is None:
                raise UnusableInputError(
                    f"{files[0]}: the array has the shape {array.shape}, and whole volumes are wanted: (x, y, z) or "
                    "(1, x, y, z). Take it out, or compare slices: leave the option volumes away."
                )
            check_is_volume(files[0], array.volume_shape)
            return array.read().reshape(array.volume_shape), None


@dataclass(frozen=True)
class _Array:
    """An array of which only the header was read."""

    path: str
    file: IO[bytes]
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 2 or (len(self.shape) == 3 and (self.shape[0] == 1 or self.shape[2] in (1, 3)))

    @property
    def volume_shape(self) -> tuple[int, int, int] | None:
        shape = self.shape[1:] if len(self.shape) == 4 and self.shape[0] == 1 else self.shape
        return None if len(shape) != 3 or self.is_image else (shape[0], shape[1], shape[2])

    def read(self) -> np.ndarray:
        num_bytes = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        content = self.file.read(num_bytes)
        if len(content) < num_bytes:
            raise UnusableInputError(
                f"{self.path}: the file cannot be read to its end: the header tells {num_bytes:,} bytes of numbers, "
                f"and there are {len(content):,}. It is cut short: export it again, or remove it."
            )
        if isinstance(self.file, zipfile.ZipExtFile):
            self.file.read(1)  # at the end the checksum is compared
        return np.frombuffer(content, self.dtype).reshape(self.shape, order="F" if self.fortran_order else "C")


@contextmanager
def _opened(path: str) -> Iterator[_Array]:
    """Open a file at the numbers of its array, of an archive the only one."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(path, "rb"))
        is_archive = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        if is_archive:
            archive = stack.enter_context(zipfile.ZipFile(file))
            names = archive.namelist()
            if len(names) != 1 or not names[0].endswith(".npy"):
                raise UnusableInputError(
                    f"{path}: the file holds {', '.join(names[:5]) or 'nothing'}, wanted one array. Save each image as "
                    "a file of its own."
                )
            file = stack.enter_context(archive.open(names[0]))
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        check_voxel_type(path, dtype)
        yield _Array(path, file, shape, fortran_order, dtype)
