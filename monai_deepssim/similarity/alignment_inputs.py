"""Pairs of images as the compiled functions of an alignment take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.similarity.kernels import Reference, window_means
from monai_deepssim.similarity.pairwise_ssim import check_finite
from monai_deepssim.similarity.standardize import standardize

__all__ = ["as_volumes", "check_pairs", "count_levels", "number_images", "prepare_reference"]

_WIN_SIZE, _K1, _K2 = 7, 0.01, 0.03
# A coarse image keeps at least so many pixels a side, or there is nothing left to align.
_SMALLEST_SIDE = 16


def count_levels(size: Sequence[int]) -> int:
    """How often images of a size can be halved for a coarser search, 0 to 2."""
    return max(0, min(2, int(np.log2(min(size) / _SMALLEST_SIDE))))


def prepare_reference(image: Tensor) -> Reference:
    """What others are compared with, of an image ``(1, H, W)``, flat then, or of a volume ``(1, H, W, D)``."""
    z = standardize(image.cpu()[None].double())
    span = float(z.amax() - z.amin())
    z = (z[0] if z.ndim == 4 else z[0, 0]).contiguous()
    win_planes = 1 if image.ndim == 3 else _WIN_SIZE
    valid = [z.shape[0] - win_planes + 1, *(side - _WIN_SIZE + 1 for side in z.shape[1:])]
    mean, variance = np.empty((1, *valid), np.float32), np.empty((1, *valid), np.float32)
    window_means(z[None].numpy(), win_planes, _WIN_SIZE, mean, variance)
    shape = (-1,) if image.ndim == 3 else z.shape
    inner = (-1,) if image.ndim == 3 else mean[0].shape
    constants = (_K1 * span) ** 2, (_K2 * span) ** 2
    return Reference(z.float().numpy().reshape(shape), mean.reshape(inner), variance.reshape(inner), *constants)


def number_images(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number images so that equal ones which follow each other, as an image does for each of its candidates, are one.

    Returns:
        int64, the number of each image, and for each number the first image that has it.

    Example:
        >>> [part.tolist() for part in number_images(np.array([[7.0], [7.0], [5.0], [7.0]]))]
        [[0, 0, 1, 2], [0, 2, 3]]
    """
    is_new = np.array([i == 0 or not np.array_equal(images[i], images[i - 1]) for i in range(len(images))], bool)
    return is_new.cumsum() - 1, np.flatnonzero(is_new)


def as_volumes(images: Tensor) -> np.ndarray:
    """Images in [0, 1] as ``(B, P, H, W)`` float32; one plane of those in 2-D."""
    plain = images.detach().cpu().float()
    plain = plain if plain.ndim == 4 else plain[:, 0]
    axes = (1, 2, 3)
    lowest = plain.amin(axes, keepdim=True)
    extent = plain.amax(axes, keepdim=True) - lowest
    return ((plain - lowest) / torch.where(extent > 0, extent, 1.0)).contiguous().numpy()


def check_pairs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse what cannot be aligned.

    Returns:
        The two without metadata, whose bookkeeping takes longer than a search.

    Raises:
        ValueError: which of the two, and what is wanted.
    """
    if x.ndim not in (4, 5) or x.shape[1] != 1 or x.shape != y.shape or min(x.shape[2:]) < _SMALLEST_SIDE:
        raise ValueError(
            f"got x {tuple(x.shape)} and y {tuple(y.shape)}, want pairs of one shape (B, 1, H, W) or (B, 1, H, W, D) "
            f"with sides of at least {_SMALLEST_SIDE} pixels"
        )
    x, y = (convert_to_tensor(side.detach(), track_meta=False) for side in (x, y))
    check_finite(x, y)
    return x, y
