"""The search for the change that brings one image onto another: compiled, one pair a call.

A change is a row of numbers, as :mod:`~monai_deepssim.similarity.kernels.resampling` says.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from monai_deepssim.similarity.kernels.changed_ssim import score_change
from monai_deepssim.similarity.kernels.compilation import cached_njit
from monai_deepssim.similarity.kernels.least_squares import clip_change, fit_least_squares
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    TABLE_SIZE,
    ZOOM,
    fill_gamma_table,
    flip_axes,
    pool_by_two,
    position_matrix,
    warp,
)

__all__ = ["Search", "align_pair"]

_FITTING_STEPS, _SWEEPS = 4, 2
# In SSIM: flips this close to the best get a chance, and what a sweep has to gain to be worth another one.
_CLOSE, _NO_GAIN = 0.05, 2e-3
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


@njit(nogil=True)
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


@njit(nogil=True, fastmath=True)
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


@njit(nogil=True)
def _search_coarsely(x, y, centre, gamma, angles, reach, scale, change):  # pragma: no cover (compiled)
    """Try all angles and shifts by whole pixels of a small image; the best goes into ``change``.

    Returns:
        Its correlation.
    """
    matrix, offset = np.empty((3, 3)), np.empty(3)
    table = np.empty(TABLE_SIZE + 2, _FLOAT)
    fill_gamma_table(gamma, table)
    warped = np.empty_like(y)
    planes_angles = angles if y.shape[0] > 1 else np.zeros(1)
    reach_p = reach if y.shape[0] > 1 else 0
    trial = np.zeros(CHANGE_SIZE)
    trial[ZOOM], trial[GAMMA] = 1.0, gamma
    best = -2.0
    for first in angles:
        for second in planes_angles:
            for third in planes_angles:
                trial[0], trial[1], trial[2] = first, second, third
                position_matrix(trial, 1.0, matrix, offset)
                warp(y, matrix, offset, centre, table, warped)
                for dp in range(-reach_p, reach_p + 1):
                    for dr in range(-reach, reach + 1):
                        for dc in range(-reach, reach + 1):
                            value = _correlation(x, warped, dp, dr, dc)
                            if value > best:
                                best = value
                                change[:] = trial
                                change[3], change[4], change[5] = dp * scale, dr * scale, dc * scale
    return best


@njit(nogil=True)
def _climb(reference, y, centre, search, change, best, table, warped, first, last):  # pragma: no cover (compiled)
    """Raise SSIM along one number of the change after the other: three trials and a parabola through them."""
    trial = np.empty(CHANGE_SIZE)
    values = np.empty(2)
    for sweep in range(first, last):
        before = best
        for k in search.free:
            step = search.steps[k] / 3.0**sweep
            here = change[k]
            centre_value = best
            found = here
            for side in range(3):
                if side == 2:
                    curvature = values[0] + values[1] - 2 * centre_value
                    if curvature >= 0:
                        break
                    way = 0.5 * (values[0] - values[1]) / curvature
                    if abs(way) > 2.0:
                        way = 2.0 if way > 0 else -2.0
                else:
                    way = 1.0 if side else -1.0
                trial[:] = change
                trial[k] = min(max(here + way * step, search.low[k]), search.high[k])
                if k == GAMMA:
                    fill_gamma_table(trial[k], table)
                value = score_change(reference, y, centre, trial, table, warped)
                if side < 2:
                    values[side] = value
                if value > best:
                    best = value
                    found = trial[k]
            change[k] = found
            if k == GAMMA:
                fill_gamma_table(found, table)
        if best - before < _NO_GAIN:
            break
    return best


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
    free, low, high, _, angles, reach, levels, flip_bits = search
    x_half = pool_by_two(x) if levels > 0 else x
    x_coarse = pool_by_two(x_half) if levels > 1 else x_half
    scale_half, scale_coarse = (2.0 if levels > 0 else 1.0), 2.0**levels
    centre, centre_half, centre_coarse = np.zeros(3), np.zeros(3), np.zeros(3)
    for i in range(3):
        centre[i] = (y.shape[i] - 1) / 2
        if y.shape[i] > 1:
            # The centre of the full image, seen in coarser pixels, also where a row was left over.
            centre_half[i] = (centre[i] + 0.5) / scale_half - 0.5
            centre_coarse[i] = (centre[i] + 0.5) / scale_coarse - 0.5
    gamma = _gamma_by_mean(x, y, low[GAMMA], high[GAMMA])
    changes = np.zeros((len(flip_bits), CHANGE_SIZE))
    scores, correlations = np.empty(len(flip_bits)), np.empty(len(flip_bits))
    table = np.empty(TABLE_SIZE + 2, _FLOAT)
    warped = np.empty_like(y)
    for number in range(len(flip_bits)):
        flipped = flip_axes(y, flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        coarse = pool_by_two(half) if levels > 1 else half
        correlations[number] = _search_coarsely(
            x_coarse, coarse, centre_coarse, gamma, angles, reach, scale_coarse, changes[number]
        )
    for number in range(len(flip_bits)):
        scores[number] = -2.0
        if correlations[number] < correlations.max() - _FAR:
            continue
        flipped = flip_axes(y, flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        clip_change(changes[number], low, high)
        fit_least_squares(x_half, half, centre_half, scale_half, free, low, high, changes[number], _FITTING_STEPS)
        fill_gamma_table(changes[number, GAMMA], table)
        scores[number] = score_change(reference, flipped, centre, changes[number], table, warped)
    order = np.argsort(-scores)
    first = order[0]
    best = -2.0
    for place in range(min(2, len(order))):
        number = order[place]
        # The second best flips get a chance where they are close: brains are nearly symmetric.
        if place and scores[number] < scores[first] - _CLOSE:
            break
        fill_gamma_table(changes[number, GAMMA], table)
        scores[number] = _climb(
            reference,
            flip_axes(y, flip_bits[number]),
            centre,
            search,
            changes[number],
            scores[number],
            table,
            warped,
            0,
            1,
        )
        if scores[number] > best:
            best, first = scores[number], number
    best_flips = flip_bits[first]
    change[:] = changes[first]
    fill_gamma_table(change[GAMMA], table)
    best = _climb(reference, flip_axes(y, best_flips), centre, search, change, best, table, warped, 1, _SWEEPS)
    # Where nothing has to be done, the answer is that nothing was done.
    unchanged = np.zeros(CHANGE_SIZE)
    unchanged[ZOOM], unchanged[GAMMA] = 1.0, 1.0
    fill_gamma_table(1.0, table)
    plain = score_change(reference, y, centre, unchanged, table, warped)
    if plain >= best - _NOTHING:
        best, best_flips = plain, 0
        change[:] = unchanged
    # Rounding may lift the SSIM of equal images a little above 1.
    return min(best, 1.0), best_flips
