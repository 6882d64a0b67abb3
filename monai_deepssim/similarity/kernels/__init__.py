"""The compiled functions of the pixel side: SSIM of many pairs, the search for an alignment, and a deformation."""

from monai_deepssim.similarity.kernels.changed_ssim import Reference
from monai_deepssim.similarity.kernels.compilation import is_cached
from monai_deepssim.similarity.kernels.deformation import deform_pair
from monai_deepssim.similarity.kernels.pairwise_ssim import fill_ssim, window_means
from monai_deepssim.similarity.kernels.resampling import CHANGE_SIZE, GAMMA, ZOOM
from monai_deepssim.similarity.kernels.search import Search, align_pair

__all__ = [
    "CHANGE_SIZE",
    "GAMMA",
    "ZOOM",
    "Reference",
    "Search",
    "align_pair",
    "deform_pair",
    "fill_ssim",
    "is_cached",
    "window_means",
]
