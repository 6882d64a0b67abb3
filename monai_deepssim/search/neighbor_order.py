"""The order of neighbours: the highest score first, equal scores by index."""

from __future__ import annotations

import torch

__all__ = ["sort_neighbors"]


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
