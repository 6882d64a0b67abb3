"""The changes that make many pairs of images equal in the least squares sense, from ones that nearly do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_deepssim.similarity.batched.resampling import position_matrix, warp_with_gradient
from monai_deepssim.similarity.kernels import GAMMA

__all__ = ["fit_least_squares"]

_DAMPING, _STEP = 1e-3, 1e-4


def fit_least_squares(
    x: Tensor,
    y: Tensor,
    change: Tensor,
    *,
    free: Sequence[int],
    low: Tensor,
    high: Tensor,
    centre: Sequence[float],
    scale: float,
    iterations: int,
) -> Tensor:
    """Gauss-Newton steps for ``x = a w(y; change) + b``, over the free numbers of the change and a and b.

    Args:
        x: images in [0, 1], ``(N, H, W)``.
        y: images of the same shape.
        change: ``(N, CHANGE_SIZE)``, where to begin.
        free: which numbers of a change are fitted.
        low: the least that each number may be, ``(CHANGE_SIZE,)``.
        high: the most.
        centre: row and column of the centre.
        scale: how many pixels of a shift are one of these images.
        iterations: number of steps.

    Returns:
        The changes, ``(N, CHANGE_SIZE)``.
    """
    target = x.flatten(1).double()
    axes = (torch.arange(side, device=x.device, dtype=torch.float64) for side in x.shape[1:])
    positions = [axis - middle for axis, middle in zip(axes, centre, strict=True)]
    for _ in range(iterations):
        values, by_row, by_column, by_gamma = (
            image.flatten(1).double() for image in warp_with_gradient(y, change, centre, scale)
        )
        ones = torch.ones_like(values)
        # Gain and offset alone first: the derivatives by all else are times the gain.
        gain, bias = _solve(torch.stack([values, ones], 1), target).unbind(1)
        error = target - gain[:, None] * values - bias[:, None]
        matrix, offset = position_matrix(change, scale)
        rows = []
        for number in free:
            if number == GAMMA:
                rows.append(gain[:, None] * by_gamma)
                continue
            moved = change.clone()
            moved[:, number] += _STEP
            moved_matrix, moved_offset = position_matrix(moved, scale)
            factor = (gain / _STEP).view(-1, 1, 1)
            shifts = _shifts((moved_matrix - matrix) * factor, (moved_offset - offset) * factor[..., 0], positions)
            rows.append(by_row * shifts[0] + by_column * shifts[1])
        step = _solve(torch.stack([*rows, values, ones], 1), error)
        change = change.clone()
        change[:, list(free)] += step[:, : len(free)]
        change = change.clamp(low, high)
    return change


def _shifts(matrix: Tensor, offset: Tensor, positions: Sequence[Tensor]) -> list[Tensor]:
    """By how much the row and the column that are read move at each pixel, ``(N, H * W)`` each."""
    rows, columns = positions
    return [
        (
            (matrix[:, axis, 0, None] * rows + offset[:, axis, None])[:, :, None]
            + (matrix[:, axis, 1, None] * columns)[:, None]
        ).flatten(1)
        for axis in range(2)
    ]


def _solve(rows: Tensor, right: Tensor) -> Tensor:
    """Damped least squares: the factors of ``rows``, ``(N, K, P)``, that sum up to ``right``, ``(N, P)``."""
    normal = rows @ rows.transpose(1, 2)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    diagonal.mul_(1 + _DAMPING).add_(1e-9)
    return torch.linalg.solve(normal, rows @ right[..., None])[..., 0]
