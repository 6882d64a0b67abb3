"""An image changed by a row of numbers, and the change's gradient: what aligned SSIM tries on a pair, compiled.

A 2-D image is a volume of one plane, as in :mod:`~monai_deepssim.similarity.kernels.pairwise_ssim`. A change is a row
of numbers: three rotations in radians (about planes, rows and columns; in 2-D only the first), three shifts in pixels,
the zoom and gamma. Its convention is that of MONAI's ``Affine``: with indices counted from the centre, the output at v
is the input at ``R (v / zoom + shift)``; then follows gamma.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "CHANGE_SIZE",
    "GAMMA",
    "TABLE_SIZE",
    "ZOOM",
    "fill_gamma_table",
    "flip_axes",
    "pool_by_two",
    "position_matrix",
    "sample",
    "warp",
]

#: Numbers in a change: rotations, shifts, zoom, gamma.
CHANGE_SIZE = 8
#: Where zoom and gamma stand in a change.
ZOOM, GAMMA = 6, 7
#: Entries of the table that stands for x**gamma: a power a pixel would cost more than all the rest.
TABLE_SIZE = 1024
_FLOAT = np.float32


@njit(nogil=True)
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


@njit(nogil=True)
def flip_axes(y, flips):  # pragma: no cover (compiled)
    """A copy of an image ``(P, H, W)``, flipped: bit 0 of ``flips`` for planes, bit 1 for rows, bit 2 for columns."""
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


@njit(nogil=True)
def position_matrix(change, scale, matrix, offset):  # pragma: no cover (compiled)
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
            matrix[i, j] /= change[ZOOM]


@njit(nogil=True)
def fill_gamma_table(gamma, table):  # pragma: no cover (compiled)
    """Fill a table of ``v ** gamma`` for v from 0 to 1, with one entry more so that 1 itself can be interpolated."""
    for i in range(TABLE_SIZE + 1):
        table[i] = (i / TABLE_SIZE) ** gamma
    table[TABLE_SIZE + 1] = 1.0


@njit(nogil=True, fastmath=True)
def _corner(y, p, r, c):  # pragma: no cover (compiled)
    if p < 0 or r < 0 or c < 0 or p >= y.shape[0] or r >= y.shape[1] or c >= y.shape[2]:
        return _FLOAT(0.0)
    return y[p, r, c]


@njit(nogil=True, fastmath=True)
def sample(y, up, ur, uc, gradient):  # pragma: no cover (compiled)
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


@njit(nogil=True, fastmath=True)
def warp(y, matrix, offset, centre, table, out):  # pragma: no cover (compiled)
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
                        value = sample(y, _FLOAT(0.0), sr, sc, gradient)
                    position = value * _FLOAT(TABLE_SIZE)
                    entry = np.uintp(position)
                    low = table[entry]
                    line[c] = low + (position - _FLOAT(entry)) * (table[entry + one] - low)
            else:
                for c in range(width):
                    value = sample(y, up + c * matrix[0, 2], ur + c * matrix[1, 2], uc + c * matrix[2, 2], gradient)
                    position = value * _FLOAT(TABLE_SIZE)
                    entry = np.uintp(position)
                    low = table[entry]
                    out[p, r, c] = low + _FLOAT(position - entry) * (table[entry + one] - low)
