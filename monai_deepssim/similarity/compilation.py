"""All compiled functions of the pixel side at once, for who wants to say that this takes a while."""

from __future__ import annotations

import torch

from monai_deepssim.similarity.aligned_ssim import aligned_ssim
from monai_deepssim.similarity.kernels import kernels_are_compiled
from monai_deepssim.similarity.pairwise_ssim import pairwise_ssim

__all__ = ["compile_kernels", "kernels_are_compiled"]


def compile_kernels(spatial_dims: int = 2) -> None:
    """Compile all that :func:`aligned_ssim`, :func:`copy_score` and :func:`pairwise_ssim` run on the CPU.

    Waits for a compiler the first time on a machine: child processes, one for each kernel, keep the code beside the
    package, in the user's cache, or in ``NUMBA_CACHE_DIR``. This process and later ones read it from there in a second.
    Where none of these can be written, or a child fails, every process compiles for itself; its scores may then
    differ in the fourth decimal, and seldom in the third, from those of a process that reads the code.

    Args:
        spatial_dims: 2 for what images need, 3 for what volumes need.

    Example:
        >>> compile_kernels()
        >>> kernels_are_compiled()
        True
    """
    # Other sizes run the same code.
    axes = torch.meshgrid(*[torch.linspace(0, 1, 16)] * spatial_dims, indexing="ij")
    x, y = axes[0][None, None], axes[1][None, None]
    aligned_ssim(x, y, deformation_cost=0.0)
    pairwise_ssim(x, y)
