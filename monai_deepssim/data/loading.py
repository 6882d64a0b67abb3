"""One item of a list of images or volumes to one tensor, in one orientation and one range for every file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_deepssim.data.contact_sheets import is_contact_sheet
from monai_deepssim.data.contents import read_unchanged
from monai_deepssim.data.cubic_voxels import make_cubes
from monai_deepssim.data.derived_image import DerivedImage
from monai_deepssim.data.grey import colour_to_grey, is_lost_in_grey
from monai_deepssim.data.intensities import CleanIntensities, clean_intensities, is_nearly_constant
from monai_deepssim.data.items import file_of, files_of
from monai_deepssim.data.readers import describe_file, format_names, reader_of
from monai_deepssim.data.spacing_choice import spacing_of
from monai_deepssim.data.square_pixels import are_square, make_square
from monai_deepssim.data.windows import window_ends
from monai_deepssim.errors import UnusableInputError

__all__ = ["LoadedImage", "load_slice", "load_volume", "read_image", "read_intensities", "read_item"]

_AXIAL = 2


@dataclass(frozen=True)
class LoadedImage:
    """A slice or a volume and how it was come by.

    Attributes:
        image: ``(1, rows, columns)`` or ``(1, X, Y, Z)``, float32 in [0, 1].
        converted: whether real colour was converted to grey.
        original_size: rows and columns, or the three sides of a volume, before pixels were made square.
        resampled: whether pixels were made square, or voxels cubes.
        padded: whether padding was set to the lowest intensity of the rest.
        clipped: whether stray pixels, such as hot ones, were set to the nearest intensity of the rest.
        hounsfield: whether the file is in Hounsfield units.
        lost_in_grey: whether it is in colours that its luma does not tell apart.
        is_sheet: whether it shows several images in rows and columns.
    """

    image: torch.Tensor
    converted: bool = False
    original_size: tuple[int, ...] = (0, 0)
    resampled: bool = False
    padded: bool = False
    clipped: bool = False
    hounsfield: bool = False
    lost_in_grey: bool = False
    is_sheet: bool = False


def load_slice(item: Mapping[str, Any]) -> torch.Tensor:
    """Load the slice that an item of :func:`~monai_deepssim.data.list_images` names.

    The slice comes as a radiologist sees it: NIfTI is turned by its affine, DICOM by ImageOrientationPatient (which
    leaves ordinary acquisitions as stored), and pictures are taken as a viewer shows them. Axial: front up, patient's
    right on the left. Coronal: head up, patient's right on the left. Sagittal: head up, front on the left. Where the
    header says that pixels are not square, the slice is resampled to square ones by linear interpolation, so that a
    body has its own proportions.

    Padding and stray pixels are set to intensities of the rest
    (:func:`~monai_deepssim.data.intensities.clean_intensities`), a window is applied to Hounsfield units, and what
    results is scaled to [0, 1] by the slice's own minimum and maximum. A scale and an offset therefore do not matter:
    one slice of square pixels written as PNG, TIFF, NIfTI and DICOM gives four identical tensors. What was cut off
    does: a picture of a window shows what a slice in Hounsfield units shows with the same window alone.

    Args:
        item: ``image``, the file; and optionally ``slice`` (position along ``slice_axis`` in RAS order, ``None`` for
            the middle), ``slice_axis`` (0 sagittal, 1 coronal, 2 axial, the default), ``files`` (those of a DICOM
            series) and ``window`` (``"center,width"`` in Hounsfield units, for what is in these).

    Returns:
        ``(1, rows, columns)``, float32 in [0, 1].

    Raises:
        UnusableInputError: the file is missing, empty, damaged or no image; has NaN that is no border, infinite or
            constant pixels; or has no such slice. The message names the file and what to do.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 51], [102, 255]], dtype=np.uint8)).save(f"{folder}/slice.png")
        ...     load_slice({"image": f"{folder}/slice.png"})
        tensor([[[0.0000, 0.2000],
                 [0.4000, 1.0000]]])
    """
    return read_item({**item, "volume": False}).image


def load_volume(item: Mapping[str, Any]) -> torch.Tensor:
    """Load the whole volume that an item of :func:`~monai_deepssim.data.list_images` names.

    Its axes run from the patient's left to the right, from back to front and from feet to head (RAS), whatever the file
    stores. Voxels that are no cubes by the header are resampled to cubes with their shortest side, and to larger ones
    where these are more than 256 x 256 x 256. A file that does not tell its spacing is taken to have cubes. Padding,
    stray voxels, windows and the range are treated as :func:`load_slice` treats those of a slice.

    Args:
        item: ``image``, the file; and optionally ``files`` (those of a DICOM series), ``window`` (``"center,width"``
            in Hounsfield units, for what is in these) and ``spacing`` (``"x,y,z"`` in millimetres, in place of what the
            file tells).

    Returns:
        ``(1, X, Y, Z)``, float32 in [0, 1].

    Raises:
        UnusableInputError: as for :func:`load_slice`; or the file holds an image or a single slice, or is too large.

    Example:
        >>> import nibabel, tempfile
        >>> thick = nibabel.Nifti1Image(np.arange(2000.0).reshape(20, 20, 5), np.diag([1.0, 1.0, 4.0, 1.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nibabel.save(thick, f"{folder}/t1.nii.gz")
        ...     load_volume({"image": f"{folder}/t1.nii.gz"}).shape
        torch.Size([1, 20, 20, 20])
    """
    return read_item({**item, "volume": True}).image


def read_image(item: Mapping[str, Any]) -> torch.Tensor:
    """Load what an item names: a volume where its ``volume`` is true (:func:`load_volume`), else a slice.

    Args:
        item: as for :func:`load_slice` or :func:`load_volume`.

    Returns:
        ``(1, rows, columns)`` or ``(1, X, Y, Z)``, float32 in [0, 1].

    Raises:
        UnusableInputError: as there.

    Example:
        >>> read_image({"image": torch.rand(1, 8, 8, 8), "path": "a volume", "volume": True}).shape
        torch.Size([1, 8, 8, 8])
    """
    return read_item(item).image


def read_item(item: Mapping[str, Any]) -> LoadedImage:
    """Load an image as :func:`read_image` does, and tell what was done to it."""
    clean, converted, lost_in_grey, pixel_size_mm = read_intensities(item)
    _check_pixels(clean.pixels, item, clean.is_windowed)
    try:
        pixels = _with_equal_sides(clean.pixels, pixel_size_mm)
    except UnusableInputError as error:
        raise UnusableInputError(f"{_name(item)}: {error}") from error
    low, high = float(pixels.min()), float(pixels.max())
    scaled = ((pixels - low) / (high - low)).astype(np.float32)
    return LoadedImage(
        torch.from_numpy(np.ascontiguousarray(scaled))[None],
        converted,
        clean.pixels.shape,
        resampled=pixels is not clean.pixels,
        padded=clean.is_padded,
        clipped=clean.is_clipped,
        hounsfield=clean.is_hounsfield,
        lost_in_grey=lost_in_grey,
        is_sheet=clean.pixels.ndim == 2 and is_contact_sheet(clean.pixels),
    )


def read_intensities(item: Mapping[str, Any]) -> tuple[CleanIntensities, bool, bool, tuple[float, ...] | None]:
    """Read a slice or a volume in the units of its file.

    Args:
        item: as for :func:`read_image`.

    Returns:
        Its intensities, with the window of the item applied; whether real colour was converted to grey, and whether
        its luma does not tell the colours apart; and the height and width of a pixel, or the sides of a voxel, in
        millimetres, ``None`` where the file does not tell.

    Raises:
        UnusableInputError: the file is missing, empty, damaged or no image, or has no such slice.
    """
    converted, lost_in_grey, in_header = False, False, None
    pixel_size_mm: tuple[float, ...] | None = None
    if isinstance(item["image"], DerivedImage):
        pixels = item["image"].make(*map(read_image, item["image"].sources))[0].numpy()
    elif isinstance(item["image"], torch.Tensor):
        pixels = item["image"][0].numpy()
    else:
        pixels, pixel_size_mm = read_unchanged(item, lambda: _read_pixels(Path(item["image"]), item))
        if (pixels < 0).any():  # as the Hounsfield units of air are
            in_header = reader_of(Path(item["image"])).in_hounsfield_units(files_of(item))  # type: ignore[union-attr]
    if pixels.ndim == 3 and not item.get("volume"):
        colours = pixels
        pixels, converted = colour_to_grey(colours)
        lost_in_grey = converted and is_lost_in_grey(colours)
    if item.get("volume"):
        pixel_size_mm = spacing_of(item) or pixel_size_mm
    clean = clean_intensities(pixels, window_ends(item.get("window", "")), in_header=in_header)
    return clean, converted, lost_in_grey, pixel_size_mm


def _with_equal_sides(pixels: np.ndarray, pixel_size_mm: tuple[float, ...] | None) -> np.ndarray:
    """Make pixels square and voxels cubes; themselves where they are."""
    if pixels.ndim == 3:
        return make_cubes(pixels, pixel_size_mm)
    if pixel_size_mm is None or are_square((pixel_size_mm[0], pixel_size_mm[1])):
        return pixels
    return make_square(pixels, (pixel_size_mm[0], pixel_size_mm[1]))


def _check_pixels(pixels: np.ndarray, item: Mapping[str, Any], is_windowed: bool) -> None:
    """Refuse pixels that cannot be compared."""
    choices = ["window"] * is_windowed + ["slice"] * (not item.get("volume"))
    advice = f"Choose another {' or '.join(choices)}, or remove the image." if choices else "Remove the image."
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise UnusableInputError(
            f"{_name(item)}: {count} of {pixels.size} pixels are NaN or infinite, and are no border of NaN around an "
            "image. Replace them, for example by 0, or remove the image."
        )
    if pixels.min() == pixels.max():
        where = f"in the window {item['window']} " if is_windowed else ""
        raise UnusableInputError(
            f"{_name(item)}: {where}every pixel is {float(pixels.min()):g}, so there is nothing to compare. {advice}"
        )
    if is_nearly_constant(pixels):
        level = float(np.median(pixels))
        count = int((pixels != level).sum())
        raise UnusableInputError(
            f"{_name(item)}: all pixels but {count} are {level:g}, so there is nothing to compare. {advice}"
        )


def _read_pixels(path: Path, item: Mapping[str, Any]) -> tuple[np.ndarray, tuple[float, ...] | None]:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist" if not path.is_symlink() else "is a broken link"
        raise UnusableInputError(f"{path}: the file {found}. Restore it, or list the images again.")
    if path.stat().st_size == 0:
        raise UnusableInputError(f"{path}: the file is empty (0 bytes). Export it again, or remove it.")
    reader, content = reader_of(path), describe_file(path)
    if reader is None:
        holds = f" holds {content} and" if content else ""
        raise UnusableInputError(f"{path}: the file{holds} is not a {format_names()} image. Convert it, or remove it.")
    try:
        if item.get("volume"):
            voxels, voxel_size_mm = reader.read_volume(files_of(item))
            return voxels.astype(np.float32), voxel_size_mm
        pixels, pixel_size_mm = reader.read(files_of(item), item.get("slice"), item.get("slice_axis", _AXIAL))
        if pixels.ndim < 2 or pixels.shape[2:] not in ((), (1,), (3,)):
            raise ValueError(f"its reader gave an array of shape {pixels.shape}, not (rows, columns)")
        return pixels.astype(np.float64), pixel_size_mm
    except UnusableInputError:
        raise
    # The readers raise whatever their parsers stumble over: struct, zlib, key, type and syntax errors among others.
    except Exception as error:
        if isinstance(error, ImportError) and reader.extra:
            raise UnusableInputError(
                f"{path}: {reader.name} cannot be read without {error.name}: pip install "
                f"'monai-deepssim[{reader.extra}]'."
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        holds = f" It holds {content}." if content and reader.name not in content else ""
        raise UnusableInputError(
            f"{path}: the file cannot be read as {reader.name} ({reason}).{holds} It may be damaged or cut short: "
            "export it again, or remove it."
        ) from error


def _name(item: Mapping[str, Any]) -> str:
    """Name an item that was read in a message: its file, and the slice of a volume."""
    files, index = files_of(item), None if item.get("volume") else item.get("slice")
    is_volume = bool(files) and reader_of(Path(files[0])).volume_shape(files) is not None  # type: ignore[union-attr]
    return f"{file_of(item)}, slice {index}" if is_volume and index is not None else file_of(item)
