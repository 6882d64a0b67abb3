"""Chest X-rays through the whole audit, with the weights that ship."""

import pytest

from monai_deepssim import find_copies
from monai_deepssim.data import read_planted, write_copies_demo
from monai_deepssim.errors import UnusableInputError


@pytest.mark.filterwarnings("ignore:.*training images are few")
def test_copies_among_phantoms_of_the_chest_are_found_by_the_right_name_and_no_other_is_called(tmp_path):
    training, synthetic = write_copies_demo(
        tmp_path / "demo", organ="chest", num_training=24, num_synthetic=12, num_copies=5, augmentation_prob=0.6
    )
    planted = read_planted(tmp_path / "demo")
    result = find_copies(training, synthetic, image_size=(128, 128), controls=None, patient_ids=r"(chest-\d+-\d+)")
    called = result.matches[result.matches["label"] == "duplicate"]
    found = dict(zip(called["synthetic_path"], called["training_path"], strict=True))
    assert found == {name: source for name, source in planted.items() if source}
    assert set(called["patient_id"]) <= {f"chest-2000001-{number}" for number in range(24)}


def test_a_demo_of_another_organ_is_not_taken_for_that_of_the_brain(tmp_path):
    sizes = {"num_training": 2, "num_synthetic": 2, "num_copies": 1}
    write_copies_demo(tmp_path / "demo", organ="chest", **sizes)
    with pytest.raises(UnusableInputError, match="exists and is not this demo"):
        write_copies_demo(tmp_path / "demo", organ="shapes", **sizes)
