"""Nearest neighbours by an index of FAISS, with its recall measured against the exact search."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.search.block_screen import NO_INDEX, NO_SCORE, pair_cosines
from monai_deepssim.search.nearest_neighbors import NearestNeighbors
from monai_deepssim.search.neighbor_order import sort_neighbors
from monai_deepssim.search.normalized_rows import Embeddings

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EXACT_SEARCH", "FaissNeighbors", "SearchRecall"]

# Below so many embeddings the exact search is as fast as any index, and an index could not be trained.
_LEAST_FOR_INDEX = 20_000
# Recall up to which an index is asked for more, and how many times as many candidates it is asked for at most.
_RECALL_ASKED, _MOST_EFFORT = 0.99, 64
# Candidates for each neighbour at first: single precision hides few, codes of a few bytes hide more.
_CANDIDATES = {"faiss": 1, "hnsw": 2, "ivfpq": 4}
_SPARE_CANDIDATES = 16
# Malkov and Yashunin's M and efConstruction.
_LINKS, _BREADTH_OF_CONSTRUCTION = 32, 80
# Of the inverted file: embeddings that its cells are trained on per cell, and the share of cells that is looked at.
_TRAINED_PER_CELL, _PROBED_SHARE, _LEAST_PROBED = 40, 1 / 16, 8
# Numbers that one byte of a code stands for, embeddings that the codes are trained on, and rounds of each training.
_NUMBERS_PER_BYTE, _TRAINED_FOR_CODES, _TRAINING_ROUNDS = 8, 10_240, 10


@dataclass(frozen=True)
class SearchRecall:
    """How much of what the exact search finds an index finds.

    Attributes:
        engine: ``exact``, ``faiss``, ``hnsw`` or ``ivfpq``.
        recall: share of the exact neighbours of the sample that the index found, 0 to 1.
        num_sampled: queries that were searched by both; ``None`` of the exact search, which needs no sample.
        num_neighbors: neighbours of each, likewise.
        num_candidates: candidates that the index is asked for, for each query, to reach that, likewise.
    """

    engine: str
    recall: float
    num_sampled: int | None = None
    num_neighbors: int | None = None
    num_candidates: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields, by name."""
        return asdict(self)


#: What is known of the exact search without measuring.
EXACT_SEARCH = SearchRecall("exact", 1.0)


