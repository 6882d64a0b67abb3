"""Indexes of FAISS find what the exact search finds, as far as their measured recall says."""

import sys

import pytest
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.search import FaissNeighbors, NearestNeighbors, faiss_neighbors

ENGINES = ["faiss", "hnsw", "ivfpq"]


def make_embeddings(num: int, dim: int = 32, seed: int = 0) -> torch.Tensor:
    """Embeddings in 8 directions and a little of all others, as those of a network are."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(8, dim, generator=torch.Generator().manual_seed(9))
    return torch.randn(num, 8, generator=generator) @ directions + 0.1 * torch.randn(num, dim, generator=generator)


@pytest.fixture(autouse=True)
def _small_indexes(monkeypatch) -> None:
    monkeypatch.setattr(faiss_neighbors, "_LEAST_FOR_INDEX", 1000)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_index_finds_with_exact_scores_what_its_recall_says(engine: str) -> None:
    pytest.importorskip("faiss")
    training, queries = make_embeddings(3000), make_embeddings(200, seed=1)
    exact_scores, exact = NearestNeighbors().fit(training).kneighbors(queries, 10)
    search = FaissNeighbors(engine).fit([training[:1700], training[1700:].numpy()])
    measured = search.tune(queries[:100], 10)
    assert measured.as_json() == {
        "engine": engine,
        "recall": measured.recall,
        "num_sampled": 100,
        "num_neighbors": 10,
        "num_candidates": search.num_candidates(10),
    }
    assert measured.recall >= 0.99
    scores, indices = search.kneighbors(queries, 10)
    is_same = indices == exact
    assert float(is_same.double().mean()) > 0.95
    assert torch.equal(scores[is_same], exact_scores[is_same])
    assert (scores.diff(dim=1) <= 0).all()


def test_more_candidates_are_asked_for_where_recall_is_low() -> None:
    pytest.importorskip("faiss")
    # Without structure, codes of a few bytes say little, so that many candidates are needed.
    training, queries = torch.randn(3000, 32), torch.randn(50, 32)
    search = FaissNeighbors("ivfpq").fit(training)
    at_first = search.num_candidates(10)
    exact = NearestNeighbors().fit(training).kneighbors(queries, 10)[0]
    recall_at_first = float((search.kneighbors(queries, 10)[0] >= exact[:, -1:]).double().mean())
    measured = search.tune(queries, 10)
    assert recall_at_first < 0.9 < measured.recall
    assert measured.num_candidates > at_first


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_rows_tie_and_the_smaller_index_comes_first(engine: str) -> None:
    pytest.importorskip("faiss")
    training = make_embeddings(600).repeat(2, 1)
    scores, indices = FaissNeighbors(engine).fit(training).kneighbors(training[:20], 2)
    assert torch.equal(scores[:, 0], torch.ones(20))
    assert torch.equal(indices, torch.stack([torch.arange(20), torch.arange(20) + 600], dim=1))


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_may_be_found_is_found_and_an_index_that_runs_out_is_helped(engine: str) -> None:
    pytest.importorskip("faiss")
    training, queries = make_embeddings(1500), make_embeddings(10, seed=1)
    among = torch.arange(1500) % 300 == 7
    expected = NearestNeighbors().fit(training).kneighbors(queries, 9, among)
    scores, indices = FaissNeighbors(engine).fit(training).kneighbors(queries, 9, among)
    assert torch.equal(scores, expected[0])
    assert torch.equal(indices, expected[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_small_set_is_searched_exactly(engine: str) -> None:
    pytest.importorskip("faiss")
    training, queries = torch.randn(400, 24), torch.randn(30, 24)
    expected = NearestNeighbors().fit(training).kneighbors(queries, 10)
    search = FaissNeighbors(engine).fit(training)
    assert torch.equal(search.kneighbors(queries, 10)[1], expected[1])
    assert search.tune(queries, 10).recall == 1


def test_without_faiss_the_message_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnusableInputError, match=r"pip install 'monai-deepssim\[faiss\]'.*--search exact"):
        FaissNeighbors("hnsw")


def test_an_engine_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="got engine='annoy', want one of faiss, hnsw, ivfpq"):
        FaissNeighbors("annoy")
