"""A search that the ranks of a run share: each looks through its part of the training set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.metrics import CopyDetectionMetric
from monai_deepssim.ranks import current_ranks, pack_arrays, unpack_arrays
from monai_deepssim.search import sort_neighbors

__all__ = ["ShardedSearch"]


class ShardedSearch:
    """Searches the training images with a detector, on all ranks at once.

    Each rank takes a part of the training set, as large as those of the others, looks up all images in it, and the
    lists are merged: nobody holds all of the training set. What a detector with a search of its own finds need not be
    what it finds in parts; there each rank holds all of the training set, and looks up a part of the images. In one
    process this is the detector's own search.

    Args:
        metric: the detector.

    Example:
        >>> from monai_deepssim.metrics import make_detector
        >>> search = ShardedSearch(make_detector("ncc")).fit([np.eye(3, dtype=np.float32)])
        >>> search.search(torch.tensor([[0.0, 2.0, 1.0]]), 2)[1]
        tensor([[1, 2]])
    """

    def __init__(self, metric: CopyDetectionMetric) -> None:
        self.metric = metric
        self._shard = range(0)

    def fit(self, embeddings: Sequence[np.ndarray]) -> ShardedSearch:
        """Take the representations of the training images, on each rank those that it searches.

        Args:
            embeddings: shards ``(n, D)``, as stored.

        Returns:
            This object.

        Raises:
            ValueError: when the detector needs more images than there are.
        """
        ranks, total = current_ranks(), sum(map(len, embeddings))
        self._shard = range(total)
        if self.metric.searches_parts:
            self._shard = range(total * ranks.rank // ranks.size, total * (ranks.rank + 1) // ranks.size)
        if len(self._shard) or ranks.size == 1:
            self.metric.fit_representations(_rows(embeddings, self._shard))
        return self

    def search(self, representations: Tensor, num_neighbors: int) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar; all ranks have to call this alike.

        Args:
            representations: ``(N, D)``.
            num_neighbors: number of neighbours, k.

        Returns:
            ``(scores, indices)``, both ``(N, k)``, the most similar first, as :meth:`CopyDetectionMetric.search` does.
        """
        ranks = current_ranks()
        if ranks.size == 1:
            return self.metric.search(representations, num_neighbors)
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
            scores, indices = self.metric.search(representations, num_neighbors)
            found = [scores.cpu().numpy(), indices.cpu().numpy() + self._shard.start]
        parts = [unpack_arrays(part) for part in ranks.gather(pack_arrays(found))]
        scores, indices = (torch.from_numpy(np.concatenate(side, axis=1)) for side in zip(*parts, strict=True))
        return sort_neighbors(scores, indices, num_neighbors)


def _rows(shards: Sequence[np.ndarray], wanted: range) -> list[np.ndarray]:
    """Some consecutive rows of all shards, which stay on the disk."""
    starts = np.cumsum([0, *map(len, shards)])
    cut = [
        shard[max(wanted.start - start, 0) : max(wanted.stop - start, 0)]
        for start, shard in zip(starts.tolist(), shards, strict=False)
    ]
    return [rows for rows in cut if len(rows)]
