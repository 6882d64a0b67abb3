"""Exact cosine nearest neighbours, streamed in blocks over both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from monai_deepssim.search.block_screen import BestNeighbors
from monai_deepssim.search.normalized_rows import Embeddings, NormalizedRows, RowBlock

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NearestNeighbors"]

# Training embeddings up to this many bytes stay on a device that they were brought to; more are brought anew each time.
_MOST_BYTES_KEPT = 2**31
# Numbers of queries that are searched in one pass over the training embeddings.
_QUERY_NUMBERS = 2**25


class NearestNeighbors:
    r"""Finds the training embeddings with the highest cosine to each query, exactly.

    .. math:: s_{ij} = \frac{q_i \cdot t_j}{\lVert q_i \rVert \, \lVert t_j \rVert}

    The interface is that of :class:`sklearn.neighbors.NearestNeighbors` with ``metric="cosine"``, but for the scores,
    which are cosines and not distances (1 - cosine).

    Both sides are searched in blocks, so no ``N x M`` matrix is ever held, and embeddings on the disk stay there: a
    search takes 300 MB of memory, and 8 bytes per training embedding for its length, which :meth:`fit` measures.
    Cosines are first computed in single precision. With u = 2^-24, Higham's bound on a dot product of D terms says how
    far such a cosine may be off, (D + 16) u with the rounding of both sides; whatever could by that be among the k
    highest is computed again in double precision and rounded to float32. So the answer is that of double precision:
    equal training images get equal scores, and ties, which go to the smaller index, do not depend on the block size (on
    ``mps``, which has no double precision, single precision is all there is).

    Higham. *Accuracy and Stability of Numerical Algorithms.* 2nd edition, SIAM (2002), section 3.1.

    Args:
        block_size: rows of a block, on both sides.
        device: where the cosines are computed; where the training embeddings are by default. Each block of them is
            brought there once per search, and 2 GiB of them stay there for the next one.

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
        self._lengths = torch.empty(0)
        self._kept_blocks: list[RowBlock] | None = None

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
        self._training, self._lengths, self._kept_blocks = training, training.measure(self.block_size), None
        device = self.device or training.device
        if device.type != training.device.type and 4 * len(training) * training.dim <= _MOST_BYTES_KEPT:
            self._kept_blocks = list(self._blocks(device))
        return self

    @torch.no_grad()
    def kneighbors(
        self, queries: Embeddings, num_neighbors: int, among: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the nearest training embeddings of each query.

        Args:
            queries: ``(N, D)``, in any form that :meth:`fit` takes.
            num_neighbors: number of neighbours per query, k; fewer when there are fewer training embeddings.
            among: bool ``(M,)``, which training embeddings may be found; all of them by default.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, M))`` and on the CPU: cosines in [-1, 1] as float32 in descending
            order, and the rows of the training embeddings as int64. M is the number of those that may be found.

        Raises:
            RuntimeError: when :meth:`fit` was not called.
            UnusableInputError: when a row is all zeros or not finite; the message names the row.
            ValueError: when ``D`` is not that of the training embeddings, or ``num_neighbors`` is below 1.
        """
        training, rows, k = self._prepare(queries, num_neighbors, among)
        lengths = rows.measure(self.block_size)
        device = self.device or training.device
        allowed = None if among is None else among.to(device)
        scores = torch.empty(len(rows), k, dtype=torch.float32)
        indices = torch.empty(len(rows), k, dtype=torch.int64)
        step = max(self.block_size, _QUERY_NUMBERS // rows.dim)
        for start in range(0, len(rows), step if k else len(rows)):
            part = slice(start, min(start + step, len(rows)))
            best = BestNeighbors(rows.read_block(part.start, part.stop, lengths, device), k, self.block_size)
            first = 0
            for block in self._blocks(device) if self._kept_blocks is None else self._kept_blocks:
                best.add(block, first, None if allowed is None else allowed[first : first + len(block.values)])
                first += len(block.values)
            scores[part], indices[part] = best.scores.cpu(), best.indices.cpu()
        return scores, indices

    def _prepare(
        self, queries: Embeddings, num_neighbors: int, among: torch.Tensor | None
    ) -> tuple[NormalizedRows, NormalizedRows, int]:
        """The training embeddings, the queries, and how many neighbours each of them has."""
        if self._training is None:
            raise RuntimeError("there is nothing to search yet: call fit(training_embeddings) before kneighbors()")
        if num_neighbors < 1:
            raise ValueError(f"got num_neighbors={num_neighbors}, want 1 or more")
        if among is not None and (among.dtype != torch.bool or among.shape != (len(self._training),)):
            raise ValueError(
                f"got among {among.dtype} of shape {tuple(among.shape)}, want bool of shape ({len(self._training)},)"
            )
        rows = NormalizedRows(queries, "query embeddings")
        rows.check_width(self._training)
        return self._training, rows, min(num_neighbors, len(self._training) if among is None else int(among.sum()))

    def _blocks(self, device: torch.device) -> Iterator[RowBlock]:
        """The training embeddings in blocks on the device."""
        assert self._training is not None
        for start in range(0, len(self._training), self.block_size):
            yield self._training.read_block(start, start + self.block_size, self._lengths, device)
