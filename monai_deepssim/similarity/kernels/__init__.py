"""The compiled functions: SSIM of many pairs, the search for an alignment, a deformation, descriptors in cells."""

from functools import cache

from monai_deepssim.similarity.kernels.cell_scan import DESCRIPTORS_AT_ONCE, scan_cells
from monai_deepssim.similarity.kernels.changed_ssim import Reference
from monai_deepssim.similarity.kernels.compilation import compile_in_children, is_cached
from monai_deepssim.similarity.kernels.deformation import deform_pair
from monai_deepssim.similarity.kernels.pairwise_ssim import fill_ssim, window_means
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    ROTATION,
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    ZOOM,
)
from monai_deepssim.similarity.kernels.search import Search, align_pair
from monai_deepssim.similarity.kernels.volume_deformation import deform_volume
from monai_deepssim.similarity.kernels.volumes import NUM_TERMS, sum_least_squares, volume_ssim, warp_volume

__all__ = [
    "CHANGE_SIZE",
    "DESCRIPTORS_AT_ONCE",
    "GAMMA",
    "NUM_TERMS",
    "ROTATION",
    "SHIFT_COLUMNS",
    "SHIFT_ROWS",
    "ZOOM",
    "Reference",
    "Search",
    "align_pair",
    "deform_pair",
    "deform_volume",
    "ensure_compiled",
    "fill_ssim",
    "kernels_are_compiled",
    "scan_cells",
    "sum_least_squares",
    "volume_ssim",
    "warp_volume",
    "window_means",
]

# What takes longest to compile comes first, so that two processors are done at about the same time.
_KERNELS = {
    2: (align_pair, deform_pair, scan_cells, fill_ssim, window_means),
    3: (deform_volume, sum_least_squares, warp_volume, volume_ssim, fill_ssim, window_means),
}


@cache
def ensure_compiled(spatial_dims: int = 2) -> None:
    """Have child processes compile the kernels, where that was not done: see :func:`compile_in_children`."""
    compile_in_children(_KERNELS[spatial_dims])


def kernels_are_compiled(spatial_dims: int = 2) -> bool:
    """Whether this process, or an earlier one whose code this one can read, has compiled all kernels.

    Compares files' names only. Where numba rejects such a file after all, the kernel is compiled again.

    Args:
        spatial_dims: 2 for the kernels that images need, 3 for those of volumes.

    Returns:
        ``False`` where :func:`compile_kernels` would take long.
    """
    return all(is_cached(kernel) for kernel in _KERNELS[spatial_dims])
