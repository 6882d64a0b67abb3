"""Where the search for the change that brings one volume onto another starts: orientations and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from monai_deepssim.similarity.volume_change import GAMMA, SHIFTS, UNCHANGED, ZOOMS, VolumeChange, warp_level
from monai_deepssim.similarity.volume_pyramid import Level

__all__ = ["propose_starts"]

# Foreground is above this share of the brightest; a stretch is tried from this ratio of its extents on, up to a factor.
_FOREGROUND, _SEEN_STRETCH, _LARGEST_STRETCH = 0.2, 1.08, 2.6
# Sizes that are tried of a volume whose axes stay in their order: one that was cropped and enlarged is found by these.
_ZOOMS_TRIED = (1.0, 1.12, 1 / 1.12)


def propose_starts(
    x: Level, y: Level, shift_voxels: np.ndarray, zoom: tuple[float, float], gamma: tuple[float, float], count: int
) -> list[VolumeChange]:
    """The orientations, sizes and stretches of y that correlate best with x at some shift.

    Half of them keep the order of the axes: a volume in another order, stretched until its outline fits, would crowd
    out one that was only cropped.

    Args:
        x: volume of a coarse size.
        y: volume of the same size.
        shift_voxels: largest shift along each axis, of the full size.
        zoom: smallest and largest zoom; nothing is stretched where both are 1.
        gamma: smallest and largest exponent.
        count: how many, even.

    Returns:
        The changes, the best of each half first.
    """
    exponent = _gamma_by_mean(x.volume, y.volume, *gamma)
    darkened = y._replace(volume=y.volume**exponent)
    starts: list[VolumeChange] = []
    volumes: list[np.ndarray] = []
    extents = _extents(x), _extents(darkened)
    for axes, flips in _orientations(x.volume.shape):
        plain = VolumeChange(axes, flips, UNCHANGED.copy())
        oriented = darkened._replace(volume=plain.orient(darkened.volume))
        for values in _values_tried(*extents, plain, zoom):
            volumes.append(
                warp_level(oriented, values, 1.0) if values[ZOOMS].tolist() != [1, 1, 1] else oriented.volume
            )
            values[GAMMA] = exponent
            starts.append(plain._replace(values=values))
    reach = np.ceil(shift_voxels / x.scale).astype(int)
    correlations, shifts = _correlate(x.volume, np.stack(volumes), reach)
    for start, shift in zip(starts, shifts, strict=True):
        start.values[SHIFTS] += shift * x.scale
    order = np.argsort(-correlations, kind="stable").tolist()
    in_order = [place for place in order if starts[place].axes == (0, 1, 2)][: count // 2]
    others = [place for place in order if place not in in_order][: count - len(in_order)]
    return [starts[place] for place in (*in_order, *others)]


def _values_tried(
    of_x: tuple[np.ndarray, np.ndarray],
    of_y: tuple[np.ndarray, np.ndarray],
    plain: VolumeChange,
    zoom: tuple[float, float],
) -> list[np.ndarray]:
    """Sizes of an oriented volume: as it is, a little larger and smaller, and such that the foregrounds are of one."""
    factors = [factor for factor in _ZOOMS_TRIED if zoom[0] <= factor <= zoom[1]]
    tried = [UNCHANGED.copy() for _ in (factors if plain.axes == (0, 1, 2) else factors[:1])]
    for values, factor in zip(tried, factors, strict=False):
        values[ZOOMS] = factor
    if zoom[1] == 1:
        return tried
    (x_means, x_deviations), (y_means, y_deviations) = of_x, of_y
    order = list(plain.axes)
    ratios = np.clip(x_deviations / y_deviations[order], 1 / _LARGEST_STRETCH, _LARGEST_STRETCH)
    if max(ratios.max(), 1 / ratios.min()) >= _SEEN_STRETCH:
        signs = np.array([-1.0 if axis in plain.flips else 1.0 for axis in range(3)])
        values = UNCHANGED.copy()
        values[ZOOMS] = ratios
        values[SHIFTS] = x_means - ratios * signs * y_means[order]
        tried.append(values)
    return tried


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


def _extents(level: Level) -> tuple[np.ndarray, np.ndarray]:
    """Where the foreground lies along each axis, from the centre: mean and standard deviation, in full voxels."""
    volume = level.volume
    foreground = (volume > _FOREGROUND * np.quantile(volume, 0.98)).astype(np.float64)
    mass = max(foreground.sum(), 1.0)
    means, deviations = np.zeros(3), np.ones(3)
    for axis in range(3):
        profile = foreground.sum(tuple(other for other in range(3) if other != axis)) / mass
        places = np.arange(len(profile)) - level.centre[axis]
        means[axis] = profile @ places
        deviations[axis] = np.sqrt(max(profile @ places**2 - means[axis] ** 2, 0.25))
    return means * level.scale, deviations * level.scale


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
