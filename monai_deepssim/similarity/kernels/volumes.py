"""What the alignment of two volumes does for each of their voxels: resampling, SSIM, and a step of least squares.

A volume ``(P, H, W)`` in [0, 1] is changed by an affine map and a gamma: with indices counted from the centre, the
output at v is the input at ``matrix @ v + offset``, zero outside of it, to the power of gamma. How such a map is made
of rotations and zooms, these functions need not know.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import cached_njit, inner_njit
from monai_deepssim.similarity.kernels.resampling import LOGARITHMS, TABLE_SIZE, fill_gamma_table

__all__ = ["NUM_TERMS", "sum_least_squares", "volume_ssim", "warp_volume"]

#: Terms of :func:`sum_least_squares`: 9 of the matrix, row by row, 3 of the offset, gamma, value, 1 and the target.
NUM_TERMS = 16
_FLOAT = np.float32
# In voxels: positions along a line are summed in float32, which may carry one across the edge.
_MARGIN = 1e-4
# Where a term of a plane stands among those of a volume, and where when it is multiplied by the plane's number.
_PLACE = np.array([9, 10, 11, 1, 4, 7, 2, 5, 8, 12, 13, 14, 15])
_BY_PLANE = np.array([0, 3, 6])


@inner_njit(fastmath=True)
def _corner(y, p, r, c):  # pragma: no cover (compiled)
    if p < 0 or r < 0 or c < 0 or p >= y.shape[0] or r >= y.shape[1] or c >= y.shape[2]:
        return _FLOAT(0.0)
    return y[p, r, c]


@inner_njit(fastmath=True)
def _sample(y, up, ur, uc, gradient):  # pragma: no cover (compiled)
    """Linear interpolation, zeros from outside; the gradient goes into ``gradient``."""
    r0, c0 = int(np.floor(ur)), int(np.floor(uc))
    fr, fc = _FLOAT(ur - r0), _FLOAT(uc - c0)
    one = _FLOAT(1.0)
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


@inner_njit()
def _clip_range(start, step, size, first, last):  # pragma: no cover (compiled)
    """Which of the places ``first`` to ``last`` (excluded) along a line have both neighbours inside of an axis."""
    end = size - 1 - _MARGIN
    if abs(step) < 1e-9:
        return (first, last) if 0 <= start < end else (first, first)
    low, high = (_MARGIN - start) / step, (end - start) / step
    if low > high:
        low, high = high, low
    low, high = min(max(low, -1.0), last + 1.0), min(max(high, -1.0), last + 1.0)
    first = min(last, max(first, int(np.ceil(low))))
    return first, max(first, min(last, int(np.floor(high)) + 1))


@cached_njit(fastmath=True)
def warp_volume(y, matrix, offset, centre, gamma, out):  # pragma: no cover (compiled)
    """Change a volume.

    Args:
        y: volume ``(P, H, W)`` in [0, 1], float32.
        matrix: ``(3, 3)``.
        offset: ``(3,)``, in voxels.
        centre: ``(3,)``, from where indices are counted, in y and in out.
        gamma: exponent.
        out: output, of any size.

    Returns:
        Sum of the output's values and sum of their squares.
    """
    table = np.empty(TABLE_SIZE + 2, _FLOAT)
    fill_gamma_table(gamma, table)
    planes, height, width = out.shape
    flat = y.ravel()
    row_pitch, plane_pitch, one = np.uintp(y.shape[2]), np.uintp(y.shape[1] * y.shape[2]), np.uintp(1)
    gradient = np.empty(3, _FLOAT)
    values = np.empty(width, _FLOAT)
    total, squares = np.float64(0.0), np.float64(0.0)
    m0, m1, m2 = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    s0, s1, s2 = _FLOAT(m0), _FLOAT(m1), _FLOAT(m2)
    for p in range(planes):
        for r in range(height):
            vp, vr, vc = p - centre[0], r - centre[1], -centre[2]
            u0 = matrix[0, 0] * vp + matrix[0, 1] * vr + m0 * vc + offset[0] + centre[0]
            u1 = matrix[1, 0] * vp + matrix[1, 1] * vr + m1 * vc + offset[1] + centre[1]
            u2 = matrix[2, 0] * vp + matrix[2, 1] * vr + m2 * vc + offset[2] + centre[2]
            first, last = _clip_range(u0, m0, y.shape[0], 0, width)
            first, last = _clip_range(u1, m1, y.shape[1], first, last)
            first, last = _clip_range(u2, m2, y.shape[2], first, last)
            f0, f1, f2 = _FLOAT(u0), _FLOAT(u1), _FLOAT(u2)
            for c in range(first, last):
                a0, a1, a2 = f0 + _FLOAT(c) * s0, f1 + _FLOAT(c) * s1, f2 + _FLOAT(c) * s2
                # Unsigned, because numba looks whether a signed index is negative.
                i0, i1, i2 = np.uintp(a0), np.uintp(a1), np.uintp(a2)
                d0, d1, d2 = a0 - _FLOAT(i0), a1 - _FLOAT(i1), a2 - _FLOAT(i2)
                k = i0 * plane_pitch + i1 * row_pitch + i2
                q = k + row_pitch
                near = flat[k] + d2 * (flat[k + one] - flat[k])
                near += d1 * (flat[q] + d2 * (flat[q + one] - flat[q]) - near)
                k += plane_pitch
                q += plane_pitch
                far = flat[k] + d2 * (flat[k + one] - flat[k])
                far += d1 * (flat[q] + d2 * (flat[q + one] - flat[q]) - far)
                values[c] = near + d0 * (far - near)
            for c in range(first):
                values[c] = _sample(y, u0 + c * m0, u1 + c * m1, u2 + c * m2, gradient)
            for c in range(last, width):
                values[c] = _sample(y, u0 + c * m0, u1 + c * m1, u2 + c * m2, gradient)
            row_total, row_squares = _FLOAT(0.0), _FLOAT(0.0)
            for c in range(width):
                position = values[c] * _FLOAT(TABLE_SIZE)
                entry = np.uintp(position)
                low = table[entry]
                value = low + (position - _FLOAT(entry)) * (table[entry + one] - low)
                out[p, r, c] = value
                row_total += value
                row_squares += value * value
            total += row_total
            squares += row_squares
    return total, squares


@inner_njit(fastmath=True)
def _add_plane(x, w, sign, sums):  # pragma: no cover (compiled)
    """Add to the sums of x w, w and w² over planes, or take away, one plane."""
    height, width = x.shape
    for r in range(height):
        for c in range(width):
            b = sign * w[r, c]
            sums[0, r, c] += x[r, c] * b
            sums[1, r, c] += b
            sums[2, r, c] += w[r, c] * b


@cached_njit(fastmath=True, error_model="numpy")
def volume_ssim(x, x_mean, x_variance, c1, c2, w, total, squares):  # pragma: no cover (compiled)  # noqa: C901
    """SSIM with the z-score of w, as :func:`~monai_deepssim.similarity.pairwise_ssim` defines it, for windows of 7³.

    Args:
        x: volume ``(P, H, W)``, standardised, float32.
        x_mean: mean of each of its windows.
        x_variance: sample variance of each of its windows.
        c1: constant that steadies SSIM's means.
        c2: constant that steadies SSIM's variances.
        w: volume of the same size.
        total: sum of its values.
        squares: sum of their squares.

    Returns:
        The SSIM; 0 where w is constant.
    """
    planes, height, width = x.shape
    count = x.size
    mean = total / count
    deviation = np.sqrt(max(0.0, squares / count - mean * mean))
    if deviation < 1e-6:
        return 0.0
    scale = _FLOAT(1.0 / deviation)
    valid_p, valid_h, valid_w = x_mean.shape
    win = planes - valid_p + 1
    voxels = _FLOAT(win**3)
    share, unbias = _FLOAT(1.0) / voxels, _FLOAT(1.0) / (voxels - _FLOAT(1.0))
    shift, two, k1, k2 = _FLOAT(mean), _FLOAT(2.0), _FLOAT(c1), _FLOAT(c2)
    of_planes = np.zeros((3, height, width), _FLOAT)
    of_rows = np.empty((3, width), _FLOAT)
    windows = np.empty((3, valid_w), _FLOAT)
    for p in range(win - 1):
        _add_plane(x[p], w[p], _FLOAT(1.0), of_planes)
    result = np.float64(0.0)
    for p in range(valid_p):
        _add_plane(x[p + win - 1], w[p + win - 1], _FLOAT(1.0), of_planes)
        for k in range(3):
            for c in range(width):
                row = _FLOAT(0.0)
                for r in range(win - 1):
                    row += of_planes[k, r, c]
                of_rows[k, c] = row
        for r in range(valid_h):
            for k in range(3):
                for c in range(width):
                    of_rows[k, c] += of_planes[k, r + win - 1, c]
                for c in range(valid_w):
                    windows[k, c] = of_rows[k, c]
                for d in range(1, win):
                    for c in range(valid_w):
                        windows[k, c] += of_rows[k, c + d]
                for c in range(width):
                    of_rows[k, c] -= of_planes[k, r, c]
            row_total = _FLOAT(0.0)
            for c in range(valid_w):
                mw = windows[1, c] * share
                mx, my = x_mean[p, r, c], (mw - shift) * scale
                vy = max(_FLOAT(0.0), unbias * (windows[2, c] - voxels * mw * mw)) * scale * scale
                covariance = unbias * (windows[0, c] - voxels * mx * mw) * scale
                numerator = (two * mx * my + k1) * (two * covariance + k2)
                row_total += numerator / ((mx * mx + my * my + k1) * (x_variance[p, r, c] + vy + k2))
            result += row_total
        _add_plane(x[p], w[p], _FLOAT(-1.0), of_planes)
    return result / (valid_p * valid_h * valid_w)


@inner_njit(fastmath=True)
def _dot(a, b):  # pragma: no cover (compiled)
    # The compiler makes many partial sums of this one, which keeps float32 exact enough for a plane.
    total = _FLOAT(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@inner_njit(fastmath=True)
def _read_line(y, start, step, line, gradient):  # pragma: no cover (compiled)
    """Read a volume along a line: its gradient into the first three rows of ``line``, its values into the fourth."""
    width = line.shape[1]
    u0, u1, u2 = start
    m0, m1, m2 = step
    flat = y.ravel()
    row_pitch, plane_pitch, one = np.uintp(y.shape[2]), np.uintp(y.shape[1] * y.shape[2]), np.uintp(1)
    s0, s1, s2 = _FLOAT(m0), _FLOAT(m1), _FLOAT(m2)
    first, last = _clip_range(u0, m0, y.shape[0], 0, width)
    first, last = _clip_range(u1, m1, y.shape[1], first, last)
    first, last = _clip_range(u2, m2, y.shape[2], first, last)
    f0, f1, f2 = _FLOAT(u0), _FLOAT(u1), _FLOAT(u2)
    for c in range(first, last):
        a0, a1, a2 = f0 + _FLOAT(c) * s0, f1 + _FLOAT(c) * s1, f2 + _FLOAT(c) * s2
        i0, i1, i2 = np.uintp(a0), np.uintp(a1), np.uintp(a2)
        d0, d1, d2 = a0 - _FLOAT(i0), a1 - _FLOAT(i1), a2 - _FLOAT(i2)
        at = i0 * plane_pitch + i1 * row_pitch + i2
        step_1, step_2 = flat[at + one] - flat[at], flat[at + row_pitch + one] - flat[at + row_pitch]
        near = flat[at] + d2 * step_1
        near_rise = flat[at + row_pitch] + d2 * step_2 - near
        near_run = step_1 + d1 * (step_2 - step_1)
        near += d1 * near_rise
        at += plane_pitch
        step_1, step_2 = flat[at + one] - flat[at], flat[at + row_pitch + one] - flat[at + row_pitch]
        far = flat[at] + d2 * step_1
        far_rise = flat[at + row_pitch] + d2 * step_2 - far
        far_run = step_1 + d1 * (step_2 - step_1)
        far += d1 * far_rise
        line[0, c] = far - near
        line[1, c] = near_rise + d0 * (far_rise - near_rise)
        line[2, c] = near_run + d0 * (far_run - near_run)
        line[3, c] = near + d0 * (far - near)
    for c in range(width):
        if first <= c < last:
            continue
        line[3, c] = _sample(y, u0 + c * m0, u1 + c * m1, u2 + c * m2, gradient)
        for i in range(3):
            line[i, c] = gradient[i]


@inner_njit(fastmath=True)
def _add_products(terms, products, plane, out):  # pragma: no cover (compiled)
    """Add the products of the terms of a plane, which is so far from the centre, to those of a volume."""
    for i in range(13):
        for j in range(i, 13):
            products[i, j] = products[j, i] = _dot(terms[i], terms[j])
    for i in range(13):
        for j in range(13):
            out[_PLACE[i], _PLACE[j]] += products[i, j]
    for i in range(3):
        for j in range(13):
            out[_BY_PLANE[i], _PLACE[j]] += plane * products[i, j]
            out[_PLACE[j], _BY_PLANE[i]] += plane * products[i, j]
        for j in range(3):
            out[_BY_PLANE[i], _BY_PLANE[j]] += plane * plane * products[i, j]


@cached_njit(fastmath=True)
def sum_least_squares(x, y, matrix, offset, centre, gamma, out):  # pragma: no cover (compiled)
    """Sum all products of the terms that a step of least squares is made of, over all voxels.

    With w the changed y and g its gradient by the position that is read, the terms of the voxel v are ``g_i v_j`` (the
    derivatives by the matrix), ``g_i`` (by the offset), the derivative by gamma, w, 1 and x.

    Args:
        x: volume ``(P, H, W)``.
        y: volume of the same size in [0, 1].
        matrix: ``(3, 3)``.
        offset: ``(3,)``, in voxels.
        centre: ``(3,)``, from where indices are counted.
        gamma: exponent.
        out: output ``(NUM_TERMS, NUM_TERMS)``, float64.
    """
    table, slope = np.empty(TABLE_SIZE + 2, _FLOAT), np.zeros(TABLE_SIZE + 2, _FLOAT)
    fill_gamma_table(gamma, table)
    for i in range(1, TABLE_SIZE + 1):
        slope[i] = table[i] * LOGARITHMS[i]
    planes, height, width = y.shape
    # Of each voxel of a plane: g, g times row, g times column, derivative by gamma, w, 1, x.
    terms = np.empty((13, height * width), _FLOAT)
    terms[11] = 1.0
    products = np.empty((13, 13))
    # Of each voxel of a row: gradient of y and y itself; how much steeper gamma makes it.
    line, rises = np.empty((4, width), _FLOAT), np.empty(width, _FLOAT)
    gradient = np.empty(3, _FLOAT)
    one, unit = np.uintp(1), _FLOAT(TABLE_SIZE)
    m0, m1, m2 = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    out[:] = 0.0
    for p in range(planes):
        vp = p - centre[0]
        k = 0
        for r in range(height):
            vr, vc = r - centre[1], -centre[2]
            u0 = matrix[0, 0] * vp + matrix[0, 1] * vr + m0 * vc + offset[0] + centre[0]
            u1 = matrix[1, 0] * vp + matrix[1, 1] * vr + m1 * vc + offset[1] + centre[1]
            u2 = matrix[2, 0] * vp + matrix[2, 1] * vr + m2 * vc + offset[2] + centre[2]
            _read_line(y, (u0, u1, u2), (m0, m1, m2), line, gradient)
            for c in range(width):
                position = line[3, c] * unit
                entry = np.uintp(position)
                rest = position - _FLOAT(entry)
                risen = table[entry + one] - table[entry]
                terms[9, k + c] = slope[entry] + rest * (slope[entry + one] - slope[entry])
                terms[10, k + c] = table[entry] + rest * risen
                terms[12, k + c] = x[p, r, c]
                rises[c] = risen * unit
            for i in range(3):
                for c in range(width):
                    g = line[i, c] * rises[c]
                    terms[i, k + c] = g
                    terms[3 + i, k + c] = g * _FLOAT(vr)
                    terms[6 + i, k + c] = g * (_FLOAT(c) + _FLOAT(vc))
            k += width
        _add_products(terms, products, vp, out)
