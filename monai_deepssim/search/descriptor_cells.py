"""Cells into which descriptors are sorted, so that a search looks into few of them (an inverted file)."""

from __future__ import annotations

import numpy as np
import torch

from monai_deepssim.similarity import map_in_threads

__all__ = ["nearest_cells", "train_cells"]

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
