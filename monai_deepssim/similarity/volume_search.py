"""The search for the change that brings one volume onto another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from monai.transforms.utils import create_rotate
from scipy.fft import irfftn, next_fast_len, rfftn

from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.kernels import NUM_TERMS, Reference, sum_least_squares, volume_ssim, warp_volume
from monai_deepssim.similarity.volume_pyramid import Level, make_level

__all__ = ["VolumeChange", "VolumeSearch", "align_volume", "plan_volume_search"]

# Numbers of a change: three rotations in radians, three shifts in voxels, three zooms, gamma.
_ROTATIONS, _SHIFTS, _ZOOMS, _GAMMA = slice(0, 3), slice(3, 6), slice(6, 9), 9
_NUM_VALUES = 10
# How often the volumes are halved for the coarse search, for least squares and in the end.
_HALVINGS = (3, 1, 0)
# Coarse starts that least squares fit on coarse volumes, and how many of them on volumes of half the size.
_NUM_COARSE, _NUM_HALF = 16, 4
_COARSE_STEPS, _HALF_STEPS, _FULL_STEPS = 6, 6, 2
# In correlation at half the size: starts this far below the best are not fitted at full size.
_FAR = 0.03
# Foreground is above this share of the brightest; a stretch is tried from this ratio of its extents on, up to a factor.
_FOREGROUND, _SEEN_STRETCH, _LARGEST_STRETCH = 0.2, 1.08, 2.6
# Steps of the fine search by SSIM: 0.6 degrees, 0.3 voxels, 0.6 % and 0.06 in gamma.
_STEPS = np.array([np.deg2rad(0.6)] * 3 + [0.3] * 3 + [0.006] * 3 + [0.06])
_DAMPING, _NO_GAIN = 1e-3, 1e-4


class VolumeSearch(NamedTuple):
    """Where a change is searched: largest angle, largest shifts, and the smallest and largest zoom and gamma."""

    rotation_radians: float
    shift_voxels: np.ndarray
    zoom: tuple[float, float]
    gamma: tuple[float, float]


class VolumeChange(NamedTuple):
    """A change of a volume: its axes are put in an order and flipped; stretch, rotation and shift follow, then gamma.

    What follows the flips reads for the voxel v, counted from the centre, ``diag(1 / zooms) R (v - shift)``.
    """

    #: ``axes[i]`` is the axis of the volume that becomes axis i.
    axes: tuple[int, ...]
    #: The axes that are flipped, in their new order.
    flips: tuple[int, ...]
    #: Rotations in radians, shifts in voxels, zooms, gamma.
    values: np.ndarray

    def orient(self, volume: np.ndarray) -> np.ndarray:
        """The volume with its axes in order, and flipped."""
        return np.ascontiguousarray(np.flip(volume.transpose(self.axes), self.flips))

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """The volume, in [0, 1], changed."""
        return _warp(make_level(self.orient(volume), 0), self.values, float(self.values[_GAMMA]))

    def describe(self, deformation_voxels: float) -> Alignment:
        """The change as an alignment, with the length of the deformation that follows."""
        zooms = self.values[_ZOOMS]
        zoom = float(np.median(zooms))
        return Alignment(
            flips=self.flips,
            rotation_degrees=tuple(np.rad2deg(self.values[_ROTATIONS]).tolist()),
            shift_pixels=tuple(self.values[_SHIFTS].tolist()),
            zoom=zoom,
            gamma=float(self.values[_GAMMA]),
            deformation_pixels=deformation_voxels,
            axes=() if self.axes == (0, 1, 2) else self.axes,
            stretches=() if np.ptp(zooms) == 0 else tuple((zooms / zoom).tolist()),
        )


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
    gamma = _gamma_by_mean(x, y, *search.gamma)
    starts = _propose(coarse_x, coarse_y, gamma, search)
    fitted = [_fit(coarse_x, coarse_y, start, search, _COARSE_STEPS) for start in starts]
    fitted = _best(fitted, _NUM_HALF)
    fitted = [_fit(half_x, half_y, change, search, _HALF_STEPS) for _, change in fitted]
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
    unchanged = VolumeChange((0, 1, 2), (), np.array([0.0] * 6 + [1.0] * 4))
    plain = _score(reference, y, unchanged.values)
    if plain >= best - _NO_GAIN:
        best, change = plain, unchanged
    # Rounding may lift the SSIM of equal volumes a little above 1.
    return min(best, 1.0), change


def _best(fitted: list[tuple[float, VolumeChange]], count: int) -> list[tuple[float, VolumeChange]]:
    return sorted(fitted, key=lambda pair: -pair[0])[:count]


def _gamma_by_mean(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """The gamma that gives y the mean of x: no alignment is needed to find it."""
    counts, edges = np.histogram(y, 256, (0, 1))
    middles, mean = (edges[:-1] + edges[1:]) / 2, float(x.mean())
    for _ in range(12):
        gamma = np.sqrt(low * high)
        if float(counts[1:] @ middles[1:] ** gamma) / y.size > mean:  # a larger gamma darkens
            low = gamma
        else:
            high = gamma
    return float(np.sqrt(low * high))


def _orientations(size: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Orders and flips of the axes that keep a volume's size."""
    orders = [axes for axes in permutations(range(3)) if tuple(size[axis] for axis in axes) == tuple(size)]
    flips = [tuple(axis for axis in range(3) if bits[axis]) for bits in product((False, True), repeat=3)]
    return [(axes, flipped) for axes in orders for flipped in flips]


