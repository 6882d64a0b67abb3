"""Which search looks for candidates, what it says when an exact one takes long, and that its recall is measured."""

import sys

import numpy as np
import pytest
import torch

from monai_deepssim.engines import ShardedSearch
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CopyDetectionMetric, make_detector
from monai_deepssim.search import EXACT_SEARCH, choose_engine, engine_choice, faiss_neighbors


class Cosine(CopyDetectionMetric):
    def represent(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


class Distance(Cosine):
    def compare(self, queries: torch.Tensor, training: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(queries, training)


@pytest.fixture(autouse=True)
def _small_indexes(monkeypatch) -> None:
    monkeypatch.setattr(faiss_neighbors, "_LEAST_FOR_INDEX", 300)


def embeddings(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, 16)).astype(np.float32)


@pytest.mark.parametrize("engine", ["faiss", "hnsw"])
def test_the_first_search_measures_the_recall_of_an_index(engine: str) -> None:
    pytest.importorskip("faiss")
    search = ShardedSearch(Cosine(), engine).fit([embeddings(400), embeddings(100, seed=1)])
    assert search.recall == EXACT_SEARCH
    queries = torch.from_numpy(embeddings(300, seed=2))
    exact = ShardedSearch(Cosine()).fit([embeddings(400), embeddings(100, seed=1)]).search(queries, 5)
    found = search.search(queries, 5)
    measured = search.recall
    assert (measured.engine, measured.num_sampled, measured.num_neighbors) == (engine, 200, 5)
    assert measured.recall >= 0.99
    assert float((found[1] == exact[1]).double().mean()) > 0.98
    search.search(queries, 2)
    assert search.recall == measured


def test_a_confined_search_finds_only_what_it_may() -> None:
    queries, among = torch.from_numpy(embeddings(7, seed=2)), torch.arange(50) % 5 == 1
    for kind in (Cosine, Distance):
        search = ShardedSearch(kind()).fit([embeddings(50)])
        every, rows = search.search(queries, 50)
        scores, found = search.search(queries, 4, among)
        for row in range(7):
            allowed = [place for place in range(50) if among[rows[row, place]]][:4]
            assert torch.equal(found[row], rows[row, allowed])
            torch.testing.assert_close(scores[row], every[row, allowed])


def test_exact_is_the_default_until_it_takes_too_long(monkeypatch, capsys) -> None:
    pytest.importorskip("faiss")
    assert choose_engine(10_000, 1_000_000, 64)[0] in ("exact", "ivfpq")
    assert choose_engine(1000, 100_000, 256) == ("exact", "")
    monkeypatch.setattr(engine_choice, "_FEW_PRODUCTS", 0)
    assert choose_engine(1000, 10_000, 16) == ("exact", "")
    monkeypatch.setattr(engine_choice, "LONGEST_EXACT_SECONDS", 0)
    engine, words = choose_engine(1000, 10_000, 16)
    assert engine == "ivfpq"
    assert "1,000 images in 10,000" in words
    assert "--search exact" in words
    search = ShardedSearch(Cosine()).fit([embeddings(100)], num_queries=10)
    assert "so ivfpq searches, and its recall is measured" in capsys.readouterr().out
    search.search(torch.from_numpy(embeddings(20, seed=3)), 4)
    assert search.recall.engine == "ivfpq"
    assert search.recall.recall == 1  # so small a set is searched exactly
    forced = ShardedSearch(Cosine(), "exact").fit([embeddings(100)], num_queries=10)
    assert not capsys.readouterr().out
    assert not forced.metric.uses_index
    monkeypatch.setattr(engine_choice.importlib.util, "find_spec", lambda name: None)
    assert choose_engine(1000, 10_000, 16)[0] == "exact"
    assert "pip install 'monai-deepssim[faiss]'" in choose_engine(1000, 10_000, 16)[1]


def test_what_cannot_be_searched_by_an_index_is_refused(monkeypatch) -> None:
    with pytest.raises(UnusableInputError, match=r"--search hnsw: searches by the cosine.*Give --search exact"):
        ShardedSearch(make_detector("mse"), "hnsw")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnusableInputError, match=r"--search ivfpq: needs FAISS.*pip install 'monai-deepssim\[faiss\]'"):
        ShardedSearch(Cosine(), "ivfpq")
