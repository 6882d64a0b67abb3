"""Slices whose pixels are not square brought to square ones, so that a body keeps its proportions."""

from __future__ import annotations

import numpy as np
import torch

from monai_deepssim.errors import UnusableInputError

__all__ = ["are_square", "make_square"]

# Headers round: 0.4297 and 0.42969 mm are the same. One in a hundred is less than a pixel of most organs.
_TOLERANCE = 0.01
# A slice of a volume of 10 mm slices with pixels of 0.25 mm, seen from the side, has 40.
_LARGEST_RATIO = 50.0


def are_square(pixel_size_mm: tuple[float, float]) -> bool:
    """Whether pixels are square, to 1 %.

    Args:
        pixel_size_mm: height and width of a pixel.

    Example:
        >>> are_square((0.4297, 0.42969)), are_square((1.0, 2.0))
        (True, False)
    """
    height, width = pixel_size_mm
    return max(height, width) <= (1 + _TOLERANCE) * min(height, width)


def make_square(plane: np.ndarray, pixel_size_mm: tuple[float, float]) -> np.ndarray:
    r"""Resample a slice to square pixels of the size of their shorter side.

    An image of h x w pixels of :math:`a \times b` mm becomes one of :math:`h a / m \times w b / m` pixels, with
    :math:`m = \min(a, b)`: one axis is lengthened by linear interpolation, and nothing is lost.

    Args:
        plane: ``(rows, columns)``.
        pixel_size_mm: height and width of a pixel, both above 0. Only their ratio matters.

    Returns:
        ``(rows, columns)`` as float64; ``plane`` itself where its pixels are square to 1 %.

    Raises:
        UnusableInputError: one side is more than 50 times the other, which no scanner writes.

    Example:
        >>> make_square(np.array([[0.0, 4.0], [0.0, 4.0]]), (1.0, 2.0))
        array([[0., 1., 3., 4.],
               [0., 1., 3., 4.]])
    """
    if are_square(pixel_size_mm):
        return plane
    shortest = min(pixel_size_mm)
    if max(pixel_size_mm) > _LARGEST_RATIO * shortest:
        height, width = pixel_size_mm
        raise UnusableInputError(
            f"the header says that a pixel is {height:g} mm high and {width:g} mm wide, which cannot be. Correct the "
            "spacing in the header."
        )
    size = [round(length * side / shortest) for length, side in zip(plane.shape, pixel_size_mm, strict=True)]
    stretched = torch.nn.functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float64))[None, None], size=size, mode="bilinear"
    )
    return stretched[0, 0].numpy()
