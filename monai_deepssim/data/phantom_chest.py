"""The chest cohort: radiographs of chests that nobody has, for demos, tests and trainings without downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from monai_deepssim.data.phantom_chest_anatomy import ray_lengths
from monai_deepssim.data.phantom_chest_form import draw_chest
from monai_deepssim.data.phantom_cohort import DrawsSubject, PhantomCohort

__all__ = ["GenerateChestd", "PhantomChestDataset"]

# Linear attenuation in 1/mm at about 60 keV, the mean energy of a chest radiograph (NIST XCOM: water, lung with a
# quarter of its density, cortical bone above the soft tissue that it replaces), and of metal, enough to stop all.
_ATTENUATION = {"soft": 0.0206, "lung": 0.0052, "bone": 0.036, "metal": 0.5}
# The image is drawn this fine, in pixels along its longer side or more, and averaged.
_DRAWN_SIDE = 200


class PhantomChestDataset(PhantomCohort):
    """Frontal radiographs of individual phantom chests, one a subject.

    Ribs, clavicles, shoulder blades, spine, lungs with branching vessels, heart, great vessels, airways, diaphragm,
    breasts, shoulders and, in some, opacities, effusions and devices are random shapes. A pixel is the logarithm of
    what is left of the beam behind them (thickness times attenuation), with the scatter, focal blur, quantum noise,
    processing, rotation, field of view, collimation and markers of any department. Subject i of seed s is drawn from
    the seed sequence ``(s, i)``: it is the same in a cohort of any size, and two seeds never share a subject. Such a
    cohort shows that a method separates individuals and that a workflow runs; it says little of disease.

    Args:
        num_subjects: number of subjects.
        seed: seed of the cohort, at least 0.
        image_size: rows and columns of an image in pixels.
        **options: ``transform``, ``cache_rate``, ``num_workers`` and ``progress``, as
            :class:`~monai_deepssim.data.PhantomBrainDataset` takes them.

    Returns:
        Items with ``image``, a ``(1, *image_size)`` float32 MetaTensor in [0, 1], bone bright and the patient's right
        on the left; ``patient_id`` and ``path``, such as ``chest-7-12``.

    Raises:
        ValueError: when a number is out of its range.

    Example:
        >>> cohort = PhantomChestDataset(num_subjects=2, seed=7, progress=False)
        >>> len(cohort), cohort[1]["patient_id"], tuple(cohort[1]["image"].shape)
        (2, 'chest-7-1', (1, 128, 128))
    """

    def __init__(self, num_subjects: int, seed: int, image_size: Sequence[int] = (128, 128), **options: Any) -> None:
        super().__init__("chest", GenerateChestd(image_size), num_subjects, seed, **options)


class GenerateChestd(DrawsSubject):
    """Draw the radiograph of one phantom subject, as :class:`PhantomChestDataset` describes it.

    Args:
        image_size: rows and columns in pixels.

    Example:
        >>> image = GenerateChestd((96, 128))({"subject": (7, 1)})["image"]
        >>> tuple(image.shape), float(image.min()), float(image.max())
        ((1, 96, 128), 0.0, 1.0)
    """

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        chest = draw_chest(rng)
        finer = max(1, -(-_DRAWN_SIDE // max(self.image_size)))
        x, y, pixel_size = _pixel_places(rng, self.image_size, finer, chest.lung_height, chest.half_width)
        lengths = ray_lengths(chest, x, y)
        attenuation = np.sum([_ATTENUATION[tissue] * length for tissue, length in lengths.items()], axis=0)
        rows, columns = self.image_size
        averaged = attenuation.reshape(rows, finer, columns, finer).mean((1, 3))
        image = _display(rng, _expose(rng, averaged, pixel_size))
        return _collimate(rng, _mark(rng, image))


def _pixel_places(
    rng: np.random.Generator, image_size: tuple[int, ...], finer: int, lung_height: float, half_width: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw a field of view: where the pixels lie in the chest's mm, and the side of a pixel of the image."""
    rows, columns = image_size
    seen = max((lung_height + 75) / rows, (2 * half_width + 60) / columns) * rng.uniform(0.86, 1.2)
    down, across = np.meshgrid(
        *((np.arange(finer * side) + 0.5 - finer * side / 2) / finer * seen for side in image_size), indexing="ij"
    )
    turn = rng.normal(0, 0.04)
    center_y, center_x = lung_height * 0.5 + rng.normal(18, 16), rng.normal(0, 12)
    x = np.cos(turn) * across - np.sin(turn) * down + center_x
    y = np.sin(turn) * across + np.cos(turn) * down + center_y
    return x, y, seen