def _extents(volume: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the foreground lies along each axis, from the centre: its mean and its standard deviation."""
    foreground = (volume > _FOREGROUND * np.quantile(volume, 0.98)).astype(np.float64)
    mass = max(foreground.sum(), 1.0)
    means, deviations = np.zeros(3), np.ones(3)
    for axis in range(3):
        profile = foreground.sum(tuple(other for other in range(3) if other != axis)) / mass
        places = np.arange(len(profile)) - centre[axis]
        means[axis] = profile @ places
        deviations[axis] = np.sqrt(max(profile @ places**2 - means[axis] ** 2, 0.25))
    return means, deviations


def _propose(x: Level, y: Level, gamma: float, search: VolumeSearch) -> list[VolumeChange]:
    """The orientations and stretches whose coarse volumes correlate best at some shift."""
    darkened = y.volume**gamma
    hypotheses: list[VolumeChange] = []
    volumes: list[np.ndarray] = []
    x_means, x_deviations = _extents(x.volume, x.centre)
    y_means, y_deviations = _extents(darkened, y.centre)
    widened = (1 / _LARGEST_STRETCH, _LARGEST_STRETCH) if search.zoom[1] > 1 else (1.0, 1.0)
    for axes, flips in _orientations(x.volume.shape):
        plain = VolumeChange(axes, flips, np.array([0.0] * 6 + [1.0] * 3 + [gamma]))
        hypotheses.append(plain)
        volumes.append(plain.orient(darkened))
        ratios = np.clip(x_deviations * x.scale / (y_deviations * y.scale)[list(axes)], *widened)
        if max(ratios.max(), 1 / ratios.min()) < _SEEN_STRETCH:
            continue
        signs = np.array([-1.0 if axis in flips else 1.0 for axis in range(3)])
        values = plain.values.copy()
        values[_ZOOMS] = ratios
        values[_SHIFTS] = x_means * x.scale - ratios * signs * (y_means * y.scale)[list(axes)]
        stretched = plain._replace(values=values)
        hypotheses.append(stretched)
        volumes.append(_warp(y._replace(volume=volumes[-1]), values, 1.0))
    correlations, shifts = _correlate(x.volume, np.stack(volumes), np.ceil(search.shift_voxels / x.scale).astype(int))
    for change, shift in zip(hypotheses, shifts, strict=True):
        change.values[_SHIFTS] += shift * x.scale
    return [hypotheses[place] for place in np.argsort(-correlations, kind="stable")[:_NUM_COARSE]]


def _correlate(x: np.ndarray, volumes: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest correlation of a volume with each of others, over shifts of these, and the shifts."""
    size = [next_fast_len(side + int(extra), real=True) for side, extra in zip(x.shape, reach, strict=True)]
    axes = (1, 2, 3)
    first, others = x - x.mean(), volumes - volumes.mean(axes, keepdims=True)
    spectra = rfftn(others, size, axes=axes)
    products = irfftn(rfftn(first, size)[None] * spectra.conj(), size, axes=axes)
    for axis, extra in enumerate(reach, start=1):
        kept = np.arange(-extra, extra + 1)
        products = products.take(kept, axis=axis)
    flat = products.reshape(len(volumes), -1)
    best = flat.argmax(1)
    norms = np.sqrt((first**2).sum() * (others**2).sum(axes))
    shifts = np.stack(np.unravel_index(best, products.shape[1:]), axis=1) - reach
    return flat[np.arange(len(flat)), best] / np.maximum(norms, 1e-9), shifts


def _map(values: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from positions of the result to those that are read, in voxels of a level."""
    matrix = np.asarray(create_rotate(3, values[_ROTATIONS].tolist()))[:3, :3] / values[_ZOOMS, None]
    offset = -matrix @ values[_SHIFTS]
    return matrix * scale / scale[:, None], offset / scale


def _warp(level: Level, values: np.ndarray, gamma: float) -> np.ndarray:
    out = np.empty_like(level.volume)
    warp_volume(level.volume, *_map(values, level.scale), level.centre, gamma, out)
    return out


def _score(reference: Reference, oriented: np.ndarray, values: np.ndarray) -> float:
    """SSIM with a volume, oriented already, after the rest of a change."""
    warped = np.empty_like(oriented)
    centre = (np.array(oriented.shape) - 1) / 2
    sums = warp_volume(oriented, *_map(values, np.ones(3)), centre, float(values[_GAMMA]), warped)
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
        matrix, offset = _map(values, x.scale)
        sum_least_squares(x.volume, oriented, matrix, offset, x.centre, float(values[_GAMMA]), sums)
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
    zooms = values[_ZOOMS]
    around = np.where((zooms < zoom_low) | (zooms > zoom_high), zooms, 1.0)
    low, high = np.empty(_NUM_VALUES), np.empty(_NUM_VALUES)
    low[_ROTATIONS], high[_ROTATIONS] = -search.rotation_radians, search.rotation_radians
    reach = np.maximum(search.shift_voxels, np.abs(values[_SHIFTS]) + 2.0 * (search.shift_voxels > 0))
    low[_SHIFTS], high[_SHIFTS] = -reach, reach
    low[_ZOOMS], high[_ZOOMS] = around * zoom_low, around * zoom_high
    low[_GAMMA], high[_GAMMA] = search.gamma
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
    matrix, offset = _map(values, scale)
    places = np.flatnonzero(free)
    # How each value moves the terms of the sums: matrix, offset and gamma; then gain and bias themselves.
    moves = np.zeros((NUM_TERMS, len(places) + 2))
    for column, place in enumerate(places):
        if place == _GAMMA:
            moves[12, column] = gain
            continue
        moved = values.copy()
        moved[place] += 1e-5
        moved_matrix, moved_offset = _map(moved, scale)
        moves[:9, column] = ((moved_matrix - matrix) * (gain / 1e-5)).ravel()
        moves[9:12, column] = (moved_offset - offset) * (gain / 1e-5)
    moves[13, -2], moves[14, -1] = 1.0, 1.0
    normal = moves.T @ sums @ moves
    right = moves.T @ (sums[:, 15] - gain * sums[:, 13] - bias * sums[:, 14])
    normal[np.diag_indices(len(normal))] *= 1 + _DAMPING
    normal[np.diag_indices(len(normal))] += 1e-9
    step = np.zeros(_NUM_VALUES)
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
