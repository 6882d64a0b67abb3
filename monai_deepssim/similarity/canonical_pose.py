"""Images brought to one pose by the moments of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["Pose", "canonicalize_pose", "measure_pose", "move_to_pose", "weigh_foreground"]

# Foreground and background are parted on this power of the difference from the border, of 0 to 1, in so many levels;
# the threshold is soft by so much. Of powers from 0.3 to 1 it keeps the outline best under gammas.
_POWER, _LEVELS, _SOFTNESS = 0.65, 256, 0.04
# The axis of symmetry is looked for within this angle of the vertical, on rings around the centroid: of so many radii,
# up to so many times the spread, with so many points and frequencies each.
_MAX_LEAN_DEGREES, _STEP_DEGREES = 30.0, 0.5
_RADII, _REACH, _POINTS, _FREQUENCIES = 16, 2.3, 180, 60
# Side of the foreground (the fourth root of its covariance's determinant) over that of the canvas: a brain that fills
# a canvas of 4 to 3 but for a margin of a twentieth.
_SPREAD = 0.235


class Pose(NamedTuple):
    """Where what the images show lies, how far it leans and how large it is."""

    #: Rows and columns from the image's centre to the centroid, in pixels, ``(N, 2)``.
    centre: Tensor
    #: Angle from the vertical to the mirror axis, ``(N,)``.
    lean_radians: Tensor
    #: Fourth root of the determinant of the foreground's covariance, in pixels, ``(N,)``.
    spread: Tensor


def canonicalize_pose(images: Tensor, size: Sequence[int]) -> Tensor:
    """Turn, centre and scale images so that what they show lies upright, in the middle and at one size.

    The centroid goes to the centre, the mirror axis becomes the vertical, and the spread a fixed share of the canvas
    (:func:`measure_pose` says what these are). Of two poses of one picture, up to flips,
    that makes one image, without any training: copies of axial slices under shifts within 4 pixels, zooms of 5 % and
    rotations of 12 degrees then have an SSIM of 0.97 to 0.99 with their source, where plain SSIM is 0.3 to 0.55. (The
    longer principal axis in place of the mirror's loses round slices, and turns with every small warp.)

    Args:
        images: standardised images ``(N, 1, H, W)``.
        size: rows and columns of the canvas in pixels.

    Returns:
        Images ``(N, 1, *size)``, bilinearly resampled once, with the background around them; differentiable by the
        intensities.

    Raises:
        ValueError: when the images are not ``(N, 1, H, W)``.

    Example:
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> ellipse = lambda y, x: (((rows - y) / 20) ** 2 + ((columns - x) / 14) ** 2 < 1).float()[None, None]
        >>> here, there = (canonicalize_pose(ellipse(*centre), (64, 48)) for centre in ((32, 32), (28, 35)))
        >>> bool((here - there).abs().mean() < 1e-3)
        True
    """
    upright = torch.zeros(images.shape[0], device=images.device)
    spread = torch.full_like(upright, _SPREAD * math.sqrt(size[0] * size[1]))
    target = Pose(torch.zeros(images.shape[0], 2, device=images.device), upright, spread)
    return move_to_pose(images, measure_pose(images), target, size)


def move_to_pose(images: Tensor, pose: Pose, target: Pose, size: Sequence[int]) -> Tensor:
    """Turn, shift and scale images from one pose to another.

    Args:
        images: ``(N, 1, H, W)``.
        pose: theirs.
        target: the wanted one, on a canvas of the given size.
        size: rows and columns of that canvas in pixels.

    Returns:
        Images ``(N, 1, *size)``, bilinearly resampled once, with their background around them.

    Example:
        >>> image = torch.eye(64)[None, None]
        >>> pose = measure_pose(image)
        >>> torch.allclose(move_to_pose(image, pose, pose, (64, 64)), image, atol=1e-5)
        True
    """
    height, width = images.shape[2:]
    background = _border_median(images)
    zoom = pose.spread / target.spread
    angle = pose.lean_radians - target.lean_radians
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    y, x = target.centre.unbind(1)
    shift_x = pose.centre[:, 1] - cosine * x - sine * y
    shift_y = pose.centre[:, 0] + sine * x - cosine * y
    # Output positions to input positions; torch counts an axis from -1 to 1, and the columns first.
    theta = torch.stack(
        [
            torch.stack([cosine * size[1] / width, sine * size[0] / width, shift_x * 2 / width], dim=1),
            torch.stack([-sine * size[1] / height, cosine * size[0] / height, shift_y * 2 / height], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [images.shape[0], 1, *size], align_corners=False)
    return F.grid_sample(images.float() - background, grid, align_corners=False) + background


@torch.no_grad()
def measure_pose(images: Tensor) -> Pose:
    """Measure where what the images show lies, which way it leans and how large it is.

    The foreground is what differs from the image's border, by Otsu's threshold on a power of the difference, and
    what lies between such pixels both along its row and along its column: its outline stays where it is under a gamma,
    a window, noise, an inversion or a hole. The mirror axis goes through its centroid, within 30 degrees
    of the vertical, where the image mirrors itself best: with f the image on a ring around the centroid and F its
    Fourier series, ``sum_t f(a + t) f(a - t)`` is ``sum_k Re(F_k² exp(2ika))``; the best angle a is found in steps of
    half a degree and refined by a parabola.

    Args:
        images: standardised images ``(N, 1, H, W)``.

    Returns:
        Their poses. An image of nothing but background has that of a full one.

    Raises:
        ValueError: when the images are not ``(N, 1, H, W)``.

    References:
        Hu, Visual pattern recognition by moment invariants, IRE Transactions on Information Theory 8 (1962), for the
        normalisation by moments. Otsu, A threshold selection method from gray-level histograms, IEEE Transactions on
        Systems, Man, and Cybernetics 9 (1979).

    Example:
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> ellipse = (((rows - 28) / 20) ** 2 + ((columns - 35) / 14) ** 2 < 1).float()[None, None]
        >>> [round(value, 1) for value in measure_pose(ellipse).centre[0].tolist()]
        [-3.5, 3.5]
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"got images of shape {tuple(images.shape)}, want (N, 1, H, W)")
    foreground = images.float() - _border_median(images)
    height, width = images.shape[2:]
    smooth = F.avg_pool2d(foreground, 5, stride=1, padding=2)
    weights = weigh_foreground(smooth[:, 0].abs())
    mass = weights.sum((1, 2), keepdim=True)
    weights = torch.where(mass > 1, weights, torch.ones_like(weights))
    weights = weights / weights.sum((1, 2), keepdim=True)
    rows = torch.arange(height, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, device=images.device) - (width - 1) / 2
    by_row, by_column = weights.sum(2), weights.sum(1)
    y, x = by_row @ rows, by_column @ columns
    covariance = (weights @ columns) @ rows - x * y
    determinant = (by_row @ rows**2 - y**2) * (by_column @ columns**2 - x**2) - covariance**2
    spread = determinant.clamp(min=1).pow(0.25)
    centre = torch.stack([y, x], dim=1)
    return Pose(centre, _find_mirror_axis(smooth, centre, spread), spread)


