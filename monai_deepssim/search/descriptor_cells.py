"""Cells into which descriptors are sorted, so that a search looks into few of them (an inverted file)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from monai_deepssim.similarity import map_in_threads
from monai_deepssim.similarity.kernels import DESCRIPTORS_AT_ONCE, ensure_compiled, scan_cells

__all__ = ["CellLists", "nearest_cells", "train_cells"]

_ITERATIONS, _SEED = 10, 0
# Rows whose cosines to all centres fit a processor's cache: FAISS takes more, and five times as long.
_ROWS_AT_ONCE, _ROWS_OF_THREAD = 256, 2**15


def train_cells(sample: np.ndarray, num_cells: int) -> np.ndarray:
    """Find centres of cells by spherical k-means: ten steps from descriptors drawn at random.

    The result does not depend on the number of threads.

    Args:
        sample: float32 ``(n, D)``, of length 1.
        num_cells: number of cells, at most n.

    Returns:
        float32 ``(num_cells, D)``, of length 1.

    References:
        Dhillon and Modha, Concept decompositions for large sparse text data using clustering, Machine Learning 42
        (2001).

    Example:
        >>> rows = np.repeat(np.eye(2, dtype=np.float32), 50, axis=0)
        >>> train_cells(rows[::25], 4).sum(axis=0)
        array([2., 2.], dtype=float32)
    """
    random = np.random.default_rng(_SEED)
    centres = sample[random.choice(len(sample), num_cells, replace=False)]
    for _ in range(_ITERATIONS):
        cells = nearest_cells(sample, centres, 1)[0][:, 0]
        order = np.argsort(cells, kind="stable")
        filled, starts = np.unique(cells[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centres[filled] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return centres


def nearest_cells(rows: np.ndarray, centres: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the cells that descriptors are nearest to.

    Args:
        rows: float32 ``(n, D)``.
        centres: float32 ``(number of cells, D)``.
        count: how many cells are wanted for each.

    Returns:
        int64 ``(n, count)``, the cells, the nearest first; and float32 ``(n, count)``, the cosines to their centres.

    Example:
        >>> cells, cosines = nearest_cells(np.eye(3, dtype=np.float32)[1:2], np.eye(3, dtype=np.float32), 1)
        >>> cells.tolist(), cosines.tolist()
        ([[1]], [[1.0]])
    """
    turned = torch.from_numpy(centres).T

    def find(part: int) -> tuple[np.ndarray, np.ndarray]:
        some = torch.from_numpy(rows[part * _ROWS_OF_THREAD : (part + 1) * _ROWS_OF_THREAD])
        cells = np.empty((len(some), count), np.int64)
        cosines = np.empty((len(some), count), np.float32)
        for start in range(0, len(some), _ROWS_AT_ONCE):
            place = slice(start, start + _ROWS_AT_ONCE)
            similarity = some[place] @ turned
            if count == 1:  # several times faster than topk
                cells[place, 0] = similarity.numpy().argmax(axis=1)
                cosines[place, 0] = np.take_along_axis(similarity.numpy(), cells[place], 1)[:, 0]
            else:
                top = similarity.topk(count, dim=1)
                cells[place], cosines[place] = top.indices.numpy(), top.values.numpy()
        return cells, cosines

    parts = map_in_threads(find, max(1, -(-len(rows) // _ROWS_OF_THREAD)))
    cells, cosines = zip(*parts, strict=True)
    return np.concatenate(cells), np.concatenate(cosines)


class CellLists:
    """Descriptors in the order of their cells, of which a search compares those in the nearest cells alone.

    Cosines are exact: the products of descriptors are whole numbers.

    Args:
        centres: float32 ``(number of cells, 128)``, of length 1.
        cells: int64 ``(n,)``, the cell of each descriptor.
        parts: the descriptors in this order, some at a time: what a search calls them, int64 ``(m,)``, and uint8
            ``(m, 128)``.

    Example:
        >>> rows = np.eye(128, dtype=np.uint8) * 200
        >>> lists = CellLists(rows[:2] / np.float32(200), np.repeat([0, 1], 64), [(np.arange(128), rows)])
        >>> cosines, numbers = lists.search(rows[70:71], 1, 2)
        >>> cosines.tolist(), numbers.tolist()
        ([[1.0]], [[70]])
    """

    def __init__(self, centres: np.ndarray, cells: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        ensure_compiled()
        self.centres = centres
        counts = np.bincount(cells, minlength=len(centres))
        self._starts = np.cumsum([0, *-(-counts // DESCRIPTORS_AT_ONCE)])
        # Where each descriptor lies: after the others of its cell that come before it.
        order = np.argsort(cells, kind="stable")
        all_places = np.empty(len(cells), np.int64)
        within = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
        all_places[order] = self._starts[cells[order]] * DESCRIPTORS_AT_ONCE + within
        self._blocks = np.zeros((self._starts[-1], 128, DESCRIPTORS_AT_ONCE), np.uint8)
        self._inverse = np.zeros(self._blocks.shape[::2], np.float32)
        self._numbers = np.full(self._inverse.size, -1)
        done = 0
        for numbers, rows in parts:
            places = all_places[done : done + len(rows)]
            blocks, columns = np.divmod(places, DESCRIPTORS_AT_ONCE)
            self._blocks[blocks, :, columns] = rows
            self._inverse[blocks, columns] = _inverse_lengths(rows)
            self._numbers[places] = numbers
            done += len(rows)

    def search(self, queries: np.ndarray, count: int, num_probed: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the descriptors of highest cosine in the nearest cells of each query.

        Args:
            queries: uint8 ``(n, 128)``.
            count: how many are wanted.
            num_probed: cells that are looked into.

        Returns:
            float32 ``(n, count)``, cosines, the highest first, and int64 ``(n, count)``, numbers; -1 where there are no
            more with a cosine above 0.
        """
        rows, inverse = np.ascontiguousarray(queries, np.float32), _inverse_lengths(queries)
        cells, _ = nearest_cells(rows * inverse[:, None], self.centres, num_probed)
        order = np.argsort(cells.ravel(), kind="stable")
        values, places = np.zeros((len(rows), count), np.float32), np.full((len(rows), count), -1)
        scan_cells(
            self._blocks,
            self._inverse,
            self._starts,
            rows,
            order // num_probed,
            cells.ravel()[order],
            values,
            places,
        )
        return values * inverse[:, None], np.where(places >= 0, self._numbers[places], -1)


def _inverse_lengths(rows: np.ndarray) -> np.ndarray:
    """1 / length of each descriptor, float32 ``(n,)``."""
    lengths = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS_OF_THREAD):
        block = rows[start : start + _ROWS_OF_THREAD].astype(np.float32)
        lengths[start : start + _ROWS_OF_THREAD] = np.sqrt(np.einsum("ij,ij->i", block, block))
    return 1 / np.maximum(lengths, np.float32(1e-6))
