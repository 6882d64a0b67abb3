"""Random shapes: images that show no organ, to see what is bound to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from monai_deepssim.data.phantom_cohort import DrawsSubject, PhantomCohort
from monai_deepssim.data.phantom_variety import vary_acquisition

__all__ = ["GenerateShapesd", "PhantomShapesDataset"]

# Labels in an image, and the size of their patches and of their warp as shares of the image's side.
_NUM_LABELS, _PATCH, _WARP = (8, 26), (0.035, 0.12), (0.04, 0.1)


class PhantomShapesDataset(PhantomCohort):
    """Images of warped patches of random brightness, one a subject, in the manner of SynthMorph.

    Each label has a smooth random field; a pixel gets the label whose field is highest there, the map is warped, and
    each label gets a brightness. In half of the images only an uneven disc is filled, as a body fills an image. Blur,
    noise, bias field, gamma, window and margins are those of randomized brains
    (:class:`~monai_deepssim.data.PhantomBrainDataset`).

    Args:
        num_subjects: number of subjects.
        seed: seed of the cohort, at least 0.
        image_size: rows and columns of an image in pixels.
        **options: ``transform``, ``cache_rate``, ``num_workers`` and ``progress``, as
            :class:`~monai_deepssim.data.PhantomBrainDataset` takes them.

    Returns:
        Items with ``image``, a ``(1, *image_size)`` float32 MetaTensor in [0, 1], and ``patient_id`` and ``path``, such
        as ``shapes-7-12``.

    Raises:
        ValueError: when a number is out of its range.

    References:
        Hoffmann et al., SynthMorph: learning contrast-invariant registration without acquired images, IEEE Transactions
        on Medical Imaging 41 (2022).

    Example:
        >>> cohort = PhantomShapesDataset(num_subjects=2, seed=7, progress=False)
        >>> cohort[1]["patient_id"], tuple(cohort[1]["image"].shape)
        ('shapes-7-1', (1, 128, 128))
    """

    def __init__(self, num_subjects: int, seed: int, image_size: Sequence[int] = (128, 128), **options: Any) -> None:
        super().__init__("shapes", GenerateShapesd(image_size), num_subjects, seed, **options)


class GenerateShapesd(DrawsSubject):
    """Draw the shapes of one subject, as :class:`PhantomShapesDataset` describes them.

    Args:
        image_size: rows and columns in pixels.

    Example:
        >>> image = GenerateShapesd((96, 128))({"subject": (7, 1)})["image"]
        >>> tuple(image.shape), float(image.min()), float(image.max())
        ((1, 96, 128), 0.0, 1.0)
    """

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        side = max(self.image_size)
        count, blur = int(rng.integers(*_NUM_LABELS)), side * rng.uniform(*_PATCH)
        fields = gaussian_filter(rng.standard_normal((count, *self.image_size), dtype=np.float32), (0, blur, blur))
        brightness = rng.uniform(0, 1, count)[np.argmax(fields, axis=0)]
        warp = gaussian_filter(rng.standard_normal((2, *self.image_size)), (0, side / 12, side / 12))
        warp *= side * rng.uniform(*_WARP) / np.abs(warp).max()
        image = map_coordinates(brightness, np.indices(self.image_size) + warp, order=1, mode="reflect")
        if rng.random() < 0.5:
            image = image * _disc(rng, self.image_size)
        return vary_acquisition(rng, image)


def _disc(rng: np.random.Generator, image_size: tuple[int, ...]) -> np.ndarray:
    """An uneven disc, 1 inside and 0 outside."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in image_size), indexing="ij")
    rows, columns = rows - rng.normal(0, 0.06), columns - rng.normal(0, 0.06)
    angle = np.arctan2(rows, columns)
    radius = rng.uniform(0.65, 0.9) * np.ones(image_size)
    for wave in (1, 2, 3, 4):
        radius += rng.normal(0, 0.06 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return (np.hypot(rows, columns) < radius).astype(float)
