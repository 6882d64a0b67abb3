"""Whole-image z-score."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["standardize"]


def standardize(x: Tensor) -> Tensor:
    """Z-score every image over all of its pixels: ``(x - mean) / std`` with the population standard deviation.

    This is what SSIM is measured on and what the embedders take, after Scardace et al. (arXiv 2509.16582). A constant
    image has no deviation to divide by and gives zeros.

    Args:
        x: images ``(N, C, H, W)`` or ``(N, C, H, W, D)`` of any real type and range.

    Returns:
        Tensor of the same shape, ``float32`` (``float64`` stays ``float64``), mean 0 and standard deviation 1 an image.

    Raises:
        ValueError: when ``x`` has fewer than 3 axes, so that there would be no batch of images.

    Example:
        >>> x = torch.tensor([[[[1.0, 3.0], [1.0, 3.0]]], [[[5.0, 5.0], [5.0, 5.0]]]])
        >>> standardize(x)[:, 0, 0].tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    if x.ndim < 3:
        raise ValueError(f"got a tensor of shape {tuple(x.shape)}, want images (N, C, H, W): add the missing axes")
    x = x if x.dtype == torch.float64 else x.float()
    axes = tuple(range(1, x.ndim))
    constant = x.amax(axes, keepdim=True) == x.amin(axes, keepdim=True)
    deviation = x.std(axes, keepdim=True, correction=0)
    z = (x - x.mean(axes, keepdim=True)) / torch.where(constant, 1.0, deviation)
    return torch.where(constant, 0.0, z)
