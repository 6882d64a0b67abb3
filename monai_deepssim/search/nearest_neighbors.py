"""Exact cosine nearest neighbours, streamed in blocks over both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from monai_deepssim.search.normalized_rows import Embeddings, NormalizedRows

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NearestNeighbors", "search_block", "sort_neighbors"]

# Normalised training embeddings up to this many bytes stay in memory; more are read anew in each search.
_MOST_BYTES_KEPT = 2**31


class NearestNeighbors:
    r"""Finds the training embeddings with the highest cosine to each query, exactly.

    .. math:: s_{ij} = \frac{q_i \cdot t_j}{\lVert q_i \rVert \, \lVert t_j \rVert}

    The interface is that of :class:`sklearn.neighbors.NearestNeighbors` with ``metric="cosine"``, but for the scores,
    which are cosines and not distances (1 - cosine). The training embeddings are brought to length 1 once, by
    :meth:`fit`, and kept in double precision up to 2 GiB, 1 million of 256 numbers; of more than that only a block at
    a time is in memory, and normalised in each search.

    Both sides are searched in blocks, so no ``N x M`` matrix is ever held. Cosines are computed in double precision and
    rounded to float32. So equal training images get equal scores, and ties, which go to the smaller index, do not
    depend on the block size (on ``mps``, which has no double precision, single precision is all there is).

    Args:
        block_size: rows of a block, on both sides.
        device: where the cosines are computed; where the training embeddings are by default.

    Raises:
        ValueError: when ``block_size`` is below 1.

    Example:
        >>> training = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 1.0]])
        >>> scores, indices = NearestNeighbors().fit(training).kneighbors(torch.tensor([[5.0, 0.0]]), num_neighbors=3)
        >>> indices
        tensor([[0, 2, 3]])
        >>> scores
        tensor([[1.0000, 1.0000, 0.7071]])
    """

    def __init__(self, *, block_size: int = 4096, device: torch.device | str | None = None) -> None:
        if block_size < 1:
            raise ValueError(f"got block_size={block_size}, want 1 or more")
        self.block_size = block_size
        self.device = None if device is None else torch.device(device)
        self._training: NormalizedRows | None = None
        self._kept_blocks: list[torch.Tensor] | None = None

    def fit(self, training_embeddings: Embeddings) -> Self:
        """Take the training embeddings.

        Args:
            training_embeddings: ``(M, D)`` tensor, numpy array or memmap, or a sequence of such shards. Of any length:
                rows are brought to length 1 here.

        Returns:
            This object.

        Raises:
            UnusableInputError: when a row is all zeros or not finite; the message names the row.
            ValueError: when there is no row, or a shard is not ``(M, D)``.
        """
        training = NormalizedRows(training_embeddings, "training embeddings")
        if len(training) == 0:
            raise ValueError("training embeddings: got no row, want at least one")
        self._training, self._kept_blocks = training, None
        if 8 * len(training) * training.dim <= _MOST_BYTES_KEPT:
            self._kept_blocks = list(self._blocks())
        else:
            training.check(self.block_size)
        return self

    @torch.no_grad()
    def kneighbors(self, queries: Embeddings, num_neighbors: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the nearest training embeddings of each query.

        Args:
            queries: ``(N, D)``, in any form that :meth:`fit` takes.
            num_neighbors: number of neighbours per query, k; fewer when there are fewer training embeddings.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, M))`` and on the CPU: cosines in [-1, 1] as float32 in descending
            order, and the rows of the training embeddings as int64.

        Raises:
            RuntimeError: when :meth:`fit` was not called.
            UnusableInputError: when a row is all zeros or not finite; the message names the row.
            ValueError: when ``D`` is not that of the training embeddings, or ``num_neighbors`` is below 1.
        """
        if self._training is None:
            raise RuntimeError("there is nothing to search yet: call fit(training_embeddings) before kneighbors()")
        if num_neighbors < 1:
            raise ValueError(f"got num_neighbors={num_neighbors}, want 1 or more")
        rows = NormalizedRows(queries, "query embeddings")
        rows.check_width(self._training)
        rows.check(self.block_size)
        device = self.device or self._training.device
        k = min(num_neighbors, len(self._training))
        scores = torch.empty(len(rows), k, dtype=torch.float32)
        indices = torch.empty(len(rows), k, dtype=torch.int64)
        for start in range(0, len(rows), self.block_size):
            block = slice(start, min(start + self.block_size, len(rows)))
            best = self._search(rows.read(block.start, block.stop, device), k)
            scores[block], indices[block] = best[0].cpu(), best[1].cpu()
        return scores, indices

    def _blocks(self) -> Iterator[torch.Tensor]:
        """The training embeddings in blocks, normalised, on the device."""
        assert self._training is not None
        device = self.device or self._training.device
        for start in range(0, len(self._training), self.block_size):
            yield self._training.read(start, start + self.block_size, device)

    def _search(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.empty(len(queries), 0, dtype=torch.float32, device=queries.device)
        indices = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        start = 0
        for block in self._blocks() if self._kept_blocks is None else self._kept_blocks:
            new_scores, new_indices = self._search_block(queries, block, min(k, len(block)))
            scores, indices = sort_neighbors(
                torch.cat([scores, new_scores], dim=1), torch.cat([indices, new_indices + start], dim=1), k
            )
            start += len(block)
        return scores, indices

    def _search_block(self, queries: torch.Tensor, training: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        return search_block(queries, training, k)


def search_block(queries: torch.Tensor, training: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k best rows of one block of training embeddings.

    Args:
        queries: ``(n, D)`` rows of length 1.
        training: ``(m, D)`` rows of length 1.
        k: number of neighbours, at most ``m``.

    Returns:
        ``(scores, indices)``, both ``(n, k)``, in descending order of score, then in ascending order of index.

    Example:
        >>> scores, indices = search_block(torch.eye(2).double(), torch.eye(2).double(), k=1)
        >>> indices
        tensor([[0],
                [1]])
    """
    cosines = (queries @ training.T).float()
    # One more than wanted tells where topk, which breaks ties as it likes, had a choice at the last place.
    scores, indices = cosines.topk(min(k + 1, cosines.shape[1]), dim=1)
    if scores.shape[1] > k:
        tied = scores[:, k - 1] == scores[:, k]
        scores, indices = scores[:, :k], indices[:, :k]
        if tied.any():
            ordered, order = cosines[tied].sort(dim=1, descending=True, stable=True)
            scores[tied], indices[tied] = ordered[:, :k], order[:, :k]
    return sort_neighbors(scores, indices, k)


def sort_neighbors(scores: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Order neighbours by descending score, equal scores by ascending index, and keep the first k.

    Args:
        scores: ``(n, c)``.
        indices: ``(n, c)``.
        k: number of neighbours to keep.

    Returns:
        ``(scores, indices)``, both ``(n, min(k, c))``.

    Example:
        >>> sort_neighbors(torch.tensor([[0.5, 0.9, 0.5]]), torch.tensor([[7, 1, 2]]), 2)
        (tensor([[0.9000, 0.5000]]), tensor([[1, 2]]))
    """
    indices, order = indices.sort(dim=1)
    scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores[:, :k], indices.gather(1, best)[:, :k]
