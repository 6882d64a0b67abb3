"""The search for the change that brings one image onto another: compiled, one pair a call.

A change is a row of numbers, as :mod:`~monai_deepssim.similarity.kernels.resampling` says.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.kernels.changed_ssim import mean_ssim
from monai_deepssim.similarity.kernels.coarse_search import match_gamma, search_coarsely
from monai_deepssim.similarity.kernels.compilation import cached_njit, inner_njit
from monai_deepssim.similarity.kernels.least_squares import clip_change, fit_least_squares
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    MARGIN,
    TABLE_SIZE,
    ZOOM,
    add_margin,
    apply_gamma,
    fill_gamma_table,
    flip_image,
    interpolate,
    map_positions,
    pool_by_two,
)

__all__ = ["Search", "align_pair"]

_FITTING_STEPS = 4
# In SSIM: flips this close to the best get a chance.
_CLOSE = 0.05
_NOTHING = 1e-4
# In correlation: coarse matches this far below the best are not.
_FAR = 0.08
# Flips that are searched: none, rows, columns, both.
_MOST_FLIPS = 4
_FLOAT = np.float32


class Search(NamedTuple):
    """Where a change is searched, and in which steps."""

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
    #: int64, the flips to try, as bits: 2 rows, 4 columns.
    flip_bits: np.ndarray


@inner_njit()
def _halve(x, height, width, really, out):  # pragma: no cover (compiled)
    """An image at half its size, or a copy of it."""
    if really:
        pool_by_two(x, height, width, out)
    else:
        for i in range(height * width):
            out[i] = x[i]


@inner_njit()
def _score_gamma(reference, height, width, gamma, table, raw, out):  # pragma: no cover (compiled)
    """SSIM with an image after gamma."""
    fill_gamma_table(gamma, table)
    total, squares = apply_gamma(raw, height * width, table, out)
    z, mean, variance, c1, c2 = reference
    return mean_ssim(z, mean, variance, c1, c2, height, width, out, total, squares)


@inner_njit()
def _climb(reference, y, height, width, low, high, steps, change, best, work):  # pragma: no cover (compiled)
    """Raise SSIM along one number of the change after the other: three trials and a parabola through them.

    Ends where there is nothing left to gain.

    Args:
        reference: x as SSIM takes it.
        y: image with :data:`MARGIN` zeros on all sides.
        height: its rows, without these.
        width: its columns, without these.
        low: lower bounds of the change.
        high: upper bounds of the change.
        steps: of each number.
        change: where to begin, and output.
        best: SSIM there.
        work: scratch for two images and for the table of gamma, ``(3, ...)``.

    Returns:
        The SSIM of the change.
    """
    raw, out, table = work[0], work[1], work[2]
    z, mean, variance, c1, c2 = reference
    trial, values, positions = np.empty(CHANGE_SIZE), np.empty(2), np.empty(6)
    fill_gamma_table(change[GAMMA], table)
    for k in range(CHANGE_SIZE):
        if best >= 1.0 - _NOTHING:
            break
        step = steps[k]
        here, centre_value = change[k], best
        for j in range(CHANGE_SIZE):
            trial[j] = change[j]
        if k == GAMMA:
            map_positions(change, 1.0, height, width, positions)
            interpolate(y, height, width, positions, raw)
        for side in range(3):
            way = -1.0 if side == 0 else 1.0
            if side == 2:
                curvature = values[0] + values[1] - 2 * centre_value
                if curvature >= 0:
                    break
                way = min(max(0.5 * (values[0] - values[1]) / curvature, -2.0), 2.0)
            trial[k] = min(max(here + way * step, low[k]), high[k])
            value = centre_value
            if trial[k] != here:  # which it is at a bound
                if k == GAMMA:
                    fill_gamma_table(trial[k], table)
                else:
                    map_positions(trial, 1.0, height, width, positions)
                    interpolate(y, height, width, positions, raw)
                total, squares = apply_gamma(raw, height * width, table, out)
                value = mean_ssim(z, mean, variance, c1, c2, height, width, out, total, squares)
            if side < 2:
                values[side] = value
            if value > best:
                best = value
                change[k] = trial[k]
    return best


@inner_njit(inline="always")
def _match_flips(x_half, x, y, size, search, framed, halves, changes, correlations):  # pragma: no cover (compiled)
    """Search coarsely with each of the flips.

    Args:
        x_half: x at half its size, or full where ``search.levels`` is 0.
        x: image in [0, 1].
        y: image of the same size.
        size: ``(height, width)``.
        search: where to search.
        framed: output, for each of the flips y with :data:`MARGIN` zeros on all sides.
        halves: output, the same of y at half its size.
        changes: output, the best change with each of the flips.
        correlations: output, its correlation.

    Returns:
        The highest correlation.
    """
    height, width = size
    low, high, _, angles, reach, levels, flip_bits = search
    pixels, scale_half, scale_coarse = height * width, (2.0 if levels > 0 else 1.0), 2.0**levels
    half_h, half_w = int(height / scale_half), int(width / scale_half)
    coarse_h, coarse_w = int(height / scale_coarse), int(width / scale_coarse)
    coarse, table = np.empty(coarse_h * coarse_w, _FLOAT), np.empty(TABLE_SIZE + 2, _FLOAT)
    flipped, half = np.empty(pixels, _FLOAT), np.empty(half_h * half_w, _FLOAT)
    framed_coarse = np.empty((coarse_h + 2 * MARGIN) * (coarse_w + 2 * MARGIN), _FLOAT)
    padded_size = (coarse_h + 2 * reach) * (coarse_w + 2 * reach)
    padded, mask = np.empty(padded_size, _FLOAT), np.empty(padded_size, _FLOAT)
    for i in range(len(coarse)):
        coarse[i] = _FLOAT(1.0)
    add_margin(coarse, coarse_h, coarse_w, reach, mask)
    _halve(x_half, half_h, half_w, levels > 1, coarse)
    add_margin(coarse, coarse_h, coarse_w, reach, padded)
    gamma = match_gamma(x, y, pixels, low[GAMMA], high[GAMMA])
    fill_gamma_table(gamma, table)
    highest = -2.0
    for number in range(len(flip_bits)):
        flip_image(y, height, width, flip_bits[number], flipped)
        _halve(flipped, height, width, levels > 0, half)
        _halve(half, half_h, half_w, levels > 1, coarse)
        add_margin(flipped, height, width, MARGIN, framed[number])
        add_margin(half, half_h, half_w, MARGIN, halves[number])
        add_margin(coarse, coarse_h, coarse_w, MARGIN, framed_coarse)
        correlations[number] = search_coarsely(
            padded, mask, framed_coarse, coarse_h, coarse_w, scale_coarse, gamma, table, angles, reach, changes[number]
        )
        highest = max(highest, correlations[number])
    return highest


@inner_njit(inline="always")
def _fit_flips(reference, x, y, size, search, framed, changes, scores, work):  # pragma: no cover (compiled)
    """Fit the coarse matches of the flips by least squares.

    Args:
        reference: x as SSIM takes it.
        x: image in [0, 1].
        y: image of the same size.
        size: ``(height, width)``.
        search: where to search.
        framed: output, for each of the flips y with :data:`MARGIN` zeros on all sides.
        changes: output, the change with each of the flips.
        scores: output, its SSIM; -2 where the coarse match was far below the best.
        work: scratch for two images and for the table of gamma, ``(3, ...)``.

    Returns:
        Which of the flips have the highest SSIM and the second highest, which is -1 where there are none.
    """
    height, width = size
    raw, out, table = work[0], work[1], work[2]
    scale_half = 2.0 if search.levels > 0 else 1.0
    half_h, half_w = int(height / scale_half), int(width / scale_half)
    x_half = np.empty(half_h * half_w, _FLOAT)
    halves = np.empty((_MOST_FLIPS, (half_h + 2 * MARGIN) * (half_w + 2 * MARGIN)), _FLOAT)
    correlations, positions = np.empty(_MOST_FLIPS), np.empty(6)
    _halve(x, height, width, search.levels > 0, x_half)
    highest = _match_flips(x_half, x, y, size, search, framed, halves, changes, correlations)
    first, second = -1, -1
    for number in range(len(search.flip_bits)):
        scores[number] = -2.0
        if correlations[number] < highest - _FAR:
            continue
        change = changes[number]
        clip_change(change, search.low, search.high)
        fit_least_squares(
            x_half, halves[number], height, width, scale_half, search.low, search.high, change, _FITTING_STEPS
        )
        map_positions(change, 1.0, height, width, positions)
        interpolate(framed[number], height, width, positions, raw)
        scores[number] = _score_gamma(reference, height, width, change[GAMMA], table, raw, out)
        if first < 0 or scores[number] > scores[first]:
            first, second = number, first
        elif second < 0 or scores[number] > scores[second]:
            second = number
    return first, second


@cached_njit()
def align_pair(reference, x, y, size, search, least, change):  # pragma: no cover (compiled)
    """Find the flips and the change that give y the highest SSIM with x.

    Args:
        reference: x as SSIM takes it, its arrays flat.
        x: image in [0, 1], float32, flat.
        y: image of the same size in [0, 1].
        size: ``(height, width)``.
        search: where to search.
        least: SSIM that the least squares fit has to reach with some flips, or the search ends with it.
        change: output, the best change.

    Returns:
        SSIM, the flips of the best change, as bits, and whether the search ended early.
    """
    height, width = size
    low, high, steps = search.low, search.high, search.steps
    work = np.empty((3, max(height * width, TABLE_SIZE + 2)), _FLOAT)
    framed = np.empty((_MOST_FLIPS, (height + 2 * MARGIN) * (width + 2 * MARGIN)), _FLOAT)
    changes, scores, finer = np.empty((_MOST_FLIPS, CHANGE_SIZE)), np.empty(_MOST_FLIPS), np.empty(CHANGE_SIZE)
    first, second = _fit_flips(reference, x, y, size, search, framed, changes, scores, work)
    best_flips = first
    stopped = scores[first] < least
    # The second best flips get a chance where they are close: brains are nearly symmetric.
    if not stopped:
        before = scores[first]
        with_second = second >= 0 and scores[second] >= before - _CLOSE
        scores[first] = _climb(reference, framed[first], height, width, low, high, steps, changes[first], before, work)
        if with_second:
            after = scores[second]
            scores[second] = _climb(
                reference, framed[second], height, width, low, high, steps, changes[second], after, work
            )
            best_flips = second if scores[second] > scores[first] else first
        for k in range(CHANGE_SIZE):
            finer[k] = steps[k] / 3.0
        after = scores[best_flips]
        scores[best_flips] = _climb(
            reference, framed[best_flips], height, width, low, high, finer, changes[best_flips], after, work
        )
    best = scores[best_flips]
    for k in range(CHANGE_SIZE):
        change[k] = changes[best_flips, k]
    best_flips = search.flip_bits[best_flips]
    if stopped:
        return best, best_flips, True
    # Where nothing has to be done, the answer is that nothing was done.
    plain = _score_gamma(reference, height, width, 1.0, work[2], y, work[1])
    if plain >= best - _NOTHING:
        best, best_flips = plain, 0
        for k in range(CHANGE_SIZE):
            change[k] = 0.0
        change[ZOOM], change[GAMMA] = 1.0, 1.0
    # Rounding may lift the SSIM of equal images a little above 1.
    return min(best, 1.0), best_flips, False
