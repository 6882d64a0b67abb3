"""Pairs of 2-D images aligned and deformed in blocks, on the device where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.similarity.batched.changed_ssim import References
from monai_deepssim.similarity.batched.deformation import deform_aligned_pairs
from monai_deepssim.similarity.batched.resampling import flip_rows_and_columns, read_at, unchanged, warp
from monai_deepssim.similarity.batched.search import align_pairs
from monai_deepssim.similarity.kernels import Search
from monai_deepssim.similarity.local_features import LocalMatch

__all__ = ["AlignedBatch", "align_batch", "deform_batch"]

# Pixels of the pairs that are aligned at once: 2**22 float32 are 16 MiB a map, of which a flip needs some twenty. On a
# GPU, where each step takes its time however few pairs it is for, they are four times as many.
_BLOCK_PIXELS, _MORE_ON_GPU = 2**22, 4
# In SSIM: a deformation has to be worth this much.
_NO_GAIN = 1e-4


@dataclass(frozen=True)
class AlignedBatch:
    """What was found for each pair of a batch.

    Attributes:
        ssim: the highest SSIM, less what its deformation costs, ``(N,)``, float32, on the device of the images.
        flips: as bits, 2 rows and 4 columns, ``(N,)``.
        change: ``(N, CHANGE_SIZE)``, see :mod:`~monai_deepssim.similarity.kernels.resampling`.
        deformation_pixels: ``(N,)``.
    """

    ssim: Tensor
    flips: np.ndarray
    change: np.ndarray
    deformation_pixels: np.ndarray


def align_batch(
    x: Tensor,
    y: Tensor,
    search: Search,
    near: Search,
    deformation_cost: float | None,
    matches: Sequence[LocalMatch | None] | None,
) -> AlignedBatch:
    """Find the change of each ``y[i]`` that gives it the highest SSIM with ``x[i]``.

    Args:
        x: images ``(N, 1, H, W)``, any range.
        y: images of the same shape.
        search: where to search.
        near: where to search around the transform of a match.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        matches: for each pair the match to begin from, or ``None``.

    Returns:
        The changes; of a pair with a constant image none, and the SSIM of ``pairwise_ssim``.
    """
    x, y = (convert_to_tensor(side.detach(), dtype=torch.float32, track_meta=False, device=x.device) for side in (x, y))
    x_constant, y_constant = (side.amax((1, 2, 3)) == side.amin((1, 2, 3)) for side in (x, y))
    equal = x_constant & y_constant & (x[:, 0, 0, 0] == y[:, 0, 0, 0])
    ssim, flips = equal.double(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    change, pixels = unchanged(len(x), x.device), torch.zeros_like(ssim)
    usable = ~(x_constant | y_constant)
    has_match = torch.tensor([match is not None for match in matches or [None] * len(x)], device=x.device)
    for group, plan in ((usable & ~has_match, search), (usable & has_match, near)):
        for rows in _blocks(group, x[0].numel()):
            start = _to_unit_range(y[rows])
            if plan is near:
                start = _transform(start, [matches[row] for row in rows.tolist()])  # type: ignore[index]
            references = References.of(x[rows])
            ssim[rows], flips[rows], change[rows] = align_pairs(references, _to_unit_range(x[rows]), start, plan)
            if deformation_cost is not None:
                aligned = warp(flip_rows_and_columns(start, flips[rows]), change[rows], _centre(start))
                after, length, _ = deform_aligned_pairs(references, aligned, plan.levels > 0)
                score = after.clamp(max=1.0) - deformation_cost * length
                better = score > ssim[rows] + _NO_GAIN
                ssim[rows] = torch.where(better, score, ssim[rows])
                pixels[rows] = torch.where(better, length, 0.0)
    numbers = torch.cat([flips[:, None], pixels[:, None], change], 1).cpu().numpy()  # in one transfer
    return AlignedBatch(ssim.float(), numbers[:, 0].astype(np.int64), numbers[:, 2:], numbers[:, 1])


def deform_batch(x: Tensor, y: Tensor, halve: bool) -> Tensor:
    """Deform each ``y[i]``, which is aligned to ``x[i]``, onto it.

    Args:
        x: images ``(N, 1, H, W)``, any range.
        y: images of the same shape.
        halve: whether the field is searched at half the size.

    Returns:
        The deformed y, with the intensities of y, float32; a constant image, or one of a constant x, as it is.
    """
    plain, x = (
        convert_to_tensor(side.detach(), dtype=torch.float32, track_meta=False, device=y.device) for side in (y, x)
    )
    out = plain.clone()
    usable = (x.amax((1, 2, 3)) != x.amin((1, 2, 3))) & (plain.amax((1, 2, 3)) != plain.amin((1, 2, 3)))
    for rows in _blocks(usable, plain[0].numel()):
        deviation, mean = torch.std_mean(plain[rows], (1, 2, 3), correction=0, keepdim=True)
        references = References.of(x[rows])
        _, _, deformed = deform_aligned_pairs(references, _to_unit_range(plain[rows]), halve)
        out[rows] = deformed[:, None] * deviation + mean
    return out


def _blocks(chosen: Tensor, pixels: int) -> Iterator[Tensor]:
    rows = chosen.nonzero()[:, 0]
    size = max(1, _BLOCK_PIXELS * (_MORE_ON_GPU if chosen.is_cuda else 1) // pixels)
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _to_unit_range(images: Tensor) -> Tensor:
    """Images ``(N, 1, H, W)`` in [0, 1], by their smallest and largest values: ``(N, H, W)``."""
    plain = images[:, 0]
    lowest, highest = plain.amin((1, 2), keepdim=True), plain.amax((1, 2), keepdim=True)
    return (plain - lowest) / (highest - lowest)


def _transform(images: Tensor, matches: Sequence[LocalMatch]) -> Tensor:
    """Images in [0, 1] as their matches show them, zeros from outside."""
    read = [np.linalg.inv(np.vstack([match.matrix, [0.0, 0.0, 1.0]]))[:2] for match in matches]  # columns come first
    matrix = torch.tensor(np.stack(read), dtype=torch.float64, device=images.device)
    rows = torch.arange(images.shape[1], device=images.device, dtype=torch.float64)
    columns = torch.arange(images.shape[2], device=images.device, dtype=torch.float64)
    column, row = (
        (matrix[:, axis, 0, None] * columns + matrix[:, axis, 2, None])[:, None]
        + (matrix[:, axis, 1, None] * rows)[:, :, None]
        for axis in range(2)
    )
    moved = read_at(images, row.float(), column.float(), "zeros")
    inverted = torch.tensor([match.inverted for match in matches], device=images.device).view(-1, 1, 1)
    return torch.where(inverted, 1 - moved, moved).clamp(0, 1)


def _centre(images: Tensor) -> list[float]:
    return [(side - 1) / 2 for side in images.shape[1:]]
