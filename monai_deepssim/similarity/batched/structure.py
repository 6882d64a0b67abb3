"""Coarse structure of many images at once, and how it correlates."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

__all__ = ["band_of", "correlate_bands"]


def band_of(images: Tensor, fine: float, coarse: float) -> Tensor:
    """Images smoothed a little less the same smoothed more, by Gaussians as OpenCV's with its ``BORDER_REFLECT``.

    Args:
        images: ``(N, H, W)``.
        fine: standard deviation of the one, in pixels.
        coarse: of the other.

    Returns:
        ``(N, H, W)``, float32.

    Example:
        >>> image = np.random.default_rng(0).random((1, 20, 30), dtype=np.float32)
        >>> blurred = [cv2.GaussianBlur(image[0], (0, 0), s, borderType=cv2.BORDER_REFLECT) for s in (1.0, 2.0)]
        >>> bool(np.allclose(band_of(torch.from_numpy(image), 1.0, 2.0)[0], blurred[0] - blurred[1], atol=1e-6))
        True
    """
    wide = images.double()  # matrices of float32 may be multiplied in TF32
    smooth = []
    for deviation in (fine, coarse):
        rows, columns = (_blur_matrix(side, deviation, images.device) for side in images.shape[1:])
        smooth.append(rows @ wide @ columns.T)
    return (smooth[0] - smooth[1]).float()


def correlate_bands(first: Tensor, second: Tensor, inside: Tensor) -> Tensor:
    """Correlate each image with its partner: the mean of that over all pixels, about 0, and that over the inside.

    Args:
        first: ``(N, H, W)``.
        second: ``(N, H, W)``.
        inside: bool ``(N, H, W)``; where there is none of an image, all pixels count alone.

    Returns:
        ``(N,)``, float32.

    Example:
        >>> image = torch.rand(1, 4, 4) - 0.5
        >>> correlate_bands(image, -image, torch.ones(1, 4, 4, dtype=torch.bool)).round()
        tensor([-1.])
    """
    first, second, weights = (maps.flatten(1).double() for maps in (first, second, inside))
    whole = _correlate(first, second)
    count = weights.sum(1, keepdim=True).clamp(min=1)
    centred = (maps - (maps * weights).sum(1, keepdim=True) / count for maps in (first, second))
    part = _correlate(*(maps * weights for maps in centred))
    return torch.where(weights.any(1), (whole + part) / 2, whole).float()


def _correlate(first: Tensor, second: Tensor) -> Tensor:
    lengths = (first.square().sum(1) * second.square().sum(1)).sqrt()
    return (first * second).sum(1) / lengths.clamp(min=1e-12)


def _blur_matrix(side: int, deviation: float, device: torch.device) -> Tensor:
    """The matrix that smooths a line of pixels, mirrored at its ends with the last pixel twice, ``(side, side)``."""
    size = round(8 * deviation + 1) | 1  # as OpenCV chooses it for float32
    kernel = cv2.getGaussianKernel(size, deviation)[:, 0]
    places = (np.arange(side)[:, None] + np.arange(size) - size // 2) % (2 * side)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], np.minimum(places, 2 * side - 1 - places)), kernel)
    return torch.from_numpy(matrix).to(device)
