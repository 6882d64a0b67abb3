"""Which images share local descriptors with a query: a vote of their nearest neighbours."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["DescriptorIndex"]

# A vote weighs exp(10 (cosine - 1)): 1 for equal descriptors, 0.08 at the cosine where two no longer match.
_SHARPNESS = 10.0
# Below this many descriptors the exact search is as fast as an index.
_LEAST_FOR_FAISS = 20_000
# Up to here descriptors are kept as two bytes per number, up to there as one, and above that as 32 bytes.
_LEAST_FOR_BYTES, _LEAST_FOR_PRODUCT = 2_000_000, 20_000_000
_PRODUCT_BYTES = 32
_PROBED_SHARE, _LEAST_PROBED = 0.01, 4
_TRAINED_PER_CELL = 64
_BLOCK_SIZE = 1024


class DescriptorIndex:
    """An index over the local descriptors of many images.

    With FAISS installed and 20,000 descriptors or more, an inverted file (Jegou et al., 2011) with 1.3 times the square
    root of their number as cells, of which 1 % are searched. A descriptor of 128 numbers takes 256 bytes then, 128
    above 2 million descriptors and 32 (product quantization) above 20 million. Without FAISS, or with fewer
    descriptors, the search is exact, on 512 bytes per descriptor.

    Args:
        num_neighbors: neighbours of each descriptor that vote.
        use_faiss: whether FAISS may be used; by default where it is installed.

    Raises:
        ValueError: when ``num_neighbors`` is below 1.

    References:
        Jegou, Douze, Schmid, Product quantization for nearest neighbor search, IEEE TPAMI 33 (2011).

    Example:
        >>> random = np.random.default_rng(0)
        >>> images = [random.integers(0, 255, (20, 128), dtype=np.uint8) for _ in range(5)]
        >>> votes = DescriptorIndex().fit(images).vote(images[3])
        >>> votes.shape, int(votes.argmax())
        ((5,), 3)
    """

    def __init__(self, num_neighbors: int = 3, use_faiss: bool | None = None) -> None:
        if num_neighbors < 1:
            raise ValueError(f"got num_neighbors={num_neighbors}, want 1 or more")
        self.num_neighbors = num_neighbors
        self.use_faiss = importlib.util.find_spec("faiss") is not None if use_faiss is None else use_faiss
        self.num_images = 0
        self._owners = np.empty(0, np.int64)
        self._rows = torch.empty(0, 128)
        self._index: Any = None

    def fit(self, descriptors: Sequence[np.ndarray]) -> DescriptorIndex:
        """Take the descriptors of all images.

        Args:
            descriptors: for each image ``(n, 128)``, any real type; n may be 0.

        Returns:
            This object.

        Raises:
            ValueError: when there are no images.
        """
        if not len(descriptors):
            raise ValueError("there are no images: give the descriptors of one or more")
        self.num_images = len(descriptors)
        self._owners = np.repeat(np.arange(self.num_images), [len(rows) for rows in descriptors])
        total = len(self._owners)
        if self.use_faiss and total >= _LEAST_FOR_FAISS:
            self._index = _make_faiss_index(descriptors, total)
            self._rows = torch.empty(0, 128)
        else:
            self._index = None
            stacked = np.concatenate([np.asarray(rows).reshape(-1, 128) for rows in descriptors])
            self._rows = torch.from_numpy(_unit(stacked))
        return self

    def vote(self, descriptors: np.ndarray) -> np.ndarray:
        """Let the nearest neighbours of some descriptors vote for the images that they belong to.

        A descriptor votes once for an image, with its most similar neighbour there.

        Args:
            descriptors: descriptors of one query, ``(n, 128)``, or of several, ``(q, n, 128)``.

        Returns:
            float64 ``(number of images,)`` or ``(q, number of images)``, the weight of the votes of each.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        if not self.num_images:
            raise RuntimeError("the index holds no images yet: call fit(descriptors) first")
        queries = descriptors if descriptors.ndim == 3 else descriptors[None]
        votes = np.zeros((len(queries), self.num_images))
        if descriptors.size and len(self._owners):
            cosines, neighbors = self._search(_unit(queries.reshape(-1, 128)))
            images = np.where(neighbors >= 0, self._owners[neighbors], -1)
            weights = np.exp(_SHARPNESS * (cosines.astype(np.float64) - 1))
            of_query = np.repeat(np.arange(len(queries)) * self.num_images, queries.shape[1])
            for place in range(images.shape[1]):
                first = (images[:, place] >= 0) & ~(images[:, :place] == images[:, place : place + 1]).any(axis=1)
                entries = of_query[first] + images[first, place]
                votes += np.bincount(entries, weights[first, place], minlength=votes.size).reshape(votes.shape)
        return votes.reshape(*descriptors.shape[:-2], self.num_images)

    def _search(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = min(self.num_neighbors, len(self._owners))
        if self._index is not None:
            import faiss

            faiss.omp_set_num_threads(1)  # of this thread: callers look up one image per thread
            return self._index.search(queries, k)
        found = [(block @ self._rows.T).topk(k, dim=1) for block in torch.from_numpy(queries).split(_BLOCK_SIZE)]
        return torch.cat([top.values for top in found]).numpy(), torch.cat([top.indices for top in found]).numpy()


def _make_faiss_index(descriptors: Sequence[np.ndarray], total: int) -> Any:
    import faiss

    cells = int(1.3 * np.sqrt(total))
    quantizer = faiss.IndexFlatIP(128)
    if total >= _LEAST_FOR_PRODUCT:
        index: Any = faiss.IndexIVFPQ(quantizer, 128, cells, _PRODUCT_BYTES, 8, faiss.METRIC_INNER_PRODUCT)
    elif total >= _LEAST_FOR_BYTES:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(quantizer, 128, cells, kind, faiss.METRIC_INNER_PRODUCT)
    else:
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(quantizer, 128, cells, kind, faiss.METRIC_INNER_PRODUCT)
    step = max(1, total // (_TRAINED_PER_CELL * cells))
    sample = np.concatenate([rows[i % step :: step] for i, rows in enumerate(descriptors) if len(rows)])
    index.train(_unit(sample))
    for rows in descriptors:
        if len(rows):
            index.add(_unit(rows))
    index.nprobe = max(_LEAST_PROBED, round(_PROBED_SHARE * cells))
    return index


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
