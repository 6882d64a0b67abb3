"""Normalised cross-correlation as a copy detector."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from monai_deepssim.metrics.detectors.pixels import PixelDetector

__all__ = ["NCCDetector"]


class NCCDetector(PixelDetector):
    """Normalised cross-correlation without shifts: the cosine of two images less their means.

    A change of brightness or contrast does not matter. The correlation with a constant image is 0.

    Args:
        threshold: score above which an image is a copy; nobody published one.
        device: where images are prepared.

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> NCCDetector().fit([images])(images[1:] * 0.5 + 0.1)
        tensor([[1., 1.],
                [1., 2.]])
    """

    title: ClassVar[str] = "NCC"

    def prepare(self, images: Tensor) -> Tensor:
        """Subtract the mean; a constant image becomes zeros, without a rest of rounding."""
        axes = tuple(range(1, images.ndim))
        constant = images.amax(axes, keepdim=True) == images.amin(axes, keepdim=True)
        return torch.where(constant, 0.0, images - images.mean(axes, keepdim=True))

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` in [-1, 1]."""
        return _unit_or_zero(queries) @ _unit_or_zero(training).T


def _unit_or_zero(rows: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(rows.double(), dim=1, keepdim=True)
    return rows.double() / torch.where(lengths == 0, 1.0, lengths)
