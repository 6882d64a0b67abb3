"""Volumes brought to one pose by the moments of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.canonical_pose import weigh_foreground

__all__ = ["VolumePose", "canonicalize_volumes", "measure_volume_pose"]

# Voxels a side at which moments are measured: sums over so many are exact to a small part of a voxel.
_MEASURED_SIDE = 32
# From the middle of the canvas to its border in spreads. An ellipsoid ends 2.24 spreads from its centre.
_REACH = 2.4
_AXIS_ORDERS = tuple(permutations(range(3)))


class VolumePose(NamedTuple):
    """Where what the volumes show lies, how it is turned and how large it is."""

    #: From the volume's centre to the centroid, in voxels, ``(N, 3)``.
    centre: Tensor
    #: Columns are the principal axes, in the order and direction that turns them least from the volume's,
    #: ``(N, 3, 3)``.
    axes: Tensor
    #: Sixth root of the determinant of the foreground's covariance, in voxels, ``(N,)``.
    spread: Tensor


@torch.no_grad()
def measure_volume_pose(volumes: Tensor) -> VolumePose:
    """Measure where what the volumes show lies, how it is turned and how large it is.

    The foreground is found as for images (:func:`~monai_deepssim.similarity.measure_pose`): what differs from the
    volume's border, by Otsu's threshold, and what lies between such voxels along all three axes. Its centroid and
    covariance make the pose. A mirrored volume has the mirrored pose.

    Args:
        volumes: ``(N, 1, X, Y, Z)``, any range.

    Returns:
        Their poses. A volume of nothing but background has that of a full one.

    Raises:
        ValueError: when the volumes are not ``(N, 1, X, Y, Z)``.

    References:
        Hu, Visual pattern recognition by moment invariants, IRE Transactions on Information Theory 8 (1962), for the
        normalisation by moments.

    Example:
        >>> x, y, z = torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")
        >>> ball = (((x - 18) / 9) ** 2 + ((y - 15.5) / 12) ** 2 + ((z - 15.5) / 6) ** 2 < 1).float()[None, None]
        >>> pose = measure_volume_pose(ball)
        >>> [round(value, 1) for value in pose.centre[0].tolist()], pose.axes[0].round().abs().tolist()
        ([2.5, 0.0, 0.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    if volumes.ndim != 5 or volumes.shape[1] != 1:
        raise ValueError(f"got volumes of shape {tuple(volumes.shape)}, want (N, 1, X, Y, Z)")
    size = torch.tensor(volumes.shape[2:], device=volumes.device)
    small = F.interpolate(volumes.float(), [min(side, _MEASURED_SIDE) for side in volumes.shape[2:]], mode="area")
    voxel = size / torch.tensor(small.shape[2:], device=volumes.device)
    difference = F.avg_pool3d(small - _border_median(small), 3, stride=1, padding=1)
    weights = weigh_foreground(difference[:, 0].abs())
    mass = weights.sum((1, 2, 3), keepdim=True)
    weights = torch.where(mass > 1, weights, torch.ones_like(weights))
    weights = (weights / weights.sum((1, 2, 3), keepdim=True)).flatten(1).double()
    positions = _positions(small.shape[2:], volumes.device) * voxel
    centre = weights @ positions
    covariance = torch.einsum("nk,ki,kj->nij", weights, positions, positions) - centre[:, :, None] * centre[:, None]
    # Of a line or a plane of voxels there would be a spread of 0.
    covariance = covariance + torch.eye(3, dtype=torch.float64, device=volumes.device) / 12
    spread = torch.linalg.det(covariance).pow(1 / 6)
    return VolumePose(centre.float(), _order_axes(torch.linalg.eigh(covariance)[1]).float(), spread.float())


def canonicalize_volumes(volumes: Tensor, size: Sequence[int], *, turn: bool = True) -> Tensor:
    """Centre, scale and turn volumes so that what they show lies in the middle, at one size and along the axes.

    The centroid goes to the centre, the spread becomes a fixed share of the canvas and the principal axes those of the
    canvas. Two volumes of one head under a shift, a zoom or a rotation then become nearly the same, without a search.
    Where two of the principal axes are nearly as long, noise may exchange them: then the volume as it lies,
    ``turn=False``, is the better guess.

    Args:
        volumes: ``(N, 1, X, Y, Z)``, any range.
        size: sides of the canvas, in voxels.
        turn: whether the principal axes become those of the canvas.

    Returns:
        ``(N, 1, *size)`` float32, less the median of the border, resampled once and linearly; zeros from outside.

    Raises:
        ValueError: when the volumes are not ``(N, 1, X, Y, Z)``.

    Example:
        >>> x, y, z = torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")
        >>> ball = lambda cx, cy: (((x - cx) / 9) ** 2 + ((y - cy) / 12) ** 2 + ((z - 15) / 6) ** 2 < 1).float()
        >>> volumes = torch.stack([ball(15, 15), ball(18, 13)])[:, None]
        >>> here, there = canonicalize_volumes(volumes, (24, 24, 24))
        >>> bool((here - there).abs().mean() < 1e-2)
        True
    """
    pose = measure_volume_pose(volumes)
    voxel = 2 * _REACH * pose.spread / math.prod(size) ** (1 / 3)
    points = _positions(size, volumes.device).float() * voxel[:, None, None]
    if turn:
        points = points @ pose.axes.transpose(1, 2)
    points = points + pose.centre[:, None]
    # grid_sample counts its last axis first, and the whole volume as 2.
    grid = (points * 2 / torch.tensor(volumes.shape[2:], device=volumes.device)).flip(2)
    centred = volumes.float() - _border_median(volumes.float())
    return F.grid_sample(centred, grid.view(len(volumes), *size, 3), align_corners=False)


def _positions(size: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    """Voxels from the centre, ``(number of voxels, 3)``."""
    axes = [torch.arange(side, device=device, dtype=dtype) - (side - 1) / 2 for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3)


def _border_median(volumes: Tensor) -> Tensor:
    """Median of the outermost voxels, ``(N, 1, 1, 1, 1)``."""
    faces = [volumes.select(axis, place).flatten(1) for axis in (2, 3, 4) for place in (0, -1)]
    return torch.cat(faces, dim=1).median(dim=1).values.view(-1, 1, 1, 1, 1)


def _order_axes(axes: Tensor) -> Tensor:
    """Principal axes ``(N, 3, 3)`` in the order, and each in the direction, that is nearest to the volume's axes."""
    orders = torch.tensor(_AXIS_ORDERS, device=axes.device)
    agreement = axes.abs()[:, torch.arange(3, device=axes.device), orders].sum(2)
    order = orders[agreement.argmax(1)]
    ordered = axes.gather(2, order[:, None].expand(-1, 3, -1))
    return ordered * torch.where(ordered.diagonal(dim1=1, dim2=2) < 0, -1.0, 1.0)[:, None]
