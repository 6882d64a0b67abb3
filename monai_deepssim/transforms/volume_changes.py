"""Graded changes that controls of volumes go through, on volumes in the box in which they are compared."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import AdjustContrast, Affine, GaussianSmooth, Identity, RandGaussianNoise
from torch import Tensor

from monai_deepssim.transforms.control_changes import ControlChange
from monai_deepssim.transforms.perturbation_geometry import RandCropResize, shift_by_share
from monai_deepssim.transforms.pixel_transforms import RandPixelTransform, pixels_of

__all__ = ["VOLUME_CONTROL_CHANGES", "drop_slices", "turn_about_an_axis"]


def turn_about_an_axis(pixels: Tensor, random: np.random.RandomState, degrees: float) -> Tensor:
    """Turn a volume about one of its axes, in either direction; linear, zeros from outside.

    Args:
        pixels: ``(1, X, Y, Z)``.
        random: State that the axis and the direction are drawn from.
        degrees: The angle.

    Returns:
        ``(1, X, Y, Z)``.
    """
    angles = np.zeros(3)
    angles[random.randint(3)] = np.deg2rad(degrees) * random.choice([-1, 1])
    turned = Affine(rotate_params=angles.tolist(), padding_mode="zeros", image_only=True)(pixels)
    return pixels_of(turned)  # type: ignore[arg-type]


def drop_slices(pixels: Tensor, random: np.random.RandomState) -> Tensor:
    """Drop every second slice along one of the axes, and interpolate it linearly between its neighbours.

    Args:
        pixels: ``(1, X, Y, Z)``.
        random: State that the axis is drawn from.

    Returns:
        ``(1, X, Y, Z)``.

    Example:
        >>> ramp = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 5, 5) ** 2
        >>> drop_slices(ramp, np.random.RandomState(0))[0, :, 0, 0]
        tensor([ 0.,  2.,  4., 10., 16.])
    """
    axis = 1 + random.randint(3)
    kept = pixels.index_select(axis, torch.arange(0, pixels.shape[axis], 2, device=pixels.device))
    below = torch.arange(pixels.shape[axis], device=pixels.device) // 2
    above = (below + 1).clamp(max=kept.shape[axis] - 1)
    is_dropped = torch.arange(pixels.shape[axis], device=pixels.device) % 2 == 1
    shape = [-1 if place == axis else 1 for place in range(pixels.ndim)]
    between = (kept.index_select(axis, below) + kept.index_select(axis, above)) / 2
    return torch.where(is_dropped.view(shape), between, pixels)


#: The changes of an audit's controls where images are volumes: the mild level of each, since a volume costs more time
#: than an image. Flips are not among them: the comparison is invariant to these.
VOLUME_CONTROL_CHANGES: tuple[ControlChange, ...] = (
    ControlChange("none", lambda _: Identity()),
    ControlChange("blur", lambda size: GaussianSmooth(sigma=1.0 * size), 1.0, "px"),
    ControlChange("noise", lambda _: RandGaussianNoise(prob=1.0, std=0.02, sample_std=False), 0.02),
    ControlChange("gamma", lambda _: AdjustContrast(0.5), 0.5),
    ControlChange("gamma", lambda _: AdjustContrast(1.5), 1.5),
    ControlChange("rotation", lambda _: RandPixelTransform(turn_about_an_axis, degrees=10.0), 10.0, "degrees"),
    ControlChange("shift", lambda _: RandPixelTransform(shift_by_share, share=0.05), 5.0, "%"),
    ControlChange("crop", lambda _: RandCropResize(0.1), 10.0, "%"),
    ControlChange("slices_dropped", lambda _: RandPixelTransform(drop_slices)),
)
