"""Which images share local descriptors with a query: a vote of their nearest neighbours."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from monai_deepssim.ranks import current_ranks, pack_arrays, unpack_arrays
from monai_deepssim.search.descriptor_cells import CellLists, nearest_cells, train_cells
from monai_deepssim.search.feature_table import FeatureTable
from monai_deepssim.similarity import LocalFeatures

__all__ = ["DescriptorIndex"]

# A vote weighs exp(10 (cosine - 1)): 1 for equal descriptors, 0.08 at the cosine where two no longer match.
_SHARPNESS = 10.0
# Below this many descriptors all of them are compared as fast as those of a few cells.
_LEAST_FOR_CELLS = 20_000
# Above it a descriptor is kept as 64 codes of 4 bits, whose tables of distances fit the registers of a processor.
_LEAST_FOR_CODES = 2_000_000
_CODES, _BITS = 64, 4
# Cells that are searched: a share of them all, but no fewer and no more.
_LEAST_PROBED, _PROBED_SHARE, _NUM_PROBED = 4, 0.01, 8
_TRAINED_PER_CELL = 64
# Neighbours by these codes, for each that is wanted, whose cosines are computed from the descriptors themselves.
_RANKED_AGAIN = 3
_BLOCK_SIZE, _ADDED_AT_ONCE = 1024, 2**18


class DescriptorIndex:
    """An index over the local descriptors of many images.

    With 20,000 descriptors or more, an inverted file (Jegou et al., 2011) with 1.3 times the square root of their
    number as cells, of which 4 to 8 are searched, on some 170 bytes per descriptor beside its own 128: the time of a
    query grows with the square root of their number. Above 2 million descriptors, some 7,000 images, FAISS keeps them
    as codes of 4 bits (Andre et al., 2017), and three times as many neighbours as vote are compared again by the
    descriptors themselves: 40 bytes more. With fewer descriptors than 20,000 the search is exact, on 512 bytes more per
    descriptor.

    Several ranks build the index together, and each has all of it: the first trains the cells, and each sorts a part of
    the descriptors into them.

    Args:
        num_neighbors: neighbours of each descriptor that vote.
        use_faiss: whether FAISS may be used above 2 million descriptors; by default where it is installed.

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
        self._table = FeatureTable.of([])
        self._numbers = np.empty(0, np.int64)
        self._rows = torch.empty(0, 128)
        self._lists: CellLists | None = None
        self._index: Any = None
        self._centres = np.empty((0, 128), np.float32)

    @property
    def num_images(self) -> int:
        """Number of images that :meth:`fit` took."""
        return len(self._table)

    def fit(self, descriptors: Sequence[np.ndarray] | FeatureTable) -> DescriptorIndex:
        """Take the descriptors of all images; of several ranks all have to call this alike.

        Args:
            descriptors: for each image uint8 ``(n, 128)``, n may be 0; or a table, which stays where it is.

        Returns:
            This object.

        Raises:
            ValueError: when there are no images, or descriptors are of another type.
        """
        if not len(descriptors):
            raise ValueError("there are no images: give the descriptors of one or more")
        if not isinstance(descriptors, FeatureTable):
            descriptors = FeatureTable.of(LocalFeatures(np.zeros((len(rows), 2)), rows, 1.0) for rows in descriptors)
        self._table, self._numbers = descriptors, descriptors.numbers
        self._lists, self._index, self._rows = None, None, torch.empty(0, 128)
        if self.use_faiss and len(self._numbers) >= _LEAST_FOR_CODES:
            self._index, self._centres = _make_faiss_index(self._table, self._numbers)
        elif len(self._numbers) >= _LEAST_FOR_CELLS:
            self._lists = _make_lists(self._table, self._numbers)
        else:
            self._rows = torch.from_numpy(_unit(self._table.descriptors_of(self._numbers)))
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
        queries = descriptors if descriptors.ndim == 3 else descriptors[None]
        votes = np.zeros(len(queries) * self.num_images)
        voted, weights = self.find_voted(queries)
        votes[voted] = weights
        return votes.reshape(*descriptors.shape[:-2], self.num_images)

    def find_voted(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The images that have votes, few of many.

        Args:
            queries: descriptors of several queries, ``(q, n, 128)``.

        Returns:
            int64 ``(v,)``, the number of the query times that of all images, and the image; and float64 ``(v,)``, the
            weight of its votes there; in ascending order of the first.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        if not self.num_images:
            raise RuntimeError("the index holds no images yet: call fit(descriptors) first")
        if not queries.size or not len(self._numbers):
            return np.empty(0, np.int64), np.empty(0)
        cosines, neighbors = self._search(queries.reshape(-1, 128))
        images = np.where(neighbors >= 0, self._table.images_of(neighbors), -1)
        weights = np.exp(_SHARPNESS * (cosines.astype(np.float64) - 1))
        of_query = np.repeat(np.arange(len(queries)) * self.num_images, queries.shape[1])
        entries = np.where(images >= 0, of_query[:, None] + images, -1)
        voted, places = np.unique(entries, return_inverse=True)
        places = places.reshape(entries.shape)
        votes = np.zeros(len(voted))
        for place in range(images.shape[1]):
            is_first = ~(images[:, :place] == images[:, place : place + 1]).any(axis=1)
            votes += np.bincount(places[is_first, place], weights[is_first, place], minlength=len(voted))
        is_image = voted >= 0
        return voted[is_image], votes[is_image]

    def _search(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosine and number of the nearest keypoints, where there is none -1."""
        k = min(self.num_neighbors, len(self._numbers))
        if self._lists is not None:
            num_cells = len(self._lists.centres)
            num_probed = min(num_cells, _NUM_PROBED, max(_LEAST_PROBED, round(_PROBED_SHARE * num_cells)))
            return self._lists.search(queries, k, num_probed)
        rows = _unit(queries)
        if self._index is not None:
            import faiss

            faiss.omp_set_num_threads(1)  # of this thread: callers look up one image per thread
            cells, cosines = nearest_cells(rows, self._centres, self._index.nprobe)
            _, neighbors = self._index.search_preassigned(rows, _RANKED_AGAIN * k, cells, cosines)
            return self._rank_again(rows, neighbors, k)
        found = [(block @ self._rows.T).topk(k, dim=1) for block in torch.from_numpy(rows).split(_BLOCK_SIZE)]
        cosines, places = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        return cosines, self._numbers[places]

    def _rank_again(self, queries: np.ndarray, neighbors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k neighbours of highest cosine, where there is none -1 at the end."""
        descriptors = _unit(self._table.descriptors_of(np.maximum(neighbors, 0).ravel()))
        cosines = np.einsum("qd,qkd->qk", queries, descriptors.reshape(*neighbors.shape, 128))
        cosines[neighbors < 0] = -1
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(cosines, order, 1), np.take_along_axis(neighbors, order, 1)


def _make_lists(table: FeatureTable, numbers: np.ndarray) -> CellLists:
    """The keypoints by their cells; all ranks have the same ones."""
    num_cells, ranks = int(1.3 * np.sqrt(len(numbers))), current_ranks()
    trained = []
    if ranks.is_first:
        trained = [train_cells(_unit(table.descriptors_of(_sample(table, numbers, num_cells))), num_cells)]
    (centres,) = unpack_arrays(ranks.gather(pack_arrays(trained))[0])
    parts = _parts(numbers)
    cells = np.concatenate(_sort_into_cells(table, parts, centres))
    return CellLists(centres, cells, ((part, table.descriptors_of(part)) for part in parts))


def _make_faiss_index(table: FeatureTable, numbers: np.ndarray) -> tuple[Any, np.ndarray]:
    """An index of codes in which each keypoint has its number, and the centres of its cells, the same on all ranks."""
    import faiss

    num_cells, ranks = int(1.3 * np.sqrt(len(numbers))), current_ranks()
    quantizer = faiss.IndexFlatIP(128)
    index: Any = faiss.IndexIVFPQ(quantizer, 128, num_cells, _CODES, _BITS, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False  # as IndexIVFPQFastScan has it, which is made of this one
    trained: list[np.ndarray] = []
    if ranks.is_first:
        sample = _unit(table.descriptors_of(_sample(table, numbers, num_cells)))
        index.pq.train(sample)
        trained = [train_cells(sample, num_cells), faiss.vector_to_array(index.pq.centroids)]
    centres, codes = unpack_arrays(ranks.gather(pack_arrays(trained))[0])
    quantizer.add(centres)
    faiss.copy_array_to_vector(codes, index.pq.centroids)
    index.is_trained = True
    parts = _parts(numbers)
    for part, cells in zip(parts, _sort_into_cells(table, parts, centres), strict=True):
        rows = _unit(table.descriptors_of(part))
        index.add_core(len(part), *(faiss.swig_ptr(array) for array in (rows, part, cells)))
    unpacked, index = index, faiss.IndexIVFPQFastScan(index)
    nothing = faiss.ArrayInvertedLists(num_cells, unpacked.code_size)
    nothing.this.disown()  # type: ignore[attr-defined]
    unpacked.replace_invlists(nothing, True)  # the one index keeps the other, whose codes it has taken over
    index.nprobe = min(num_cells, _NUM_PROBED)
    return index, centres


def _parts(numbers: np.ndarray) -> list[np.ndarray]:
    return [numbers[start : start + _ADDED_AT_ONCE] for start in range(0, len(numbers), _ADDED_AT_ONCE)]


def _sort_into_cells(table: FeatureTable, parts: Sequence[np.ndarray], centres: np.ndarray) -> list[np.ndarray]:
    """The cell of each keypoint of each part, int64; each rank finds those of some parts."""

    def sort(part: int) -> bytes:
        rows = _unit(table.descriptors_of(parts[part]))
        return nearest_cells(rows, centres, 1)[0].astype(np.int32).tobytes()

    return [np.frombuffer(cells, np.int32).astype(np.int64) for cells in current_ranks().share(len(parts), sort)]


def _sample(table: FeatureTable, numbers: np.ndarray, num_cells: int) -> np.ndarray:
    """Numbers of the keypoints that cells are trained with."""
    # Those of an image are in order of their scale and contrast: every n-th is a sample of all kinds.
    step = max(1, len(numbers) // (_TRAINED_PER_CELL * num_cells))
    starts = np.searchsorted(table.images_of(numbers), np.arange(len(table) + 1)).tolist()
    parts = [numbers[start + image % step : end : step] for image, (start, end) in enumerate(pairwise(starts))]
    return np.concatenate(parts)


def _unit(rows: np.ndarray) -> np.ndarray:
    """float32, scaled to length 1."""
    units = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _BLOCK_SIZE):  # which fit the cache of a processor
        block = rows[start : start + _BLOCK_SIZE].astype(np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        np.divide(block, np.maximum(lengths, 1e-6)[:, None], out=units[start : start + _BLOCK_SIZE])
    return units
