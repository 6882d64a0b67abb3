"""How much of an image an autoencoder gives back."""

from __future__ import annotations

import torch
from monai.metrics.regression import RegressionMetric

from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares
from monai_deepssim.similarity import pairwise_ssim, standardize

__all__ = ["ReconstructionSSIMMetric", "compute_reconstruction_ssim"]


def compute_reconstruction_ssim(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r"""Compute the SSIM of each original with its reconstruction.

    .. math:: \operatorname{SSIM}(z(y_i), z(\hat y_i))

    where z is the z-score over the whole image and the range is that of the original, as everywhere here; see
    :func:`~monai_deepssim.similarity.pairwise_ssim`. A copy that a generator makes cannot come closer to its training
    image than its autoencoder brings it, so this is the upper end of the scale on which copies are judged.

    Args:
        y_pred: reconstructions ``(B, 1, H, W)``.
        y: their originals, of the same shape.

    Returns:
        ``(B, 1)`` SSIM in [-1, 1], float32, on the device of ``y``.

    Raises:
        ValueError: when the shapes differ, are not batches of images, or a pixel is not finite.

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> compute_reconstruction_ssim(images, images).shape
        torch.Size([3, 1])
    """
    if y_pred.shape != y.shape:
        raise ValueError(f"got y_pred {tuple(y_pred.shape)} and y {tuple(y.shape)}, want one shape (B, 1, H, W)")
    originals, reconstructions = standardize(y), standardize(y_pred.detach().to(y.device))
    pairs = zip(originals.split(1), reconstructions.split(1), strict=True)
    return torch.cat([pairwise_ssim(original, reconstruction) for original, reconstruction in pairs])


class ReconstructionSSIMMetric(SyncsUnevenShares, RegressionMetric):
    """Computes the SSIM of originals and reconstructions, as a MONAI metric.

    ``metric(y_pred, y)`` takes ``(B, 1, H, W)`` images, or lists of ``(1, H, W)`` images, and gives ``(B, 1)``; see
    :func:`compute_reconstruction_ssim`. ``aggregate()`` reduces all since ``reset()``, of all ranks.

    Args:
        reduction: as in MONAI's metrics; ``"mean"`` by default.
        get_not_nans: whether ``aggregate()`` also returns how many values there were.

    Example:
        >>> metric = ReconstructionSSIMMetric()
        >>> images = torch.rand(3, 1, 32, 32)
        >>> _ = metric(images, images)
        >>> round(metric.aggregate().item(), 4)
        1.0
    """

    def _check_shape(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        if y_pred.shape != y.shape:
            raise ValueError(f"got y_pred {tuple(y_pred.shape)} and y {tuple(y.shape)}, want one shape (B, 1, H, W)")

    def _compute_metric(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return compute_reconstruction_ssim(y_pred, y)
