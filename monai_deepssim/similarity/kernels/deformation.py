"""A small smooth deformation that brings one image nearer to another, after they were aligned: compiled.

Lucas and Kanade's optical flow ("An iterative image registration technique", 1981), dense and damped: around each pixel
the displacement that explains the difference of the two images in the least squares sense, smoothed, eight times over.
A field is two images, displacements along rows and along columns in pixels: the output at v is the input at
``v + field(v)``. :mod:`~monai_deepssim.similarity.kernels.volume_deformation` does the same to a volume.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.changed_ssim import mean_ssim
from monai_deepssim.similarity.kernels.compilation import cached_njit, inner_njit
from monai_deepssim.similarity.kernels.memory import read, write
from monai_deepssim.similarity.kernels.resampling import (
    GAMMA,
    MARGIN,
    TABLE_SIZE,
    add_margin,
    apply_gamma,
    fill_gamma_table,
    flip_image,
    interpolate,
    map_positions,
    pool_by_two,
)

__all__ = ["deform_pair"]

_ITERATIONS = 8
# In pixels of the halved image: half the windows over which a displacement has to explain the difference, and over
# which it is smoothed then. Two passes each, which makes triangles of them.
_RADII = np.array([6, 3])
# In squares of z-scores a pixel: where the image has less structure than that, nothing moves.
_DAMPING = 0.05
_FLOAT = np.float32


@inner_njit(fastmath=True)
def _average_rows(x, height, width, radius, out):  # pragma: no cover (compiled)
    """Means over windows of ``2 radius + 1`` rows, of what there is of them at the edges."""
    total = np.empty(width, _FLOAT)
    for c in range(width):
        total[c] = _FLOAT(0.0)
    for r in range(min(radius, height)):
        line = x[r * width :]
        for c in range(width):
            total[c] += line[c]
    for r in range(height):
        if r + radius < height:
            line = x[(r + radius) * width :]
            for c in range(width):
                total[c] += line[c]
        if r - radius > 0:
            line = x[(r - radius - 1) * width :]
            for c in range(width):
                total[c] -= line[c]
        share = _FLOAT(1.0 / (min(r + radius, height - 1) - max(r - radius, 0) + 1))
        line = out[r * width :]
        for c in range(width):
            line[c] = total[c] * share


@inner_njit(fastmath=True)
def _average_columns(x, height, width, radius, out):  # pragma: no cover (compiled)
    """Means over windows of ``2 radius + 1`` columns, of what there is of them at the edges; radius a multiple of 3."""
    line, shares = np.empty(width + 2 * radius, _FLOAT), np.empty(width, _FLOAT)
    pairs, sixes = np.empty(width + 2 * radius, _FLOAT), np.empty(width + 2 * radius, _FLOAT)
    for c in range(width):
        shares[c] = _FLOAT(1.0 / (min(c + radius, width - 1) - max(c - radius, 0) + 1))
    for c in range(radius):
        line[c] = line[radius + width + c] = _FLOAT(0.0)
    inside = line[radius:]
    for r in range(height):
        source, target = x[r * width :], out[r * width :]
        for c in range(width):
            inside[c] = source[c]
        for c in range(width + 2 * radius - 1):
            write(pairs, c, read(line, c) + read(line, c + 1))
        for c in range(width + 2 * radius - 5):
            write(sixes, c, read(pairs, c) + read(pairs, c + 2) + read(pairs, c + 4))
        last = line[2 * radius :]
        for c in range(width):
            write(target, c, read(last, c) + read(sixes, c))
        for d in range(6, 2 * radius, 6):
            for c in range(width):
                target[c] += sixes[c + d]
        for c in range(width):
            target[c] *= shares[c]


@inner_njit()
def _smooth(x, height, width, radius, scratch):  # pragma: no cover (compiled)
    """Smooth an image in place along both axes by two moving averages."""
    _average_columns(x, height, width, radius, scratch)
    _average_columns(scratch, height, width, radius, x)
    _average_rows(x, height, width, radius, scratch)
    _average_rows(scratch, height, width, radius, x)


@inner_njit(fastmath=True)
def _resample(y, height, width, by_rows, by_columns, out):  # pragma: no cover (compiled)
    """Linear interpolation of ``y`` at the displaced positions, clamped to the image."""
    last_r, last_c, zero = _FLOAT(height - 1), _FLOAT(width - 1), _FLOAT(0.0)
    top_most, left_most, pitch, one = np.int32(height - 2), np.int32(width - 2), np.int32(width), np.int32(1)
    for r in range(height):
        line_r, line_c, line = by_rows[r * width :], by_columns[r * width :], out[r * width :]
        for c in range(width):
            row = min(max(_FLOAT(r) + read(line_r, c), zero), last_r)
            column = min(max(_FLOAT(c) + read(line_c, c), zero), last_c)
            r0, c0 = min(np.int32(row), top_most), min(np.int32(column), left_most)
            place = np.int32(r0 * pitch + c0)
            below = np.int32(place + pitch)
            fr, fc = row - _FLOAT(r0), column - _FLOAT(c0)
            top, bottom = read(y, place), read(y, below)
            top += fc * (read(y, np.int32(place + one)) - top)
            bottom += fc * (read(y, np.int32(below + one)) - bottom)
            write(line, c, top + fr * (bottom - top))


@inner_njit(fastmath=True)
def _multiply(x, warped, height, width, moments, structure):  # pragma: no cover (compiled)
    """Products of the derivatives by rows and columns, 0 at the edges, and of each with what is left to explain."""
    half = _FLOAT(0.5)
    rr, rc, cc, er, ec = moments[0], moments[1], moments[2], moments[3], moments[4]
    across = np.empty(width, _FLOAT)
    across[0] = across[width - 1] = _FLOAT(0.0)
    for r in range(height):
        start = r * width
        above, below = warped[max(r - 1, 0) * width :], warped[min(r + 1, height - 1) * width :]
        inner = half if 0 < r < height - 1 else _FLOAT(0.0)
        here, target = warped[start:], x[start:]
        for c in range(1, width - 1):
            across[c] = half * (here[c + 1] - here[c - 1])
        for c in range(width):
            g_r, g_c, rest = inner * (read(below, c) - read(above, c)), read(across, c), read(target, c) - read(here, c)
            i = start + c
            write(rr, i, g_r * g_r)
            write(rc, i, g_r * g_c)
            write(cc, i, g_c * g_c)
            write(er, i, g_r * rest)
            write(ec, i, g_c * rest)
            write(structure, i, g_r * g_r + g_c * g_c)


@inner_njit(fastmath=True, error_model="numpy")
def _fit(x, y, height, width, field, structure):  # pragma: no cover (compiled)
    """Find the field that brings y onto x, both standardised.

    Args:
        x: image.
        y: image of the same size.
        height: rows of both.
        width: columns of both.
        field: output ``(2, height * width)``.
        structure: output, squared gradients of the last image a pixel: where a displacement can be seen.
    """
    size = height * width
    by_rows, by_columns = field[0], field[1]
    warped, scratch, moments = np.empty(size, _FLOAT), np.empty(size, _FLOAT), np.empty((5, size), _FLOAT)
    rr, rc, cc, er, ec = moments[0], moments[1], moments[2], moments[3], moments[4]
    damping = _FLOAT(_DAMPING)
    for i in range(size):
        by_rows[i] = by_columns[i] = _FLOAT(0.0)
    for _ in range(_ITERATIONS):
        _resample(y, height, width, by_rows, by_columns, warped)
        _multiply(x, warped, height, width, moments, structure)
        for k in range(5):
            _smooth(moments[k], height, width, _RADII[0], scratch)
        # Of each pixel its own damped normal equations, by Cramer's rule.
        for i in range(size):
            inverse = _FLOAT(1.0) / ((rr[i] + damping) * (cc[i] + damping) - rc[i] * rc[i])
            by_rows[i] += (er[i] * (cc[i] + damping) - ec[i] * rc[i]) * inverse
            by_columns[i] += (ec[i] * (rr[i] + damping) - er[i] * rc[i]) * inverse
        _smooth(by_rows, height, width, _RADII[1], scratch)
        _smooth(by_columns, height, width, _RADII[1], scratch)


@inner_njit(fastmath=True)
def _enlarge(field, small_height, small_width, scale, height, width, out):  # pragma: no cover (compiled)
    """A field of an image smaller by ``scale``, linearly interpolated at full size, in its pixels."""
    line = np.empty(small_width, _FLOAT)
    places, following, shares = np.empty(width, np.int32), np.empty(width, np.int32), np.empty(width, _FLOAT)
    for c in range(width):
        column = min(max((c + 0.5) / scale - 0.5, 0.0), small_width - 1.0)
        places[c] = int(column)
        following[c] = min(int(column) + 1, small_width - 1)
        shares[c] = column - int(column)
    length = _FLOAT(scale)
    for r in range(height):
        row = min(max((r + 0.5) / scale - 0.5, 0.0), small_height - 1.0)
        fr = _FLOAT(row - int(row))
        for k in range(2):
            upper = field[k][int(row) * small_width :]
            lower = field[k][min(int(row) + 1, small_height - 1) * small_width :]
            for c in range(small_width):
                line[c] = length * (upper[c] + fr * (lower[c] - upper[c]))
            target = out[k][r * width :]
            for c in range(width):
                left = read(line, read(places, c))
                write(target, c, left + read(shares, c) * (read(line, read(following, c)) - left))


@cached_njit()
def deform_pair(reference, y, size, flips, change, halve, deformed):  # pragma: no cover (compiled)
    """Deform y, flipped and changed as it was found to fit, onto standardised x.

    Args:
        reference: x as SSIM takes it, its arrays flat.
        y: image of the same size in [0, 1], flat.
        size: ``(height, width)``.
        flips: as bits: 2 rows, 4 columns.
        change: see :mod:`~monai_deepssim.similarity.kernels.resampling`.
        halve: whether the field is searched at half the size.
        deformed: output, y after all of this, standardised before its deformation, flat.

    Returns:
        SSIM of x with it, and the length of the displacements in pixels, root mean square where y has structure.
    """
    height, width = size
    z, x_mean, x_variance, c1, c2 = reference
    count = height * width
    table, positions = np.empty(TABLE_SIZE + 2, _FLOAT), np.empty(6)
    aligned, full = np.empty(count, _FLOAT), np.empty((2, count), _FLOAT)
    framed = np.empty((height + 2 * MARGIN) * (width + 2 * MARGIN), _FLOAT)
    flip_image(y, height, width, flips, aligned)
    add_margin(aligned, height, width, MARGIN, framed)
    fill_gamma_table(change[GAMMA], table)
    map_positions(change, 1.0, height, width, positions)
    interpolate(framed, height, width, positions, deformed)
    total, squares = apply_gamma(deformed, count, table, aligned)
    mean = total / count
    deviation = np.sqrt(max(0.0, squares / count - mean * mean))
    if deviation < 1e-6:
        for i in range(count):
            deformed[i] = _FLOAT(0.0)
        return 0.0, 0.0
    shift, inverse = _FLOAT(mean), _FLOAT(1.0 / deviation)
    for i in range(count):
        aligned[i] = (aligned[i] - shift) * inverse
    scale = 2.0 if halve else 1.0
    small_h, small_w = int(height / scale), int(width / scale)
    small_x, small_y = np.empty(small_h * small_w, _FLOAT), np.empty(small_h * small_w, _FLOAT)
    if halve:
        pool_by_two(z, height, width, small_x)
        pool_by_two(aligned, height, width, small_y)
    else:
        flip_image(z, height, width, 0, small_x)
        flip_image(aligned, height, width, 0, small_y)
    field, structure = np.empty((2, small_h * small_w), _FLOAT), np.empty(small_h * small_w, _FLOAT)
    _fit(small_x, small_y, small_h, small_w, field, structure)
    squared_length, weights = 0.0, 1e-12
    for i in range(len(structure)):
        weights += structure[i]
        squared_length += structure[i] * (field[0, i] * field[0, i] + field[1, i] * field[1, i])
    _enlarge(field, small_h, small_w, scale, height, width, full)
    _resample(aligned, height, width, full[0], full[1], deformed)
    total, squares = 0.0, 0.0
    for i in range(count):
        total += deformed[i]
        squares += np.float64(deformed[i]) * deformed[i]
    ssim = mean_ssim(z, x_mean, x_variance, c1, c2, height, width, deformed, total, squares)
    return ssim, scale * np.sqrt(squared_length / weights)
