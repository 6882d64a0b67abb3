"""An image changed by five numbers, and the change's gradient: what aligned SSIM tries on a pair, compiled.

A change is a row of numbers: the rotation in radians, the shifts along rows and columns in pixels, the zoom and gamma.
Its convention is that of MONAI's ``Affine``: with indices counted from the centre, the output at v is the input at
``R (v / zoom + shift)``; then follows gamma.

Images are flat here, row by row, with their height and width beside them. So every helper is compiled for one type of
array alone, and loops run over what lies together. For the same end nothing here assigns to a slice or calls NumPy's
solvers and sorts: numba compiles some seconds for each of these.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inner_njit
from monai_deepssim.similarity.kernels.memory import read, write

__all__ = [
    "CHANGE_SIZE",
    "GAMMA",
    "LOGARITHMS",
    "MARGIN",
    "ROTATION",
    "SHIFT_COLUMNS",
    "SHIFT_ROWS",
    "TABLE_SIZE",
    "ZOOM",
    "add_margin",
    "apply_gamma",
    "fill_gamma_table",
    "fill_powers",
    "flip_image",
    "interpolate",
    "map_positions",
    "pool_by_two",
]

#: Where the numbers of a change stand.
ROTATION, SHIFT_ROWS, SHIFT_COLUMNS, ZOOM, GAMMA = range(5)
#: Numbers in a change.
CHANGE_SIZE = 5
#: Entries of the table that stands for x**gamma: a power a pixel would cost more than all the rest.
TABLE_SIZE = 1024
#: Zeros on each side of an image that is interpolated: one pixel fades into the outside, and beyond it nothing changes.
MARGIN = 2
#: Logarithm of each entry's place, which is its slope by gamma; that of 0 is never needed.
LOGARITHMS = np.log(np.maximum(np.arange(TABLE_SIZE + 1), 1) / TABLE_SIZE)
_FLOAT = np.float32


def _smallest_factors(count: int) -> np.ndarray:
    """The smallest prime factor of each number below ``count``; 0 of those below 2."""
    factors = np.zeros(count, np.int64)
    for number in range(count - 1, 1, -1):
        factors[number::number] = number
    return factors


_FACTORS = _smallest_factors(TABLE_SIZE + 1)
_COFACTORS = np.arange(TABLE_SIZE + 1) // np.maximum(_FACTORS, 1)
_LOGARITHMS_OF_NUMBERS = np.log(np.maximum(np.arange(TABLE_SIZE + 1), 1))


@inner_njit()
def fill_powers(gamma, powers):  # pragma: no cover (compiled)
    """Fill an array with ``i ** gamma``: a product of two that are known already, unless i is a prime."""
    powers[0], powers[1] = 0.0, 1.0
    for i in range(2, len(powers)):
        if _COFACTORS[i] == 1:
            powers[i] = np.exp(gamma * _LOGARITHMS_OF_NUMBERS[i])
        else:
            powers[i] = powers[_FACTORS[i]] * powers[_COFACTORS[i]]


@inner_njit()
def fill_gamma_table(gamma, table):  # pragma: no cover (compiled)
    """Fill a table of ``v ** gamma`` for v from 0 to 1, with one entry more so that 1 itself can be interpolated."""
    powers = np.empty(TABLE_SIZE + 1)
    fill_powers(gamma, powers)
    scale = 1.0 / powers[TABLE_SIZE]
    for i in range(TABLE_SIZE + 1):
        table[i] = powers[i] * scale
    table[TABLE_SIZE] = 1.0
    table[TABLE_SIZE + 1] = 1.0


@inner_njit()
def pool_by_two(x, height, width, out):  # pragma: no cover (compiled)
    """Means of blocks of 2 x 2 pixels; a row or column that is left over is dropped."""
    out_width = width // 2
    quarter = _FLOAT(0.25)
    for r in range(height // 2):
        first, second = x[2 * r * width :], x[(2 * r + 1) * width :]
        line = out[r * out_width :]
        for c in range(out_width):
            line[c] = (first[2 * c] + first[2 * c + 1] + second[2 * c] + second[2 * c + 1]) * quarter


@inner_njit()
def flip_image(y, height, width, flips, out):  # pragma: no cover (compiled)
    """Flip an image: bit 1 of ``flips`` for rows, bit 2 for columns."""
    for r in range(height):
        source = y[(height - 1 - r if flips & 2 else r) * width :]
        line = out[r * width :]
        if flips & 4:
            for c in range(width):
                line[c] = source[width - 1 - c]
        else:
            for c in range(width):
                line[c] = source[c]


@inner_njit()
def map_positions(change, scale, height, width, positions):  # pragma: no cover (compiled)
    """Where the change reads an image whose pixels are ``scale`` pixels of the full size wide.

    Args:
        change: the five numbers.
        scale: pixels of the full size in one of the image's.
        height: of the full size.
        width: of the full size.
        positions: output ``(6,)``: row r and column c of the result are read in row ``p[0] r + p[1] c + p[2]`` and
            column ``p[3] r + p[4] c + p[5]``.
    """
    # The centre of the full image, seen in coarser pixels, also where a row was left over.
    centre_r, centre_c = 0.5 * height / scale - 0.5, 0.5 * width / scale - 0.5
    cosine, sine = np.cos(change[ROTATION]), np.sin(change[ROTATION])
    shift_r, shift_c = change[SHIFT_ROWS] / scale, change[SHIFT_COLUMNS] / scale
    a, b = cosine / change[ZOOM], sine / change[ZOOM]
    positions[0], positions[1] = a, -b
    positions[2] = cosine * shift_r - sine * shift_c + centre_r - a * centre_r + b * centre_c
    positions[3], positions[4] = b, a
    positions[5] = sine * shift_r + cosine * shift_c + centre_c - b * centre_r - a * centre_c


@inner_njit()
def add_margin(x, height, width, margin, out):  # pragma: no cover (compiled)
    """An image with so many zeros on all of its sides."""
    pitch = width + 2 * margin
    for i in range((height + 2 * margin) * pitch):
        out[i] = _FLOAT(0.0)
    for r in range(height):
        source, line = x[r * width :], out[(r + margin) * pitch + margin :]
        for c in range(width):
            line[c] = source[c]


@inner_njit(fastmath=True)
def interpolate(y, height, width, positions, out):  # pragma: no cover (compiled)
    """Read an image at the positions of :func:`map_positions`, linearly, zeros from outside.

    Args:
        y: image with :data:`MARGIN` zeros on all sides.
        height: its rows, without these.
        width: its columns, without these.
        positions: where it is read.
        out: output, ``height * width``.
    """
    step_r, step_c, zero = _FLOAT(positions[1]), _FLOAT(positions[4]), _FLOAT(0.0)
    # With the margin, a position that is moved to the edge from beyond reads zeros, and no pixel is a special case.
    last_r, last_c = _FLOAT(height + MARGIN), _FLOAT(width + MARGIN)
    pitch, one = np.int32(width + 2 * MARGIN), np.int32(1)
    for r in range(height):
        row = _FLOAT(positions[0] * r + positions[2] + MARGIN)
        column = _FLOAT(positions[3] * r + positions[5] + MARGIN)
        line = out[r * width :]
        for c in range(width):
            sr = min(max(row + _FLOAT(c) * step_r, zero), last_r)
            sc = min(max(column + _FLOAT(c) * step_c, zero), last_c)
            # 32 bits, of which a vector gathers twice as many.
            r0, c0 = np.int32(sr), np.int32(sc)
            place = np.int32(r0 * pitch + c0)
            below = np.int32(place + pitch)
            fr, fc = sr - _FLOAT(r0), sc - _FLOAT(c0)
            top, bottom = read(y, place), read(y, below)
            top += fc * (read(y, np.int32(place + one)) - top)
            bottom += fc * (read(y, np.int32(below + one)) - bottom)
            write(line, c, top + fr * (bottom - top))


@inner_njit(fastmath=True)
def apply_gamma(values, count, table, out):  # pragma: no cover (compiled)
    """Look up the power of each value in [0, 1]; returns the sum and the sum of squares of the results.

    ``out`` is another array than ``values``.
    """
    total, squares = np.float64(0.0), np.float64(0.0)
    unit, one = _FLOAT(TABLE_SIZE), np.int32(1)
    for begin in range(0, count, 256):  # partial sums, which keep float32 exact enough
        some, some_squares = _FLOAT(0.0), _FLOAT(0.0)
        for i in range(begin, min(begin + 256, count)):
            position = read(values, i) * unit
            entry = np.int32(position)
            low = read(table, entry)
            value = low + (position - _FLOAT(entry)) * (read(table, np.int32(entry + one)) - low)
            write(out, i, value)
            some += value
            some_squares += value * value
        total += some
        squares += some_squares
    return total, squares
