"""A small smooth deformation that brings one volume nearer to another, after they were aligned."""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels import Reference, deform_volume, volume_ssim
from monai_deepssim.similarity.volume_pyramid import make_level

__all__ = ["deform_aligned"]


def deform_aligned(reference: Reference, aligned: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Deform a volume onto another one, by a field that is searched at half the size.

    Args:
        reference: the other volume, as SSIM takes it.
        aligned: volume ``(X, Y, Z)``, float32.

    Returns:
        SSIM with the deformed volume, the length of the displacements in voxels (root mean square where the volume has
        structure), and that volume, standardised before it was deformed.
    """
    mean, deviation = float(aligned.mean(dtype=np.float64)), float(aligned.std(dtype=np.float64))
    if deviation < 1e-6:
        return 0.0, 0.0, np.zeros_like(aligned)
    standardized = (aligned - np.float32(mean)) / np.float32(deviation)
    z, x_mean, x_variance, c1, c2, *_ = reference
    x, y = make_level(z, 1), make_level(standardized, 1)
    deformed = np.empty_like(standardized)
    voxels = float(deform_volume(x.volume, y.volume, x.scale, standardized, deformed))
    total, squares = float(deformed.sum(dtype=np.float64)), float(np.square(deformed, dtype=np.float64).sum())
    return float(volume_ssim(z, x_mean, x_variance, c1, c2, deformed, total, squares)), voxels, deformed