class FaissNeighbors(NearestNeighbors):
    """Finds neighbours as :class:`NearestNeighbors` does, but only among the candidates of an index of FAISS.

    Scores are the same cosines, in double precision, and neighbours have the same order; what the index does not
    propose is missing. :meth:`tune` measures how much that is, and asks the index for more until 99 % are found. The
    index is built once, on the CPU, from blocks; below 20,000 embeddings none is built, and the search is exact.

    * ``faiss``: ``IndexFlatIP``, which compares with all in single precision; 4 D bytes per embedding.
    * ``hnsw``: a graph of near neighbours with 32 links; 4 D + 270 bytes per embedding, slow to build.
    * ``ivfpq``: an inverted file with product quantization; about D / 8 + 8 bytes per embedding.

    Johnson, Douze, Jégou. *Billion-scale similarity search with GPUs.* IEEE Transactions on Big Data 7.3 (2019).
    Malkov, Yashunin. *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
    graphs.* IEEE TPAMI 42.4 (2020).
    Jégou, Douze, Schmid. *Product quantization for nearest neighbor search.* IEEE TPAMI 33.1 (2011).

    Args:
        engine: which index.
        block_size: rows of a block, on both sides.

    Raises:
        UnusableInputError: when FAISS is not installed.
        ValueError: when there is no such engine, or ``block_size`` is below 1.

    Example:
        >>> training = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
        >>> scores, indices = FaissNeighbors("hnsw").fit(training).kneighbors(training[2:], num_neighbors=2)
        >>> indices
        tensor([[0, 2]])
    """

    def __init__(self, engine: str, *, block_size: int = 4096) -> None:
        super().__init__(block_size=block_size, device="cpu")
        if engine not in _CANDIDATES:
            raise ValueError(f"got engine={engine!r}, want one of {', '.join(_CANDIDATES)}")
        try:
            import faiss
        except ImportError as error:
            raise UnusableInputError(
                f"--search {engine}: needs FAISS, which is not installed: pip install 'monai-deepssim[faiss]'. "
                "--search exact needs nothing."
            ) from error
        self.engine, self.effort = engine, 1
        self._faiss: Any = faiss
        self._index: Any = None

    def fit(self, training_embeddings: Embeddings) -> Self:
        super().fit(training_embeddings)
        assert self._training is not None
        self._index, self.effort = None, 1
        if len(self._training) >= _LEAST_FOR_INDEX:
            self._faiss.omp_set_num_threads(torch.get_num_threads())
            self._index = self._make_index(len(self._training), self._training.dim)
            for block in self._blocks(torch.device("cpu")):
                self._index.add(block.in_single_precision().numpy())
        return self

    @torch.no_grad()
    def kneighbors(
        self, queries: Embeddings, num_neighbors: int, among: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._index is None:
            return super().kneighbors(queries, num_neighbors, among)
        training, rows, k = self._prepare(queries, num_neighbors, among)
        lengths = rows.measure(self.block_size)
        scores = torch.empty(len(rows), k, dtype=torch.float32)
        indices = torch.empty(len(rows), k, dtype=torch.int64)
        candidates = min(self.num_candidates(k), len(training))
        step = max(1, self.block_size**2 // (candidates * rows.dim))
        for start in range(0, len(rows) if k else 0, step):
            part = slice(start, min(start + step, len(rows)))
            block = rows.read_block(part.start, part.stop, lengths, "cpu")
            proposed = self._propose(block.in_single_precision(), candidates, among)
            places, columns = (proposed >= 0).nonzero(as_tuple=True)
            found = training.take(proposed[places, columns], self._lengths)
            table = torch.full(proposed.shape, NO_SCORE)
            table[places, columns] = pair_cosines(block.take(places), found)
            proposed[proposed < 0] = NO_INDEX
            scores[part], indices[part] = sort_neighbors(table, proposed, k)
            for row in (scores[part, -1] == NO_SCORE).nonzero().flatten().tolist():  # the index ran out of candidates
                exact = super().kneighbors(block.values[row : row + 1], k, among)
                scores[part.start + row], indices[part.start + row] = exact[0][0], exact[1][0]
        return scores, indices

    def num_candidates(self, num_neighbors: int) -> int:
        """How many candidates the index is asked for, for each query.

        Args:
            num_neighbors: number of neighbours that are wanted.
        """
        return self.effort * _CANDIDATES[self.engine] * num_neighbors + _SPARE_CANDIDATES

    def tune(self, queries: Embeddings, num_neighbors: int) -> SearchRecall:
        """Measure the recall on a sample of queries, and double the candidates until 99 % of the neighbours are found.

        Args:
            queries: ``(N, D)``, the sample; at least one.
            num_neighbors: number of neighbours per query.

        Returns:
            The recall at the number of candidates that later searches use.

        Raises:
            RuntimeError: when :meth:`fit` was not called.
        """
        exact, _ = super().kneighbors(queries, num_neighbors)
        while True:
            scores, _ = self.kneighbors(queries, num_neighbors)
            # By scores, not by indices: of equal neighbours one is as good as another.
            recall = float((scores >= exact[:, -1:]).double().mean())
            if recall >= _RECALL_ASKED or self.effort >= _MOST_EFFORT or self._index is None:
                break
            self.effort *= 2
        return SearchRecall(self.engine, recall, len(exact), num_neighbors, self.num_candidates(num_neighbors))

    def _propose(self, queries: torch.Tensor, candidates: int, among: torch.Tensor | None) -> torch.Tensor:
        """The index's candidates ``(n, c)``, -1 where it has none."""
        faiss, settings = self._faiss, {}
        if among is not None:
            settings["sel"] = faiss.IDSelectorBatch(among.nonzero().flatten().numpy())
        if self.engine == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=candidates, **settings)
        elif self.engine == "ivfpq":
            share = self.effort * _PROBED_SHARE
            probed = min(self._index.nlist, max(_LEAST_PROBED, round(share * self._index.nlist)))
            parameters = faiss.SearchParametersIVF(nprobe=probed, **settings)
        else:
            parameters = faiss.SearchParameters(**settings)
        faiss.omp_set_num_threads(torch.get_num_threads())
        return torch.from_numpy(self._index.search(queries.numpy(), candidates, params=parameters)[1])

    def _make_index(self, num_rows: int, dim: int) -> Any:
        faiss, metric = self._faiss, self._faiss.METRIC_INNER_PRODUCT
        if self.engine == "faiss":
            return faiss.IndexFlatIP(dim)
        if self.engine == "hnsw":
            index = faiss.IndexHNSWFlat(dim, _LINKS, metric)
            index.hnsw.efConstruction = _BREADTH_OF_CONSTRUCTION
            return index
        cells = round(2 * math.sqrt(num_rows))
        most_parts = max(1, dim // _NUMBERS_PER_BYTE)
        parts = max(divisor for divisor in range(1, most_parts + 1) if dim % divisor == 0)
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, cells, parts, 8, metric)
        index.cp.niter = index.pq.cp.niter = _TRAINING_ROUNDS
        index.pq.cp.max_points_per_centroid = _TRAINED_FOR_CODES // 256
        index.train(self._sample(max(_TRAINED_PER_CELL * cells, _LEAST_FOR_INDEX)).numpy())
        return index

    def _sample(self, number: int) -> torch.Tensor:
        """Training embeddings of length 1 at equal distances."""
        assert self._training is not None
        rows = torch.linspace(0, len(self._training) - 1, min(number, len(self._training))).long()
        return self._training.take(rows, self._lengths).in_single_precision()
