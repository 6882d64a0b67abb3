"""Whether the training and the synthetic images were preprocessed alike, and what differs where they were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.data import level_distance
from monai_deepssim.metrics.side_differences import (
    SIDE_DIFFERENCE_KINDS,
    SideDifference,
    name_differences,
    name_hounsfield_difference,
)
from monai_deepssim.metrics.side_measures import measure_side
from monai_deepssim.transforms import orthogonal_planes

__all__ = ["MIN_COMPARED_IMAGES", "SideComparison", "compare_sides"]

#: With fewer images on a side than this nothing is said of it.
MIN_COMPARED_IMAGES = 5


@dataclass(frozen=True)
class SideComparison:
    """How the preprocessing of two sides compares.

    Attributes:
        differences: what differs, in the order of :data:`SIDE_DIFFERENCE_KINDS`.
        training_mean: ``(1, H, W)``, mean of the training images; or a volume.
        synthetic_mean: ``(1, H, W)``, mean of the synthetic images; or a volume.
        num_training: images compared.
        num_synthetic: images compared.
    """

    differences: tuple[SideDifference, ...]
    training_mean: Tensor
    synthetic_mean: Tensor
    num_training: int
    num_synthetic: int

    @property
    def uncovered(self) -> tuple[SideDifference, ...]:
        """Differences that hide copies from the alignment stage."""
        return tuple(difference for difference in self.differences if not difference.covered)

    @property
    def is_testable(self) -> bool:
        """Whether there are enough images on both sides to tell a difference."""
        return min(self.num_training, self.num_synthetic) >= MIN_COMPARED_IMAGES

    def as_json(self) -> dict[str, Any]:
        """Return what belongs in a summary: everything but the mean images."""
        return {
            "num_training": self.num_training,
            "num_synthetic": self.num_synthetic,
            "is_testable": self.is_testable,
            "differences": [dict(vars(difference)) for difference in self.differences],
        }


@torch.no_grad()
def compare_sides(
    training_images: Tensor,
    synthetic_images: Tensor,
    *,
    hounsfield_shares: tuple[float, float] = (0.0, 0.0),
    has_window: bool = True,
) -> SideComparison:
    """Compare how the images of two sides were preprocessed.

    Each image is measured for itself (:func:`~monai_deepssim.metrics.side_measures.measure_side`): polarity,
    background, size of the head, contrast, blur, noise, lines along the edges. A measure differs when all of these
    hold: the probability that a random image of one side exceeds one of the other is at least 0.75 or at most 0.25;
    Mann and Whitney's two-sided p-value is below 0.0005; and the medians differ by a least amount that matters to a
    comparison of pixels. Ranks within the sides decide, so neither a few odd images nor the mere size of a sample make
    a difference. Poses are compared by each image's nearest of the other side.

    Of volumes the three middle planes are compared, and what differs in at least two of them is named: one plane alone
    may cut through something else.

    Args:
        training_images: ``(N, 1, H, W)`` in [0, 1], a sample of up to a few hundred; or volumes ``(N, 1, X, Y, Z)``,
            in RAS order.
        synthetic_images: ``(M, 1, H, W)`` in [0, 1], or volumes.
        hounsfield_shares: share of the training and of the synthetic images whose files are in Hounsfield units. Where
            one side is and the other shows pictures, the grey levels have to agree, for any number of images.
        has_window: whether a window was chosen for those, be it the full range.

    Returns:
        The differences and the mean images. With fewer than 5 images on a side there are no other differences, and
        the result is not testable; with 5 to 7 the ranks hardly reach the p-value, and poses and text alone can be
        named.

    Raises:
        ValueError: when a side has no images, its shape is another, the sides differ in height or width, an image is
            smaller than 32 pixels along an axis, or a value is not finite or out of [0, 1].

    References:
        Mann and Whitney, On a test of whether one of two random variables is stochastically larger than the other,
        Annals of Mathematical Statistics 18 (1947).

    Example:
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> sides = torch.arange(16, 26.0).view(-1, 1, 1)
        >>> discs = (((rows - 32) ** 2 + (columns - 32) ** 2).sqrt() < sides).float()[:, None]
        >>> [difference.kind for difference in compare_sides(discs, 1 - discs).differences]
        ['inverted']
    """
    training, synthetic = _checked("training", training_images), _checked("synthetic", synthetic_images)
    if training.shape[1:] != synthetic.shape[1:]:
        raise ValueError(
            f"got training images of {tuple(training.shape[2:])} and synthetic images of {tuple(synthetic.shape[2:])} "
            "rows and columns, want one size"
        )
    planes = [_planes(side) for side in (training, synthetic)]
    differences: tuple[SideDifference, ...] = ()
    if min(len(training), len(synthetic)) >= MIN_COMPARED_IMAGES:
        differences = _in_most([name_differences(*map(measure_side, pair)) for pair in zip(*planes, strict=True)])
    if max(hounsfield_shares) > 0:
        sides = [[image for plane in side for image in plane] for side in planes]
        distance = level_distance(*sides) if has_window else None
        differences = (*name_hounsfield_difference(*hounsfield_shares, distance), *differences)
    return SideComparison(differences, training.mean(dim=0), synthetic.mean(dim=0), len(training), len(synthetic))


def _planes(images: Tensor) -> list[np.ndarray]:
    """The images ``(N, H, W)``, or of volumes each of the three middle planes."""
    planes = [images] if images.ndim == 4 else orthogonal_planes(images)
    return [plane[:, 0].contiguous().numpy() for plane in planes]


def _in_most(found: Sequence[tuple[SideDifference, ...]]) -> tuple[SideDifference, ...]:
    """What differs in more than half of the planes, as the first of them shows it."""
    counts = Counter(difference.kind for differences in found for difference in differences)
    first = {difference.kind: difference for differences in reversed(found) for difference in differences}
    return tuple(first[kind] for kind in SIDE_DIFFERENCE_KINDS if 2 * counts[kind] > len(found))


def _checked(name: str, images: Tensor) -> Tensor:
    if not isinstance(images, Tensor) or images.ndim not in (4, 5) or images.shape[1] != 1 or len(images) == 0:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            f"got {name} images of shape {got}, want a tensor (N, 1, H, W) with N of at least 1, or "
            "volumes (N, 1, X, Y, Z)"
        )
    if min(images.shape[2:]) < 32:
        least = " x ".join(["32"] * (images.ndim - 2))
        raise ValueError(f"got {name} images of {tuple(images.shape[2:])} pixels, want at least {least}")
    plain = images.as_tensor() if hasattr(images, "as_tensor") else images
    plain = plain.detach().cpu().float()
    low, high = float(plain.min()), float(plain.max())
    if not torch.isfinite(plain).all() or low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"got {name} images with values from {low:.4g} to {high:.4g}, want finite values in [0, 1]")
    return plain.clamp(0, 1)
