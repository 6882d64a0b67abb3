"""The loss that makes cosines equal to SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from monai_deepssim.similarity import pairwise_ssim

__all__ = ["SSIMMatchingLoss"]


class SSIMMatchingLoss(nn.Module):
    """Mean squared difference between the cosines of all pairs in a batch and the SSIM of their clean images.

    ``sum_ij w_ij (cos(e_i, e_j) - S_ij)² / sum_ij w_ij`` over the pairs ``i < j``, where ``S_ij`` is the mean of
    ``SSIM(y_i, y_j)`` and ``SSIM(y_j, y_i)``, computed on the fly without gradient. A batch of B images gives B(B-1)/2
    pairs for B forward passes; the published code takes two passes a pair and computes SSIM beforehand.

    Args:
        high_ssim: pairs with at least this SSIM count as high.
        high_ssim_weight: weight of a high pair; of the others it is 1. Above 1 it makes up for their being few.

    Raises:
        ValueError: when the weight is not positive.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> embeddings = torch.eye(4)
        >>> round(SSIMMatchingLoss()(embeddings, images).item(), 2)
        0.0
    """

    def __init__(self, high_ssim: float = 0.5, high_ssim_weight: float = 1.0) -> None:
        super().__init__()
        if not high_ssim_weight > 0:
            raise ValueError(f"got high_ssim_weight={high_ssim_weight}, want a positive number")
        self.high_ssim = high_ssim
        self.high_ssim_weight = high_ssim_weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (the name that MONAI's losses use)
        """Compare embeddings with the SSIM of images.

        Args:
            input: embeddings ``(B, D)`` of the augmented images, of any length.
            target: the clean images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, standardised.

        Returns:
            The loss, a scalar tensor.

        Raises:
            ValueError: when there are fewer than two images, or not one embedding per image.
        """
        if input.ndim != 2 or len(input) != len(target) or len(input) < 2:
            raise ValueError(
                f"got embeddings {tuple(input.shape)} and images {tuple(target.shape)}, want (B, D) and (B, 1, H, W) "
                "with B of at least 2: a single image has no pairs"
            )
        embeddings = F.normalize(input.float(), dim=1)
        # MetaTensor would track every operation; the loss needs none of it.
        images = target.as_tensor() if hasattr(target, "as_tensor") else target
        ssim = pairwise_ssim(images.detach())
        ssim = (ssim + ssim.T) / 2
        rows, columns = torch.triu_indices(len(input), len(input), offset=1, device=input.device)
        wanted = ssim[rows, columns]
        weights = torch.where(wanted >= self.high_ssim, self.high_ssim_weight, 1.0)
        errors = ((embeddings @ embeddings.T)[rows, columns] - wanted) ** 2
        return (weights * errors).sum() / weights.sum()
