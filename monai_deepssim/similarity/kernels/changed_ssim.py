"""SSIM of one image with another after a change: the score of a candidate of the alignment's search, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inlined_njit
from monai_deepssim.similarity.kernels.resampling import warp

__all__ = ["Reference", "mean_ssim", "score_change"]

_FLOAT = np.float32


class Reference(NamedTuple):
    """An image that others are compared with, as the kernels take it."""

    #: float32 ``(P, H, W)``, standardised.
    z: np.ndarray
    #: float32, mean and sample variance of each window of z.
    mean: np.ndarray
    variance: np.ndarray
    #: The constants that steady SSIM.
    c1: float
    c2: float
    #: Sides of the window, over planes and over rows and columns.
    win_planes: int
    win: int


@inlined_njit(fastmath=True)
def _mean_and_deviation(w):  # pragma: no cover (compiled)
    """Mean and standard deviation of an image ``(P, H, W)``; float32 is exact enough for sums of a row."""
    total, squares = np.float64(0.0), np.float64(0.0)
    for p in range(w.shape[0]):
        for r in range(w.shape[1]):
            row_total, row_squares = _FLOAT(0.0), _FLOAT(0.0)
            for c in range(w.shape[2]):
                row_total += w[p, r, c]
                row_squares += w[p, r, c] * w[p, r, c]
            total += row_total
            squares += row_squares
    mean = total / w.size
    return mean, np.sqrt(max(0.0, squares / w.size - mean * mean))


@inlined_njit(fastmath=True)
def _add_row(x, w, p, r, shift, scale, sign, sums):  # pragma: no cover (compiled)
    """Add a row to the sums over rows of x times the z-score of w, of that z-score and of its square."""
    for c in range(w.shape[2]):
        b = (w[p, r, c] - shift) * scale
        sums[0, c] += sign * (x[p, r, c] * b)
        sums[1, c] += sign * b
        sums[2, c] += sign * (b * b)


@inlined_njit(fastmath=True, error_model="numpy")
def _sum_ssim(reference, p, r, sums, row):  # pragma: no cover (compiled)
    """Sum of the SSIM of a row of windows, by the sums over their rows; ``row`` is scratch."""
    pixels = _FLOAT(reference.win_planes * reference.win * reference.win)
    unbias, two = _FLOAT(1.0 / (pixels - _FLOAT(1.0))), _FLOAT(2.0)
    k1, k2 = _FLOAT(reference.c1), _FLOAT(reference.c2)
    for k in range(3):
        for c in range(row.shape[1]):
            row[k, c] = sums[k, c]
        for d in range(1, reference.win):
            for c in range(row.shape[1]):
                row[k, c] += sums[k, c + d]
    total = _FLOAT(0.0)
    for c in range(row.shape[1]):
        my = row[1, c] / pixels
        mx = reference.mean[p, r, c]
        vy = max(_FLOAT(0.0), unbias * (row[2, c] - pixels * my * my))
        covariance = unbias * (row[0, c] - pixels * mx * my)
        numerator = (two * mx * my + k1) * (two * covariance + k2)
        total += numerator / ((mx * mx + my * my + k1) * (reference.variance[p, r, c] + vy + k2))
    return total


@inlined_njit(fastmath=True, error_model="numpy")
def mean_ssim(reference, w):  # pragma: no cover (compiled)
    """SSIM with the z-score of w, as :func:`~monai_deepssim.similarity.pairwise_ssim` defines it."""
    mean, deviation = _mean_and_deviation(w)
    if deviation < 1e-6:
        return 0.0
    shift, scale, one = _FLOAT(mean), _FLOAT(1.0 / deviation), _FLOAT(1.0)
    x, win = reference.z, reference.win
    valid_p, valid_h, valid_w = reference.mean.shape
    sums, row = np.empty((3, w.shape[2]), _FLOAT), np.empty((3, valid_w), _FLOAT)
    result = np.float64(0.0)
    for p in range(valid_p):
        sums[:] = 0
        for r in range(valid_h):
            for dp in range(reference.win_planes):
                # The first row of windows sums all its rows, each next one adds a row and takes one away.
                for dr in range(0 if r == 0 else win - 1, win):
                    _add_row(x, w, p + dp, r + dr, shift, scale, one, sums)
            result += _sum_ssim(reference, p, r, sums, row)
            for dp in range(reference.win_planes):
                _add_row(x, w, p + dp, r, shift, scale, -one, sums)
    return result / (valid_p * valid_h * valid_w)


@inlined_njit()
def score_change(reference, y, centre, change, table, warped):  # pragma: no cover (compiled)
    """SSIM with y after the change, which is resampled into ``warped``; the table is that of the change's gamma."""
    warp(y, change, centre, table, warped)
    return mean_ssim(reference, warped)
