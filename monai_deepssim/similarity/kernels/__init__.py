"""The compiled functions of the pixel side: SSIM of many pairs, the search for an alignment, and a deformation."""

from functools import cache

from monai_deepssim.similarity.kernels.changed_ssim import Reference
from monai_deepssim.similarity.kernels.compilation import compile_in_child, is_cached
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
    "ensure_compiled",
    "fill_ssim",
    "kernels_are_compiled",
    "window_means",
]

_KERNELS = align_pair, deform_pair, fill_ssim, window_means


@cache
def ensure_compiled() -> None:
    """Have a child process compile the kernels, where that was not done: see :func:`compile_in_child`."""
    compile_in_child(_KERNELS, "from monai_deepssim.similarity import compile_kernels; compile_kernels()")


def kernels_are_compiled() -> bool:
    """Whether this process, or an earlier one whose code this one can read, has compiled all kernels.

    Compares files' names only. Where numba rejects such a file after all, the kernel is compiled again.

    Returns:
        ``False`` where :func:`compile_kernels` would take long.
    """
    return all(is_cached(kernel) for kernel in _KERNELS)
