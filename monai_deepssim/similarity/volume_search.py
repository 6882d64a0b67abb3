"""The search for the change that brings one volume onto another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.kernels import NUM_TERMS, Reference, sum_least_squares, volume_ssim, warp_volume
from monai_deepssim.similarity.volume_change import (
    GAMMA,
    ROTATIONS,
    SHIFTS,
    UNCHANGED,
    ZOOMS,
    VolumeChange,
    map_positions,
)
from monai_deepssim.similarity.volume_pyramid import Level, make_level
from monai_deepssim.similarity.volume_starts import propose_starts

__all__ = ["VolumeSearch", "align_volume", "correlate_coarsely", "plan_volume_search"]

# How often the volumes are halved for the coarse search, for least squares and in the end.
_HALVINGS = (3, 1, 0)
# Coarse starts that least squares fit on coarse volumes, and how many of them on volumes of half the size.
_NUM_COARSE, _NUM_HALF = 16, 4
_COARSE_STEPS, _HALF_STEPS, _FULL_STEPS = 6, 6, 2
# In correlation at half the size: starts this far below the best are not fitted at full size.
_FAR = 0.03
# Steps of the fine search by SSIM: 0.6 degrees, 0.3 voxels, 0.6 % and 0.06 in gamma.
_STEPS = np.array([np.deg2rad(0.6)] * 3 + [0.3] * 3 + [0.006] * 3 + [0.06])
_DAMPING, _NO_GAIN = 1e-3, 1e-4


class VolumeSearch(NamedTuple):
    """Where a change is searched: largest angle, largest shifts, and the smallest and largest zoom and gamma."""

    rotation_radians: float
    shift_voxels: np.ndarray
    zoom: tuple[float, float]
    gamma: tuple[float, float]


def plan_volume_search(
    size: Sequence[int], rotation_degrees: float, shift_voxels: float, zoom: float, gamma: Sequence[float]
) -> VolumeSearch:
    """Bounds of a search that hold for a change and for its inverse."""
    # A shift undone after a rotation and a zoom is a little longer, and may lie along another axis.
    shift = np.minimum(shift_voxels * np.sqrt(3) * (1 + zoom), np.array(size) / 2)
    return VolumeSearch(
        float(np.deg2rad(rotation_degrees)),
        shift,
        (min(1 - zoom, 1 / (1 + zoom)), max(1 + zoom, 1 / (1 - zoom))),
        (min(*gamma, 1 / max(gamma)), max(*gamma, 1 / min(gamma))),
    )


def align_volume(
    reference: Reference, x: np.ndarray, y: np.ndarray, search: VolumeSearch
) -> tuple[float, VolumeChange]:
    """Find the change that gives y the highest SSIM with x.

    Args:
        reference: x as SSIM takes it.
        x: volume ``(X, Y, Z)`` in [0, 1], float32.
        y: volume of the same shape in [0, 1].
        search: where to search.

    Returns:
        SSIM, and the change.
    """
    coarse_x, half_x, full_x = (make_level(x, halvings) for halvings in _HALVINGS)
    coarse_y, half_y, full_y = (make_level(y, halvings) for halvings in _HALVINGS)
    starts = _best(_fit_coarsely(coarse_x, coarse_y, search, _NUM_COARSE), _NUM_HALF)
    fitted = [_fit(half_x, half_y, change, search, _HALF_STEPS) for _, change in starts]
    best, change = -2.0, fitted[0][1]
    for correlation, candidate in _best(fitted, 2):
        if correlation < max(value for value, _ in fitted) - _FAR:
            continue
        _, candidate = _fit(full_x, full_y, candidate, search, _FULL_STEPS)
        ssim = _score(reference, candidate.orient(y), candidate.values)
        if ssim > best:
            best, change = ssim, candidate
    best, change = _climb(reference, y, change, search, best)
    # Where nothing has to be done, the answer is that nothing was done.
    unchanged = VolumeChange((0, 1, 2), (), UNCHANGED)
    plain = _score(reference, y, unchanged.values)
    if plain >= best - _NO_GAIN:
        best, change = plain, unchanged
    # Rounding may lift the SSIM of equal volumes a little above 1.
    return min(best, 1.0), change


def correlate_coarsely(x: np.ndarray, y: np.ndarray, search: VolumeSearch, num_starts: int) -> float:
    """How well a volume fits another one, both of a coarse size already.

    Args:
        x: volume ``(X, Y, Z)`` in [0, 1], float32.
        y: volume of the same shape in [0, 1].
        search: where to search, in their voxels.
        num_starts: how many orientations and stretches are fitted by least squares.

    Returns:
        Their correlation after the best change found.
    """
    return max(fit for fit, _ in _fit_coarsely(make_level(x, 0), make_level(y, 0), search, num_starts))


def _fit_coarsely(x: Level, y: Level, search: VolumeSearch, count: int) -> list[tuple[float, VolumeChange]]:
    """The most promising orientations and stretches, fitted by least squares, with the correlation of each."""
    starts = propose_starts(x, y, search.shift_voxels, search.zoom, search.gamma, count)
    return [_fit(x, y, start, search, _COARSE_STEPS) for start in starts]


def _best(fitted: list[tuple[float, VolumeChange]], count: int) -> list[tuple[float, VolumeChange]]:
    return sorted(fitted, key=lambda pair: -pair[0])[:count]


def _score(reference: Reference, oriented: np.ndarray, values: np.ndarray) -> float:
    """SSIM with a volume, oriented already, after the rest of a change."""
    warped = np.empty_like(oriented)
    centre = (np.array(oriented.shape) - 1) / 2
    sums = warp_volume(oriented, *map_positions(values, np.ones(3)), centre, float(values[GAMMA]), warped)
    z, mean, variance, c1, c2, *_ = reference
    return float(volume_ssim(z, mean, variance, c1, c2, warped, *sums))


def _fit(x: Level, y: Level, start: VolumeChange, search: VolumeSearch, steps: int) -> tuple[float, VolumeChange]:
    """Gauss-Newton steps for ``x = a w(y; change) + b``; the correlation that they reach, and the change."""
    oriented = start.orient(y.volume)
    values, best, best_values = start.values, -2.0, start.values
    low, high = _bounds(start, search)
    sums = np.empty((NUM_TERMS, NUM_TERMS))
    for step in range(steps + 1):
        values = np.clip(values, low, high)
        matrix, offset = map_positions(values, x.scale)
        sum_least_squares(x.volume, oriented, matrix, offset, x.centre, float(values[GAMMA]), sums)
        correlation, gain, bias = _regress(sums)
        if correlation > best:
            best, best_values = correlation, values
        if step == steps or gain <= 0:
            break
        values = values + _step(sums, values, x.scale, gain, bias, high > low)
    return best, start._replace(values=best_values)


def _bounds(start: VolumeChange, search: VolumeSearch) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of a change; zooms and shifts around those of a start that is stretched."""
    values, (zoom_low, zoom_high) = start.values, search.zoom
    zooms = values[ZOOMS]
    around = np.where((zooms < zoom_low) | (zooms > zoom_high), zooms, 1.0)
    low, high = np.empty(len(UNCHANGED)), np.empty(len(UNCHANGED))
    low[ROTATIONS], high[ROTATIONS] = -search.rotation_radians, search.rotation_radians
    reach = np.maximum(search.shift_voxels, np.abs(values[SHIFTS]) + 2.0 * (search.shift_voxels > 0))
    low[SHIFTS], high[SHIFTS] = -reach, reach
    low[ZOOMS], high[ZOOMS] = around * zoom_low, around * zoom_high
    low[GAMMA], high[GAMMA] = search.gamma
    return low, high


