"""The best neighbours so far, and what of another block of training embeddings may be among them.

Single precision screens, double precision decides: see :class:`~monai_deepssim.search.NearestNeighbors`.
"""

from __future__ import annotations

import torch

from monai_deepssim.search.neighbor_order import sort_neighbors
from monai_deepssim.search.normalized_rows import RowBlock

__all__ = ["NO_INDEX", "NO_SCORE", "BestNeighbors", "pair_cosines"]

#: Score and index of a place that is not taken: below every cosine, and behind every row.
NO_SCORE, NO_INDEX = -2.0, torch.iinfo(torch.int64).max

# Columns of a block whose highest cosine is looked at first: most groups have nothing that counts.
_GROUP = 64
# From this share of a block on, all of its cosines are computed in double precision at once.
_DENSE_SHARE = 1 / 32
# Numbers of pairs of embeddings that are compared in double precision at a time: few large steps, since each of them
# waits for all threads, and not so large that their memory is mapped anew each time.
_PAIR_NUMBERS = 2**21


class BestNeighbors:
    """The k best neighbours of some queries among the training embeddings that were added.

    Args:
        queries: the queries, n of them.
        k: number of neighbours.
        block_size: queries that are compared with a block at a time.

    Attributes:
        scores: float32 ``(n, k)`` in descending order.
        indices: int64 ``(n, k)``; equal scores in ascending order of index.

    Example:
        >>> block = RowBlock(torch.eye(3)[[0, 2, 0]], torch.ones(3).double())
        >>> best = BestNeighbors(block.take(torch.tensor([2])), k=2, block_size=8)
        >>> best.add(block, first=10)
        >>> best.indices
        tensor([[10, 12]])
    """

    def __init__(self, queries: RowBlock, k: int, block_size: int) -> None:
        self._queries, self._single, self._block_size = queries, queries.in_single_precision(), block_size
        device = queries.values.device
        self.scores = torch.full((len(queries.values), k), NO_SCORE, device=device)
        self.indices = torch.full((len(queries.values), k), NO_INDEX, device=device)
        # How far a cosine in single precision may be off, from both sides and from the rounding of what it is
        # compared with.
        self._error = (queries.values.shape[1] + 16) * torch.finfo(torch.float32).eps / 2
        self._buffer, self._rows = torch.empty(0, device=device), torch.empty(0, device=device)

    def add(self, block: RowBlock, first: int, allowed: torch.Tensor | None = None) -> None:
        """Compare a block of training embeddings with all queries, and keep what is among the best.

        Args:
            block: the block, m rows.
            first: index of its first row.
            allowed: bool ``(m,)``, which rows may be found; all of them by default.
        """
        if not self.scores.numel():
            return
        num_columns = len(block.values)
        if len(self._rows) < num_columns:
            self._rows = torch.empty_like(block.values, dtype=torch.float32)
        rows = block.in_single_precision(self._rows[:num_columns])
        hidden = None if allowed is None else (~allowed).nonzero().flatten()
        for start in range(0, len(self._single), self._block_size):
            part = slice(start, min(start + self._block_size, len(self._single)))
            cosines = self._multiply(self._single[part], rows)
            if hidden is not None:
                cosines.index_fill_(1, hidden, NO_SCORE)
            places, columns = self._screen(cosines, self.scores[part, -1])
            counts = torch.bincount(places, minlength=part.stop - part.start)
            is_dense = counts > max(_DENSE_SHARE * num_columns, 2)
            if is_dense.any():
                is_sparse = ~is_dense[places]
                places, columns = places[is_sparse], columns[is_sparse]
                self._add_dense(is_dense.nonzero().flatten() + start, block, first, hidden)
            self._add_pairs(places + start, columns, block, first)

    def _multiply(self, queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Cosines ``(n, m)`` in full single precision; m is filled up to whole groups with what is not found."""
        num_columns = -(-len(rows) // _GROUP) * _GROUP
        if self._buffer.numel() < len(queries) * num_columns:
            self._buffer = torch.empty(len(queries) * num_columns, device=rows.device)
        cosines = self._buffer[: len(queries) * num_columns].view(len(queries), num_columns)
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # the bound is that of IEEE single precision, not of TF32
        try:
            with torch.autocast(rows.device.type, enabled=False):
                torch.mm(queries, rows.T, out=cosines[:, : len(rows)])
        finally:
            torch.set_float32_matmul_precision(precision)
        cosines[:, len(rows) :] = NO_SCORE
        return cosines

    def _screen(self, cosines: torch.Tensor, worst: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and columns of the cosines that may be among the k best."""
        k = self.scores.shape[1]
        groups = cosines.unflatten(1, (-1, _GROUP))
        peaks = groups.amax(-1)
        floor = (worst - self._error).clamp(min=NO_SCORE / 2)
        crowded = ((peaks >= floor[:, None]).sum(1) > 2 * k).nonzero().flatten()
        # k columns are at least as high as the k-th highest of the peaks, so that nothing below it counts.
        highest = peaks if k <= peaks.shape[1] else cosines
        if len(crowded) and k <= highest.shape[1]:
            least = highest[crowded].topk(k).values[:, -1] - 2 * self._error
            floor[crowded] = torch.maximum(floor[crowded], least)
        places, numbers = (peaks >= floor[:, None]).nonzero(as_tuple=True)
        hits, inside = (groups[places, numbers] >= floor[places, None]).nonzero(as_tuple=True)
        return places[hits], numbers[hits] * _GROUP + inside

    def _add_pairs(self, places: torch.Tensor, columns: torch.Tensor, block: RowBlock, first: int) -> None:
        """Take single pairs, by query in ascending order."""
        if not len(places):
            return
        step = max(1, min(self._block_size**2, _PAIR_NUMBERS) // block.values.shape[1])
        scores = torch.cat(
            [
                pair_cosines(
                    self._queries.take(places[start : start + step]), block.take(columns[start : start + step])
                )
                for start in range(0, len(places), step)
            ]
        )
        rows, counts = torch.unique_consecutive(places, return_counts=True)
        place = torch.arange(len(places), device=places.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        line = torch.arange(len(rows), device=places.device).repeat_interleave(counts)
        table = torch.full((len(rows), int(counts.max())), NO_SCORE, device=places.device)
        indices = torch.full(table.shape, NO_INDEX, device=places.device)
        table[line, place], indices[line, place] = scores, columns + first
        self._keep(rows, table, indices)

    def _add_dense(self, rows: torch.Tensor, block: RowBlock, first: int, hidden: torch.Tensor | None) -> None:
        """Take all of a block, for queries that it is crowded for."""
        cosines = (self._queries.take(rows).in_double_precision() @ block.in_double_precision().T).float()
        if hidden is not None:
            cosines.index_fill_(1, hidden, NO_SCORE)
        scores, columns = _best_columns(cosines, min(self.scores.shape[1], cosines.shape[1]))
        self._keep(rows, scores, torch.where(scores > NO_SCORE, columns + first, NO_INDEX))

    def _keep(self, rows: torch.Tensor, scores: torch.Tensor, indices: torch.Tensor) -> None:
        self.scores[rows], self.indices[rows] = sort_neighbors(
            torch.cat([self.scores[rows], scores], dim=1),
            torch.cat([self.indices[rows], indices], dim=1),
            self.scores.shape[1],
        )


def pair_cosines(first: RowBlock, second: RowBlock) -> torch.Tensor:
    """Compute the cosine of each row with its partner, in double precision, rounded to float32.

    Args:
        first: n rows.
        second: n rows.

    Returns:
        float32 ``(n,)``.

    Example:
        >>> pair_cosines(RowBlock(torch.eye(2), torch.ones(2).double()), RowBlock(torch.eye(2), torch.ones(2).double()))
        tensor([1., 1.])
    """
    wide = first.lengths.dtype
    products = (first.values.to(wide) * second.values.to(wide)).sum(1)
    return (products / (first.lengths * second.lengths)).float()


def _best_columns(cosines: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest of each row, and their columns; equal ones in ascending order of column."""
    # One more than wanted tells where topk, which breaks ties as it likes, had a choice at the last place.
    scores, indices = cosines.topk(min(k + 1, cosines.shape[1]), dim=1)
    if scores.shape[1] > k:
        tied = scores[:, k - 1] == scores[:, k]
        scores, indices = scores[:, :k], indices[:, :k]
        if tied.any():
            ordered, order = cosines[tied].sort(dim=1, descending=True, stable=True)
            scores[tied], indices[tied] = ordered[:, :k], order[:, :k]
    return sort_neighbors(scores, indices, k)
