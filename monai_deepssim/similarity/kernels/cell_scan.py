"""The nearest of the descriptors in a few cells, for many queries at once: compiled."""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import cached_njit, inner_njit

__all__ = ["DESCRIPTORS_AT_ONCE", "scan_cells"]

#: Descriptors that lie beside each other, number by number, so that one instruction takes several of them.
DESCRIPTORS_AT_ONCE = 64
_WIDTH, _SIZE = DESCRIPTORS_AT_ONCE, 128
_FLOAT = np.float32


@inner_njit(fastmath=True)
def _multiply(block, query, products):  # pragma: no cover (compiled)
    """Products of a query with the descriptors of a block: whole numbers below 2²⁴, so that no sum is rounded."""
    for place in range(_WIDTH):
        products[place] = _FLOAT(0.0)
    for i in range(0, _SIZE, 8):
        a, b, c, d = query[i], query[i + 1], query[i + 2], query[i + 3]
        e, f, g, h = query[i + 4], query[i + 5], query[i + 6], query[i + 7]
        for place in range(_WIDTH):
            products[place] += (
                a * block[i, place]
                + b * block[i + 1, place]
                + c * block[i + 2, place]
                + d * block[i + 3, place]
                + e * block[i + 4, place]
                + f * block[i + 5, place]
                + g * block[i + 6, place]
                + h * block[i + 7, place]
            )


@inner_njit()
def _insert(values, places, value, place):  # pragma: no cover (compiled)
    """Put a value among the highest, which are in descending order; of equal ones it is the last."""
    k = len(values) - 1
    while k > 0 and value > values[k - 1]:
        values[k], places[k] = values[k - 1], places[k - 1]
        k -= 1
    values[k], places[k] = value, place


@cached_njit()
def scan_cells(blocks, inverse, starts, queries, order, cells, values, places):  # pragma: no cover (compiled)
    """Find the descriptors of highest cosine, times the length of the query, in the cells of each query.

    Args:
        blocks: uint8 ``(number of blocks, 128, 64)``, descriptors in columns; a cell fills the last of its blocks up
            with zeros.
        inverse: float32 ``(number of blocks, 64)``, 1 / length of each descriptor, 0 where there is none.
        starts: int64 ``(number of cells + 1,)``, the first block of each cell.
        queries: float32 ``(n, 128)``, whole numbers from 0 to 255.
        order: int64 ``(m,)``, queries, by the cell that is looked into.
        cells: int64 ``(m,)``, these cells, in ascending order.
        values: float32 ``(n, k)``, zeros, and output, the highest first.
        places: int64 ``(n, k)``, -1, and output, ``64 x block + column``.
    """
    products, block = np.empty(_WIDTH, _FLOAT), np.empty((_SIZE, _WIDTH), _FLOAT)
    first, last = 0, 0
    while first < len(cells):
        cell = cells[first]
        while last < len(cells) and cells[last] == cell:
            last += 1
        for number in range(starts[cell], starts[cell + 1]):
            for i in range(_SIZE):
                for place in range(_WIDTH):
                    block[i, place] = _FLOAT(blocks[number, i, place])
            for entry in range(first, last):
                query = order[entry]
                _multiply(block, queries[query], products)
                highest = _FLOAT(0.0)
                for place in range(_WIDTH):
                    products[place] *= inverse[number, place]
                    highest = max(highest, products[place])
                if highest <= values[query, -1]:
                    continue
                for place in range(_WIDTH):
                    if products[place] > values[query, -1]:
                        _insert(values[query], places[query], products[place], number * _WIDTH + place)
        first = last
