"""Volumes at smaller sizes, with where their voxels lie in the full one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Level", "make_level"]

# An axis is halved as long as so many voxels are left of it: the short axis of a stack of a few slices is not.
_LEAST_SIDE = 14


class Level(NamedTuple):
    """A volume at some size."""

    #: float32 ``(X, Y, Z)``.
    volume: np.ndarray
    #: Voxels of the full size in one of its voxels, along each axis.
    scale: np.ndarray
    #: Where the centre of the full volume lies in it, also where voxels were left over.
    centre: np.ndarray


def make_level(volume: np.ndarray, halvings: int) -> Level:
    """Halve the axes of a volume, each as often as is asked for and enough of it is left.

    Args:
        volume: float32 ``(X, Y, Z)``.
        halvings: how often, 0 or more.

    Returns:
        The volume at its new size.

    Example:
        >>> make_level(np.zeros((64, 64, 24), np.float32), 2).volume.shape
        (16, 16, 24)
    """
    factors = [2 ** min(halvings, max(0, int(np.log2(side / _LEAST_SIDE)))) for side in volume.shape]
    scale = np.array(factors, dtype=float)
    centre = (np.array(volume.shape) - 1) / 2
    return Level(_pool(volume, factors), scale, (centre + 0.5) / scale - 0.5)


def _pool(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means of blocks of voxels; what is left over at the end of an axis is dropped."""
    pooled = volume[tuple(slice(side // factor * factor) for side, factor in zip(volume.shape, factors, strict=True))]
    for axis, factor in enumerate(factors):
        if factor > 1:
            shape = (*pooled.shape[:axis], pooled.shape[axis] // factor, factor, *pooled.shape[axis + 1 :])
            pooled = pooled.reshape(shape).mean(axis + 1, dtype=np.float32)
    return np.ascontiguousarray(pooled)