def _border_median(images: Tensor) -> Tensor:
    """Median of the two outermost rows and columns, ``(N, 1, 1, 1)``."""
    sides = [images[:, 0, :2], images[:, 0, -2:], images[:, 0, :, :2], images[:, 0, :, -2:]]
    border = torch.cat([side.flatten(1) for side in sides], dim=1).float()
    return border.median(dim=1).values.view(-1, 1, 1, 1)


def weigh_foreground(difference: Tensor) -> Tensor:
    """Weigh how surely each pixel is foreground, by its difference from the border.

    Args:
        difference: of images ``(N, H, W)`` or volumes ``(N, X, Y, Z)``, at least 0.

    Returns:
        0 to 1, the same shape; high also between foreground pixels along every axis.

    Example:
        >>> weigh_foreground(torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.9, 0.0], [0.0, 0.0, 0.0, 0.0]]])).round()
        tensor([[[0., 0., 0., 0.],
                 [0., 1., 1., 0.],
                 [0., 0., 0., 0.]]])
    """
    axes = tuple(range(1, difference.ndim))
    largest = difference.amax(axes, keepdim=True)
    lifted = (difference / largest.clamp(min=1e-6)) ** _POWER
    weights = torch.sigmoid((lifted - _otsu_threshold(lifted)) / _SOFTNESS) * (largest > 1e-6)
    towards = [_largest_so_far(weights, axis) for axis in axes]
    away = [_largest_so_far(weights.flip(axis), axis).flip(axis) for axis in axes]
    return torch.stack([*towards, *away]).amin(0)


