"""What differs between the images of many hospitals, drawn: plane, field of view, contrast, lesions, noise."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.interpolate import interp1d
from scipy.ndimage import gaussian_filter, uniform_filter1d

from monai_deepssim.data.phantom_anatomy import unevenness

__all__ = [
    "View",
    "VolumeView",
    "add_lesions",
    "draw_tissue_brightness",
    "draw_view",
    "draw_volume_view",
    "scan",
    "vary_acquisition",
]

# Height in mm of MNI space, along the normal of each plane, within which there is a brain to see.
_HEIGHTS_MM = {"axial": (-35.0, 65.0), "coronal": (-90.0, 55.0), "sagittal": (-58.0, 58.0)}
# Side of a pixel in mm and how much its two sides differ; the shift of the head, as a share of the image.
_PIXEL_SIZE_MM, _LARGEST_STRETCH, _LARGEST_SHIFT = (1.05, 2.1), 1.1, 0.08
# Side of a voxel against that with which a brain just fits into a volume; standard deviation of its tilt. Share of the
# volumes that were acquired in thick slices, and how many voxels such a slice is thick.
_VOXEL_SIZES, _TILT_DEGREES, _THICK_SLICES, _THICKNESS = (0.85, 1.4), 5.0, 0.3, (1.5, 3.0)
# Least difference in brightness between the brightest and the darkest tissue.
_LEAST_CONTRAST = 0.25


class View(NamedTuple):
    """A slice through a head: where it lies and which part of it is in the image."""

    #: ``axial``, ``coronal`` or ``sagittal``.
    plane: str
    #: Along the plane's normal, in mm of MNI space.
    height_mm: float
    #: Rows and columns of a pixel in mm.
    pixel_size_mm: tuple[float, float]
    #: By how much of the image the head is moved, along rows and columns.
    shift: tuple[float, float]


def draw_view(rng: np.random.Generator) -> View:
    """Draw a plane, a height in it, a pixel size and a place.

    Example:
        >>> draw_view(np.random.default_rng(0)).plane in ("axial", "coronal", "sagittal")
        True
    """
    plane = str(rng.choice(list(_HEIGHTS_MM)))
    size = float(np.exp(rng.uniform(*np.log(_PIXEL_SIZE_MM))))
    stretch = float(np.exp(rng.uniform(-1, 1) * np.log(_LARGEST_STRETCH) / 2))
    shift = rng.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT, 2)
    return View(plane, float(rng.uniform(*_HEIGHTS_MM[plane])), (size * stretch, size / stretch), (shift[0], shift[1]))


class VolumeView(NamedTuple):
    """A volume of a head: which part of it is in the volume, and how it lies."""

    #: Sides of a voxel in mm.
    voxel_size_mm: tuple[float, float, float]
    #: By how much of the volume the head is moved, along each axis.
    shift: tuple[float, float, float]
    #: Standard deviation of the rotation about each axis.
    tilt_degrees: float


def draw_volume_view(rng: np.random.Generator, fitting_voxel_size_mm: float) -> VolumeView:
    """Draw a voxel size, a place and how far a head tilts.

    Args:
        rng: what is drawn from.
        fitting_voxel_size_mm: side of a voxel with which a head just fits.

    Example:
        >>> bool(min(draw_volume_view(np.random.default_rng(0), 1.0).voxel_size_mm) > 0.8)
        True
    """
    size = fitting_voxel_size_mm * np.exp(rng.uniform(*np.log(_VOXEL_SIZES)))
    sizes = size * np.exp(rng.uniform(-1, 1, 3) * np.log(_LARGEST_STRETCH) / 2)
    shift = rng.uniform(-_LARGEST_SHIFT, _LARGEST_SHIFT, 3)
    return VolumeView((sizes[0], sizes[1], sizes[2]), (shift[0], shift[1], shift[2]), _TILT_DEGREES)


def draw_tissue_brightness(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the brightness of grey matter, white matter and fluid, each from 0 to 1, as no scanner or as any.

    References:
        Billot et al., SynthSeg: segmentation of brain MRI scans of any contrast and resolution without retraining,
        Medical Image Analysis 86 (2023).

    Example:
        >>> brightness = draw_tissue_brightness(np.random.default_rng(0))
        >>> max(brightness) - min(brightness) > 0.25
        True
    """
    while True:
        grey, white, fluid = rng.uniform(0, 1, 3)
        if max(grey, white, fluid) - min(grey, white, fluid) > _LEAST_CONTRAST:
            return float(grey), float(white), float(fluid)


