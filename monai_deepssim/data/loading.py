"""One item of a list of images to one tensor, in one orientation and one range for every file format."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_deepssim.data.contents import read_unchanged
from monai_deepssim.data.derived_image import DerivedImage
from monai_deepssim.data.grey import colour_to_grey
from monai_deepssim.data.intensities import CleanIntensities, clean_intensities, is_nearly_constant
from monai_deepssim.data.items import file_of, files_of
from monai_deepssim.data.readers import describe_file, format_names, reader_of
from monai_deepssim.data.square_pixels import are_square, make_square
from monai_deepssim.data.windows import window_ends
from monai_deepssim.errors import UnusableInputError

__all__ = ["LoadSliced", "LoadedSlice", "load_slice", "read_intensities", "read_slice"]

_AXIAL = 2


@dataclass(frozen=True)
class LoadedSlice:
    """A slice and how it was come by.

    Attributes:
        image: ``(1, rows, columns)``, float32 in [0, 1].
        converted: whether real colour was converted to grey.
        original_size: rows and columns before pixels were made square.
        resampled: whether pixels were made square.
        padded: whether padding was set to the lowest intensity of the rest.
        clipped: whether stray pixels, such as hot ones, were set to the nearest intensity of the rest.
        hounsfield: whether the file is in Hounsfield units.
    """

    image: torch.Tensor
    converted: bool = False
    original_size: tuple[int, int] = (0, 0)
    resampled: bool = False
    padded: bool = False
    clipped: bool = False
    hounsfield: bool = False


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
    return read_slice(item).image


def read_slice(item: Mapping[str, Any]) -> LoadedSlice:
    """Load a slice as :func:`load_slice` does, and tell what was done to it."""
    clean, converted, pixel_size_mm = read_intensities(item)
    pixels = clean.pixels
    _check_pixels(pixels, item, clean.is_windowed)
    original_size = (pixels.shape[0], pixels.shape[1])
    resampled = pixel_size_mm is not None and not are_square(pixel_size_mm)
    if pixel_size_mm is not None and resampled:
        try:
            pixels = make_square(pixels, pixel_size_mm)
        except UnusableInputError as error:
            raise UnusableInputError(f"{_name(item)}: {error}") from error
    low, high = float(pixels.min()), float(pixels.max())
    scaled = ((pixels - low) / (high - low)).astype(np.float32)
    return LoadedSlice(
        torch.from_numpy(np.ascontiguousarray(scaled))[None],
        converted,
        original_size,
        resampled,
        padded=clean.is_padded,
        clipped=clean.is_clipped,
        hounsfield=clean.is_hounsfield,
    )


def read_intensities(item: Mapping[str, Any]) -> tuple[CleanIntensities, bool, tuple[float, float] | None]:
    """Read a slice in the units of its file.

    Args:
        item: as for :func:`load_slice`.

    Returns:
        Its intensities, with the window of the item applied; whether real colour was converted to grey; and the height
        and width of a pixel in millimetres, ``None`` where the file does not tell.

    Raises:
        UnusableInputError: the file is missing, empty, damaged or no image, or has no such slice.
    """
    converted, pixel_size_mm, in_header = False, None, None
    if isinstance(item["image"], DerivedImage):
        pixels = item["image"].make(*map(load_slice, item["image"].sources))[0].numpy()
    elif isinstance(item["image"], torch.Tensor):
        pixels = item["image"][0].numpy()
    else:
        pixels, pixel_size_mm = read_unchanged(item, lambda: _read_pixels(Path(item["image"]), item))
        if (pixels < 0).any():  # as the Hounsfield units of air are
            in_header = reader_of(Path(item["image"])).in_hounsfield_units(files_of(item))  # type: ignore[union-attr]
    if pixels.ndim == 3:
        pixels, converted = colour_to_grey(pixels)
    clean = clean_intensities(pixels, window_ends(item.get("window", "")), in_header=in_header)
    return clean, converted, pixel_size_mm


def _check_pixels(pixels: np.ndarray, item: Mapping[str, Any], is_windowed: bool) -> None:
    """Refuse pixels that cannot be compared."""
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise UnusableInputError(
            f"{_name(item)}: {count} of {pixels.size} pixels are NaN or infinite, and are no border of NaN around an "
            "image. Replace them, for example by 0, or remove the image."
        )
    if pixels.min() == pixels.max():
        where = f"in the window {item['window']} " if is_windowed else ""
        raise UnusableInputError(
            f"{_name(item)}: {where}every pixel is {float(pixels.min()):g}, so there is nothing to compare. Choose "
            f"another {'window or ' if is_windowed else ''}slice, or remove the image."
        )
    if is_nearly_constant(pixels):
        level = float(np.median(pixels))
        count = int((pixels != level).sum())
        raise UnusableInputError(
            f"{_name(item)}: all pixels but {count} are {level:g}, so there is nothing to compare. Choose another "
            "slice, or remove the image."
        )


def _read_pixels(path: Path, item: Mapping[str, Any]) -> tuple[np.ndarray, tuple[float, float] | None]:
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
    files, index = files_of(item), item.get("slice")
    is_volume = bool(files) and reader_of(Path(files[0])).volume_shape(files) is not None  # type: ignore[union-attr]
    return f"{file_of(item)}, slice {index}" if is_volume and index is not None else file_of(item)


class LoadSliced(MapTransform):
    """Replace the file that an item names by its slice: :func:`load_slice` as the first of a list of MONAI transforms.

    It takes the place of MONAI's ``LoadImaged``, which gives PNG and DICOM transposed against NIfTI.

    Args:
        keys: where the file stands and the slice goes. ``slice``, ``slice_axis`` and ``files`` are taken from the item
            itself.
        allow_missing_keys: pass items without the key.

    Example:
        >>> from monai.transforms import Compose, ScaleIntensity
        >>> load = Compose([LoadSliced(), ScaleIntensity()])
        >>> # CacheDataset(data=list_images("slices"), transform=load)
    """

    def __init__(self, keys: KeysCollection = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with ``(1, rows, columns)`` tensors, float32 in [0, 1], in place of files."""
        loaded: dict[Hashable, Any] = dict(data)
        item = {str(name): value for name, value in data.items()}
        for key in self.key_iterator(loaded):
            loaded[key] = load_slice({**item, "image": data[key]})
        return loaded
