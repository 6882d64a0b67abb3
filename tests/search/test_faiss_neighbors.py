"""FAISS behind the same interface finds the very same neighbours."""

import sys

import pytest
import torch

from monai_deepssim.search import FaissNeighbors, NearestNeighbors


def make_embeddings(num: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block_size", [5, 64, 4096])
@pytest.mark.parametrize("num_neighbors", [1, 10, 1000])
def test_faiss_gives_what_the_exact_search_gives(num_neighbors: int, block_size: int) -> None:
    pytest.importorskip("faiss")
    training, queries = make_embeddings(400), make_embeddings(70, seed=1)
    expected_scores, expected_indices = NearestNeighbors().fit(training).kneighbors(queries, num_neighbors)
    scores, indices = FaissNeighbors(block_size=block_size).fit(training).kneighbors(queries, num_neighbors)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(indices, expected_indices)


def test_faiss_gives_ties_to_the_smaller_index_as_the_exact_search_does() -> None:
    pytest.importorskip("faiss")
    # 50 copies of each: more ties than FAISS is asked candidates for.
    distinct = make_embeddings(8)
    training = distinct.repeat(50, 1)
    expected_scores, expected_indices = NearestNeighbors().fit(training).kneighbors(distinct, 10)
    scores, indices = FaissNeighbors(block_size=4096).fit(training).kneighbors(distinct, 10)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(indices, expected_indices)


def test_faiss_is_overruled_where_single_precision_hides_the_better_candidate() -> None:
    pytest.importorskip("faiss")
    # 300 embeddings so close to one another that single precision cannot order them, and FAISS is asked for 36.
    base = make_embeddings(1, dim=256).double()
    training = base + 3e-4 * make_embeddings(300, dim=256, seed=1)
    queries = base + 3e-4 * make_embeddings(20, dim=256, seed=2)
    expected_scores, expected_indices = NearestNeighbors().fit(training).kneighbors(queries, 10)
    scores, indices = FaissNeighbors().fit(training).kneighbors(queries, 10)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(indices, expected_indices)


def test_without_faiss_the_message_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install monai-deepssim\[faiss\]"):
        FaissNeighbors()


def test_a_device_that_faiss_cannot_use_is_refused() -> None:
    with pytest.raises(ValueError, match="searches on the CPU, got device cuda"):
        FaissNeighbors(device="cuda")
