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
# Above it a descriptor is kept as 64 codes of 4 bits, whose tables of distances fit the registers of a processor, and
# below it as two bytes per number.
_LEAST_FOR_CODES = 2_000_000
_CODES, _BITS = 64, 4
# Cells that are searched: so many, with two bytes per number a share of them all.
_NUM_PROBED, _PROBED_SHARE, _LEAST_PROBED = 8, 0.01, 4
_TRAINED_PER_CELL = 64
# Neighbours by these codes, for each that is wanted, whose cosines are computed from the descriptors themselves.
_RANKED_AGAIN = 3
_BLOCK_SIZE, _ADDED_AT_ONCE = 1024, 2**18


class DescriptorIndex:
    """An index over the local descriptors of many images.

    With FAISS installed and 20,000 descriptors or more, an inverted file (Jegou et al., 2011) with 1.3 times the square
    root of their number as cells, of which 1 % are searched, on 256 bytes per descriptor beside its own 128. Above 2
    million descriptors, some 7,000 images, they are kept as codes of 4 bits (Andre et al., 2017), of which 8 cells are
    searched, and three times as many neighbours as vote are compared again by the descriptors themselves: 40 bytes
    more, and the time of a query grows with the square root of their number. Without FAISS, or with fewer descriptors,
    the search is exact, on 512 bytes more per descriptor.

    Attributes:
        descriptors: of each image, those that :meth:`fit` took, as views of one array.

    Args:
        num_neighbors: neighbours of each descriptor that vote.
        use_faiss: whether FAISS may be used; by default where it is installed.

    Raises:
        ValueError: when ``num_neighbors`` is below 1.

    References:
        Jegou, Douze, Schmid, Product quantization for nearest neighbor search, IEEE TPAMI 33 (2011). Andre, Kermarrec,
        Le Scouarnec, Accelerated nearest neighbor search with Quick ADC, ICMR 2017.

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
        self.descriptors: list[np.ndarray] = []
        self._owners = np.empty(0, np.int64)
        self._descriptors = np.empty((0, 128), np.uint8)
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
        counts = [len(rows) for rows in descriptors]
        self._owners = np.repeat(np.arange(self.num_images), counts)
        self._descriptors = np.concatenate([np.asarray(rows).reshape(-1, 128) for rows in descriptors])
        self.descriptors = np.split(self._descriptors, np.cumsum(counts)[:-1])
        self._index, self._rows = None, torch.empty(0, 128)
        if self.use_faiss and len(self._owners) >= _LEAST_FOR_FAISS:
            self._index = _make_faiss_index(self._descriptors, self.descriptors)
        else:
            self._rows = torch.from_numpy(_unit(self._descriptors))
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
            if len(self._owners) < _LEAST_FOR_CODES:
                return self._index.search(queries, k)
            _, neighbors = self._index.search(queries, _RANKED_AGAIN * k)
            return self._rank_again(queries, neighbors, k)
        found = [(block @ self._rows.T).topk(k, dim=1) for block in torch.from_numpy(queries).split(_BLOCK_SIZE)]
        return torch.cat([top.values for top in found]).numpy(), torch.cat([top.indices for top in found]).numpy()

    def _rank_again(self, queries: np.ndarray, neighbors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k neighbours of highest cosine, where there is none -1 at the end."""
        cosines = np.einsum(
            "qd,qkd->qk", queries, _unit(self._descriptors[neighbors].reshape(-1, 128)).reshape(*neighbors.shape, 128)
        )
        cosines[neighbors < 0] = -1
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, order, 1), np.take_along_axis(neighbors, order, 1)


def _make_faiss_index(descriptors: np.ndarray, of_images: Sequence[np.ndarray]) -> Any:
    import faiss

    cells = int(1.3 * np.sqrt(len(descriptors)))
    quantizer, metric = faiss.IndexFlatIP(128), faiss.METRIC_INNER_PRODUCT
    if len(descriptors) < _LEAST_FOR_CODES:
        kind = faiss.ScalarQuantizer.QT_fp16
        index: Any = faiss.IndexIVFScalarQuantizer(quantizer, 128, cells, kind, metric)
        index.nprobe = max(_LEAST_PROBED, round(_PROBED_SHARE * cells))
    else:
        index = faiss.IndexIVFPQFastScan(quantizer, 128, cells, _CODES, _BITS, metric)
        index.nprobe = _NUM_PROBED
    # Keypoints are in order of their scale and contrast: every n-th is a sample of all kinds.
    step = max(1, len(descriptors) // (_TRAINED_PER_CELL * cells))
    sample = [rows[image % step :: step] for image, rows in enumerate(of_images) if len(rows)]
    index.train(_unit(np.concatenate(sample)))
    for start in range(0, len(descriptors), _ADDED_AT_ONCE):
        index.add(_unit(descriptors[start : start + _ADDED_AT_ONCE]))
    return index


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
