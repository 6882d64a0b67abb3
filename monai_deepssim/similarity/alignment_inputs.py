"""Pairs of images as the compiled functions of an alignment take them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.similarity.ssim_kernel import window_means
from monai_deepssim.similarity.standardize import standardize

__all__ = ["References", "as_volumes", "check_pairs"]

_WIN_SIZE, _K1, _K2 = 7, 0.01, 0.03
# A coarse image keeps at least so many pixels a side, or there is nothing left to align.
_SMALLEST_SIDE = 16


class References:
    """The images that others are compared with.

    Args:
        x: ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``.

    Attributes:
        levels: how often the images can be halved for a coarser search, 0 to 2.
    """

    def __init__(self, x: Tensor) -> None:
        self._images = x.detach().cpu()
        self._win_planes = 1 if x.ndim == 4 else _WIN_SIZE
        standardized = standardize(self._images)
        axes = tuple(range(1, x.ndim))
        self._ranges = (standardized.amax(axes) - standardized.amin(axes)).double().numpy()
        self.levels = max(0, min(2, int(np.log2(min(x.shape[2:]) / _SMALLEST_SIDE))))

    def prepare(self, i: int) -> tuple:
        """Image i standardised ``(P, H, W)``, its window statistics, SSIM's constants and the sides of its window."""
        z = standardize(self._images[i : i + 1].double())
        z = (z[0] if z.ndim == 4 else z[0, 0]).contiguous()
        valid = [z.shape[0] - self._win_planes + 1, *(side - _WIN_SIZE + 1 for side in z.shape[1:])]
        mean, var = np.empty((1, *valid), np.float32), np.empty((1, *valid), np.float32)
        window_means(z[None].numpy(), self._win_planes, _WIN_SIZE, mean, var)
        c1, c2 = (_K1 * self._ranges[i]) ** 2, (_K2 * self._ranges[i]) ** 2
        return z.float().numpy(), mean[0], var[0], c1, c2, self._win_planes, _WIN_SIZE


def as_volumes(images: Tensor) -> np.ndarray:
    """Images in [0, 1] as ``(B, P, H, W)`` float32; one plane of those in 2-D."""
    plain = images.detach().cpu().float()
    plain = plain if plain.ndim == 4 else plain[:, 0]
    axes = (1, 2, 3)
    lowest = plain.amin(axes, keepdim=True)
    extent = plain.amax(axes, keepdim=True) - lowest
    return ((plain - lowest) / torch.where(extent > 0, extent, 1.0)).contiguous().numpy()


def check_pairs(x: Tensor, y: Tensor) -> None:
    """Refuse what cannot be aligned.

    Raises:
        ValueError: which of the two, and what is wanted.
    """
    if x.ndim not in (4, 5) or x.shape[1] != 1 or x.shape != y.shape or min(x.shape[2:]) < _SMALLEST_SIDE:
        raise ValueError(
            f"got x {tuple(x.shape)} and y {tuple(y.shape)}, want pairs of one shape (B, 1, H, W) or (B, 1, H, W, D) "
            f"with sides of at least {_SMALLEST_SIDE} pixels"
        )
    for name, images in (("x", x), ("y", y)):
        finite = images.flatten(1).isfinite().all(1)
        if not finite.all():
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"{name} has NaN or infinite pixels in image {bad[:5]}: repair or leave out these images")
