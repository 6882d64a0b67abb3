"""A search that the ranks of a run share: each looks through its part of the training set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.metrics import CopyDetectionMetric
from monai_deepssim.progress import say
from monai_deepssim.ranks import current_ranks, pack_arrays, unpack_arrays
from monai_deepssim.search import EXACT_SEARCH, FaissNeighbors, SearchRecall, choose_engine, sort_neighbors

__all__ = ["ShardedSearch"]

# Images of the first search that are searched exactly, too, to measure the recall of an index.
_NUM_SAMPLED = 200


class ShardedSearch:
    """Searches the training images with a detector, on all ranks at once.

    Each rank takes a part of the training set, as large as those of the others, looks up all images in it, and the
    lists are merged: nobody holds all of the training set. What a detector with a search of its own finds need not be
    what it finds in parts; there each rank holds all of the training set, and looks up a part of the images. In one
    process this is the detector's own search.

    Where an index of FAISS searches, the first search measures its recall on 200 of its images, and asks the index for
    more candidates where it is low (:meth:`~monai_deepssim.search.FaissNeighbors.tune`).

    Args:
        metric: the detector.
        engine: one of :data:`~monai_deepssim.search.SEARCH_ENGINES`; by default ``exact``, until that takes too long
            (:func:`~monai_deepssim.search.choose_engine`).

    Attributes:
        recall: share of what the exact search finds that this one finds; the lowest of all ranks.

    Example:
        >>> from monai_deepssim.metrics import make_detector
        >>> search = ShardedSearch(make_detector("ncc")).fit([np.eye(3, dtype=np.float32)])
        >>> search.search(torch.tensor([[0.0, 2.0, 1.0]]), 2)[1]
        tensor([[1, 2]])
    """

    def __init__(self, metric: CopyDetectionMetric, engine: str | None = None) -> None:
        self.metric, self.engine = metric, engine
        self.recall: SearchRecall = EXACT_SEARCH
        if engine is not None:
            metric.use_engine(engine)
        self._shard = range(0)

    def fit(self, embeddings: Sequence[np.ndarray], num_queries: int = 0) -> ShardedSearch:
        """Take the representations of the training images, on each rank those that it searches.

        Args:
            embeddings: shards ``(n, D)``, as stored.
            num_queries: images that will be looked up, of which it depends whether an exact search takes too long.

        Returns:
            This object.

        Raises:
            ValueError: when the detector needs more images than there are.
        """
        ranks, total = current_ranks(), sum(map(len, embeddings))
        self._shard = range(total)
        if self.metric.searches_parts:
            self._shard = range(total * ranks.rank // ranks.size, total * (ranks.rank + 1) // ranks.size)
        self.recall = EXACT_SEARCH
        if self.engine is None and self.metric.searches_by_cosine:
            self._choose_engine(num_queries, -(-total // ranks.size), embeddings[0].shape[1])
        if len(self._shard) or ranks.size == 1:
            self.metric.fit_representations(_rows(embeddings, self._shard))
        return self

    def search(self, representations: Tensor, num_neighbors: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar; all ranks have to call this alike.

        Args:
            representations: ``(N, D)``.
            num_neighbors: number of neighbours, k.
            among: bool ``(M,)``, which training images may be found; only for a detector that ``searches_parts``.

        Returns:
            ``(scores, indices)``, both ``(N, k)``, the most similar first, as :meth:`CopyDetectionMetric.search` does.
        """
        ranks = current_ranks()
        self._measure_recall(representations, num_neighbors)
        if ranks.size == 1:
            return self._search_shard(representations, num_neighbors, among)
        if not self.metric.searches_parts:
            share = torch.arange(len(representations)).tensor_split(ranks.size)[ranks.rank]
            found = [np.empty((0, 0)), np.empty((0, 0), np.int64)]
            if len(share):
                found = [part.cpu().numpy() for part in self.metric.search(representations[share], num_neighbors)]
            parts = [unpack_arrays(part) for part in ranks.gather(pack_arrays(found))]
            scores, indices = zip(*(part for part in parts if part[0].size), strict=True)
            return torch.from_numpy(np.concatenate(scores)), torch.from_numpy(np.concatenate(indices))
        found = [np.empty((len(representations), 0), np.float32), np.empty((len(representations), 0), np.int64)]
        if len(self._shard):
            scores, indices = self._search_shard(representations, num_neighbors, among)
            found = [scores.cpu().numpy(), indices.cpu().numpy() + self._shard.start]
        parts = [unpack_arrays(part) for part in ranks.gather(pack_arrays(found))]
        scores, indices = (torch.from_numpy(np.concatenate(side, axis=1)) for side in zip(*parts, strict=True))
        return sort_neighbors(scores, indices, num_neighbors)

    def _search_shard(self, representations: Tensor, num_neighbors: int, among: Tensor | None) -> tuple[Tensor, Tensor]:
        if among is None:
            return self.metric.search(representations, num_neighbors)
        return self.metric.search_among(representations, num_neighbors, among[self._shard.start : self._shard.stop])

    def _choose_engine(self, num_queries: int, num_training: int, dim: int) -> None:
        """Choose the engine on the first rank, for all of them."""
        choice = choose_engine(num_queries, num_training, dim, self.metric.device)
        engine, words = current_ranks().of_first(choice)
        if words:
            say(words)
        self.metric.use_engine(engine)

    def _measure_recall(self, representations: Tensor, num_neighbors: int) -> None:
        """Measure the recall of an index in the first search after it was built, on all ranks."""
        if self.recall.num_sampled is not None or not self.metric.uses_index or not len(representations):
            return
        rows = torch.linspace(0, len(representations) - 1, min(_NUM_SAMPLED, len(representations))).long()
        measured, index = None, self.metric.neighbors
        if isinstance(index, FaissNeighbors) and len(self._shard):
            measured = astuple(index.tune(representations[rows], num_neighbors))
        parts = [json.loads(part) for part in current_ranks().gather(json.dumps(measured).encode())]
        self.recall = min((SearchRecall(*part) for part in parts if part), key=lambda part: part.recall)


def _rows(shards: Sequence[np.ndarray], wanted: range) -> list[np.ndarray]:
    """Some consecutive rows of all shards, which stay on the disk."""
    starts = np.cumsum([0, *map(len, shards)])
    cut = [
        shard[max(wanted.start - start, 0) : max(wanted.stop - start, 0)]
        for start, shard in zip(starts.tolist(), shards, strict=False)
    ]
    return [rows for rows in cut if len(rows)]
