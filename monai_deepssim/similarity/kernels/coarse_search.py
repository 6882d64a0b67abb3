"""Every angle and shift by whole pixels of two small images, by their correlation: compiled."""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inner_njit
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    ROTATION,
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    ZOOM,
    add_margin,
    apply_gamma,
    fill_powers,
    interpolate,
    map_positions,
)

__all__ = ["match_gamma", "search_coarsely"]

_FLOAT = np.float32
_LEVELS = 256


@inner_njit()
def match_gamma(x, y, count, low, high):  # pragma: no cover (compiled)
    """The gamma that gives y, whose values are in [0, 1], the mean of x: no alignment is needed to find it."""
    # Four counts in turn: equal values follow each other, and a count cannot be raised before it was written.
    counts = np.empty(4 * _LEVELS)
    powers = np.empty(_LEVELS)
    for i in range(4 * _LEVELS):
        counts[i] = 0.0
    total = 0.0
    for i in range(count):
        counts[np.uintp(np.int32(y[i] * _FLOAT(_LEVELS - 1))) + np.uintp((i & 3) * _LEVELS)] += 1.0
        total += x[i]
    for _ in range(12):
        middle = np.sqrt(low * high)
        fill_powers(middle, powers)
        mean = 0.0
        for i in range(1, _LEVELS):
            mean += (counts[i] + counts[i + _LEVELS] + counts[i + 2 * _LEVELS] + counts[i + 3 * _LEVELS]) * powers[i]
        if mean > total * powers[_LEVELS - 1]:  # a larger gamma darkens
            low = middle
        else:
            high = middle
    return np.sqrt(low * high)


@inner_njit(fastmath=True)
def _sums(x, mask, w):  # pragma: no cover (compiled)
    """Sums of x w, w and w² over where the mask is 1."""
    products, total, squares = _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0)
    for i in range(len(x)):
        value = mask[i] * w[i]
        products += x[i] * w[i]
        total += value
        squares += value * w[i]
    return products, total, squares


@inner_njit()
def search_coarsely(
    x, mask, y, height, width, scale, gamma, table, angles, reach, change
):  # pragma: no cover (compiled)
    """Try all angles, and all shifts by whole pixels of a small image, without a gap; the best goes into ``change``.

    Args:
        x: image with ``reach`` zeros around it.
        mask: 1 where the image is, 0 around it.
        y: image with the margin that an interpolation needs.
        height: rows of y.
        width: columns of y.
        scale: pixels of the full size in one of these.
        gamma: of y.
        table: filled for gamma.
        angles: in radians.
        reach: largest shift along each axis, in pixels of these images.
        change: output.

    Returns:
        The Pearson correlation of the best, over the pixels that both have.
    """
    pitch = width + 2 * reach
    size = (height + 2 * reach) * pitch
    # Between the first and the last pixel of x, so that no shift leaves the padded image.
    first = reach * pitch + reach
    length = size - 2 * first
    moved = np.empty(size, _FLOAT)
    raw, powers = np.empty(height * width, _FLOAT), np.empty(height * width, _FLOAT)
    positions = np.empty(6)
    side = 2 * reach + 1
    # Of x over the pixels that both have, for each shift.
    totals, squares = np.empty(side * side), np.empty(side * side)
    inner, inner_mask = x[first : first + length], mask[first : first + length]
    for dr in range(-reach, reach + 1):
        for dc in range(-reach, reach + 1):
            shifted = first + dr * pitch + dc
            _, total, square = _sums(inner, mask[shifted : shifted + length], inner)
            place = (dr + reach) * side + dc + reach
            totals[place], squares[place] = total, square
    best = -2.0
    trial = np.empty(CHANGE_SIZE)
    trial[SHIFT_ROWS], trial[SHIFT_COLUMNS], trial[ZOOM], trial[GAMMA] = 0.0, 0.0, 1.0, gamma
    for angle in angles:
        trial[ROTATION] = angle
        map_positions(trial, 1.0, height, width, positions)
        interpolate(y, height, width, positions, raw)
        apply_gamma(raw, height * width, table, powers)
        add_margin(powers, height, width, reach, moved)
        for dr in range(-reach, reach + 1):
            for dc in range(-reach, reach + 1):
                shifted = first + dr * pitch + dc
                sxw, sw, sww = _sums(inner, inner_mask, moved[shifted : shifted + length])
                place = (dr + reach) * side + dc + reach
                n = (height - abs(dr)) * (width - abs(dc))
                sx, sxx = totals[place], squares[place]
                variances = (sxx - sx * sx / n) * (np.float64(sww) - np.float64(sw) * sw / n)
                value = (sxw - sx * sw / n) / np.sqrt(variances) if variances > 1e-12 else 0.0
                if value > best:
                    best = value
                    for k in range(CHANGE_SIZE):
                        change[k] = trial[k]
                    change[SHIFT_ROWS], change[SHIFT_COLUMNS] = dr * scale, dc * scale
    return best