def _regress(sums: np.ndarray) -> tuple[float, float, float]:
    """Correlation of w and x, and gain and bias of the line that predicts x, from sums of products."""
    count, ww, xx = sums[14, 14], sums[13, 13], sums[15, 15]
    w, x, wx = sums[13, 14], sums[14, 15], sums[13, 15]
    covariance, variance = wx - w * x / count, ww - w * w / count
    if variance < 1e-9:
        return 0.0, 0.0, 0.0
    gain = covariance / variance
    return covariance / np.sqrt(variance * max(xx - x * x / count, 1e-12)), gain, (x - gain * w) / count


def _step(
    sums: np.ndarray, values: np.ndarray, scale: np.ndarray, gain: float, bias: float, free: np.ndarray
) -> np.ndarray:
    """The step of Gauss and Newton, of those values that are free."""
    matrix, offset = map_positions(values, scale)
    places = np.flatnonzero(free)
    # How each value moves the terms of the sums: matrix, offset and gamma; then gain and bias themselves.
    moves = np.zeros((NUM_TERMS, len(places) + 2))
    for column, place in enumerate(places):
        if place == GAMMA:
            moves[12, column] = gain
            continue
        moved = values.copy()
        moved[place] += 1e-5
        moved_matrix, moved_offset = map_positions(moved, scale)
        moves[:9, column] = ((moved_matrix - matrix) * (gain / 1e-5)).ravel()
        moves[9:12, column] = (moved_offset - offset) * (gain / 1e-5)
    moves[13, -2], moves[14, -1] = 1.0, 1.0
    normal = moves.T @ sums @ moves
    right = moves.T @ (sums[:, 15] - gain * sums[:, 13] - bias * sums[:, 14])
    normal[np.diag_indices(len(normal))] *= 1 + _DAMPING
    normal[np.diag_indices(len(normal))] += 1e-9
    step = np.zeros(len(UNCHANGED))
    step[places] = np.linalg.solve(normal, right)[:-2]
    return step


def _climb(
    reference: Reference, y: np.ndarray, change: VolumeChange, search: VolumeSearch, best: float
) -> tuple[float, VolumeChange]:
    """Raise SSIM along one value of the change after the other: two trials and a parabola through three."""
    oriented, values = change.orient(y), change.values.copy()
    low, high = _bounds(change, search)
    for place in np.flatnonzero(high > low).tolist():
        here, trial = float(values[place]), values.copy()

        def attempt(steps: float, place: int = place, here: float = here, trial: np.ndarray = trial) -> tuple:
            trial[place] = np.clip(here + steps * _STEPS[place], low[place], high[place])
            return _score(reference, oriented, trial), trial[place]

        trials = [attempt(-1.0), (best, here), attempt(1.0)]
        scores = [score for score, _ in trials]
        curvature = scores[0] + scores[2] - 2 * scores[1]
        if curvature < 0:
            trials.append(attempt(float(np.clip(0.5 * (scores[0] - scores[2]) / curvature, -2.0, 2.0))))
        best, values[place] = max(trials)
    return best, change._replace(values=values)
