"""SSIM as a copy detector."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from monai_deepssim.metrics.detectors.pixels import PixelDetector
from monai_deepssim.similarity import pairwise_ssim, standardize

__all__ = ["SSIMDetector"]


class SSIMDetector(PixelDetector):
    """SSIM of the standardised images, the mean of both orders, as the range is taken from the first of two.

    Two constant images have SSIM 1, a constant and another 0. A copy that was flipped, turned or shifted is lost: this
    is what an image's SSIM is without alignment.

    Args:
        threshold: score above which an image is a copy; nobody published one.
        device: where images are compared.

    References:
        Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 13 (2004).

    Example:
        >>> import torch
        >>> images = torch.rand(3, 1, 32, 32)
        >>> SSIMDetector().fit([images])(images[1:])
        tensor([[1., 1.],
                [1., 2.]])
    """

    title: ClassVar[str] = "SSIM"

    def prepare(self, images: Tensor) -> Tensor:
        """Standardise."""
        return standardize(images)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` SSIM in [-1, 1]."""
        x = queries.to(self.device).unflatten(1, self.image_shape)
        y = training.to(self.device).unflatten(1, self.image_shape)
        return ((pairwise_ssim(x, y) + pairwise_ssim(y, x).T) / 2).cpu()
