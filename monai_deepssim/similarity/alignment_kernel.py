"""The search for the change that brings one image onto another: compiled, one pair a call.

A 2-D image is a volume of one plane, as in :mod:`~monai_deepssim.similarity.ssim_kernel`. A change is a row of numbers:
three rotations in radians (about planes, rows and columns; in 2-D only the first), three shifts in pixels, the zoom and
gamma. Its convention is that of MONAI's ``Affine``: with indices counted from the centre, the output at v is the input
at ``R (v / zoom + shift)``; then follows gamma.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["CHANGE_SIZE", "align_pair"]

#: Numbers in a change: rotations, shifts, zoom, gamma.
CHANGE_SIZE = 8
_ZOOM, _GAMMA = 6, 7
# Entries of the table that stands for x**gamma: a power a pixel would cost more than all the rest.
_TABLE = 1024
_DAMPING = 1e-3
_FITTING_STEPS, _SWEEPS = 4, 2
# In SSIM: flips this close to the best get a chance, and what a sweep has to gain to be worth another one.
_CLOSE, _NO_GAIN = 0.05, 2e-3
_NOTHING = 1e-4
# In correlation: coarse matches this far below the best are not.
_FAR = 0.08
_FLOAT = np.float32


@njit(nogil=True, cache=True)
def pool_by_two(x):  # pragma: no cover (compiled)
    """Means of blocks of two pixels along each axis (of rows and columns alone, where there is one plane).

    Args:
        x: image ``(P, H, W)``, float32; what is left over at the end of an axis is dropped.

    Returns:
        The image at half its size.
    """
    depth = 1 if x.shape[0] == 1 else 2
    out = np.zeros((x.shape[0] // depth, x.shape[1] // 2, x.shape[2] // 2), _FLOAT)
    scale = _FLOAT(1.0 / (4 * depth))
    for p in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = _FLOAT(0.0)
                for dp in range(depth):
                    total += x[depth * p + dp, 2 * r, 2 * c] + x[depth * p + dp, 2 * r, 2 * c + 1]
                    total += x[depth * p + dp, 2 * r + 1, 2 * c] + x[depth * p + dp, 2 * r + 1, 2 * c + 1]
                out[p, r, c] = total * scale
    return out


@njit(nogil=True, cache=True)
def _matrix(change, scale, matrix, offset):  # pragma: no cover (compiled)
    """The input position of an output position v, both from the centre: ``matrix @ v + offset``, in pixels / scale."""
    ca, sa = np.cos(change[0]), np.sin(change[0])
    cb, sb = np.cos(change[1]), np.sin(change[1])
    cc, sc = np.cos(change[2]), np.sin(change[2])
    matrix[0, 0], matrix[0, 1], matrix[0, 2] = cb * cc, -cb * sc, sb
    matrix[1, 0], matrix[1, 1], matrix[1, 2] = ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb
    matrix[2, 0], matrix[2, 1], matrix[2, 2] = sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb
    for i in range(3):
        offset[i] = 0.0
        for j in range(3):
            offset[i] += matrix[i, j] * change[3 + j] / scale
    for i in range(3):
        for j in range(3):
            matrix[i, j] /= change[_ZOOM]


@njit(nogil=True, cache=True)
def _fill_table(gamma, table):  # pragma: no cover (compiled)
    for i in range(_TABLE + 1):
        table[i] = (i / _TABLE) ** gamma
    table[_TABLE + 1] = 1.0


@njit(nogil=True, cache=True, fastmath=True)
def _corner(y, p, r, c):  # pragma: no cover (compiled)
    if p < 0 or r < 0 or c < 0 or p >= y.shape[0] or r >= y.shape[1] or c >= y.shape[2]:
        return _FLOAT(0.0)
    return y[p, r, c]


@njit(nogil=True, cache=True, fastmath=True)
def _sample(y, up, ur, uc, gradient):  # pragma: no cover (compiled)
    """Linear interpolation, zeros from outside; the gradient goes into ``gradient``."""
    r0, c0 = int(np.floor(ur)), int(np.floor(uc))
    fr, fc = _FLOAT(ur - r0), _FLOAT(uc - c0)
    one = _FLOAT(1.0)
    if y.shape[0] == 1:
        a, b = _corner(y, 0, r0, c0), _corner(y, 0, r0, c0 + 1)
        d, e = _corner(y, 0, r0 + 1, c0), _corner(y, 0, r0 + 1, c0 + 1)
        top, bottom = a + fc * (b - a), d + fc * (e - d)
        gradient[0] = _FLOAT(0.0)
        gradient[1] = bottom - top
        gradient[2] = (one - fr) * (b - a) + fr * (e - d)
        return top + fr * (bottom - top)
    p0 = int(np.floor(up))
    fp = _FLOAT(up - p0)
    value, gr, gc, gp = _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0)
    for dp in range(2):
        weight = fp if dp else one - fp
        a, b = _corner(y, p0 + dp, r0, c0), _corner(y, p0 + dp, r0, c0 + 1)
        d, e = _corner(y, p0 + dp, r0 + 1, c0), _corner(y, p0 + dp, r0 + 1, c0 + 1)
        top, bottom = a + fc * (b - a), d + fc * (e - d)
        plane = top + fr * (bottom - top)
        value += weight * plane
        gr += weight * (bottom - top)
        gc += weight * ((one - fr) * (b - a) + fr * (e - d))
        gp += plane if dp else -plane
    gradient[0], gradient[1], gradient[2] = gp, gr, gc
    return value


@njit(nogil=True, cache=True, fastmath=True)
def _warp(y, matrix, offset, centre, table, out):  # pragma: no cover (compiled)
    """Change an image in [0, 1] into ``out``."""
    planes, height, width = y.shape
    gradient = np.empty(3, _FLOAT)
    step_r, step_c = _FLOAT(matrix[1, 2]), _FLOAT(matrix[2, 2])
    last_r, last_c = _FLOAT(height - 1), _FLOAT(width - 1)
    flat = y.ravel()
    pitch, one = np.uintp(width), np.uintp(1)
    for p in range(planes):
        for r in range(height):
            vp, vr, vc = p - centre[0], r - centre[1], -centre[2]
            up = matrix[0, 0] * vp + matrix[0, 1] * vr + matrix[0, 2] * vc + offset[0] + centre[0]
            ur = matrix[1, 0] * vp + matrix[1, 1] * vr + matrix[1, 2] * vc + offset[1] + centre[1]
            uc = matrix[2, 0] * vp + matrix[2, 1] * vr + matrix[2, 2] * vc + offset[2] + centre[2]
            if planes == 1:
                row, column = _FLOAT(ur), _FLOAT(uc)
                line = out[p, r]
                for c in range(width):
                    sr, sc = row + _FLOAT(c) * step_r, column + _FLOAT(c) * step_c
                    if sr >= 0 and sc >= 0 and sr < last_r and sc < last_c:
                        # Unsigned, because numba looks whether a signed index is negative.
                        r0, c0 = np.uintp(sr), np.uintp(sc)
                        fr, fc = sr - _FLOAT(r0), sc - _FLOAT(c0)
                        place = r0 * pitch + c0
                        a, b = flat[place], flat[place + pitch]
                        top = a + fc * (flat[place + one] - a)
                        bottom = b + fc * (flat[place + pitch + one] - b)
                        value = top + fr * (bottom - top)
                    else:
                        value = _sample(y, _FLOAT(0.0), sr, sc, gradient)
                    position = value * _FLOAT(_TABLE)
                    entry = np.uintp(position)
                    low = table[entry]
                    line[c] = low + (position - _FLOAT(entry)) * (table[entry + one] - low)
            else:
                for c in range(width):
                    value = _sample(y, up + c * matrix[0, 2], ur + c * matrix[1, 2], uc + c * matrix[2, 2], gradient)
                    position = value * _FLOAT(_TABLE)
                    entry = np.uintp(position)
                    low = table[entry]
                    out[p, r, c] = low + _FLOAT(position - entry) * (table[entry + one] - low)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _ssim(x, x_mean, x_var, c1, c2, win_p, win, w):  # pragma: no cover (compiled)
    """SSIM of standardised x with the z-score of w, as :func:`~monai_deepssim.similarity.pairwise_ssim` defines it."""
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


@njit(nogil=True, cache=True)
def _flipped(y, flips):  # pragma: no cover (compiled)
    out = np.empty_like(y)
    planes, height, width = y.shape
    for p in range(planes):
        for r in range(height):
            for c in range(width):
                out[p, r, c] = y[
                    planes - 1 - p if flips & 1 else p,
                    height - 1 - r if flips & 2 else r,
                    width - 1 - c if flips & 4 else c,
                ]
    return out


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True, fastmath=True)
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


@njit(nogil=True, cache=True)
def _search_coarsely(x, y, centre, gamma, angles, reach, scale, change):  # pragma: no cover (compiled)
    """Try all angles and shifts by whole pixels of a small image; the best goes into ``change``.

    Returns:
        Its correlation.
    """
    matrix, offset = np.empty((3, 3)), np.empty(3)
    table = np.empty(_TABLE + 2, _FLOAT)
    _fill_table(gamma, table)
    warped = np.empty_like(y)
    planes_angles = angles if y.shape[0] > 1 else np.zeros(1)
    reach_p = reach if y.shape[0] > 1 else 0
    trial = np.zeros(CHANGE_SIZE)
    trial[_ZOOM], trial[_GAMMA] = 1.0, gamma
    best = -2.0
    for first in angles:
        for second in planes_angles:
            for third in planes_angles:
                trial[0], trial[1], trial[2] = first, second, third
                _matrix(trial, 1.0, matrix, offset)
                _warp(y, matrix, offset, centre, table, warped)
                for dp in range(-reach_p, reach_p + 1):
                    for dr in range(-reach, reach + 1):
                        for dc in range(-reach, reach + 1):
                            value = _correlation(x, warped, dp, dr, dc)
                            if value > best:
                                best = value
                                change[:] = trial
                                change[3], change[4], change[5] = dp * scale, dr * scale, dc * scale
    return best


@njit(nogil=True, cache=True)
def _clip(change, low, high):  # pragma: no cover (compiled)
    for k in range(CHANGE_SIZE):
        change[k] = min(max(change[k], low[k]), high[k])


@njit(nogil=True, cache=True, fastmath=True)
def _dot(a, b):  # pragma: no cover (compiled)
    # The compiler makes many partial sums of this one, which keeps float32 exact enough.
    total = _FLOAT(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(nogil=True, cache=True)
def _sum_products(rows, error, first, normal, right):  # pragma: no cover (compiled)
    """``normal = rows rows^T`` and ``right = rows error``, from row ``first`` on."""
    for k in range(first, rows.shape[0]):
        for m in range(k, rows.shape[0]):
            normal[k, m] = normal[m, k] = _dot(rows[k], rows[m])
        right[k] = _dot(rows[k], error)


@njit(nogil=True, cache=True)
def _solve(normal, right, first):  # pragma: no cover (compiled)
    for k in range(first, len(right)):
        normal[k, k] = normal[k, k] * (1 + _DAMPING) + 1e-9
    return np.linalg.solve(normal[first:, first:].copy(), right[first:].copy())


@njit(nogil=True, cache=True, fastmath=True)
def _fit_least_squares(x, y, centre, scale, free, low, high, change, iterations):  # pragma: no cover (compiled)
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
    table, slope = np.empty(_TABLE + 2, _FLOAT), np.empty(_TABLE + 2, _FLOAT)
    for _ in range(iterations):
        _fill_table(change[_GAMMA], table)
        slope[0], slope[_TABLE + 1] = 0.0, 0.0
        for i in range(1, _TABLE + 1):
            slope[i] = table[i] * np.log(i / _TABLE)
        _matrix(change, scale, matrix, offset)
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
                        value = _sample(y, up + c * matrix[0, 2], sr, sc, gradient)
                    position = value * _FLOAT(_TABLE)
                    entry = np.uintp(position)
                    rest = position - _FLOAT(entry)
                    risen = table[entry + one] - table[entry]
                    values[place] = table[entry] + rest * risen
                    powers[place] = slope[entry] + rest * (slope[entry + one] - slope[entry])
                    for i in range(3):
                        gradients[i, place] = gradient[i] * risen * _FLOAT(_TABLE)
                    place += 1
        # Gain and offset alone first: the derivatives by all else are times the gain.
        rows[n - 2] = values
        _sum_products(rows, target, n - 2, normal, right)
        gain, bias = _solve(normal, right, n - 2)
        for i in range(x.size):
            error[i] = target[i] - _FLOAT(gain) * values[i] - _FLOAT(bias)
        for k in range(n - 2):
            if free[k] == _GAMMA:
                for i in range(x.size):
                    rows[k, i] = _FLOAT(gain) * powers[i]
                continue
            moved[:] = change
            moved[free[k]] += 1e-4
            _matrix(moved, scale, d_matrix, d_offset)
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
        _clip(change, low, high)


@njit(nogil=True, cache=True)
def _score(x, x_mean, x_var, c1, c2, win_p, win, y, centre, change, table, warped):  # pragma: no cover (compiled)
    matrix, offset = np.empty((3, 3)), np.empty(3)
    _matrix(change, 1.0, matrix, offset)
    _warp(y, matrix, offset, centre, table, warped)
    return _ssim(x, x_mean, x_var, c1, c2, win_p, win, warped)


@njit(nogil=True, cache=True)
def _climb(
    x, x_mean, x_var, c1, c2, win_p, win, y, centre, free, steps, low, high, change, best, table, warped, first, last
):  # pragma: no cover (compiled)
    """Raise SSIM along one number of the change after the other: three trials and a parabola through them."""
    trial = np.empty(CHANGE_SIZE)
    values = np.empty(2)
    for sweep in range(first, last):
        before = best
        for k in free:
            step = steps[k] / 3.0**sweep
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
                trial[k] = min(max(here + way * step, low[k]), high[k])
                if k == _GAMMA:
                    _fill_table(trial[k], table)
                value = _score(x, x_mean, x_var, c1, c2, win_p, win, y, centre, trial, table, warped)
                if side < 2:
                    values[side] = value
                if value > best:
                    best = value
                    found = trial[k]
            change[k] = found
            if k == _GAMMA:
                _fill_table(found, table)
        if best - before < _NO_GAIN:
            break
    return best


@njit(nogil=True, cache=True)
def align_pair(
    x, z, x_mean, x_var, c1, c2, win_p, win, y, levels, free, angles, reach, steps, low, high, flip_bits, change
):  # pragma: no cover (compiled)
    """Find the flips and the change that give y the highest SSIM with x.

    Args:
        x: image ``(P, H, W)`` in [0, 1], float32.
        z, x_mean, x_var, c1, c2, win_p, win: standardised x with its window statistics, for SSIM.
        y: image of the same shape in [0, 1].
        levels: how often the images are halved for the coarse search, 0 to 2; least squares run at half size, or full.
        free: which numbers of a change are searched.
        angles: of the coarse search, in radians.
        reach: of the coarse search, in coarse pixels.
        steps: first steps of the fine search.
        low, high: bounds of a change.
        flip_bits: the flips to try: 1 planes, 2 rows, 4 columns.
        change: output, the best change.

    Returns:
        SSIM, and the flips of the best change, as bits.
    """
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
    gamma = _gamma_by_mean(x, y, low[_GAMMA], high[_GAMMA])
    changes = np.zeros((len(flip_bits), CHANGE_SIZE))
    scores, correlations = np.empty(len(flip_bits)), np.empty(len(flip_bits))
    table = np.empty(_TABLE + 2, _FLOAT)
    warped = np.empty_like(y)
    for number in range(len(flip_bits)):
        flipped = _flipped(y, flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        coarse = pool_by_two(half) if levels > 1 else half
        correlations[number] = _search_coarsely(
            x_coarse, coarse, centre_coarse, gamma, angles, reach, scale_coarse, changes[number]
        )
    for number in range(len(flip_bits)):
        scores[number] = -2.0
        if correlations[number] < correlations.max() - _FAR:
            continue
        flipped = _flipped(y, flip_bits[number])
        half = pool_by_two(flipped) if levels > 0 else flipped
        _clip(changes[number], low, high)
        _fit_least_squares(x_half, half, centre_half, scale_half, free, low, high, changes[number], _FITTING_STEPS)
        _fill_table(changes[number, _GAMMA], table)
        scores[number] = _score(z, x_mean, x_var, c1, c2, win_p, win, flipped, centre, changes[number], table, warped)
    order = np.argsort(-scores)
    first = order[0]
    best = -2.0
    for place in range(min(2, len(order))):
        number = order[place]
        # The second best flips get a chance where they are close: brains are nearly symmetric.
        if place and scores[number] < scores[first] - _CLOSE:
            break
        _fill_table(changes[number, _GAMMA], table)
        scores[number] = _climb(
            z, x_mean, x_var, c1, c2, win_p, win, _flipped(y, flip_bits[number]), centre, free, steps, low, high,
            changes[number], scores[number], table, warped, 0, 1,
        )  # fmt: skip
        if scores[number] > best:
            best, first = scores[number], number
    best_flips = flip_bits[first]
    change[:] = changes[first]
    _fill_table(change[_GAMMA], table)
    best = _climb(
        z, x_mean, x_var, c1, c2, win_p, win, _flipped(y, best_flips), centre, free, steps, low, high,
        change, best, table, warped, 1, _SWEEPS,
    )  # fmt: skip
    # Where nothing has to be done, the answer is that nothing was done.
    unchanged = np.zeros(CHANGE_SIZE)
    unchanged[_ZOOM], unchanged[_GAMMA] = 1.0, 1.0
    _fill_table(1.0, table)
    plain = _score(z, x_mean, x_var, c1, c2, win_p, win, y, centre, unchanged, table, warped)
    if plain >= best - _NOTHING:
        best, best_flips = plain, 0
        change[:] = unchanged
    # Rounding may lift the SSIM of equal images a little above 1.
    return min(best, 1.0), best_flips
