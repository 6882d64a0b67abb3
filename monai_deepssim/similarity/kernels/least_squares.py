"""The change that makes two images equal in the least squares sense, from one that nearly does: compiled."""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inlined_njit
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    TABLE_SIZE,
    fill_gamma_table,
    look_up,
    position_matrix,
    sample_plane,
    sample_volume,
    start_of_row,
)

__all__ = ["clip_change", "fit_least_squares"]

_DAMPING = 1e-3
_FLOAT = np.float32


@inlined_njit()
def clip_change(change, low, high):  # pragma: no cover (compiled)
    """Bring each number of a change, in place, between its bounds."""
    for k in range(CHANGE_SIZE):
        change[k] = min(max(change[k], low[k]), high[k])


@inlined_njit(fastmath=True)
def _dot(a, b):  # pragma: no cover (compiled)
    # The compiler makes many partial sums of this one, which keeps float32 exact enough.
    total = _FLOAT(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inlined_njit()
def _solve(rows, target):  # pragma: no cover (compiled)
    """The damped least squares solution of ``target = solution @ rows``."""
    count = len(rows)
    normal, right = np.empty((count, count)), np.empty(count)
    for k in range(count):
        for m in range(k, count):
            normal[k, m] = normal[m, k] = _dot(rows[k], rows[m])
        normal[k, k] = normal[k, k] * (1 + _DAMPING) + 1e-9
        right[k] = _dot(rows[k], target)
    # Gaussian elimination. The matrix is positive definite, so that no pivots are needed; NumPy's compiles in seconds.
    for k in range(count):
        for m in range(k + 1, count):
            share = normal[m, k] / normal[k, k]
            for n in range(k, count):
                normal[m, n] -= share * normal[k, n]
            right[m] -= share * right[k]
    for k in range(count - 1, -1, -1):
        for n in range(k + 1, count):
            right[k] -= normal[k, n] * right[n]
        right[k] /= normal[k, k]
    return right


@inlined_njit(fastmath=True)
def _read(y, matrix, offset, centre, gamma, values, powers, gradients):  # pragma: no cover (compiled)
    """The changed image, its derivative by gamma and that by the position that is read, each as a row of pixels."""
    planes, height, width = y.shape
    table, slope = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty(TABLE_SIZE + 2, _FLOAT)
    fill_gamma_table(gamma, table)
    slope[0], slope[TABLE_SIZE + 1] = 0.0, 0.0
    for i in range(1, TABLE_SIZE + 1):
        slope[i] = table[i] * np.log(i / TABLE_SIZE)
    step_r, step_c = _FLOAT(matrix[1, 2]), _FLOAT(matrix[2, 2])
    flat = y.ravel()
    along_planes = _FLOAT(0.0)
    number = 0
    for p in range(planes):
        for r in range(height):
            up, ur, uc = start_of_row(matrix, offset, centre, p, r)
            row, column = _FLOAT(ur), _FLOAT(uc)
            for c in range(width):
                sr, sc = row + _FLOAT(c) * step_r, column + _FLOAT(c) * step_c
                if planes == 1:
                    value, along_rows, along_columns = sample_plane(y, flat, sr, sc)
                else:
                    value, along_planes, along_rows, along_columns = sample_volume(
                        y, up + c * matrix[0, 2], np.float64(sr), np.float64(sc)
                    )
                place, rest, rise = look_up(table, value)
                values[number] = table[place] + rest * rise
                powers[number] = slope[place] + rest * (slope[place + np.uintp(1)] - slope[place])
                gradients[0, number] = along_planes * rise * _FLOAT(TABLE_SIZE)
                gradients[1, number] = along_rows * rise * _FLOAT(TABLE_SIZE)
                gradients[2, number] = along_columns * rise * _FLOAT(TABLE_SIZE)
                number += 1


@inlined_njit(fastmath=True)
def _derive(shape, gradients, d_matrix, d_offset, centre, row):  # pragma: no cover (compiled)
    """The derivative of the changed image by a number of the change, from that of the position by it."""
    planes, height, width = shape
    row[:] = 0.0
    for i in range(1 if planes == 1 else 0, 3):
        by_column = _FLOAT(d_matrix[i, 2])
        place = 0
        for p in range(planes):
            for r in range(height):
                start = _FLOAT(
                    d_offset[i] + d_matrix[i, 0] * (p - centre[0]) + d_matrix[i, 1] * (r - centre[1])
                    - d_matrix[i, 2] * centre[2]
                )  # fmt: skip
                for c in range(width):
                    row[place + c] += gradients[i, place + c] * (start + by_column * _FLOAT(c))
                place += width


@inlined_njit(fastmath=True)
def fit_least_squares(x, y, centre, scale, free, low, high, change, iterations):  # pragma: no cover (compiled)
    """Gauss-Newton steps for ``x = a w(y; change) + b``, over the free numbers of the change and a and b."""
    n = len(free)
    target = x.ravel()
    powers, error = np.empty(x.size, _FLOAT), np.empty(x.size, _FLOAT)
    gradients = np.empty((3, x.size), _FLOAT)
    # Derivatives by the free numbers, by a and by b.
    rows = np.ones((n + 2, x.size), _FLOAT)
    values = rows[n]
    matrix, offset = np.empty((3, 3)), np.empty(3)
    d_matrix, d_offset = np.empty((3, 3)), np.empty(3)
    moved = np.empty(CHANGE_SIZE)
    for _ in range(iterations):
        position_matrix(change, scale, matrix, offset)
        _read(y, matrix, offset, centre, change[GAMMA], values, powers, gradients)
        # Gain and offset alone first: the derivatives by all else are times the gain.
        gain, bias = _solve(rows[n:], target)
        for i in range(x.size):
            error[i] = target[i] - _FLOAT(gain) * values[i] - _FLOAT(bias)
        for k in range(n):
            if free[k] == GAMMA:
                for i in range(x.size):
                    rows[k, i] = _FLOAT(gain) * powers[i]
                continue
            moved[:] = change
            moved[free[k]] += 1e-4
            position_matrix(moved, scale, d_matrix, d_offset)
            d_matrix = (d_matrix - matrix) * (gain / 1e-4)
            d_offset = (d_offset - offset) * (gain / 1e-4)
            _derive(y.shape, gradients, d_matrix, d_offset, centre, rows[k])
        step = _solve(rows, error)
        for k in range(n):
            change[free[k]] += step[k]
        clip_change(change, low, high)
