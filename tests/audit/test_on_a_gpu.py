"""An audit on a GPU says what one on the CPU says."""

import numpy as np
import pytest
import torch

from monai_deepssim import find_copies, find_duplicates
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import Perturbation

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def sides():
    """Thirty training images; twelve synthetic ones, of which the first eight are changed copies; held-out ones."""
    brains = [item["image"].as_tensor() for item in PhantomBrainDataset(54, seed=43, progress=False)]
    changes = ("mix", "zoom_1.1", "blur_1.5", "warp_1_percent", "crop_10_percent", "inverted", "text", "quarter_turn")
    copies = [
        torch.as_tensor(Perturbation(name).set_random_state(number)(brains[number]))
        for number, name in enumerate(changes)
    ]
    return torch.stack(brains[:30]), torch.stack([*copies, *brains[30:34]]), torch.stack(brains[34:])


def test_labels_sources_and_scores(sides):
    training, synthetic, holdout = sides
    results = [
        find_copies(training.to(device), synthetic.to(device), holdout=holdout, controls=1, device=device)
        for device in ("cpu", "cuda")
    ]
    first, second = (result.matches.sort_values("synthetic_path") for result in results)
    assert second["label"].tolist() == first["label"].tolist()
    assert second["training_path"].tolist() == first["training_path"].tolist()
    np.testing.assert_allclose(second["score"], first["score"], atol=2e-3)
    assert results[1].gate.result == results[0].gate.result
    assert (first["label"] == "duplicate").sum() >= 6


def test_without_a_comparison_on_the_pixels(sides):
    results = [find_copies(*sides[:2], verify=False, controls=None, device=device) for device in ("cpu", "cuda")]
    assert results[1].matches["training_path"].tolist() == results[0].matches["training_path"].tolist()
    np.testing.assert_allclose(results[1].matches["score"], results[0].matches["score"], atol=5e-3)


def test_duplicates_within_a_set(sides):
    images = torch.cat([sides[0][:6], sides[0][:2].flip(3)])
    kept = [find_duplicates(images, device=device).kept for device in ("cpu", "cuda")]
    assert kept[1] == kept[0] == [*range(6)]
