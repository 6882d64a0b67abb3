"""The pixel side: what two images share, measured on their pixels."""

from .pairwise_ssim import pairwise_ssim
from .standardize import standardize

__all__ = ["pairwise_ssim", "standardize"]
