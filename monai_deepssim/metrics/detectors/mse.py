"""Mean squared error as a copy detector."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from monai_deepssim.metrics.detectors.pixels import PixelDetector

__all__ = ["MSEDetector"]


class MSEDetector(PixelDetector):
    """Minus the mean squared difference of the pixels: 0 for an equal image, -1 for black against white.

    Args:
        threshold: score above which an image is a copy, negative; nobody published one.
        device: where images are prepared.

    Example:
        >>> import torch
        >>> metric = MSEDetector().fit([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
        >>> metric(torch.full((1, 1, 8, 8), 0.75))
        tensor([[-0.0625,  1.0000]])
    """

    title: ClassVar[str] = "MSE"

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)``, at most 0."""
        x, y = queries.double(), training.double()
        squares = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
        return -squares.clamp(min=0) / x.shape[1]
