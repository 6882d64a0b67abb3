"""What a file format has to say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_deepssim.data.readers.limits import check_num_voxels
from monai_deepssim.errors import UnusableInputError

__all__ = ["Reader"]


class Reader(ABC):
    """A file format: which files are of it, what they hold, and how one of their slices is read.

    A subclass names the format and reads it; what holds volumes also tells their size. ``CONTRIBUTING.md`` shows one.

    Attributes:
        name: What messages and the documentation call the format.
        suffixes: In lower case, with the dot.
        taken_as: What a file is taken as, for the table of formats in the documentation.
        pixel_size_from: Where the height and width of a pixel come from, for the table of pixel sizes.
        extra: Extra of this package that installs what the reader needs beyond the package itself, ``""`` for none.
        extra_for: What the extra is for, where the format is read without it too.
    """

    name: str
    suffixes: tuple[str, ...]
    taken_as: str = "one image"
    pixel_size_from: str = "nothing: they are square"
    extra: str = ""
    extra_for: str = ""

    def recognizes(self, head: bytes) -> bool | None:
        """Whether a file is of this format by its content, which goes before its suffix.

        Args:
            head: The first 1,024 bytes of the file; all of a shorter one.

        Returns:
            ``None`` where the first bytes cannot tell: then the suffix decides.
        """
        return None

    def gather(
        self, paths: Sequence[Path], *, all_files: bool = False
    ) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        """Gather the files that were found in a folder: those that form one image or one volume come together.

        Args:
            paths: Files of this format, sorted.
            all_files: Whether to keep what is not meant as an image of its own, such as a localizer.

        Returns:
            The files of each image or volume, and for each file that holds no image the reason to pass over it.
        """
        return [(path,) for path in paths], {}

    def files_with(self, path: Path) -> tuple[Path, ...]:
        """Return the files that hold the image or volume of a file that is named alone, such as a header and its data.

        Args:
            path: A file of this format.
        """
        return (path,)

    def volume_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        """Return the size of a volume, from its header if possible.

        Args:
            files: Paths of the files that :meth:`gather` put together.

        Returns:
            The number of sagittal, coronal and axial slices, or ``None`` for an image.

        Raises:
            Exception: Whatever a parser raises for a damaged file: it stays in the list and is refused when loaded.
        """
        return None

    def whole_shape(self, files: Sequence[str]) -> tuple[int, int, int] | None:
        """Return the size of what :meth:`read_volume` reads, or ``None`` where it is an image and not a volume.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """
        return self.volume_shape(files)

    def whole_spacing(self, files: Sequence[str]) -> tuple[float, float, float] | None:
        """Return the spacing that :meth:`read_volume` returns, from the header if possible.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """
        return self.read_volume(files)[1]

    def read_volume(self, files: Sequence[str]) -> tuple[np.ndarray, tuple[float, float, float] | None]:
        """Read a whole volume: slice by slice, where a format does not override it.

        Args:
            files: Paths of the files that :meth:`gather` put together.

        Returns:
            ``(X, Y, Z)`` in the file's own units, its axes from the patient's left to the right, from back to front and
            from feet to head; and the sides of a voxel in millimetres, ``None`` where the file does not tell.

        Raises:
            UnusableInputError: The file holds an image, several volumes, or a volume that is too large.
            Exception: Whatever a parser raises for a damaged file.
        """
        shape = self.volume_shape(files)
        if shape is None:
            raise UnusableInputError(
                f"{files[0]}: {self.name} holds an image, and whole volumes are wanted. Take it out, or compare "
                "slices: leave the option volumes away."
            )
        check_num_voxels(files[0], shape)
        axial, axial_mm = self.read(files, 0, 2)
        if axial.ndim != 2:
            raise UnusableInputError(f"{files[0]}: the voxels are colours. Save the volume with one number per voxel.")
        # Rows of an axial slice run to the back and its columns to the left; those of a coronal one to the feet.
        slices = [self.read(files, index, 2)[0][::-1, ::-1].T for index in range(shape[2])]
        _, coronal_mm = self.read(files, 0, 1)
        if axial_mm is None or coronal_mm is None:
            return np.stack(slices, axis=2), None
        return np.stack(slices, axis=2), (axial_mm[1], axial_mm[0], axial_mm[1] * coronal_mm[0] / coronal_mm[1])

    def in_hounsfield_units(self, files: Sequence[str]) -> bool | None:
        """Whether the file says that its values are Hounsfield units; ``None`` where it does not tell.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """
        return None

    def viewing_windows(self, files: Sequence[str]) -> tuple[tuple[float, float], ...]:
        """Center and width of the windows in which the file is to be viewed, in its own units.

        Args:
            files: Paths of the files that :meth:`gather` put together.
        """
        return ()

    @abstractmethod
    def read(
        self, files: Sequence[str], index: int | None, slice_axis: int
    ) -> tuple[np.ndarray, tuple[float, float] | None]:
        """Read an image, or one slice of a volume, as a radiologist sees it.

        :mod:`monai_deepssim.data.orientation` turns what has an affine matrix. Packages that not everybody has are
        imported here, so that one that is missing is reported with the extra that installs it.

        Args:
            files: Paths of the files that :meth:`gather` put together.
            index: Position along ``slice_axis`` in RAS order, negative from the end; ``None`` is the middle. Images
                have none.
            slice_axis: 0 sagittal, 1 coronal, 2 axial.

        Returns:
            ``(rows, columns)``, or ``(rows, columns, 3)`` for colour, in the file's own units; and the height and width
            of a pixel in millimetres, or two numbers in their ratio, ``None`` where the file does not tell.

        Raises:
            UnusableInputError: There is no such slice, or the file holds something else.
            Exception: Whatever a parser raises for a damaged file.
        """
