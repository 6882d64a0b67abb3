"""Many images changed at once, each by a row of numbers.

The convention of a change, and its interpolation, are those of the compiled functions
(:mod:`monai_deepssim.similarity.kernels.resampling`). Changes are ``(N, CHANGE_SIZE)``, float64, images ``(N, H, W)``,
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.kernels import CHANGE_SIZE, GAMMA, ZOOM

__all__ = [
    "SHIFTS",
    "Powers",
    "flip_rows_and_columns",
    "pool_by_two",
    "position_matrix",
    "read_at",
    "unchanged",
    "warp",
    "warp_with_gradient",
]

#: Where the shifts along rows and columns stand in a change; the rotation stands first.
SHIFTS = slice(ZOOM - 2, ZOOM)
_TABLE_SIZE = 1024


def unchanged(count: int, device: torch.device) -> Tensor:
    """Changes that change nothing, ``(count, CHANGE_SIZE)``."""
    change = torch.zeros(count, CHANGE_SIZE, dtype=torch.float64, device=device)
    change[:, ZOOM], change[:, GAMMA] = 1.0, 1.0
    return change


def pool_by_two(images: Tensor) -> Tensor:
    """Means of blocks of 2 x 2 pixels; what is left over at the end of an axis is dropped."""
    return F.avg_pool2d(images[:, None], 2)[:, 0]


def flip_rows_and_columns(images: Tensor, flips: Tensor) -> Tensor:
    """Flip each image along its rows, its columns or both: ``flips`` are bits, 2 rows and 4 columns, ``(N,)``."""
    by_rows, by_columns = (((flips & bit) > 0).view(-1, 1, 1) for bit in (2, 4))
    flipped = torch.where(by_rows, images.flip(1), images)
    return torch.where(by_columns, flipped.flip(2), flipped)


def position_matrix(change: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The input position of an output position v, both from the centre: ``matrix @ v + offset``, in pixels / scale.

    Returns:
        ``(N, 2, 2)`` and ``(N, 2)``, float64.
    """
    cosine, sine = change[:, 0].cos(), change[:, 0].sin()
    rotation = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    offset = (rotation @ change[:, SHIFTS, None])[..., 0] / scale
    return rotation / change[:, ZOOM].view(-1, 1, 1), offset


def _read_positions(
    change: Tensor, size: Sequence[int], centre: Sequence[float], scale: float
) -> tuple[Tensor, Tensor]:
    """Rows and columns that are read for each pixel, ``(N, H, W)`` each, float32."""
    matrix, offset = position_matrix(change, scale)
    rows = torch.arange(size[0], device=change.device, dtype=torch.float64) - centre[0]
    columns = torch.arange(size[1], device=change.device, dtype=torch.float64) - centre[1]
    row, column = (
        (matrix[:, axis, 0, None] * rows + offset[:, axis, None] + centre[axis])[:, :, None]
        + (matrix[:, axis, 1, None] * columns)[:, None]
        for axis in range(2)
    )
    return row.float(), column.float()


class Powers(NamedTuple):
    """Tables of ``v ** gamma`` for v from 0 to 1, one for each image: what the kernels interpolate as well."""

    #: ``(N, 1026)``, float32.
    table: Tensor

    @classmethod
    def of(cls, gamma: Tensor) -> Powers:
        """Tables of gammas ``(N,)``."""
        levels = torch.arange(_TABLE_SIZE + 2, device=gamma.device, dtype=torch.float64) / _TABLE_SIZE
        return cls((levels.clamp(max=1.0) ** gamma[:, None]).float())

    def slopes(self) -> Powers:
        """Tables of the derivative by gamma, ``v ** gamma log(v)``."""
        levels = torch.arange(1, _TABLE_SIZE + 1, device=self.table.device, dtype=torch.float64) / _TABLE_SIZE
        return Powers(F.pad(self.table[:, 1:-1] * levels.log().float(), (1, 1)))

    def look_up(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Powers of values ``(N, H, W)`` in [0, 1], linearly between the entries, and their derivative by the value."""
        position = values.flatten(1) * _TABLE_SIZE
        entry = position.long().clamp(0, _TABLE_SIZE)
        low = self.table.gather(1, entry)
        risen = self.table.gather(1, entry + 1) - low
        powers = low + (position - entry) * risen
        return powers.view_as(values), (risen * _TABLE_SIZE).view_as(values)


def warp(images: Tensor, change: Tensor, centre: Sequence[float], scale: float = 1.0) -> Tensor:
    """Change images in [0, 1], of a size smaller by ``scale`` than the one in whose pixels the shifts are."""
    row, column = _read_positions(change, images.shape[1:], centre, scale)
    moved = read_at(images, row, column, "zeros")
    return Powers.of(change[:, GAMMA]).look_up(moved.clamp(0, 1))[0]


def read_at(images: Tensor, row: Tensor, column: Tensor, outside: str) -> Tensor:
    """Linear interpolation at positions ``(N, H, W)``; outside are ``"zeros"``, or the ``"border"`` goes on."""
    height, width = images.shape[1:]
    grid = torch.stack([column * (2 / (width - 1)) - 1, row * (2 / (height - 1)) - 1], dim=3)
    return F.grid_sample(images[:, None], grid, padding_mode=outside, align_corners=True)[:, 0]


def warp_with_gradient(
    images: Tensor, change: Tensor, centre: Sequence[float], scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Change images as :func:`warp` does.

    Returns:
        The changed images, their derivatives by the row and by the column that is read, and by gamma, ``(N, H, W)``.
    """
    row, column = _read_positions(change, images.shape[1:], centre, scale)
    height, width = images.shape[1:]
    # Two zeros around the image: whatever lies farther outside reads these.
    first_row, first_column = row.floor(), column.floor()
    row_rest, column_rest = row - first_row, column - first_column
    place = (first_row.clamp(-2, height) + 2).long() * (width + 4) + (first_column.clamp(-2, width) + 2).long()
    flat, place = F.pad(images, (2, 2, 2, 2)).flatten(1), place.flatten(1)
    corners = (flat.gather(1, place + step).view_as(row) for step in (0, 1, width + 4, width + 5))
    a, b, c, d = corners
    top, bottom = a + column_rest * (b - a), c + column_rest * (d - c)
    by_row, by_column = bottom - top, (1 - row_rest) * (b - a) + row_rest * (d - c)
    moved = (top + row_rest * by_row).clamp(0, 1)
    powers = Powers.of(change[:, GAMMA])
    values, rise = powers.look_up(moved)
    return values, by_row * rise, by_column * rise, powers.slopes().look_up(moved)[0]
