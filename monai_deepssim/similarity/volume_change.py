"""A change that brings one volume onto another: what it is, as numbers, and made."""

from __future__ import annotations

from math import cos, sin
from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.kernels import warp_volume
from monai_deepssim.similarity.volume_pyramid import Level, make_level

__all__ = ["GAMMA", "ROTATIONS", "SHIFTS", "UNCHANGED", "ZOOMS", "VolumeChange", "map_positions", "warp_level"]

#: Where the numbers of a change stand: three rotations in radians, three shifts in voxels, three zooms, gamma.
ROTATIONS, SHIFTS, ZOOMS, GAMMA = slice(0, 3), slice(3, 6), slice(6, 9), 9
#: The numbers of a change that changes nothing.
UNCHANGED = np.array([0.0] * 6 + [1.0] * 4)


class VolumeChange(NamedTuple):
    """A change of a volume: its axes are put in an order and flipped; stretch, rotation and shift follow, then gamma.

    What follows the flips reads for the voxel v, counted from the centre, ``diag(1 / zooms) R (v - shift)``.
    """

    #: ``axes[i]`` is the axis of the volume that becomes axis i.
    axes: tuple[int, ...]
    #: The axes that are flipped, in their new order.
    flips: tuple[int, ...]
    #: Rotations in radians, shifts in voxels, zooms, gamma.
    values: np.ndarray

    def orient(self, volume: np.ndarray) -> np.ndarray:
        """The volume with its axes in order, and flipped."""
        return np.ascontiguousarray(np.flip(volume.transpose(self.axes), self.flips))

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """The volume, in [0, 1], changed."""
        return warp_level(make_level(self.orient(volume), 0), self.values, float(self.values[GAMMA]))

    def describe(self, deformation_voxels: float) -> Alignment:
        """The change as an alignment, with the length of the deformation that follows."""
        zooms = self.values[ZOOMS]
        zoom = float(np.median(zooms))
        return Alignment(
            flips=self.flips,
            rotation_degrees=tuple(np.rad2deg(self.values[ROTATIONS]).tolist()),
            shift_pixels=tuple(self.values[SHIFTS].tolist()),
            zoom=zoom,
            gamma=float(self.values[GAMMA]),
            deformation_pixels=deformation_voxels,
            axes=() if self.axes == (0, 1, 2) else self.axes,
            stretches=() if np.ptp(zooms) == 0 else tuple((zooms / zoom).tolist()),
        )


def map_positions(values: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from positions of the result to those that are read, in voxels of a level."""
    matrix = _rotation(*values[ROTATIONS].tolist()) / values[ZOOMS, None]
    offset = -matrix @ values[SHIFTS]
    return matrix * scale / scale[:, None], offset / scale


def _rotation(first: float, second: float, third: float) -> np.ndarray:
    """Rotations about the third axis, the second and the first, in this order: those of MONAI's ``create_rotate``."""
    ca, sa, cb, sb, cc, sc = cos(first), sin(first), cos(second), sin(second), cos(third), sin(third)
    return np.array(
        [
            [cb * cc, -cb * sc, sb],
            [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
            [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
        ]
    )


def warp_level(level: Level, values: np.ndarray, gamma: float) -> np.ndarray:
    """Rotate, shift and zoom the volume of a level by ``(10,)`` values in voxels of full size, and apply gamma."""
    out = np.empty_like(level.volume)
    warp_volume(level.volume, *map_positions(values, level.scale), level.centre, gamma, out)
    return out
