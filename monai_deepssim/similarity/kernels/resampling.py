"""An image changed by a row of numbers, and the change's gradient: what aligned SSIM tries on a pair, compiled.

A 2-D image is a volume of one plane, as in :mod:`~monai_deepssim.similarity.kernels.pairwise_ssim`. A change is a row
of numbers: three rotations in radians (about planes, rows and columns; in 2-D only the first), three shifts in pixels,
the zoom and gamma. Its convention is that of MONAI's ``Affine``: with indices counted from the centre, the output at v
is the input at ``R (v / zoom + shift)``; then follows gamma.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inlined_njit, shared_njit

__all__ = [
    "CHANGE_SIZE",
    "GAMMA",
    "TABLE_SIZE",
    "ZOOM",
    "fill_gamma_table",
    "find_centre",
    "flip_axes",
    "look_up",
    "pool_by_two",
    "position_matrix",
    "sample_plane",
    "sample_volume",
    "start_of_row",
    "warp",
]

#: Numbers in a change: rotations, shifts, zoom, gamma.
CHANGE_SIZE = 8
#: Where zoom and gamma stand in a change.
ZOOM, GAMMA = 6, 7
#: Entries of the table that stands for x**gamma: a power a pixel would cost more than all the rest.
TABLE_SIZE = 1024
_FLOAT = np.float32


@shared_njit()
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


@shared_njit()
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


@inlined_njit()
def find_centre(y, scale):  # pragma: no cover (compiled)
    """The centre of an image in pixels of it at ``1 / scale`` of the size, also where a row was left over."""
    centre = np.zeros(3)
    for i in range(3):
        if y.shape[i] > 1:
            centre[i] = y.shape[i] / 2 / scale - 0.5
    return centre


@inlined_njit()
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


@inlined_njit()
def start_of_row(matrix, offset, centre, p, r):  # pragma: no cover (compiled)
    """The input position, in pixels, of the first pixel of an output row."""
    vp, vr, vc = p - centre[0], r - centre[1], -centre[2]
    up = matrix[0, 0] * vp + matrix[0, 1] * vr + matrix[0, 2] * vc + offset[0] + centre[0]
    ur = matrix[1, 0] * vp + matrix[1, 1] * vr + matrix[1, 2] * vc + offset[1] + centre[1]
    uc = matrix[2, 0] * vp + matrix[2, 1] * vr + matrix[2, 2] * vc + offset[2] + centre[2]
    return up, ur, uc


@shared_njit()
def fill_gamma_table(gamma, table):  # pragma: no cover (compiled)
    """Fill a table of ``v ** gamma`` for v from 0 to 1, with one entry more so that 1 itself can be interpolated."""
    for i in range(TABLE_SIZE + 1):
        table[i] = (i / TABLE_SIZE) ** gamma
    table[TABLE_SIZE + 1] = 1.0


@inlined_njit(fastmath=True)
def look_up(table, value):  # pragma: no cover (compiled)
    """The entry of a table at a value of 0 to 1, the share of the step to the next one, and that step."""
    position = value * _FLOAT(TABLE_SIZE)
    # Unsigned, because numba looks whether a signed index is negative.
    place = np.uintp(position)
    return place, position - _FLOAT(place), table[place + np.uintp(1)] - table[place]


@inlined_njit(fastmath=True)
def _corner(y, p, r, c):  # pragma: no cover (compiled)
    if p < 0 or r < 0 or c < 0 or p >= y.shape[0] or r >= y.shape[1] or c >= y.shape[2]:
        return _FLOAT(0.0)
    return y[p, r, c]


@shared_njit(fastmath=True)
def _sample_corners(y, p, ur, uc):  # pragma: no cover (compiled)
    """Linear interpolation in a plane, zeros from outside, with the gradient along rows and columns."""
    r0, c0 = int(np.floor(ur)), int(np.floor(uc))
    fr, fc = _FLOAT(ur - r0), _FLOAT(uc - c0)
    a, b = _corner(y, p, r0, c0), _corner(y, p, r0, c0 + 1)
    d, e = _corner(y, p, r0 + 1, c0), _corner(y, p, r0 + 1, c0 + 1)
    top, bottom = a + fc * (b - a), d + fc * (e - d)
    return top + fr * (bottom - top), bottom - top, (_FLOAT(1.0) - fr) * (b - a) + fr * (e - d)


@inlined_njit(fastmath=True)
def sample_plane(y, flat, ur, uc):  # pragma: no cover (compiled)
    """Linear interpolation in an image of one plane, also given as ``y.ravel()``, at a float32 position.

    Returns:
        The value and its gradient along rows and columns.
    """
    height, width = y.shape[1:]
    if ur < 0 or uc < 0 or ur >= _FLOAT(height - 1) or uc >= _FLOAT(width - 1):
        return _sample_corners(y, 0, np.float64(ur), np.float64(uc))
    r0, c0 = np.uintp(ur), np.uintp(uc)
    fr, fc = ur - _FLOAT(r0), uc - _FLOAT(c0)
    pitch, one = np.uintp(width), np.uintp(1)
    place = r0 * pitch + c0
    top, bottom = flat[place], flat[place + pitch]
    top_step, bottom_step = flat[place + one] - top, flat[place + pitch + one] - bottom
    top += fc * top_step
    down = bottom + fc * bottom_step - top
    return top + fr * down, down, top_step + fr * (bottom_step - top_step)


@inlined_njit(fastmath=True)
def sample_volume(y, up, ur, uc):  # pragma: no cover (compiled)
    """Linear interpolation, zeros from outside: the value and its gradient along planes, rows and columns, float32."""
    p0 = int(np.floor(up))
    fp = _FLOAT(up - p0)
    value, gp, gr, gc = _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0), _FLOAT(0.0)
    for dp in range(2):
        weight = fp if dp else _FLOAT(1.0) - fp
        plane, down, right = _sample_corners(y, p0 + dp, ur, uc)
        value += weight * plane
        gr += weight * down
        gc += weight * right
        gp += plane if dp else -plane
    return value, gp, gr, gc


@inlined_njit(fastmath=True)
def warp(y, change, centre, table, out):  # pragma: no cover (compiled)
    """Change an image in [0, 1] into ``out``; the table is that of the change's gamma."""
    planes, height, width = y.shape
    matrix, offset = np.empty((3, 3)), np.empty(3)
    position_matrix(change, 1.0, matrix, offset)
    step_r, step_c = _FLOAT(matrix[1, 2]), _FLOAT(matrix[2, 2])
    flat = y.ravel()
    for p in range(planes):
        for r in range(height):
            up, ur, uc = start_of_row(matrix, offset, centre, p, r)
            line = out[p, r]
            if planes == 1:
                row, column = _FLOAT(ur), _FLOAT(uc)
                for c in range(width):
                    value = sample_plane(y, flat, row + _FLOAT(c) * step_r, column + _FLOAT(c) * step_c)[0]
                    place, rest, rise = look_up(table, value)
                    line[c] = table[place] + rest * rise
            else:
                for c in range(width):
                    value = sample_volume(y, up + c * matrix[0, 2], ur + c * matrix[1, 2], uc + c * matrix[2, 2])[0]
                    place, rest, rise = look_up(table, value)
                    line[c] = table[place] + rest * rise
