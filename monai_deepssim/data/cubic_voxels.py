"""Volumes whose voxels are not cubes, or very many, brought to cubes, so that a body keeps its proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.transforms import resize_antialiased

__all__ = ["MAX_CUBES", "are_cubes", "make_cubes"]

#: Voxels of a volume as it is compared, at most: 256 x 256 x 256. Boxes that volumes are fitted to are smaller.
MAX_CUBES = 2**24
# Headers round, as those of pixels do. Slices of 10 mm with pixels of 0.25 mm differ by 40.
_TOLERANCE, _LARGEST_RATIO = 0.01, 50.0


def are_cubes(voxel_size_mm: Sequence[float]) -> bool:
    """Whether voxels are cubes, to 1 %.

    Args:
        voxel_size_mm: ``(3,)``, sides of a voxel.

    Example:
        >>> are_cubes((0.4297, 0.42969, 0.43)), are_cubes((1.0, 1.0, 5.0))
        (True, False)
    """
    return max(voxel_size_mm) <= (1 + _TOLERANCE) * min(voxel_size_mm)


def make_cubes(volume: np.ndarray, voxel_size_mm: Sequence[float] | None) -> np.ndarray:
    """Resample a volume to cubic voxels with the shortest side of its own, or larger ones where these are too many.

    Axes become longer by linear interpolation and shorter by averages
    (:func:`~monai_deepssim.transforms.resize_antialiased`), so that thick slices and thin ones of one head look alike.

    Args:
        volume: ``(X, Y, Z)``.
        voxel_size_mm: ``(3,)``, sides of a voxel, of which only the ratio matters; ``None`` for cubes.

    Returns:
        ``(X, Y, Z)``, float32, at most :data:`MAX_CUBES` voxels; ``volume`` itself where nothing is to be done.

    Raises:
        UnusableInputError: one side is more than 50 times another, which no scanner writes.

    Example:
        >>> make_cubes(np.zeros((20, 20, 4)), (1.0, 1.0, 5.0)).shape
        (20, 20, 20)
    """
    sides = tuple(voxel_size_mm or (1.0, 1.0, 1.0))
    if max(sides) > _LARGEST_RATIO * min(sides):
        raise UnusableInputError(
            f"the header says that a voxel has sides of {', '.join(f'{side:g}' for side in sides)} mm, which cannot "
            "be. Correct the spacing in the header."
        )
    lengths = [length * side for length, side in zip(volume.shape, sides, strict=True)]
    cube = max(min(sides), (math.prod(lengths) / MAX_CUBES) ** (1 / 3))
    if are_cubes((*sides, cube)):
        return volume
    size = [max(1, round(length / cube)) for length in lengths]
    voxels = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))
    return resize_antialiased(voxels[None], size)[0].numpy()
