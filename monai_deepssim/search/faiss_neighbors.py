"""The same exact search with FAISS as its engine."""

from __future__ import annotations

import torch

from monai_deepssim.search.nearest_neighbors import NearestNeighbors, search_block, sort_neighbors

__all__ = ["FaissNeighbors"]

_SPARE_CANDIDATES = 16  # asked of FAISS beyond k, so that a near tie at the last place seldom needs the exact search


class FaissNeighbors(NearestNeighbors):
    """Finds the same neighbours as :class:`NearestNeighbors`, with FAISS (extra ``[faiss]``) as its engine.

    FAISS's exact inner-product index (``IndexFlatIP``), built for one block of training embeddings at a time, proposes
    candidates in single precision; their cosines are then computed in double precision, as :class:`NearestNeighbors`
    does. Where rounding could have hidden a better candidate from FAISS, the row is searched exactly, so scores,
    indices and ties are the same.

    Johnson, Douze, Jégou. *Billion-scale similarity search with GPUs.* IEEE Transactions on Big Data 7.3 (2019).

    Args:
        block_size: rows of a block, on both sides.
        device: ``"cpu"`` or None, since ``faiss-cpu`` searches nowhere else.

    Raises:
        ImportError: when FAISS is not installed.
        ValueError: when ``device`` is not the CPU, or ``block_size`` is below 1.

    Example:
        >>> training = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
        >>> scores, indices = FaissNeighbors().fit(training).kneighbors(training[2:], num_neighbors=2)
        >>> indices
        tensor([[0, 2]])
    """

    def __init__(self, *, block_size: int = 4096, device: torch.device | str | None = None) -> None:
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(f"FaissNeighbors searches on the CPU, got device {device}. NearestNeighbors takes it.")
        super().__init__(block_size=block_size, device="cpu")
        try:
            import faiss
        except ImportError as error:
            raise ImportError(
                "FaissNeighbors needs FAISS, which is not installed: pip install monai-deepssim[faiss]. "
                "NearestNeighbors finds the same neighbours without it."
            ) from error
        self._faiss = faiss

    def _search_block(self, queries: torch.Tensor, training: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        num_candidates = min(2 * k + _SPARE_CANDIDATES, len(training))
        index = self._faiss.IndexFlatIP(training.shape[1])
        index.add(training.float().numpy())
        proposed_scores, proposed = index.search(queries.float().numpy(), num_candidates)
        candidates = torch.from_numpy(proposed)
        cosines = torch.empty(candidates.shape, dtype=torch.float32)
        # Gathering copies D values per candidate: few enough rows at a time to stay within a block's memory.
        rows_at_once = max(1, self.block_size**2 // (num_candidates * training.shape[1]))
        for start in range(0, len(queries), rows_at_once):
            rows = slice(start, start + rows_at_once)
            cosines[rows] = torch.bmm(training[candidates[rows]], queries[rows].unsqueeze(2)).squeeze(2).float()
        scores, indices = sort_neighbors(cosines, candidates, k)
        if num_candidates < len(training):
            # Higham's bound on a dot product of D terms in single precision, for rows of length 1, doubled.
            largest_error = 2 * (training.shape[1] + 2) * torch.finfo(torch.float32).eps
            unsure = torch.from_numpy(proposed_scores[:, -1]) + largest_error >= scores[:, -1]
            if unsure.any():
                scores[unsure], indices[unsure] = search_block(queries[unsure], training, k)
        return scores, indices
