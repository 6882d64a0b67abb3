"""Embeddings on disk: half precision within 0.001 and refused beyond, and the same shares seen by all ranks."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from rank_threads import on_ranks

from monai_deepssim.engines import NOTICED, EmbeddingStore
from monai_deepssim.engines.stored_precision import in_stored_precision
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.search import NearestNeighbors


def store_of(folder, images, precision) -> EmbeddingStore:
    items = [{"image": image, "path": f"{number}.png", "patient_id": ""} for number, image in enumerate(images)]
    return EmbeddingStore(folder, items, image_size=(8, 8), embedder_id="one", precision=precision)


def write_part(store: EmbeddingStore, positions: np.ndarray, embeddings: np.ndarray) -> bytes:
    notes = pd.DataFrame({"problem": [""] * len(positions)})
    for name in ("problem_kind", "converted", "rows", "columns", *NOTICED):
        notes[name] = "" if name == "problem_kind" else 8 if name in ("rows", "columns") else False
    store.write(positions, embeddings[positions], notes)
    return b""


def write(store: EmbeddingStore, embeddings: np.ndarray) -> list[np.ndarray]:
    store.open()
    for positions in store.missing():
        write_part(store, positions, embeddings)
    store.complete()
    return store.load().embeddings


def test_half_precision_halves_the_file_and_keeps_cosines_within_a_thousandth(tmp_path) -> None:
    embeddings = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    embeddings[7] = embeddings[3]
    images = [torch.full((1, 8, 8), number / 30) for number in range(30)]
    stored = {name: write(store_of(tmp_path / name, images, name), embeddings) for name in ("float32", "float16")}
    assert [array.dtype for array in stored["float16"]] == [np.float16]
    assert np.array_equal(np.concatenate(stored["float32"]), embeddings)
    size = {name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.npy")) for name in stored}
    assert size["float16"] - 128 == (size["float32"] - 128) / 2
    scores = {name: NearestNeighbors().fit(stored[name]).kneighbors(embeddings, 30) for name in stored}
    order = [one[1].argsort(dim=1) for one in scores.values()]
    cosines = [one[0].gather(1, places) for one, places in zip(scores.values(), order, strict=True)]
    assert (cosines[0] - cosines[1]).abs().max() < 0.001
    assert scores["float16"][1][3, :2].tolist() == [3, 7], "equal images tie, and the first comes first"


def test_another_precision_embeds_all_images_again(tmp_path) -> None:
    images = [torch.full((1, 8, 8), number / 3) for number in range(3)]
    write(store_of(tmp_path, images, "float32"), np.eye(3, dtype=np.float32))
    again = store_of(tmp_path, images, "float16")
    again.open()
    assert [len(part) for part in again.missing()] == [3]
    assert "the precision is another one" in again.describe_reuse()
    assert store_of(tmp_path, images, "float32").missing() == []


@pytest.mark.parametrize("factor", [1e5, 1e-8])
def test_numbers_that_half_precision_cannot_hold_are_refused(factor: float) -> None:
    rows = factor * np.ones((2, 4), np.float32)
    assert in_stored_precision(rows, "float32").dtype == np.float32
    with pytest.raises(UnusableInputError, match="Give --embedding_precision float32"):
        in_stored_precision(rows, "float16")


def test_a_rank_that_looks_late_does_not_take_what_others_have_written_for_known(tmp_path) -> None:
    images = [torch.full((1, 8, 8), number / 30) for number in range(30)]
    embeddings = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)

    def write_and_load(ranks) -> tuple[int, np.ndarray]:
        store = store_of(tmp_path / "store", images, "float32")
        store.open()
        time.sleep(0.3 * ranks.rank)
        parts = store.missing(2)
        ranks.share(len(parts), lambda unit: write_part(store, parts[unit], embeddings))
        store.complete()
        return len(parts), np.concatenate(store.load().embeddings)

    (num_parts, found), (others, also_found) = on_ranks(2, write_and_load)
    assert num_parts == others > 1
    assert np.array_equal(found, embeddings)
    assert np.array_equal(also_found, embeddings)
