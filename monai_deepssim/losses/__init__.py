"""Losses over the pairs of a batch."""

from monai_deepssim.losses.ssim_matching import SSIMMatchingLoss

__all__ = ["SSIMMatchingLoss"]
