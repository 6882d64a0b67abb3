"""The change that makes two images equal in the least squares sense, from one that nearly does: compiled."""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inner_njit
from monai_deepssim.similarity.kernels.memory import read, write
from monai_deepssim.similarity.kernels.resampling import (
    CHANGE_SIZE,
    GAMMA,
    LOGARITHMS,
    MARGIN,
    TABLE_SIZE,
    fill_gamma_table,
    map_positions,
)

__all__ = ["clip_change", "fit_least_squares"]

_DAMPING = 1e-3
# What is added to a number of the change to see how the positions move.
_NUDGE = 1e-4
_FLOAT = np.float32


@inner_njit()
def clip_change(change, low, high):  # pragma: no cover (compiled)
    """Bring each number of a change, in place, between its bounds."""
    for k in range(CHANGE_SIZE):
        change[k] = min(max(change[k], low[k]), high[k])


@inner_njit(fastmath=True)
def _dot(a, b):  # pragma: no cover (compiled)
    # The compiler makes many partial sums of this one, which keeps float32 exact enough.
    total = _FLOAT(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inner_njit(error_model="numpy")
def _solve(rows, target, first, solution):  # pragma: no cover (compiled)
    """Damped normal equations of ``rows[first:].T @ solution[first:] = target``, by elimination."""
    n = len(rows)
    system = np.empty((n, n + 1))
    for k in range(first, n):
        for m in range(k, n):
            system[k, m] = system[m, k] = _dot(rows[k], rows[m])
        system[k, n] = _dot(rows[k], target)
    for k in range(first, n):
        system[k, k] = system[k, k] * (1 + _DAMPING) + 1e-9
    # Positive definite, so that no rows have to be exchanged.
    for k in range(first, n):
        for m in range(k + 1, n):
            factor = system[m, k] / system[k, k]
            for j in range(k, n + 1):
                system[m, j] -= factor * system[k, j]
    for place in range(first, n):
        k = n - 1 - place + first
        value = system[k, n]
        for j in range(k + 1, n):
            value -= system[k, j] * solution[j]
        solution[k] = value / system[k, k]


@inner_njit(fastmath=True)
def _derive(y, height, width, positions, table, slope, values, powers, rises, runs):  # pragma: no cover (compiled)
    """The changed image, and its derivatives by gamma and by the row and the column that are read."""
    step_r, step_c, zero, unit = _FLOAT(positions[1]), _FLOAT(positions[4]), _FLOAT(0.0), _FLOAT(TABLE_SIZE)
    last_r, last_c = _FLOAT(height + MARGIN), _FLOAT(width + MARGIN)
    pitch, one = np.int32(width + 2 * MARGIN), np.int32(1)
    line, steeper = np.empty(width, _FLOAT), np.empty(width, _FLOAT)
    for r in range(height):
        row = _FLOAT(positions[0] * r + positions[2] + MARGIN)
        column = _FLOAT(positions[3] * r + positions[5] + MARGIN)
        value, power = values[r * width :], powers[r * width :]
        rise, run = rises[r * width :], runs[r * width :]
        for c in range(width):
            sr = min(max(row + _FLOAT(c) * step_r, zero), last_r)
            sc = min(max(column + _FLOAT(c) * step_c, zero), last_c)
            r0, c0 = np.int32(sr), np.int32(sc)
            place = np.int32(r0 * pitch + c0)
            below = np.int32(place + pitch)
            fr, fc = sr - _FLOAT(r0), sc - _FLOAT(c0)
            top, bottom = read(y, place), read(y, below)
            top_step = read(y, np.int32(place + one)) - top
            bottom_step = read(y, np.int32(below + one)) - bottom
            top += fc * top_step
            risen = bottom + fc * bottom_step - top
            write(rise, c, risen)
            write(run, c, top_step + fr * (bottom_step - top_step))
            write(line, c, top + fr * risen)
        for c in range(width):
            position = read(line, c) * unit
            entry = np.int32(position)
            following = np.int32(entry + one)
            rest = position - _FLOAT(entry)
            low, low_slope = read(table, entry), read(slope, entry)
            risen = read(table, following) - low
            write(value, c, low + rest * risen)
            write(power, c, low_slope + rest * (read(slope, following) - low_slope))
            write(steeper, c, risen * unit)
        for c in range(width):
            rise[c] *= steeper[c]
            run[c] *= steeper[c]


@inner_njit(fastmath=True)
def fit_least_squares(
    x, y, full_height, full_width, scale, low, high, change, iterations
):  # pragma: no cover (compiled)
    """Gauss-Newton steps for ``x = a w(y; change) + b``, over the change and a and b.

    Args:
        x: image.
        y: image of the same size in [0, 1], with :data:`MARGIN` zeros on all sides.
        full_height: rows of the images at full size.
        full_width: columns of the images at full size.
        scale: pixels of the full size in one of these.
        low: lower bounds of the change.
        high: upper bounds of the change.
        change: where to begin, and output.
        iterations: number of steps.
    """
    height, width = int(full_height / scale), int(full_width / scale)
    size, n = height * width, CHANGE_SIZE + 2
    # A variable, because numba compiles a function anew for each constant that is a whole number.
    every = n - len(change) - 2
    rows = np.empty((n, size), _FLOAT)
    values, ones = rows[n - 2], rows[n - 1]
    powers, rises, runs = np.empty(size, _FLOAT), np.empty(size, _FLOAT), np.empty(size, _FLOAT)
    error = np.empty(size, _FLOAT)
    positions, moved, solution = np.empty(6), np.empty(6), np.empty(n)
    trial = np.empty(CHANGE_SIZE)
    table, slope = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty(TABLE_SIZE + 2, _FLOAT)
    for i in range(size):
        ones[i] = _FLOAT(1.0)
    for _ in range(iterations):
        fill_gamma_table(change[GAMMA], table)
        slope[0] = slope[TABLE_SIZE + 1] = _FLOAT(0.0)
        for i in range(1, TABLE_SIZE + 1):
            slope[i] = table[i] * LOGARITHMS[i]
        map_positions(change, scale, full_height, full_width, positions)
        _derive(y, height, width, positions, table, slope, values, powers, rises, runs)
        # Gain and offset alone first: the derivatives by all else are times the gain.
        _solve(rows, x, n - 2, solution)
        gain, bias = _FLOAT(solution[n - 2]), _FLOAT(solution[n - 1])
        for i in range(size):
            error[i] = x[i] - gain * values[i] - bias
        for k in range(GAMMA):
            for j in range(CHANGE_SIZE):
                trial[j] = change[j] + (_NUDGE if j == k else 0.0)
            map_positions(trial, scale, full_height, full_width, moved)
            for j in range(6):
                moved[j] = (moved[j] - positions[j]) * (gain / _NUDGE)
            by_r, by_c = _FLOAT(moved[1]), _FLOAT(moved[4])
            for r in range(height):
                at_r, at_c = _FLOAT(moved[0] * r + moved[2]), _FLOAT(moved[3] * r + moved[5])
                line, rise, run = rows[k][r * width :], rises[r * width :], runs[r * width :]
                for c in range(width):
                    line[c] = rise[c] * (at_r + by_r * _FLOAT(c)) + run[c] * (at_c + by_c * _FLOAT(c))
        by_gamma = rows[GAMMA]
        for i in range(size):
            by_gamma[i] = gain * powers[i]
        _solve(rows, error, every, solution)
        for k in range(CHANGE_SIZE):
            change[k] += solution[k]
        clip_change(change, low, high)
