"""The phantom cohort: brains that nobody has, for demos, tests and the shipped weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, Transform
from scipy.ndimage import gaussian_filter

from monai_deepssim.data.phantom_anatomy import (
    fitting_voxel_size,
    head_around,
    icbm152_maps,
    individual_tissues,
    pixel_axes,
    volume_axes,
)
from monai_deepssim.data.phantom_variety import (
    VolumeView,
    add_lesions,
    draw_tissue_brightness,
    draw_view,
    draw_volume_view,
    scan,
    vary_acquisition,
)

__all__ = ["AXIAL_LEVELS_MM", "PHANTOM_VARIABLES", "GeneratePhantomd", "PhantomBrainDataset"]

#: Axial levels by name: the height above the anterior commissure in millimetres of MNI space.
AXIAL_LEVELS_MM: Mapping[str, float] = {
    "midbrain": -14.0,
    "basal_ganglia": 4.0,
    "lateral_ventricles": 20.0,
    "centrum_semiovale": 36.0,
}

#: What is known of a phantom: whether there is a skull and whether it is T2-weighted (0 or 1), the height of a slice or
#: of the middle of a volume in millimetres of MNI space, and the shares of its brain that are grey matter, white matter
#: and cerebrospinal fluid.
PHANTOM_VARIABLES = (
    "skull",
    "t2_weighted",
    "height_mm",
    "grey_matter_fraction",
    "white_matter_fraction",
    "csf_fraction",
)

# A head is wider than its brain by the skull and the scalp, so its pixels are larger to fit the same matrix.
_HEAD_TO_BRAIN = 1.19
# Share of randomized phantoms with lesions.
_LESIONS = 0.4
# Sizes where none is asked for. Pixels of slices in mm; voxels of volumes against those with which a brain just fits.
_SLICE_SIZE, _VOLUME_SIZE = (136, 112), (64, 64, 64)
_PIXEL_SIZE_MM, _VOXEL_SIZES = (1.4, 1.6), (1.0, 1.12)


class PhantomBrainDataset(CacheDataset):
    """Axial slices of individual phantom brains, one slice a subject and level; or whole volumes.

    ICBM152's grey and white matter maps (nilearn ships them; cerebrospinal fluid is what is left of the brain mask) are
    warped at three spatial scales, folded, given a random pose, contrast, bias field, blur and noise, and for a share
    of the subjects a skull and a scalp. Subject i of seed s is drawn from the seed sequence ``(s, i)``: it is the same
    in a cohort of any size, and two seeds never share a subject. As all of it descends from one average brain, a cohort
    shows that a method separates individuals; it says little of other organs or of disease.

    A volume is drawn at its own grid, from the same maps warped in the same way. Its seed gives another head than a
    slice of that seed shows.

    A randomized cohort is for training: its slices are axial, coronal or sagittal at any height, and have any contrast
    between tissues, pixels of 1.05 to 2.1 mm, up to three lesions, and blur, noise, bias field, gamma, window and
    margins of any scanner and archive. Its volumes have all of this too, are tilted by 5 degrees (standard deviation)
    about each axis, hold between 0.85 and 1.4 times the field of view of the others, and three in ten are made of thick
    slices.

    Args:
        num_subjects: number of subjects.
        seed: seed of the cohort, at least 0.
        image_size: rows and columns of an image in pixels, 136 and 112 by default; of volumes the sides along x, y and
            z in voxels, 64 each.
        volume: whether each subject gives a whole volume instead of slices.
        levels: names out of :data:`AXIAL_LEVELS_MM`; each subject gives one slice at each. Volumes have none.
        transform: applied to each item after it was made; random transforms are applied anew at each access.
        cache_rate: share of the items that is held in memory, 0 to 1.
        num_workers: threads that fill the cache.
        progress: whether to show a progress bar while the cache is filled.
        **appearance: ``level_jitter_mm``, ``skull_fraction``, ``pixel_size_mm`` and ``randomized``, as
            :class:`GeneratePhantomd` takes them.

    Returns:
        Items with ``image``, a ``(1, *image_size)`` float32 MetaTensor in [0, 1], rows from front to back and the
        subject's right on the left, of a volume its axes from left to right, back to front and feet to head;
        ``patient_id`` and ``path``, such as ``phantom-7-12`` and ``phantom-7-12/basal_ganglia`` (the path of a volume
        is its ``patient_id``); ``level``, its name, ``""`` of a volume; and the numbers of :data:`PHANTOM_VARIABLES`.

    Raises:
        ValueError: when a level is unknown, a number is out of its range, or ``image_size`` has not two sides for
            slices and three for volumes.
        ImportError: when nilearn is not installed (``pip install 'monai-deepssim[demo]'``).

    Example:
        >>> cohort = PhantomBrainDataset(num_subjects=2, seed=7, progress=False)
        >>> len(cohort), cohort[1]["patient_id"], tuple(cohort[1]["image"].shape)
        (2, 'phantom-7-1', (1, 136, 112))
        >>> PhantomBrainDataset(num_subjects=1, seed=7, volume=True, progress=False)[0]["image"].shape
        torch.Size([1, 64, 64, 64])
    """

    def __init__(
        self,
        num_subjects: int,
        seed: int,
        image_size: Sequence[int] | None = None,
        *,
        volume: bool = False,
        levels: Sequence[str] = ("basal_ganglia",),
        transform: Sequence[Callable] | Callable | None = None,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
        **appearance: Any,
    ) -> None:
        unknown = [level for level in levels if level not in AXIAL_LEVELS_MM]
        if unknown:
            raise ValueError(f"got levels {unknown}, want names out of {list(AXIAL_LEVELS_MM)}")
        if num_subjects < 1 or seed < 0:
            raise ValueError(
                f"got num_subjects={num_subjects}, seed={seed}, want at least 1 subject and a seed of at least 0"
            )
        size = tuple(image_size or (_VOLUME_SIZE if volume else _SLICE_SIZE))
        if len(size) != (3 if volume else 2):
            raise ValueError(
                f"got image_size={size}, want {'three sides of volumes' if volume else 'rows and columns'}"
            )
        items = [
            {"patient_id": f"phantom-{seed}-{i}", "path": f"phantom-{seed}-{i}{'/' * bool(level)}{level}"}
            | {"subject": (seed, i), "level": level}
            for i in range(num_subjects)
            for level in ([""] if volume else levels)
        ]
        generate = GeneratePhantomd(size, **appearance)
        further = [] if transform is None else [transform] if callable(transform) else list(transform)
        super().__init__(
            items, Compose([generate, *further]), cache_rate=cache_rate, num_workers=num_workers, progress=progress
        )


class GeneratePhantomd(Transform):
    """Draw the slice or volume of one phantom subject, as :class:`PhantomBrainDataset` describes it.

    Args:
        image_size: rows and columns in pixels, or the three sides of a volume.
        level_jitter_mm: the level of a subject lies within plus or minus this many millimetres.
        skull_fraction: share of the subjects with a skull, 0 to 1.
        pixel_size_mm: smallest and largest side of a pixel in millimetres, for brains (heads: times 1.19); by default
            1.4 to 1.6, and for volumes 1 to 1.12 times that with which a brain of usual size just fits.
        randomized: whether plane, height, field of view, contrast, lesions and acquisition are drawn as for training;
            then ``level_jitter_mm`` and ``pixel_size_mm`` count for nothing, and a level only names the image.

    Raises:
        ValueError: when ``skull_fraction`` is out of its range.
        ImportError: when nilearn is not installed (``pip install 'monai-deepssim[demo]'``).

    An item's ``height_offset_mm``, where it has one other than 0, draws the slice so much above the subject's own: the
    same head, contrast and bias field, with noise of its own.

    Example:
        >>> draw = GeneratePhantomd((136, 112))
        >>> item = draw({"subject": (7, 1), "level": "basal_ganglia"})
        >>> bool(item["image"].min() == 0), bool(item["image"].max() == 1)
        (True, True)
    """

    def __init__(
        self,
        image_size: Sequence[int],
        *,
        level_jitter_mm: float = 3.0,
        skull_fraction: float = 0.3,
        pixel_size_mm: Sequence[float] | None = None,
        randomized: bool = False,
    ) -> None:
        if not 0 <= skull_fraction <= 1:
            raise ValueError(f"got skull_fraction={skull_fraction}, want a share from 0 to 1")
        icbm152_maps()  # here, since MONAI makes a RuntimeError of what a transform's call raises
        self.image_size = tuple(image_size)
        self.level_jitter_mm = level_jitter_mm
        self.skull_fraction = skull_fraction
        if pixel_size_mm is None and len(self.image_size) == 3:
            pixel_size_mm = [fitting_voxel_size(self.image_size) * share for share in _VOXEL_SIZES]
        sizes = pixel_size_mm or _PIXEL_SIZE_MM
        self.pixel_size_mm = (min(sizes), max(sizes))
        self.randomized = randomized

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        item = dict(data)
        subject, offset = tuple(item.pop("subject")), float(item.pop("height_offset_mm", 0.0))
        rng = np.random.default_rng(np.random.SeedSequence(subject))
        skull = bool(rng.random() < self.skull_fraction)
        if len(self.image_size) == 3:
            return item | self._draw_volume(rng, skull)
        if self.randomized:
            return item | self._draw_randomized([*subject, list(AXIAL_LEVELS_MM).index(item["level"])], skull)
        pixel_size = rng.uniform(*self.pixel_size_mm) * (_HEAD_TO_BRAIN if skull else 1.0)
        height = AXIAL_LEVELS_MM[item["level"]] + rng.uniform(-1, 1) * self.level_jitter_mm + offset
        rows, columns = pixel_axes(self.image_size, (pixel_size, pixel_size))
        tissues, mask = individual_tissues(rng, (rows, columns), height)
        noise = rng if offset == 0 else np.random.default_rng([*subject, round(1000 * abs(offset)), int(offset > 0)])
        contrast, t2_weighted = _contrast(rng, tissues, skull, mask, pixel_size)
        image = scan(rng, contrast, noise)
        if not skull:
            image = image * (mask > 0.5)  # skull-stripping leaves no noise around the brain
        return item | _describe(image, tissues, skull, t2_weighted, height)

    def _draw_randomized(self, seed: Sequence[int], skull: bool) -> dict[str, Any]:
        rng = np.random.default_rng(seed)  # one slice a level, each with a plane of its own
        view = draw_view(rng)
        size = [side * (_HEAD_TO_BRAIN if skull else 1.0) for side in view.pixel_size_mm]
        rows, columns = pixel_axes(self.image_size, size, view.shift)
        tissues, mask = individual_tissues(rng, (rows, columns), view.height_mm, view.plane)
        image, t2_weighted = _any_contrast(rng, tissues, skull, mask, float(np.mean(size)))
        return _describe(vary_acquisition(rng, image), tissues, skull, t2_weighted, view.height_mm)

    def _draw_volume(self, rng: np.random.Generator, skull: bool) -> dict[str, Any]:
        side = rng.uniform(*self.pixel_size_mm)
        view = VolumeView((side, side, side), (0.0, 0.0, 0.0), 1.0)
        if self.randomized:
            view = draw_volume_view(rng, fitting_voxel_size(self.image_size))
        size = [side * (_HEAD_TO_BRAIN if skull else 1.0) for side in view.voxel_size_mm]
        axes = volume_axes(self.image_size, size, view.shift)
        tissues, mask = individual_tissues(rng, axes, tilt_degrees=view.tilt_degrees)
        mean_size = float(np.mean(size))
        if self.randomized:
            image, t2_weighted = _any_contrast(rng, tissues, skull, mask, mean_size)
            image = vary_acquisition(rng, image)
        else:
            contrast, t2_weighted = _contrast(rng, tissues, skull, mask, mean_size)
            image = scan(rng, contrast, rng)
        if not (skull or self.randomized):
            # Voxels are larger than the pixels of slices, and the border of a brain lies within them.
            image = image * gaussian_filter((mask > 0.5).astype(np.float32), 0.5)
        affine = np.diag([*size, 1.0])
        affine[:3, 3] = [axis[0] for axis in axes]
        item = _describe(image, tissues, skull, t2_weighted, float(np.mean(axes[2])))
        return item | {"image": MetaTensor(item["image"].as_tensor(), affine=torch.from_numpy(affine))}


def _describe(image: np.ndarray, tissues: np.ndarray, skull: bool, t2_weighted: bool, height: float) -> dict[str, Any]:
    item: dict[str, Any] = {"image": MetaTensor(torch.from_numpy(image[None]))}
    item["skull"], item["t2_weighted"], item["height_mm"] = int(skull), int(t2_weighted), float(height)
    shares = tissues.reshape(3, -1).sum(1) / max(float(tissues.sum()), 1e-6)
    for tissue, share in zip(("grey_matter", "white_matter", "csf"), shares, strict=True):
        item[f"{tissue}_fraction"] = float(share)
    return item


def _any_contrast(
    rng: np.random.Generator, tissues: np.ndarray, skull: bool, mask: np.ndarray, pixel_size: float
) -> tuple[np.ndarray, bool]:
    """Any brightness of each tissue, some lesions, a skull or none; and whether fluid is brighter than white matter."""
    grey, white, fluid = draw_tissue_brightness(rng)
    image = grey * tissues[0] + white * tissues[1] + fluid * tissues[2]
    if rng.random() < _LESIONS:
        image = add_lesions(rng, image, mask, pixel_size)
    image = image + rng.uniform(0.3, 1.2) * head_around(rng, mask, fluid, pixel_size) if skull else image
    return image, fluid > white


def _contrast(
    rng: np.random.Generator, tissues: np.ndarray, skull: bool, mask: np.ndarray, pixel_size: float
) -> tuple[np.ndarray, bool]:
    """Brightness of each tissue, mostly as in T1 (white, grey, fluid), for one in ten as in T2; and whether it is."""
    fluid, grey, white = rng.uniform(0.05, 0.25), rng.uniform(0.45, 0.65), rng.uniform(0.75, 1.0)
    t2_weighted = bool(rng.random() < 0.1)
    if t2_weighted:
        fluid, grey, white = rng.uniform(0.85, 1.0), rng.uniform(0.5, 0.7), rng.uniform(0.25, 0.45)
    image = grey * tissues[0] + white * tissues[1] + fluid * tissues[2]
    if skull:
        image = image + head_around(rng, mask, fluid, pixel_size)
    return image, t2_weighted
