"""A small smooth deformation of many images at once, each onto its own, after they were aligned.

The optical flow, its windows and its damping are those of the compiled one
(:mod:`monai_deepssim.similarity.kernels.deformation`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.batched.changed_ssim import References
from monai_deepssim.similarity.batched.resampling import pool_by_two, read_at

__all__ = ["deform_aligned_pairs"]

_ITERATIONS, _WINDOW, _SMOOTHING, _DAMPING = 8, 6, 3, 0.05
_NO_DEVIATION = 1e-6


def deform_aligned_pairs(references: References, aligned: Tensor, halve: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Deform images, each aligned to its own, onto them.

    Args:
        references: what they are deformed onto.
        aligned: images ``(N, H, W)``.
        halve: whether the field is searched at half the size.

    Returns:
        SSIM ``(N,)``; the length of the displacements in pixels, root mean square where the image has structure,
        ``(N,)``; and the deformed images, standardised before. Of a constant image all are 0.
    """
    deviation, mean = torch.std_mean(aligned.double(), (1, 2), correction=0, keepdim=True)
    has_structure = deviation >= _NO_DEVIATION
    y = (aligned - mean.float()) / deviation.clamp(min=_NO_DEVIATION).float()
    small_x, small_y = (pool_by_two(references.z), pool_by_two(y)) if halve else (references.z, y)
    field, structure = _fit(small_x, small_y)
    squares = (structure * field.square().sum(1)).double().sum((1, 2))
    scale = 2.0 if halve else 1.0
    pixels = scale * (squares / (structure.double().sum((1, 2)) + 1e-12)).sqrt()
    if halve:
        field = scale * _enlarge(field, (y.shape[1], y.shape[2]))
    deformed = torch.where(has_structure, _resample(y, field), 0.0)
    return references.ssim(deformed), torch.where(has_structure[:, 0, 0], pixels, 0.0), deformed


def _fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Find the fields ``(N, 2, H, W)`` that bring each y onto its x, and the structure of the last images."""
    field = torch.zeros(len(x), 2, *x.shape[1:], device=x.device)
    for _ in range(_ITERATIONS):
        warped = _resample(y, field)
        by_row, by_column = torch.zeros_like(warped), torch.zeros_like(warped)
        by_row[:, 1:-1] = (warped[:, 2:] - warped[:, :-2]) / 2
        by_column[:, :, 1:-1] = (warped[:, :, 2:] - warped[:, :, :-2]) / 2
        left = x - warped
        structure = by_row * by_row + by_column * by_column
        products = [by_row * by_row, by_row * by_column, by_column * by_column, by_row * left, by_column * left]
        rr, rc, cc, er, ec = _smooth(torch.stack(products, 1), _WINDOW).unbind(1)
        rr, cc = rr + _DAMPING, cc + _DAMPING
        minor = rr * cc - rc * rc
        field = field + torch.stack([(er * cc - ec * rc) / minor, (ec * rr - er * rc) / minor], 1)
        field = _smooth(field, _SMOOTHING)
    return field, structure


def _smooth(maps: Tensor, radius: int) -> Tensor:
    """Smooth maps ``(N, C, H, W)`` along each axis by two means over windows, of what there is of them at the edges."""
    side = 2 * radius + 1
    for kernel, padding in (((1, side), (0, radius)), ((side, 1), (radius, 0))):
        for _ in range(2):
            maps = F.avg_pool2d(maps, kernel, 1, padding, count_include_pad=False)
    return maps


def _resample(images: Tensor, field: Tensor) -> Tensor:
    """Linear interpolation at the displaced positions, clamped to the image."""
    rows = torch.arange(images.shape[1], device=images.device)[:, None]
    columns = torch.arange(images.shape[2], device=images.device)
    return read_at(images, field[:, 0] + rows, field[:, 1] + columns, "border")


def _enlarge(field: Tensor, size: tuple[int, int]) -> Tensor:
    """A field of an image of half the size, linearly interpolated; it goes on where a row or a column was left over."""
    double = F.interpolate(field, scale_factor=2, mode="bilinear", align_corners=False)
    missing = (0, size[1] - double.shape[3], 0, size[0] - double.shape[2])
    return F.pad(double, missing, mode="replicate")
