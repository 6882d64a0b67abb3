"""Losses over the pairs of a batch."""

from .ssim_matching import SSIMMatchingLoss

__all__ = ["SSIMMatchingLoss"]
