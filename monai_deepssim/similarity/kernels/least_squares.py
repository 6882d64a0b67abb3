"""The change that makes two images equal in the least squares sense, from one that nearly does: compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    TABLE_SIZE,
    fill_gamma_table,
    position_matrix,
    sample,
)

__all__ = ["clip_change", "fit_least_squares"]

_DAMPING = 1e-3
_FLOAT = np.float32


@njit(nogil=True)
def clip_change(change, low, high):  # pragma: no cover (compiled)
    """Bring each number of a change, in place, between its bounds."""
    for k in range(CHANGE_SIZE):
        change[k] = min(max(change[k], low[k]), high[k])


@njit(nogil=True, fastmath=True)
def _dot(a, b):  # pragma: no cover (compiled)
    # The compiler makes many partial sums of this one, which keeps float32 exact enough.
    total = _FLOAT(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True)
def _sum_products(rows, error, first, normal, right):  # pragma: no cover (compiled)
    """``normal = rows rows^T`` and ``right = rows error``, from row ``first`` on."""
    for k in range(first, rows.shape[0]):
        for m in range(k, rows.shape[0]):
            normal[k, m] = normal[m, k] = _dot(rows[k], rows[m])
        right[k] = _dot(rows[k], error)


@njit(nogil=True)
def _solve(normal, right, first):  # pragma: no cover (compiled)
    for k in range(first, len(right)):
        normal[k, k] = normal[k, k] * (1 + _DAMPING) + 1e-9
    return np.linalg.solve(normal[first:, first:].copy(), right[first:].copy())


@njit(nogil=True, fastmath=True)
def fit_least_squares(x, y, centre, scale, free, low, high, change, iterations):  # pragma: no cover (compiled)  # noqa: C901
    """Gauss-Newton steps for ``x = a w(y; change) + b``, over the free numbers of the change and a and b."""
    planes, height, width = y.shape
    n = len(free) + 2
    target = x.ravel()
    values, powers = np.empty(x.size, _FLOAT), np.empty(x.size, _FLOAT)
    gradients = np.empty((3, x.size), _FLOAT)
    rows, error = np.empty((n, x.size), _FLOAT), np.empty(x.size, _FLOAT)
    rows[n - 1] = 1.0
    normal, right = np.empty((n, n)), np.empty(n)
    matrix, offset = np.empty((3, 3)), np.empty(3)
    d_matrix, d_offset = np.empty((3, 3)), np.empty(3)
    moved = np.empty(CHANGE_SIZE)
    gradient = np.zeros(3, _FLOAT)
    last_r, last_c = _FLOAT(height - 1), _FLOAT(width - 1)
    flat = y.ravel()
    pitch, one = np.uintp(width), np.uintp(1)
    table, slope = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty(TABLE_SIZE + 2, _FLOAT)
    for _ in range(iterations):
        fill_gamma_table(change[GAMMA], table)
        slope[0], slope[TABLE_SIZE + 1] = 0.0, 0.0
        for i in range(1, TABLE_SIZE + 1):
            slope[i] = table[i] * np.log(i / TABLE_SIZE)
        position_matrix(change, scale, matrix, offset)
        place = 0
        for p in range(planes):
            for r in range(height):
                vp, vr = p - centre[0], r - centre[1]
                up = matrix[0, 0] * vp + matrix[0, 1] * vr - matrix[0, 2] * centre[2] + offset[0] + centre[0]
                ur = matrix[1, 0] * vp + matrix[1, 1] * vr - matrix[1, 2] * centre[2] + offset[1] + centre[1]
                uc = matrix[2, 0] * vp + matrix[2, 1] * vr - matrix[2, 2] * centre[2] + offset[2] + centre[2]
                row, column = _FLOAT(ur), _FLOAT(uc)
                step_r, step_c = _FLOAT(matrix[1, 2]), _FLOAT(matrix[2, 2])
                for c in range(width):
                    sr, sc = row + _FLOAT(c) * step_r, column + _FLOAT(c) * step_c
                    if planes == 1 and sr >= 0 and sc >= 0 and sr < last_r and sc < last_c:
                        r0, c0 = np.uintp(sr), np.uintp(sc)
                        fr, fc = sr - _FLOAT(r0), sc - _FLOAT(c0)
                        corner = r0 * pitch + c0
                        top, bottom = flat[corner], flat[corner + pitch]
                        top_step, bottom_step = flat[corner + one] - top, flat[corner + pitch + one] - bottom
                        top += fc * top_step
                        gradient[1] = bottom + fc * bottom_step - top
                        gradient[2] = top_step + fr * (bottom_step - top_step)
                        value = top + fr * gradient[1]
                    else:
                        value = sample(y, up + c * matrix[0, 2], sr, sc, gradient)
                    position = value * _FLOAT(TABLE_SIZE)
                    entry = np.uintp(position)
                    rest = position - _FLOAT(entry)
                    risen = table[entry + one] - table[entry]
                    values[place] = table[entry] + rest * risen
                    powers[place] = slope[entry] + rest * (slope[entry + one] - slope[entry])
                    for i in range(3):
                        gradients[i, place] = gradient[i] * risen * _FLOAT(TABLE_SIZE)
                    place += 1
        # Gain and offset alone first: the derivatives by all else are times the gain.
        rows[n - 2] = values
        _sum_products(rows, target, n - 2, normal, right)
        gain, bias = _solve(normal, right, n - 2)
        for i in range(x.size):
            error[i] = target[i] - _FLOAT(gain) * values[i] - _FLOAT(bias)
        for k in range(n - 2):
            if free[k] == GAMMA:
                for i in range(x.size):
                    rows[k, i] = _FLOAT(gain) * powers[i]
                continue
            moved[:] = change
            moved[free[k]] += 1e-4
            position_matrix(moved, scale, d_matrix, d_offset)
            d_matrix = (d_matrix - matrix) * (gain / 1e-4)
            d_offset = (d_offset - offset) * (gain / 1e-4)
            rows[k] = 0.0
            for i in range(3):
                if planes == 1 and i == 0:
                    continue
                by_column = _FLOAT(d_matrix[i, 2])
                place = 0
                for p in range(planes):
                    for r in range(height):
                        start = _FLOAT(
                            d_offset[i] + d_matrix[i, 0] * (p - centre[0]) + d_matrix[i, 1] * (r - centre[1])
                            - d_matrix[i, 2] * centre[2]
                        )  # fmt: skip
                        for c in range(width):
                            rows[k, place + c] += gradients[i, place + c] * (start + by_column * _FLOAT(c))
                        place += width
        _sum_products(rows, error, 0, normal, right)
        step = _solve(normal, right, 0)
        for k in range(n - 2):
            change[free[k]] += step[k]
        clip_change(change, low, high)
