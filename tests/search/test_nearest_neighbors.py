"""Exact cosine top-k against scikit-learn, and the promises on memory, ties and bad rows."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors as ReferenceNeighbors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.search import NearestNeighbors, NormalizedRows, nearest_neighbors

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def make_embeddings(num: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any torch operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("block_size", [1, 7, 64, 4096])
def test_neighbors_equal_those_of_scikit_learn(block_size: int, dtype: torch.dtype, device: str) -> None:
    training, queries = make_embeddings(150).to(dtype), make_embeddings(40, seed=1).to(dtype)
    reference = ReferenceNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(training.double().numpy())
    distances, expected = reference.kneighbors(queries.double().numpy())

    searcher = NearestNeighbors(block_size=block_size, device=device).fit(training)
    scores, indices = searcher.kneighbors(queries, 5)

    assert scores.dtype == torch.float32
    assert indices.dtype == torch.int64
    np.testing.assert_array_equal(indices.numpy(), expected)
    np.testing.assert_allclose(scores.numpy(), 1 - distances, atol=1e-6)


def test_no_tensor_is_larger_than_a_block_or_the_answer() -> None:
    block_size, num_neighbors = 32, 4
    training, queries = make_embeddings(500, dim=8), make_embeddings(400, dim=8, seed=1)
    with LargestTensor() as largest:
        NearestNeighbors(block_size=block_size).fit(training).kneighbors(queries, num_neighbors)
    # A block is filled up to whole groups of 64 columns.
    assert 0 < largest.numel <= max(2 * block_size**2, queries.numel())


def test_no_tensor_is_larger_than_a_block_when_every_score_is_a_tie() -> None:
    block_size, num_neighbors = 32, 4
    training, queries = torch.ones(500, 8), torch.ones(400, 8)
    with LargestTensor() as largest:
        NearestNeighbors(block_size=block_size).fit(training).kneighbors(queries, num_neighbors)
    assert largest.numel <= max(2 * block_size**2, queries.numel())


@pytest.mark.parametrize("block_size", [1, 3, 50, 101, 4096])
def test_ties_go_to_the_smaller_index_whatever_the_block_size(block_size: int) -> None:
    # Every embedding is in the training set ten times, at multiples of 30, as when a generator saw images repeatedly.
    distinct = make_embeddings(30)
    scores, indices = NearestNeighbors(block_size=block_size).fit(distinct.repeat(10, 1)).kneighbors(distinct, 12)
    expected = torch.arange(30)[:, None] + 30 * torch.arange(10)
    assert torch.equal(indices[:, :10], expected)
    assert torch.equal(scores[:, :10], torch.ones(30, 10))
    runner_up = indices[:, 10] % 30
    assert torch.equal(indices[:, 10], runner_up)
    assert torch.equal(indices[:, 11], runner_up + 30)


@pytest.mark.parametrize("block_size", [13, 100])
def test_the_answer_does_not_depend_on_the_block_size_bit_for_bit(block_size: int) -> None:
    training, queries = make_embeddings(300, dim=64), make_embeddings(90, dim=64, seed=1)
    expected_scores, expected_indices = NearestNeighbors().fit(training).kneighbors(queries, 10)
    scores, indices = NearestNeighbors(block_size=block_size).fit(training).kneighbors(queries, 10)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(indices, expected_indices)


def test_a_memmap_an_array_and_shards_give_what_the_tensor_gives(tmp_path) -> None:
    training, queries = make_embeddings(100), make_embeddings(20, seed=1)
    np.save(tmp_path / "training.npy", training.numpy())
    memmap = np.load(tmp_path / "training.npy", mmap_mode="r")
    expected_scores, expected_indices = NearestNeighbors(block_size=16).fit(training).kneighbors(queries, 3)
    shards = [training[:10], memmap[10:10], memmap[10:61], training[61:]]
    for form in (memmap, training.numpy(), shards, tuple(shards)):
        scores, indices = NearestNeighbors(block_size=16).fit(form).kneighbors([queries[:5], queries[5:].numpy()], 3)
        assert torch.equal(scores, expected_scores)
        assert torch.equal(indices, expected_indices)


@pytest.mark.parametrize("num_neighbors", [1, 5, 64, 200])
@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_the_answer_is_that_of_double_precision(order: str, num_neighbors: int) -> None:
    training, queries = make_embeddings(3000), make_embeddings(50, seed=1)
    if order != "random":
        # Each block is better than all before it, or none is.
        position = (training @ queries[0]).argsort(descending=order == "descending")
        training = training[position]
    unit, rows = (torch.nn.functional.normalize(side.double(), dim=1) for side in (queries, training))
    expected, order_of_columns = (unit @ rows.T).float().sort(dim=1, descending=True, stable=True)
    scores, indices = NearestNeighbors(block_size=512).fit(training).kneighbors(queries, num_neighbors)
    assert torch.equal(scores, expected[:, :num_neighbors])
    assert torch.equal(indices, order_of_columns[:, :num_neighbors])


def test_embeddings_that_single_precision_cannot_order_are_ordered() -> None:
    base = make_embeddings(1, dim=256).double()
    training = base + 3e-4 * make_embeddings(300, dim=256, seed=1)
    queries = base + 3e-4 * make_embeddings(20, dim=256, seed=2)
    unit, rows = (torch.nn.functional.normalize(side, dim=1) for side in (queries, training))
    expected, order = (unit @ rows.T).float().sort(dim=1, descending=True, stable=True)
    for form in (training, training.float()):
        scores, indices = NearestNeighbors(block_size=64).fit(form).kneighbors(queries, 10)
        if form is training:
            assert torch.equal(indices, order[:, :10])
        torch.testing.assert_close(scores, expected[:, :10], atol=1e-6, rtol=0)


def test_a_lower_precision_that_is_set_for_all_of_torch_changes_nothing() -> None:
    training, queries = make_embeddings(2000, dim=64), make_embeddings(20, dim=64, seed=1)
    expected = NearestNeighbors().fit(training).kneighbors(queries, 10)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores, indices = NearestNeighbors().fit(training).kneighbors(queries, 10)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(scores, expected[0])
    assert torch.equal(indices, expected[1])


@pytest.mark.parametrize("num_neighbors", [3, 90])
def test_only_what_may_be_found_is_found(num_neighbors: int) -> None:
    training, queries = make_embeddings(300), make_embeddings(20, seed=1)
    among = torch.arange(300) % 7 == 2
    expected_scores, expected = NearestNeighbors().fit(training[among]).kneighbors(queries, num_neighbors)
    scores, indices = NearestNeighbors(block_size=64).fit(training).kneighbors(queries, num_neighbors, among)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(indices, among.nonzero().flatten()[expected])
    nothing = NearestNeighbors().fit(training).kneighbors(queries, 3, torch.zeros(300, dtype=torch.bool))
    assert nothing[0].shape == nothing[1].shape == (20, 0)
    with pytest.raises(ValueError, match=r"want bool of shape \(300,\)"):
        NearestNeighbors().fit(training).kneighbors(queries, 3, among[:10])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("most_bytes", [0, 2**31])
def test_a_gpu_finds_the_same_and_keeps_what_fits(monkeypatch, most_bytes: int) -> None:
    training, queries = make_embeddings(5000, dim=64), make_embeddings(100, dim=64, seed=1)
    expected = NearestNeighbors().fit(training).kneighbors(queries, 10)
    monkeypatch.setattr(nearest_neighbors, "_MOST_BYTES_KEPT", most_bytes)
    search = NearestNeighbors(block_size=512, device="cuda").fit(training)
    read = []
    read_block = NormalizedRows.read_block
    monkeypatch.setattr(NormalizedRows, "read_block", lambda self, *rows: read.append(self) or read_block(self, *rows))
    scores, indices = search.kneighbors(queries, 10)
    assert scores.device == indices.device == torch.device("cpu")
    assert torch.equal(scores, expected[0])
    assert torch.equal(indices, expected[1])
    assert sum(rows.name == "training embeddings" for rows in read) == (0 if most_bytes else 10)


def test_numbers_that_single_precision_cannot_hold_are_searched_in_double() -> None:
    training, queries = make_embeddings(50).double(), make_embeddings(10, seed=1).double()
    expected = NearestNeighbors().fit(training).kneighbors(queries, 5)
    for factor in (1e200, 1e-200):
        scores, indices = (
            NearestNeighbors(block_size=8)
            .fit([training[:20] * factor, training[20:].float()])
            .kneighbors(queries * factor, 5)
        )
        assert torch.equal(scores, expected[0])
        assert torch.equal(indices, expected[1])


def test_the_length_of_an_embedding_does_not_matter() -> None:
    training, queries = make_embeddings(50), make_embeddings(10, seed=1)
    lengths = torch.logspace(-30, 30, 50)[:, None]
    _, expected = NearestNeighbors().fit(training).kneighbors(queries, 5)
    scores, indices = NearestNeighbors().fit(training * lengths).kneighbors(queries * 1e-30, 5)
    assert torch.equal(indices, expected)
    assert scores.abs().max() <= 1


def test_all_training_embeddings_are_returned_when_fewer_than_asked_for() -> None:
    scores, indices = NearestNeighbors(block_size=2).fit(make_embeddings(3)).kneighbors(make_embeddings(4, seed=1), 10)
    assert scores.shape == indices.shape == (4, 3)
    assert (scores.diff(dim=1) <= 0).all()


def test_the_length_of_training_embeddings_is_measured_once(monkeypatch):
    measured, measure = [], NormalizedRows.measure
    monkeypatch.setattr(NormalizedRows, "measure", lambda *rows: measured.append(len(rows[0])) or measure(*rows))
    searcher = NearestNeighbors().fit(make_embeddings(30))
    for _ in range(2):
        searcher.kneighbors(make_embeddings(4, seed=1), 1)
    assert measured == [30, 4, 4]


def test_no_queries_give_an_empty_answer() -> None:
    scores, indices = NearestNeighbors().fit(make_embeddings(3)).kneighbors(torch.zeros(0, 24), 2)
    assert scores.shape == indices.shape == (0, 2)


@pytest.mark.parametrize(
    ("value", "problem"), [(float("nan"), "not finite"), (float("-inf"), "not finite"), (0.0, "zeros")]
)
def test_an_unusable_row_is_named(value: float, problem: str) -> None:
    bad = make_embeddings(20)
    bad[13] = value
    shards = [bad[:10], bad[10:]]
    with pytest.raises(UnusableInputError, match=rf"training embeddings: row 13 of 20 is .*{problem}"):
        NearestNeighbors(block_size=4).fit(shards)
    searcher = NearestNeighbors(block_size=4).fit(make_embeddings(20))
    with pytest.raises(UnusableInputError, match=rf"query embeddings: row 13 of 20 is .*{problem}"):
        searcher.kneighbors(shards, 10)


def test_one_nan_among_good_values_is_found() -> None:
    bad = make_embeddings(20)
    bad[5, 7] = float("nan")
    with pytest.raises(UnusableInputError, match="row 5 of 20"):
        NearestNeighbors().fit(bad)


def test_wrong_use_is_explained() -> None:
    with pytest.raises(ValueError, match="got block_size=0, want 1 or more"):
        NearestNeighbors(block_size=0)
    with pytest.raises(ValueError, match="got num_neighbors=0, want 1 or more"):
        NearestNeighbors().fit(make_embeddings(2)).kneighbors(make_embeddings(2), 0)
    with pytest.raises(RuntimeError, match="call fit"):
        NearestNeighbors().kneighbors(make_embeddings(2), 1)
    with pytest.raises(ValueError, match="want at least one"):
        NearestNeighbors().fit(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="empty sequence"):
        NearestNeighbors().fit([])
    with pytest.raises(ValueError, match=r"shard 1 has shape \(24,\), wanted \(N, D\)"):
        NearestNeighbors().fit([make_embeddings(2), make_embeddings(2)[0]])
    with pytest.raises(ValueError, match=r"differ in embedding size \[8, 24\]"):
        NearestNeighbors().fit([make_embeddings(2), make_embeddings(2, dim=8)])
    with pytest.raises(ValueError, match="8 values per row, the training embeddings 24"):
        NearestNeighbors().fit(make_embeddings(2)).kneighbors(make_embeddings(2, dim=8), 10)
    with pytest.raises(TypeError, match="wanted a tensor or a numpy array"):
        NearestNeighbors().fit([[1.0, 2.0]])
    with pytest.raises(TypeError, match="wanted a tensor"):
        NearestNeighbors().fit(5)
