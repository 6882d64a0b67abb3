"""Which of the eight poses of a square turns the images of one side into the pose of the other's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from scipy import ndimage
from scipy.stats import fisher_exact
from torch import Tensor

from monai_deepssim.metrics.side_measures import SideMeasures

__all__ = ["POSE_NAMES", "SidePoses", "compare_poses"]

# Side of the window, and the standard deviations of the two Gaussians between which anatomy is compared, in its pixels.
_SIZE, _BAND_PIXELS = 48, (0.7, 4.0)
# Half the side of the window over the root mean square distance of the head's pixels from its centre.
_REACH = 2.0
# Correlations with this many nearest images are averaged.
_NEAREST = 3
# A pose is named when it raises the mean correlation by so much, for this share of the images, at so many standard
# errors.
_MIN_GAIN, _MIN_SHARE, _MIN_ERRORS = 0.03, 0.75, 4.5
# Two poses that differ by a mirroring differ by little in a head: less tells them apart.
_MIN_GAIN_OVER_RIVALS = 0.005
# An image is in another pose for itself when that raises its correlation by so much; and a side is mixed when such
# images are this much more frequent in it, at this p-value.
_CLEAR_GAIN, _MIXED_SHARE, _MIXED_P = 0.05, 0.25, 1e-3

_POSES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("as they are", lambda x: x),
    ("turned by 90 degrees clockwise", lambda x: torch.rot90(x, -1, (-2, -1))),
    ("turned by 180 degrees", lambda x: torch.rot90(x, 2, (-2, -1))),
    ("turned by 90 degrees counterclockwise", lambda x: torch.rot90(x, 1, (-2, -1))),
    ("mirrored left-right", lambda x: x.flip(-1)),
    ("mirrored top-bottom", lambda x: x.flip(-2)),
    ("transposed", lambda x: x.transpose(-2, -1)),
    ("transposed about the other diagonal", lambda x: x.transpose(-2, -1).flip(-2, -1)),
)

#: The eight poses of a square, the first of which changes nothing.
POSE_NAMES = tuple(name for name, _ in _POSES)


@dataclass(frozen=True)
class SidePoses:
    """How well the sides fit in each pose.

    Attributes:
        correlations: ``(8,)``, mean correlation of the images of both sides with their nearest of the other, with the
            training images brought to each of :data:`POSE_NAMES`.
        best: poses that clearly fit better than leaving the images as they are and that cannot be told apart, the best
            first; empty where there are none.
        training_correlation: mean correlation of the training images with their nearest among each other.
        turned_share: share of the synthetic images that clearly fit the training images better in another pose.
        turned_training_share: the same of the training images among each other.
        is_mixed: whether the first share is clearly higher and yet no pose fits all.
    """

    correlations: tuple[float, ...]
    best: tuple[int, ...]
    training_correlation: float
    turned_share: float
    turned_training_share: float
    is_mixed: bool


def compare_poses(training: SideMeasures, synthetic: SideMeasures) -> SidePoses:
    """Compare the sides in the eight poses of a square.

    Heads are centred and scaled to one size. The gain of an image by a pose is how much the pose raises the mean
    correlation with its three nearest images of the other side. Sets of several planes and flips have no one mean
    image, but in each of them an image's nearest lie in its own pose.

    Args:
        training: measures of the training side, of at least 2 images.
        synthetic: measures of the synthetic side, of at least 2 images.

    Returns:
        The comparison.

    Example:
        >>> from monai_deepssim.metrics.side_measures import measure_side
        >>> import numpy as np
        >>> images = np.zeros((8, 64, 64))
        >>> for i in range(8):
        ...     images[i, 12:50, 20:40], images[i, 16 + i : 26 + i, 22:30] = 0.5, 1.0
        >>> poses = compare_poses(measure_side(images), measure_side(np.rot90(images, -1, (1, 2))))
        >>> POSE_NAMES[poses.best[0]]
        'turned by 90 degrees clockwise'
    """
    first, second = _thumbnails(training), _thumbnails(synthetic)
    turned = [_unit_rows(turn(first)) for _, turn in _POSES]
    across = torch.stack([_unit_rows(second) @ rows.T for rows in turned])
    gains = torch.cat([_nearest_mean(across, dim=2), _nearest_mean(across, dim=1)], dim=1)
    correlations = gains.mean(dim=1)
    # Of the training images among each other no image may be its own nearest: it would fit in no other pose.
    among = torch.stack([turned[0] @ rows.T for rows in turned])
    among.diagonal(dim1=1, dim2=2).fill_(-1)
    turned_synthetic = _turned(_nearest_mean(across, dim=2))
    turned_training = _turned(_nearest_mean(among, dim=2))
    best = _best_poses(gains)
    share, training_share = float(turned_synthetic.float().mean()), float(turned_training.float().mean())
    return SidePoses(
        correlations=tuple(correlations.tolist()),
        best=best,
        training_correlation=float(_nearest_mean(among[0], dim=1).mean()),
        turned_share=share,
        turned_training_share=training_share,
        is_mixed=not best
        and share - training_share >= _MIXED_SHARE
        and _p_value(turned_synthetic, turned_training) < _MIXED_P,
    )


def _thumbnails(measures: SideMeasures) -> Tensor:
    """The heads, centred and brought to one size: ``(N, 48, 48)``."""
    heads = torch.from_numpy(measures.heads).double()
    images = torch.from_numpy(measures.upright_images) * heads
    rows, columns = heads.shape[1:]
    y = torch.arange(rows, dtype=heads.dtype)[:, None] - (rows - 1) / 2
    x = torch.arange(columns, dtype=heads.dtype)[None] - (columns - 1) / 2
    mass = heads.sum((1, 2)).clamp(min=1)
    centre_y, centre_x = (heads * y).sum((1, 2)) / mass, (heads * x).sum((1, 2)) / mass
    distance = (y - centre_y.view(-1, 1, 1)) ** 2 + (x - centre_x.view(-1, 1, 1)) ** 2
    reach = _REACH * ((heads * distance).sum((1, 2)) / mass).sqrt().clamp(min=2)
    zero = torch.zeros_like(reach)
    # affine_grid counts an axis from -1 to 1, and the columns first.
    theta = torch.stack(
        [
            torch.stack([reach * 2 / columns, zero, centre_x * 2 / columns], dim=1),
            torch.stack([zero, reach * 2 / rows, centre_y * 2 / rows], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [len(heads), 1, _SIZE, _SIZE], align_corners=False)
    # Bright points must not outweigh the anatomy, which a square root sees to, nor the outline what lies within: so a
    # band of frequencies.
    heads_in_window = F.grid_sample(images[:, None].clamp(min=0).sqrt(), grid, align_corners=False)[:, 0].numpy()
    fine, coarse = (ndimage.gaussian_filter(heads_in_window, (0, blur, blur)) for blur in _BAND_PIXELS)
    return torch.from_numpy(fine - coarse)


def _unit_rows(images: Tensor) -> Tensor:
    rows = images.flatten(1)
    return F.normalize(rows - rows.mean(dim=1, keepdim=True))


def _nearest_mean(correlations: Tensor, dim: int) -> Tensor:
    return correlations.topk(min(_NEAREST, correlations.shape[dim]), dim=dim).values.mean(dim=dim)


def _turned(fits: Tensor) -> Tensor:
    """Whether each image fits clearly better in another pose, of ``(8, N)`` correlations."""
    return fits.amax(dim=0) - fits[0] > _CLEAR_GAIN


def _is_clearly_higher(gains: Tensor, min_gain: float) -> bool:
    error = float(gains.std()) / len(gains) ** 0.5
    mean, share = float(gains.mean()), float((gains > 0).double().mean())
    return mean > min_gain and share >= _MIN_SHARE and mean > _MIN_ERRORS * error


def _best_poses(fits: Tensor) -> tuple[int, ...]:
    best = int(fits.mean(dim=1).argmax())
    if best == 0 or not _is_clearly_higher(fits[best] - fits[0], _MIN_GAIN):
        return ()
    order = fits.mean(dim=1).argsort(descending=True).tolist()
    better = [pose for pose in order if _is_clearly_higher(fits[pose] - fits[0], _MIN_GAIN)]
    rivals = [
        pose
        for pose in better
        if pose != best and not _is_clearly_higher(fits[best] - fits[pose], _MIN_GAIN_OVER_RIVALS)
    ]
    return best, *rivals


def _p_value(one: Tensor, other: Tensor) -> float:
    counts = [[int(side.sum()), int((~side).sum())] for side in (one, other)]
    return float(fisher_exact(counts).pvalue)
