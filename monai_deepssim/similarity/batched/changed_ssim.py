"""SSIM of many pairs of images at once, each with its own, as the search for an alignment needs it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.standardize import standardize

__all__ = ["References"]

_WIN_SIZE, _K1, _K2 = 7, 0.01, 0.03
_UNBIAS = _WIN_SIZE**2 / (_WIN_SIZE**2 - 1)
_NO_DEVIATION = 1e-6


@dataclass(frozen=True)
class References:
    """Images that others are compared with.

    Attributes:
        z: standardised, ``(N, H, W)``, float32.
        lowest: of each image, ``(N, 1, 1)``.
        mean: of each window of what is above that, ``(N, H - 6, W - 6)``.
        variance: of each window, the sample variance.
        c1: steadies the means, ``(N, 1, 1)``.
        c2: steadies the variances, ``(N, 1, 1)``.
    """

    z: Tensor
    lowest: Tensor
    mean: Tensor
    variance: Tensor
    c1: Tensor
    c2: Tensor

    @classmethod
    def of(cls, images: Tensor) -> References:
        """Prepare images ``(N, 1, H, W)``, any range."""
        z = standardize(images.double())
        lowest = z.amin((2, 3), keepdim=True)
        span = (z.amax((2, 3), keepdim=True) - lowest)[:, 0]
        mean = F.avg_pool2d(z - lowest, _WIN_SIZE, 1)
        variance = (_UNBIAS * (F.avg_pool2d((z - lowest).square(), _WIN_SIZE, 1) - mean**2)).clamp(min=0)
        maps = (values[:, 0].float() for values in (z, lowest, mean, variance))
        return cls(*maps, *((k * span).square().float() for k in (_K1, _K2)))

    def __getitem__(self, rows: Tensor) -> References:
        """Those of some rows, by their numbers or a mask."""
        return References(*(getattr(self, field.name)[rows] for field in fields(self)))

    def ssim(self, images: Tensor) -> Tensor:
        """SSIM with the z-scores of images, each with its own, as ``pairwise_ssim``; 0 of a constant one.

        Args:
            images: ``(N, H, W)``, or of T trials ``(T, N, H, W)``.

        Returns:
            ``(N,)``, or ``(T, N)``, float64.
        """
        deviation, mean = torch.std_mean(images.double(), (-2, -1), correction=0, keepdim=True)
        scale = 1 / deviation.clamp(min=_NO_DEVIATION)
        lowest = images.amin((-2, -1), keepdim=True)
        # Of what is above the lowest value the background is 0: float32 takes nothing from its variance there, to
        # which SSIM is most sensitive.
        z, w = self.z - self.lowest, (images - lowest) * scale.float()
        maps = torch.stack([w, w * w, w * z], -3)
        windows = F.avg_pool2d(maps.flatten(0, -4), _WIN_SIZE, 1).unflatten(0, images.shape[:-2])
        w_mean, w_squares, products = windows.unbind(-3)
        w_variance = (_UNBIAS * (w_squares - w_mean**2)).clamp(min=0)
        covariance = _UNBIAS * (products - self.mean * w_mean)
        x_mean, y_mean = self.mean + self.lowest, w_mean + ((lowest - mean) * scale).float()
        numerator = (2 * x_mean * y_mean + self.c1) * (2 * covariance + self.c2)
        denominator = (x_mean**2 + y_mean**2 + self.c1) * (self.variance + w_variance + self.c2)
        ssim = (numerator / denominator).double().mean((-2, -1))
        return torch.where(deviation[..., 0, 0] < _NO_DEVIATION, 0.0, ssim)
