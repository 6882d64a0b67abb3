"""Cells of an inverted file: by the cosine to each centre, and with centres where descriptors are."""

import numpy as np
import torch

from monai_deepssim.search import descriptor_cells
from monai_deepssim.search.descriptor_cells import nearest_cells, train_cells


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_nearest_cells_are_those_of_highest_cosine(monkeypatch) -> None:
    monkeypatch.setattr(descriptor_cells, "_ROWS_OF_THREAD", 300)
    random = np.random.default_rng(0)
    rows, centres = unit(random.normal(size=(1000, 128))), unit(random.normal(size=(40, 128)))
    expected = rows.astype(np.float64) @ centres.T.astype(np.float64)
    for count in (1, 5):
        cells, cosines = nearest_cells(rows, centres, count)
        np.testing.assert_array_equal(cells, np.argsort(-expected, axis=1)[:, :count])
        np.testing.assert_allclose(cosines, -np.sort(-expected, axis=1)[:, :count], atol=1e-6)
    cells, cosines = nearest_cells(rows[:0], centres, 3)
    assert cells.shape == cosines.shape == (0, 3)


def test_trained_cells_lie_where_descriptors_are_with_any_number_of_threads() -> None:
    from sklearn.cluster import KMeans

    random = np.random.default_rng(1)
    about = unit(random.normal(size=(20, 128)))
    sample = unit(np.repeat(about, 100, axis=0) + 0.02 * random.normal(size=(2000, 128)))
    before = torch.get_num_threads()
    try:
        centres = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            centres.append(train_cells(sample, 60))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*centres)
    np.testing.assert_allclose(np.linalg.norm(centres[0], axis=1), 1, rtol=1e-6)
    by_library = KMeans(60, init="random", n_init=1, max_iter=10, random_state=0).fit(sample).cluster_centers_
    ours, theirs = ((sample @ unit(found).T).max(axis=1).mean() for found in (centres[0], by_library))
    assert ours > theirs - 0.002
