"""Exact nearest neighbours by any similarity, streamed in blocks over both sides."""

from __future__ import annotations

from collections.abc import Callable

import torch

from monai_deepssim.search.neighbor_order import sort_neighbors

__all__ = ["search_by_similarity"]


@torch.no_grad()
def search_by_similarity(
    queries: torch.Tensor,
    training: torch.Tensor,
    similarity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    num_neighbors: int = 10,
    *,
    block_size: int = 1024,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the training rows that are most similar to each query, exactly.

    For cosines :class:`NearestNeighbors` is faster; this is for similarities that are none. No ``N x M`` matrix is
    held, only ``block_size`` by ``block_size`` of it.

    Args:
        queries: ``(N, D)``.
        training: ``(M, D)``, M of 1 or more.
        similarity: takes ``(n, D)`` and ``(m, D)``, returns ``(n, m)``, higher is closer.
        num_neighbors: number of neighbours per query; fewer when there are fewer training rows.
        block_size: rows of a block, on both sides.

    Returns:
        ``(scores, indices)``, both ``(N, min(num_neighbors, M))`` on the CPU, float32 in descending order and int64;
        equal scores in ascending order of index.

    Raises:
        ValueError: when there is no training row, or a number is below 1.

    Example:
        >>> training = torch.tensor([[0.0], [4.0], [1.0]])
        >>> scores, indices = search_by_similarity(
        ...     torch.tensor([[1.4]]), training, lambda x, y: -torch.cdist(x, y), num_neighbors=2
        ... )
        >>> indices
        tensor([[2, 0]])
    """
    if len(training) == 0:
        raise ValueError("there are no training rows to search: fit on at least one training image")
    if num_neighbors < 1 or block_size < 1:
        raise ValueError(f"got num_neighbors={num_neighbors} and block_size={block_size}, want 1 or more")
    k = min(num_neighbors, len(training))
    best_scores, best_indices = torch.empty(len(queries), k), torch.empty(len(queries), k, dtype=torch.int64)
    for first in range(0, len(queries), block_size):
        query = queries[first : first + block_size]
        scores, indices = torch.empty(len(query), 0), torch.empty(len(query), 0, dtype=torch.int64)
        for start in range(0, len(training), block_size):
            new_scores = similarity(query, training[start : start + block_size]).float().cpu()
            columns = torch.arange(start, start + new_scores.shape[1]).expand(len(query), -1)
            scores, indices = sort_neighbors(
                torch.cat([scores, new_scores], dim=1), torch.cat([indices, columns], dim=1), k
            )
        best_scores[first : first + block_size], best_indices[first : first + block_size] = scores, indices
    return best_scores, best_indices
