"""The pixel side: what two images share, measured on their pixels."""

from .aligned_ssim import AlignedSSIM, Alignment, aligned_ssim
from .pairwise_ssim import pairwise_ssim
from .standardize import standardize

__all__ = ["AlignedSSIM", "Alignment", "aligned_ssim", "pairwise_ssim", "standardize"]