def _expose(rng: np.random.Generator, attenuation: np.ndarray, pixel_size_mm: float) -> np.ndarray:
    """What a detector measures, as a logarithm: Beer and Lambert's law, scatter, focal blur and quantum noise."""
    primary = gaussian_filter(np.exp(-attenuation), rng.uniform(0.25, 0.75))
    scatter = rng.uniform(0.2, 1.2) * gaussian_filter(primary, 30 / pixel_size_mm) + 0.002
    quanta = np.exp(rng.uniform(np.log(3e4), np.log(6e5)))
    measured = rng.poisson((primary + scatter) * quanta) / quanta
    return -np.log(np.maximum(measured, 1 / quanta))


def _display(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a workstation shows: a window, a curve and, mostly, contrast that is evened out over the image."""
    evened = rng.uniform(0.3, 0.8) if rng.random() < 0.85 else 0.0
    image = image - evened * gaussian_filter(image, rng.uniform(0.06, 0.2) * image.shape[1])
    image = image + rng.uniform(0, 0.8) * (image - gaussian_filter(image, 0.02 * image.shape[1]))
    low, high = np.percentile(image, [rng.uniform(0.5, 8), rng.uniform(90, 99.8)])
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    steep, middle = rng.uniform(0.5, 6), rng.uniform(0.35, 0.65)
    curve = 1 / (1 + np.exp(-steep * (image - middle)))
    ends = 1 / (1 + np.exp(-steep * (np.array([0, 1]) - middle)))
    return _to_unit(((curve - ends[0]) / (ends[1] - ends[0])) ** np.exp(rng.uniform(-0.35, 0.35)))


def _mark(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The marker of a side, and text, in some images."""
    canvas = Image.new("L", image.shape[::-1])
    if rng.random() < 0.5:
        left = rng.random() < 0.7
        across = rng.uniform(0.84, 0.95) if left else rng.uniform(0.02, 0.1)
        _write(rng, canvas, "L" if left else "R", across, rng.uniform(0.02, 0.35))
    if rng.random() < 0.15:
        word = str(rng.choice(["PA", "AP", "ERECT", "SUPINE", "PORTABLE", "SITTING", "10:42", "AP SEMI"]))
        _write(rng, canvas, word, rng.uniform(0.02, 0.6), rng.choice([0.01, 0.9]))
    return np.maximum(image, np.asarray(canvas) / 255)


def _write(rng: np.random.Generator, canvas: Image.Image, text: str, across: float, down: float) -> None:
    """Write a text of any size and slant on a canvas, at a place in shares of its sides."""
    size = max(6.0, rng.uniform(0.04, 0.1) * canvas.height)
    patch = Image.new("L", (int(size * (len(text) + 1)), int(2 * size)))
    ImageDraw.Draw(patch).text(
        (size / 4, size / 4), text, fill=int(rng.integers(150, 256)), font=ImageFont.load_default(size)
    )
    patch = patch.rotate(rng.normal(0, 6) + 90 * (rng.random() < 0.05), expand=True)
    canvas.paste(patch, (int(across * canvas.width), int(down * canvas.height)), patch)


def _collimate(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Unexposed margins, mostly black, in some images."""
    if rng.random() > 0.25:
        return image
    shown, margins = np.zeros_like(image, dtype=bool), np.round(rng.uniform(0, 0.07, 4) * min(image.shape)).astype(int)
    rows, columns = image.shape
    shown[margins[0] : rows - margins[1], margins[2] : columns - margins[3]] = True
    return np.where(shown, image, 0.0)


def _to_unit(image: np.ndarray) -> np.ndarray:
    image = image - image.min()
    return image / max(float(image.max()), 1e-12)