def _largest_so_far(values: Tensor, axis: int) -> Tensor:
    # Along the last axis, in memory too, this is five times as fast on a CPU as along another.
    return values.transpose(axis, -1).contiguous().cummax(-1).values.transpose(axis, -1)


def _otsu_threshold(values: Tensor) -> Tensor:
    """Threshold that parts values of 0 to 1 into two classes with the largest variance between them; keeps all axes."""
    levels = (values.flatten(1) * (_LEVELS - 1)).long()
    counts = torch.zeros(values.shape[0], _LEVELS, device=values.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    positions = torch.arange(_LEVELS, device=values.device)
    below, sum_below = counts.cumsum(1), (counts * positions).cumsum(1)
    above, total = below[:, -1:] - below, sum_below[:, -1:]
    between = (total * below - below[:, -1:] * sum_below) ** 2 / (below * above).clamp(min=1)
    return between.argmax(dim=1).view(-1, *[1] * (values.ndim - 1)) / (_LEVELS - 1)


def _find_mirror_axis(smooth: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """Angle of the axis of best mirror symmetry through the centre, in radians from the vertical, ``(N,)``."""
    radii = torch.linspace(0.15, 1, _RADII, device=smooth.device)
    rings = _sample_rings(smooth, centre, _REACH * spread[:, None] * radii)
    series = torch.fft.rfft(rings - rings.mean(dim=2, keepdim=True), dim=2)[:, :, :_FREQUENCIES]
    squares = (radii.view(1, -1, 1) * series**2).sum(dim=1)
    steps = round(_MAX_LEAN_DEGREES / _STEP_DEGREES)
    step = math.radians(_STEP_DEGREES)
    angles = torch.arange(-steps, steps + 1, device=smooth.device) * step
    phases = 2 * torch.arange(_FREQUENCIES, device=smooth.device)[:, None] * angles
    symmetry = squares.real @ phases.cos() - squares.imag @ phases.sin()
    # The peak of the parabola through the best angle and its neighbours. At the end of the range, and of a flat curve,
    # it has none to offer.
    best = symmetry.argmax(dim=1).clamp(1, len(angles) - 2)
    before, peak, after = symmetry.gather(1, best[:, None] + torch.arange(-1, 2, device=smooth.device)).unbind(1)
    curvature = before - 2 * peak + after
    shift = torch.where(curvature < 0, 0.5 * (before - after) / curvature, 0.0).clamp(-1, 1)
    return angles[best] + shift * step


def _sample_rings(smooth: Tensor, centre: Tensor, radii: Tensor) -> Tensor:
    """Images ``(N, 1, H, W)`` on rings of radii ``(N, R)`` in pixels, ``(N, R, points)``, from below to the right."""
    height, width = smooth.shape[2:]
    turns = torch.arange(_POINTS, device=smooth.device) * (2 * math.pi / _POINTS)
    y = centre[:, :1, None] + radii[:, :, None] * turns.cos()
    x = centre[:, 1:, None] + radii[:, :, None] * turns.sin()
    return F.grid_sample(smooth, torch.stack([x * 2 / width, y * 2 / height], dim=3), align_corners=False)[:, 0]