def add_lesions(rng: np.random.Generator, image: np.ndarray, brain: np.ndarray, pixel_size_mm: float) -> np.ndarray:
    """Put up to three lesions into a brain: uneven discs or balls of 3 to 22 mm, half of them with a rim.

    Args:
        rng: what is drawn from.
        image: ``(rows, columns)`` or ``(X, Y, Z)``.
        brain: mask of the same shape, above 0.5 where the centre of a lesion may be.
        pixel_size_mm: side of a pixel.

    Returns:
        The image with lesions; itself where there is no brain.

    Example:
        >>> image = np.full((64, 64), 0.5)
        >>> changed = add_lesions(np.random.default_rng(0), image, np.ones((64, 64)), 1.5)
        >>> 0 < float((changed != image).mean()) < 1
        True
    """
    places = np.argwhere(brain > 0.5)
    if not len(places):
        return image
    indices = np.indices(image.shape)
    for _ in range(rng.integers(1, 4)):
        centre = places[rng.integers(len(places))]
        offsets = [along - position for along, position in zip(indices, centre, strict=True)]
        uneven = unevenness(rng, offsets, 0.2)
        radius = rng.uniform(3, 22) / pixel_size_mm * (1 + uneven)
        depth = radius - np.sqrt(sum(offset**2 for offset in offsets))
        rim = rng.uniform(1, 4) / pixel_size_mm if rng.random() < 0.5 else 0.0
        for value, edge in ((rng.uniform(0, 1), 0.0), (rng.uniform(0, 1), rim)):
            inside = 1 / (1 + np.exp(np.clip(-2 * (depth - edge), -50, 50)))
            image = image + (value - image) * inside * (rim > 0 or edge == 0)
    return image


def vary_acquisition(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur, noise, bias field, gamma, window and black margins around a raised background, as far as they are drawn.

    Of the volumes three in ten are thick slices along one axis, interpolated.

    Args:
        rng: what is drawn from.
        image: ``(rows, columns)`` or ``(X, Y, Z)``, any range.

    Returns:
        float32 in [0, 1], both ends reached unless the image is constant.

    Example:
        >>> image = vary_acquisition(np.random.default_rng(0), np.eye(64))
        >>> float(image.min()), float(image.max()), image.dtype
        (0.0, 1.0, dtype('float32'))
    """
    image = gaussian_filter(image * _bias_field(rng, image.shape, 0.15), rng.uniform(0.3, 1.3))
    if image.ndim == 3 and rng.random() < _THICK_SLICES:
        image = _thick_slices(rng, image)
    image = _to_unit(_rician(rng, image, np.exp(rng.uniform(np.log(0.002), np.log(0.04)))))
    if rng.random() < 0.25:
        shown = image[image > 0.08]
        low, high = np.percentile(shown if shown.size else image, [rng.uniform(0, 25), rng.uniform(75, 100)])
        image = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    image = image ** np.exp(rng.uniform(np.log(0.6), np.log(1.7)))
    if rng.random() < 0.3:
        raised = rng.uniform(0.03, 0.25)
        image = raised + (1 - raised) * image
    if rng.random() < 0.25:
        margins = np.round(rng.uniform(0, 0.15, (image.ndim, 2)) * np.array(image.shape)[:, None]).astype(int)
        shown = image[tuple(slice(low, side - high) for (low, high), side in zip(margins, image.shape, strict=True))]
        image = np.pad(shown, margins)
    return _to_unit(image).astype(np.float32)


def scan(rng: np.random.Generator, image: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """What a good scanner adds: bias field, blur and Rician noise.

    Args:
        rng: what the field, the blur and the level of noise are drawn from.
        image: ``(rows, columns)`` or ``(X, Y, Z)``, any range.
        noise: what the noise is drawn from.

    Returns:
        float32 in [0, 1], both ends reached.
    """
    image = gaussian_filter(image * _bias_field(rng, image.shape, 0.08), rng.uniform(0.3, 0.7))
    return _to_unit(_rician(noise, image, rng.uniform(0.002, 0.012))).astype(np.float32)


def _thick_slices(rng: np.random.Generator, volume: np.ndarray) -> np.ndarray:
    """Replace a volume by slices of 1.5 to 3 voxels along one axis, and interpolate between them."""
    axis, thickness = int(rng.integers(3)), rng.uniform(*_THICKNESS)
    averages = uniform_filter1d(volume, round(thickness), axis)
    places = np.arange(volume.shape[axis])
    slices = np.round(np.arange(rng.uniform(0, 1), len(places) - 1, thickness)).astype(int)
    return interp1d(slices, averages.take(slices, axis), axis=axis, bounds_error=False, fill_value="extrapolate")(
        places
    )


def _bias_field(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Draw the smooth field by which a coil is uneven: the exponential of a polynomial of degree 2."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    terms = [*axes, *(first * second for first, second in combinations(axes, 2)), *(axis**2 for axis in axes)]
    return np.exp(sum(rng.normal(0, strength) * term for term in terms))


def _rician(rng: np.random.Generator, image: np.ndarray, share: float) -> np.ndarray:
    """Add Rician noise with a standard deviation that is a share of the maximum."""
    sigma = share * image.max()
    return np.hypot(image + sigma * rng.standard_normal(image.shape), sigma * rng.standard_normal(image.shape))


def _to_unit(image: np.ndarray) -> np.ndarray:
    """Scale an image to [0, 1] by its own minimum and maximum."""
    image = image - image.min()
    return image / max(float(image.max()), 1e-12)
