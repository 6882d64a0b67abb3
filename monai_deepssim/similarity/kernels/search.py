"""The search for the change that brings one image onto another: compiled, one pair a call.

A change is a row of numbers, as :mod:`~monai_deepssim.similarity.kernels.resampling` says.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.kernels.changed_ssim import score_change
from monai_deepssim.similarity.kernels.compilation import cached_njit, inlined_njit
from monai_deepssim.similarity.kernels.least_squares import clip_change, fit_least_squares
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    TABLE_SIZE,
    ZOOM,
    fill_gamma_table,
    find_centre,
    flip_axes,
    pool_by_two,
    warp,
)

__all__ = ["Search", "align_pair"]

_FITTING_STEPS = 4
# In SSIM: flips this close to the best get a chance.
_CLOSE = 0.05
_NOTHING = 1e-4
# In correlation: coarse matches this far below the best are not.
_FAR = 0.08
_FLOAT = np.float32


class Search(NamedTuple):
    """Where a change is searched, and in which steps."""

    #: int64, which numbers of a change are searched.
    free: np.ndarray
    #: Bounds of a change.
    low: np.ndarray
    high: np.ndarray
    #: First steps of the fine search.
    steps: np.ndarray
    #: The coarse search's angles in radians, and its shifts along each axis, up to so many coarse pixels.
    angles: np.ndarray
    reach: int
    #: How often the images are halved for the coarse search, 0 to 2; least squares run at half size, or full.
    levels: int
    #: int64, the flips to try, as bits: 1 planes, 2 rows, 4 columns.
    flip_bits: np.ndarray


@inlined_njit()
def _gamma_by_mean(x, y, low, high):  # pragma: no cover (compiled)
    """The gamma that gives y, whose values are in [0, 1], the mean of x: no alignment is needed to find it."""
    counts = np.zeros(256)
    total = 0.0
    for value in y.flat:
        counts[int(value * 255)] += 1
    for value in x.flat:
        total += value
    for _ in range(12):
        middle = np.sqrt(low * high)
        mean = 0.0
        for i in range(1, 256):
            mean += counts[i] * (i / 255) ** middle
        if mean > total:  # a larger gamma darkens
            low = middle
        else:
            high = middle
    return np.sqrt(low * high)


@inlined_njit(fastmath=True)
def _correlation(x, w, shift_p, shift_r, shift_c):  # pragma: no cover (compiled)
    """Pearson correlation of x with w shifted by whole pixels, over the pixels that both have."""
    planes, height, width = x.shape
    n, sx, sw, sxx, sww, sxw = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(max(0, -shift_p), min(planes, planes - shift_p)):
        for r in range(max(0, -shift_r), min(height, height - shift_r)):
            for c in range(max(0, -shift_c), min(width, width - shift_c)):
                a, b = x[p, r, c], w[p + shift_p, r + shift_r, c + shift_c]
                sx += a
                sw += b
                sxx += a * a
                sww += b * b
                sxw += a * b
                n += 1
    variances = (sxx - sx * sx / n) * (sww - sw * sw / n)
    return (sxw - sx * sw / n) / np.sqrt(variances) if variances > 1e-12 else 0.0


@inlined_njit()
def _search_coarsely(x, y, centre, search, gamma, change):  # pragma: no cover (compiled)
    """Try all angles and shifts by whole pixels of a small image; the best goes into ``change``.

    Returns:
        Its correlation.
    """
    scale = 2.0**search.levels
    table, warped = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty_like(y)
    fill_gamma_table(gamma, table)
    reach, angles = search.reach, search.angles
    is_volume = y.shape[0] > 1
    reach_p, angles_p = (reach, angles) if is_volume else (0, np.zeros(1))
    trial = np.zeros(CHANGE_SIZE)
    trial[ZOOM], trial[GAMMA] = 1.0, gamma
    best = -2.0
    for first in angles:
        for second in angles_p:
            for third in angles_p:
                trial[0], trial[1], trial[2] = first, second, third
                warp(y, trial, centre, table, warped)
                for dp in range(-reach_p, reach_p + 1):
                    for dr in range(-reach, reach + 1):
                        for dc in range(-reach, reach + 1):
                            value = _correlation(x, warped, dp, dr, dc)
                            if value > best:
                                best = value
                                change[:] = trial
                                change[3], change[4], change[5] = dp * scale, dr * scale, dc * scale
    return best


@inlined_njit()
def _climb(reference, y, search, steps, change, best, table, warped):  # pragma: no cover (compiled)
    """Raise SSIM along one number of the change after the other: three trials and a parabola through them."""
    centre = find_centre(y, 1.0)
    trial, values = np.empty(CHANGE_SIZE), np.empty(2)
    fill_gamma_table(change[GAMMA], table)
    for k in search.free:
        start, start_value, highest = change[k], best, change[k]
        for attempt in range(3):
            if attempt < 2:
                way = 1.0 if attempt else -1.0
            else:
                curvature = values[0] + values[1] - 2 * start_value
                if curvature >= 0:
                    break
                way = min(max(0.5 * (values[0] - values[1]) / curvature, -2.0), 2.0)
            trial[:] = change
            trial[k] = min(max(start + way * steps[k], search.low[k]), search.high[k])
            if k == GAMMA:
                fill_gamma_table(trial[k], table)
            value = score_change(reference, y, centre, trial, table, warped)
            if attempt < 2:
                values[attempt] = value
            if value > best:
                best, highest = value, trial[k]
        change[k] = highest
        if k == GAMMA:
            fill_gamma_table(highest, table)
    return best


@inlined_njit()
def _fit_flips(reference, x, y, search, changes, table, warped):  # pragma: no cover (compiled)
    """Search coarsely with each of the flips, and fit least squares where that came far.

    Returns:
        SSIM with each of the flips, -2 where nothing was fitted; the changes go into ``changes``.
    """
    levels, count = search.levels, len(search.flip_bits)
    x_half = pool_by_two(x) if levels > 0 else x
    x_coarse = pool_by_two(x_half) if levels > 1 else x_half
    scale = 2.0 if levels > 0 else 1.0
    centre, centre_half, centre_coarse = find_centre(y, 1.0), find_centre(y, scale), find_centre(y, 2.0**levels)
    gamma = _gamma_by_mean(x, y, search.low[GAMMA], search.high[GAMMA])
    scores, correlations = np.full(count, -2.0), np.empty(count)
    for number in range(count):
        flipped = flip_axes(y, search.flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        coarse = pool_by_two(half) if levels > 1 else half
        correlations[number] = _search_coarsely(x_coarse, coarse, centre_coarse, search, gamma, changes[number])
    for number in range(count):
        if correlations[number] < correlations.max() - _FAR:
            continue
        change = changes[number]
        flipped = flip_axes(y, search.flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        clip_change(change, search.low, search.high)
        fit_least_squares(
            x_half, half, centre_half, scale, search.free, search.low, search.high, change, _FITTING_STEPS
        )
        fill_gamma_table(change[GAMMA], table)
        scores[number] = score_change(reference, flipped, centre, change, table, warped)
    return scores


@cached_njit()
def align_pair(reference, x, y, search, change):  # pragma: no cover (compiled)
    """Find the flips and the change that give y the highest SSIM with x.

    Args:
        reference: x as SSIM takes it.
        x: image ``(P, H, W)`` in [0, 1], float32.
        y: image of the same shape in [0, 1].
        search: where to search.
        change: output, the best change.

    Returns:
        SSIM, and the flips of the best change, as bits.
    """
    changes = np.zeros((len(search.flip_bits), CHANGE_SIZE))
    table, warped = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty_like(y)
    scores = _fit_flips(reference, x, y, search, changes, table, warped)
    best, best_number, highest = -2.0, np.argmax(scores), scores.max()
    for _ in range(min(2, len(scores))):
        number = np.argmax(scores)
        # The second best flips get a chance where they are close: brains are nearly symmetric.
        if scores[number] < highest - _CLOSE:
            break
        flipped = flip_axes(y, search.flip_bits[number])
        value = _climb(reference, flipped, search, search.steps, changes[number], scores[number], table, warped)
        if value > best:
            best, best_number = value, number
        scores[number] = -np.inf
    best_flips = search.flip_bits[best_number]
    change[:] = changes[best_number]
    flipped = flip_axes(y, best_flips)
    best = _climb(reference, flipped, search, search.steps / 3.0, change, best, table, warped)
    # Where nothing has to be done, the answer is that nothing was done.
    unchanged = np.zeros(CHANGE_SIZE)
    unchanged[ZOOM], unchanged[GAMMA] = 1.0, 1.0
    fill_gamma_table(1.0, table)
    plain = score_change(reference, y, find_centre(y, 1.0), unchanged, table, warped)
    if plain >= best - _NOTHING:
        best, best_flips = plain, 0
        change[:] = unchanged
    # Rounding may lift the SSIM of equal images a little above 1.
    return min(best, 1.0), best_flips
