"""Ranks of true sources against a full sort and against the search."""

import numpy as np
import pytest
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import compute_retrieval_rank
from monai_deepssim.search import NearestNeighbors


def make_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy copies of some of 60 training embeddings, each of which is there twice."""
    generator = torch.Generator().manual_seed(0)
    training = torch.randn(30, 6, generator=generator).repeat(2, 1)
    targets = torch.randint(60, (40,), generator=generator)
    return training[targets] + 0.7 * torch.randn(40, 6, generator=generator), training, targets


@pytest.mark.parametrize("block_size", [1, 7, 4096])
def test_the_rank_is_the_place_among_all_neighbors(block_size: int) -> None:
    queries, training, targets = make_case()
    _, order = NearestNeighbors().fit(training).kneighbors(queries, len(training))
    expected = (order == targets[:, None]).int().argmax(dim=1) + 1
    ranks = compute_retrieval_rank(queries, training, targets, block_size=block_size)
    assert ranks.dtype == torch.int64
    assert torch.equal(ranks, expected)
    assert len(ranks.unique()) > 5


def test_shards_and_arrays_give_what_tensors_give() -> None:
    queries, training, targets = make_case()
    expected = compute_retrieval_rank(queries, training, targets)
    shards = [training[:25].numpy(), training[25:26], training[26:].numpy()]
    assert torch.equal(compute_retrieval_rank(queries.numpy(), shards, targets.numpy(), block_size=9), expected)


def test_recall_follows_from_the_ranks() -> None:
    queries, training, targets = make_case()
    _, neighbors = NearestNeighbors().fit(training).kneighbors(queries, 10)
    found = (neighbors == targets[:, None]).any(dim=1).float().mean()
    ranks = compute_retrieval_rank(queries, training, targets)
    assert (ranks <= 10).float().mean() == found
    assert 0 < found < 1


def test_wrong_input_is_explained() -> None:
    queries, training, targets = make_case()
    with pytest.raises(ValueError, match=r"wanted integers of shape \(40,\)"):
        compute_retrieval_rank(queries, training, targets[:3])
    with pytest.raises(ValueError, match=r"wanted integers"):
        compute_retrieval_rank(queries, training, targets.float())
    with pytest.raises(ValueError, match=r"target_indices\[4\] is 60, wanted a row of the 60"):
        compute_retrieval_rank(queries, training, torch.cat([targets[:4], torch.tensor([60]), targets[5:]]))
    with pytest.raises(ValueError, match="5 values per row"):
        compute_retrieval_rank(queries[:, :5], training, targets)
    with pytest.raises(UnusableInputError, match="training embeddings: row 2 of 60 is all zeros"):
        compute_retrieval_rank(queries, np.where(np.arange(60)[:, None] == 2, 0, training.numpy()), targets)
