"""A small smooth deformation that brings one volume nearer to another, after they were aligned: compiled.

Lucas and Kanade's optical flow ("An iterative image registration technique", 1981), dense and damped: around each pixel
the displacement that explains the difference of the two images in the least squares sense, smoothed, eight times over.
A field is ``(3, P, H, W)``, displacements along planes, rows and columns in pixels: the output at v is the input at
``v + field(v)``.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import cached_njit, inner_njit

__all__ = ["deform_volume"]

_ITERATIONS = 8
# In voxels of the halved volume: half the windows over which a displacement has to explain the difference, and over
# which it is smoothed then. Two passes each, which makes triangles of them. Half of what an image has: a volume has
# fewer voxels a side and more of them in a window.
_WINDOW, _SMOOTHING = 3, 2
# In squares of z-scores a pixel: where the image has less structure than that, nothing moves.
_DAMPING = 0.05
_FLOAT = np.float32


@inner_njit(fastmath=True)
def _average_along_rows(x, radius, out):  # pragma: no cover (compiled)
    """Means over windows of ``2 radius + 1`` rows, of what there is of them at the edges."""
    planes, height, width = x.shape
    total = np.empty(width, _FLOAT)
    for p in range(planes):
        for c in range(width):
            total[c] = _FLOAT(0.0)
        for r in range(min(radius, height)):
            for c in range(width):
                total[c] += x[p, r, c]
        for r in range(height):
            if r + radius < height:
                for c in range(width):
                    total[c] += x[p, r + radius, c]
            if r - radius > 0:
                for c in range(width):
                    total[c] -= x[p, r - radius - 1, c]
            share = _FLOAT(1.0 / (min(r + radius, height - 1) - max(r - radius, 0) + 1))
            for c in range(width):
                out[p, r, c] = total[c] * share


@inner_njit()
def _smooth(x, radius, turned, out):  # pragma: no cover (compiled)
    """Smooth a volume in place along each axis by two moving averages; the last two are scratch of its size."""
    planes, height, width = x.shape
    rows, rows_out = turned.reshape(planes, width, height), out.reshape(planes, width, height)
    for p in range(planes):
        for r in range(height):
            for c in range(width):
                rows[p, c, r] = x[p, r, c]
    _average_along_rows(rows, radius, rows_out)
    _average_along_rows(rows_out, radius, rows)
    for p in range(planes):
        for r in range(height):
            for c in range(width):
                x[p, r, c] = rows[p, c, r]
    _average_along_rows(x, radius, out)
    _average_along_rows(out, radius, x)
    flat, flat_out = x.reshape(1, planes, height * width), out.reshape(1, planes, height * width)
    _average_along_rows(flat, radius, flat_out)
    _average_along_rows(flat_out, radius, flat)


@inner_njit(fastmath=True)
def _resample(y, field, out):  # pragma: no cover (compiled)
    """Linear interpolation of ``y`` at the displaced positions, clamped to the image."""
    planes, height, width = y.shape
    for p in range(planes):
        for r in range(height):
            for c in range(width):
                ur = min(max(_FLOAT(r) + field[1, p, r, c], _FLOAT(0)), _FLOAT(height - 1))
                uc = min(max(_FLOAT(c) + field[2, p, r, c], _FLOAT(0)), _FLOAT(width - 1))
                r0, c0 = min(int(ur), height - 2), min(int(uc), width - 2)
                fr, fc = ur - _FLOAT(r0), uc - _FLOAT(c0)
                up = min(max(_FLOAT(p) + field[0, p, r, c], _FLOAT(0)), _FLOAT(planes - 1))
                p0 = min(int(up), planes - 2)
                fp = up - _FLOAT(p0)
                value = _FLOAT(0.0)
                for d in range(2):
                    q = p0 + d
                    top = y[q, r0, c0] + fc * (y[q, r0, c0 + 1] - y[q, r0, c0])
                    bottom = y[q, r0 + 1, c0] + fc * (y[q, r0 + 1, c0 + 1] - y[q, r0 + 1, c0])
                    value += (fp if d else _FLOAT(1.0) - fp) * (top + fr * (bottom - top))
                out[p, r, c] = value


@inner_njit(fastmath=True)
def _gradient(x, gradient):  # pragma: no cover (compiled)  # noqa: C901
    """Central differences, 0 at the edges, into ``gradient`` ``(3, P, H, W)``."""
    planes, height, width = x.shape
    half = _FLOAT(0.5)
    for i in range(3):
        for p in range(planes):
            for r in range(height):
                for c in range(width):
                    gradient[i, p, r, c] = _FLOAT(0.0)
    for p in range(planes):
        if 0 < p < planes - 1:
            for r in range(height):
                for c in range(width):
                    gradient[0, p, r, c] = half * (x[p + 1, r, c] - x[p - 1, r, c])
        for r in range(1, height - 1):
            for c in range(width):
                gradient[1, p, r, c] = half * (x[p, r + 1, c] - x[p, r - 1, c])
        for r in range(height):
            for c in range(1, width - 1):
                gradient[2, p, r, c] = half * (x[p, r, c + 1] - x[p, r, c - 1])


@inner_njit(fastmath=True, error_model="numpy")
def _add_steps(moments, field):  # pragma: no cover (compiled)
    """Add to each displacement the solution of its own damped normal equations (Cramer's rule)."""
    damping = _FLOAT(_DAMPING)
    m, u = moments.reshape(9, -1), field.reshape(3, -1)
    for i in range(m.shape[1]):
        rr, rc, cc = m[0, i] + damping, m[1, i], m[2, i] + damping
        er, ec = m[3, i], m[4, i]
        minor = rr * cc - rc * rc
        pp, pr, pc, ep = m[5, i] + damping, m[6, i], m[7, i], m[8, i]
        minor_r, minor_c = pr * cc - rc * pc, pr * rc - rr * pc
        inverse = _FLOAT(1.0) / (pp * minor - pr * minor_r + pc * minor_c)
        u[0, i] += (ep * minor - er * minor_r + ec * minor_c) * inverse
        u[1, i] += (-ep * minor_r + er * (pp * cc - pc * pc) - ec * (pp * rc - pr * pc)) * inverse
        u[2, i] += (ep * minor_c - er * (pp * rc - pr * pc) + ec * (pp * rr - pr * pr)) * inverse


@inner_njit(fastmath=True)
def _fit(x, y, window, smoothing, field):  # pragma: no cover (compiled)
    """Find the field that brings y onto x, both standardised ``(P, H, W)``.

    Returns:
        The structure of the last image, squared gradients a pixel: where a displacement can be seen.
    """
    planes, height, width = x.shape
    warped, first, second = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    gradient = np.empty((3, planes, height, width), _FLOAT)
    # Of rows and columns, then of planes: products of derivatives, and of each with what is left to explain.
    moments = np.empty((9, planes, height, width), _FLOAT)
    structure = np.empty_like(x)
    flat_field = field.reshape(-1)
    for i in range(len(flat_field)):
        flat_field[i] = _FLOAT(0.0)
    for _ in range(_ITERATIONS):
        _resample(y, field, warped)
        _gradient(warped, gradient)
        g_p, g_r, g_c = gradient[0], gradient[1], gradient[2]
        for p in range(planes):
            for r in range(height):
                for c in range(width):
                    left = x[p, r, c] - warped[p, r, c]
                    moments[0, p, r, c] = g_r[p, r, c] * g_r[p, r, c]
                    moments[1, p, r, c] = g_r[p, r, c] * g_c[p, r, c]
                    moments[2, p, r, c] = g_c[p, r, c] * g_c[p, r, c]
                    moments[3, p, r, c] = g_r[p, r, c] * left
                    moments[4, p, r, c] = g_c[p, r, c] * left
                    moments[5, p, r, c] = g_p[p, r, c] * g_p[p, r, c]
                    moments[6, p, r, c] = g_p[p, r, c] * g_r[p, r, c]
                    moments[7, p, r, c] = g_p[p, r, c] * g_c[p, r, c]
                    moments[8, p, r, c] = g_p[p, r, c] * left
                    structure[p, r, c] = moments[0, p, r, c] + moments[2, p, r, c] + moments[5, p, r, c]
        for k in range(9):
            _smooth(moments[k], window, first, second)
        _add_steps(moments, field)
        for k in range(3):
            _smooth(field[k], smoothing, first, second)
    return structure


@inner_njit()
def _enlarge(field, scale, out):  # pragma: no cover (compiled)
    """A field of an image smaller by ``scale`` along each axis, linearly interpolated at full size, in its pixels."""
    _, planes, height, width = field.shape
    for p in range(out.shape[1]):
        up = min(max((p + 0.5) / scale[0] - 0.5, 0.0), planes - 1.0)
        p0 = int(up)
        p1, fp = min(p0 + 1, planes - 1), _FLOAT(up - p0)
        for r in range(out.shape[2]):
            ur = min(max((r + 0.5) / scale[1] - 0.5, 0.0), height - 1.0)
            r0 = int(ur)
            r1, fr = min(r0 + 1, height - 1), _FLOAT(ur - r0)
            for c in range(out.shape[3]):
                uc = min(max((c + 0.5) / scale[2] - 0.5, 0.0), width - 1.0)
                c0 = int(uc)
                c1, fc = min(c0 + 1, width - 1), _FLOAT(uc - c0)
                for k in range(3):
                    f = field[k]
                    top = f[p0, r0, c0] + fc * (f[p0, r0, c1] - f[p0, r0, c0])
                    bottom = f[p0, r1, c0] + fc * (f[p0, r1, c1] - f[p0, r1, c0])
                    value = top + fr * (bottom - top)
                    if fp > 0:
                        top = f[p1, r0, c0] + fc * (f[p1, r0, c1] - f[p1, r0, c0])
                        bottom = f[p1, r1, c0] + fc * (f[p1, r1, c1] - f[p1, r1, c0])
                        value += fp * (top + fr * (bottom - top) - value)
                    out[k, p, r, c] = _FLOAT(scale[k]) * value


@cached_njit()
def deform_volume(small_x, small_y, scale, aligned, deformed):  # pragma: no cover (compiled)
    """Deform a volume by the field that brings a smaller copy of it onto another one.

    Args:
        small_x: standardised volume.
        small_y: ``aligned`` at that size.
        scale: float64 ``(3,)``, voxels of the full size in one of these, along each axis.
        aligned: standardised volume ``(P, H, W)``.
        deformed: output of the same shape.

    Returns:
        The length of the displacements in voxels, root mean square where the volume has structure.
    """
    field = np.empty((3, *small_y.shape), _FLOAT)
    structure = _fit(small_x, small_y, _WINDOW, _SMOOTHING, field)
    squares, weights = 0.0, 1e-12
    for p in range(structure.shape[0]):
        for r in range(structure.shape[1]):
            for c in range(structure.shape[2]):
                weight = structure[p, r, c]
                weights += weight
                for k in range(3):
                    squares += weight * (scale[k] * field[k, p, r, c]) ** 2
    full = np.empty((3, *aligned.shape), _FLOAT)
    _enlarge(field, scale, full)
    _resample(aligned, full, deformed)
    return np.sqrt(squares / weights)
