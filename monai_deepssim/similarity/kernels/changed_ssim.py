"""SSIM of one image with another after a change: the score of a candidate of the alignment's search, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from monai_deepssim.similarity.kernels.resampling import position_matrix, warp

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


@njit(nogil=True, fastmath=True, error_model="numpy")
def mean_ssim(reference, w):  # pragma: no cover (compiled)  # noqa: C901
    """SSIM with the z-score of w, as :func:`~monai_deepssim.similarity.pairwise_ssim` defines it."""
    x, x_mean, x_var, c1, c2, win_p, win = reference
    planes, height, width = x.shape
    total, squares = np.float64(0.0), np.float64(0.0)
    for p in range(planes):
        for r in range(height):
            row_total, row_squares = _FLOAT(0.0), _FLOAT(0.0)
            for c in range(width):
                row_total += w[p, r, c]
                row_squares += w[p, r, c] * w[p, r, c]
            total += row_total
            squares += row_squares
    count = planes * height * width
    mean = total / count
    deviation = np.sqrt(max(0.0, squares / count - mean * mean))
    if deviation < 1e-6:
        return 0.0
    shift, scale_w = _FLOAT(mean), _FLOAT(1.0 / deviation)
    pixels = _FLOAT(win_p * win * win)
    unbias = _FLOAT(1.0 / (pixels - 1.0))
    two = _FLOAT(2.0)
    valid_p, valid_h, valid_w = planes - win_p + 1, height - win + 1, width - win + 1
    sums = np.empty((3, width), _FLOAT)
    row = np.empty((3, valid_w), _FLOAT)
    result = np.float64(0.0)
    k1, k2 = _FLOAT(c1), _FLOAT(c2)
    for p in range(valid_p):
        sums[:] = 0
        for r in range(valid_h):
            # The first row of windows sums all its rows, each next one adds a row and takes one away.
            first = 0 if r == 0 else win - 1
            for dp in range(win_p):
                for dr in range(first, win):
                    for c in range(width):
                        b = (w[p + dp, r + dr, c] - shift) * scale_w
                        sums[0, c] += x[p + dp, r + dr, c] * b
                        sums[1, c] += b
                        sums[2, c] += b * b
            for k in range(3):
                for c in range(valid_w):
                    row[k, c] = sums[k, c]
                for d in range(1, win):
                    for c in range(valid_w):
                        row[k, c] += sums[k, c + d]
            row_total = _FLOAT(0.0)
            for c in range(valid_w):
                my = row[1, c] / pixels
                mx = x_mean[p, r, c]
                vy = max(_FLOAT(0.0), unbias * (row[2, c] - pixels * my * my))
                covariance = unbias * (row[0, c] - pixels * mx * my)
                numerator = (two * mx * my + k1) * (two * covariance + k2)
                row_total += numerator / ((mx * mx + my * my + k1) * (x_var[p, r, c] + vy + k2))
            result += row_total
            for dp in range(win_p):
                for c in range(width):
                    b = (w[p + dp, r, c] - shift) * scale_w
                    sums[0, c] -= x[p + dp, r, c] * b
                    sums[1, c] -= b
                    sums[2, c] -= b * b
    return result / (valid_p * valid_h * valid_w)


@njit(nogil=True)
def score_change(reference, y, centre, change, table, warped):  # pragma: no cover (compiled)
    """SSIM with y after the change, which is resampled into ``warped``."""
    matrix, offset = np.empty((3, 3)), np.empty(3)
    position_matrix(change, 1.0, matrix, offset)
    warp(y, matrix, offset, centre, table, warped)
    return mean_ssim(reference, warped)
