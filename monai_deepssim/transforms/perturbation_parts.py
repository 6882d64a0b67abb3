"""Changes after which only a part of an image is still there, or another patient's image lies over or around it."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from monai_deepssim.transforms.pixel_transforms import find_foreground_box

__all__ = ["black_out_square", "blend", "paste_quarter", "replace_half"]

# Shares of the bounding box that the corner of half of it can lie at are 0 to 0.5; 0.25 is its centre.
_LARGEST_CORNER, _CENTRE, _OFF_CENTRE = 0.5, 0.25, 0.1


def black_out_square(pixels: Tensor, random: np.random.RandomState, area: float) -> Tensor:
    """Set a square at a random place inside the foreground's bounding box to the image's minimum.

    Args:
        pixels: ``(1, H, W)``.
        random: State that the place is drawn from.
        area: Area of the square, as a share of the bounding box's.

    Returns:
        ``(1, H, W)``.

    Example:
        >>> import torch
        >>> pixels = torch.ones(1, 100, 100)
        >>> pixels[0, 0, 0] = 0
        >>> changed = black_out_square(pixels, np.random.RandomState(0), area=0.25)
        >>> int((changed != pixels).sum())
        2500
    """
    top, bottom, left, right = find_foreground_box(pixels)
    side = min(round(math.sqrt(area * (bottom - top) * (right - left))), bottom - top, right - left)
    row, column = random.randint(top, bottom - side + 1), random.randint(left, right - side + 1)
    changed = pixels.clone()
    changed[:, row : row + side, column : column + side] = pixels.min()
    return changed


def replace_half(pixels: Tensor, partner: Tensor, random: np.random.RandomState) -> Tensor:
    """Replace the left, right, upper or lower half of an image by that of its partner.

    Args:
        pixels: ``(1, H, W)``.
        partner: ``(1, H, W)``.
        random: State that the half is drawn from.

    Returns:
        ``(1, H, W)``.
    """
    axis, is_second = random.randint(1, 3), random.randint(2)
    middle = pixels.shape[axis] // 2
    start, length = (middle, pixels.shape[axis] - middle) if is_second else (0, middle)
    changed = pixels.clone()
    changed.narrow(axis, start, length).copy_(partner.narrow(axis, start, length))
    return changed


def paste_quarter(pixels: Tensor, partner: Tensor, random: np.random.RandomState) -> Tensor:
    """Paste a quarter of an image into its partner, at the same place.

    The quarter is a rectangle of half the rows and half the columns of the foreground's bounding box, within that box
    and off its centre, by 10 to 25 % of a side of the box along at least one axis.

    Args:
        pixels: ``(1, H, W)``.
        partner: ``(1, H, W)``.
        random: State that the place is drawn from.

    Returns:
        ``(1, H, W)``: the partner but for the rectangle.
    """
    top, bottom, left, right = find_foreground_box(pixels)
    corner = np.full(2, _CENTRE)
    while np.abs(corner - _CENTRE).max() < _OFF_CENTRE:
        corner = random.uniform(0, _LARGEST_CORNER, 2)
    row, column = top + round(corner[0] * (bottom - top)), left + round(corner[1] * (right - left))
    rows, columns = slice(row, row + (bottom - top) // 2), slice(column, column + (right - left) // 2)
    changed = partner.clone()
    changed[:, rows, columns] = pixels[:, rows, columns]
    return changed


def blend(pixels: Tensor, partner: Tensor, random: np.random.RandomState, share: float) -> Tensor:
    """Mix an image with its partner: ``(1 - share) x + share partner``."""
    return (1 - share) * pixels + share * partner
