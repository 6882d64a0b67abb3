"""At which rank the true source of each query is found."""

from __future__ import annotations

import torch

from monai_deepssim.search import Embeddings, NormalizedRows

__all__ = ["compute_retrieval_rank"]


@torch.no_grad()
def compute_retrieval_rank(
    query_embeddings: Embeddings,
    training_embeddings: Embeddings,
    target_indices: torch.Tensor,
    *,
    block_size: int = 4096,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Compute the rank by cosine of each query's true source among the training embeddings.

    Ranks agree with :class:`~monai_deepssim.search.NearestNeighbors`: a rank of r means that the source is its r-th
    neighbour, ties going to the smaller index. So recall at k is ``(ranks <= k).float().mean()``. Both sides are read
    in blocks, and no ``N x M`` matrix is held.

    Args:
        query_embeddings: ``(N, D)`` tensor, array or memmap, or a sequence of such shards, of any length.
        training_embeddings: ``(M, D)``, in any of these forms.
        target_indices: ``(N,)`` row of each query's source among the training embeddings.
        block_size: rows of a block, on both sides.
        device: where the cosines are computed; where the training embeddings are by default.

    Returns:
        ``(N,)`` int64 on the CPU, 1 when the source is the nearest, M at worst.

    Raises:
        UnusableInputError: when an embedding is all zeros or not finite; the message names the row.
        ValueError: when there is not one target for each query, a target is no training row, or the embeddings differ
            in size.

    Example:
        >>> training = torch.eye(3)
        >>> queries = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
        >>> compute_retrieval_rank(queries, training, torch.tensor([0, 1]))
        tensor([1, 2])
    """
    queries = NormalizedRows(query_embeddings, "query embeddings")
    training = NormalizedRows(training_embeddings, "training embeddings")
    targets = torch.as_tensor(target_indices).cpu()
    _check_targets(targets, queries, training)
    device = training.device if device is None else torch.device(device)
    ranks = torch.ones(len(queries), dtype=torch.int64)
    for start in range(0, len(queries), block_size):
        block = queries.read(start, start + block_size, device)
        block_targets = targets[start : start + len(block)]
        # Rounded to float32 as NearestNeighbors does, so that equal images tie.
        sources = [training.read(row, row + 1, device) for row in block_targets.tolist()]
        target_scores = (block * torch.cat(sources)).sum(dim=1, keepdim=True).float()
        target_columns = block_targets.to(device)[:, None]
        for training_start in range(0, len(training), block_size):
            scores = (block @ training.read(training_start, training_start + block_size, device).T).float()
            columns = torch.arange(training_start, training_start + scores.shape[1], device=device)
            ahead = (scores > target_scores) & (columns != target_columns)
            ahead |= (scores == target_scores) & (columns < target_columns)
            ranks[start : start + len(block)] += ahead.sum(dim=1).cpu()
    return ranks


def _check_targets(targets: torch.Tensor, queries: NormalizedRows, training: NormalizedRows) -> None:
    queries.check_width(training)
    if targets.shape != (len(queries),) or targets.is_floating_point():
        raise ValueError(
            f"target_indices are {targets.dtype} of shape {tuple(targets.shape)}, wanted integers of shape "
            f"({len(queries)},): one training row for each query."
        )
    outside = (targets < 0) | (targets >= len(training))
    if outside.any():
        position = int(outside.nonzero()[0])
        raise ValueError(
            f"target_indices[{position}] is {int(targets[position])}, wanted a row of the {len(training)} training "
            "embeddings, counted from 0."
        )
