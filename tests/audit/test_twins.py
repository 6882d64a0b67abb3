"""Copies of synthetic copies, and training images that are identical."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_deepssim import find_copies, remove_copies
from monai_deepssim.audit.summary import summarize
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.report import file_sentences


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(image[0].numpy(), sigma)[None])


@pytest.fixture(scope="module")
def phantoms() -> torch.Tensor:
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(12, 1, progress=False)])


@pytest.fixture(scope="module")
def drifted(phantoms) -> torch.Tensor:
    """Three of other subjects, a blurred copy of the first training image, and its mirror image, blurred once more."""
    copy = blurred(phantoms[3], 3)
    return torch.stack([*phantoms[8:11], copy, blurred(copy.flip(2), 3)])


def test_the_mirrored_twin_of_a_copy_is_named_and_counts_though_it_scores_below_the_threshold(phantoms, drifted):
    patients = [f"patient {number}" for number in range(8)]
    options = {"patient_ids": patients, "controls": None, "max_copy_fraction": 0.3, "gate_on": "files"}
    result = find_copies(phantoms[:8], drifted, **options)
    matches = result.matches.sort_index()
    assert matches["label"][3:].tolist() == ["duplicate", "similar"]
    assert matches["twin_of"].tolist() == [""] * 4 + ["synthetic[3]"]
    assert matches["twin_score"][4] > 0.97 > result.thresholds.duplicate > matches["score"][4]
    assert result.gate.suspicious == {"copies": 1, "parts": 0, "twins": 1, "discoveries": 0, "unexplained": 0}
    assert result.gate.result == "exceeded"
    assert summarize(result)["num_twins"] == 1


def test_a_blurred_stranger_that_resembles_a_blurred_copy_is_no_twin(phantoms):
    training, strangers = phantoms[:8], phantoms[8:]
    synthetic = torch.stack([blurred(image, 3) for image in (*training, *strangers)])
    result = find_copies(training, synthetic, thresholds=[0.3, 0.86], controls=None)
    compared = result.matches.sort_index()["twin_score"][len(training) :].dropna()
    assert len(compared) >= 3
    assert compared.max() < 0.97
    assert (result.matches["twin_of"] == "").all()


def test_a_filter_leaves_twins_out_where_it_is_asked_to_and_says_of_what(phantoms, drifted):
    result = remove_copies(phantoms[:8], drifted, controls=None, leave_out=["duplicate", "twin"])
    assert result.left_out == {"duplicate": 1, "twin": 1}
    reason = result.files.loc[result.files["class"] == "twin", "reason"].item()
    assert reason.startswith("a copy of synthetic[3], which is a copy, with a score of 0.9")
    kept = remove_copies(phantoms[:8], drifted, controls=None)
    assert kept.left_out == {"duplicate": 1}
    assert kept.after.gate.suspicious["twins"] == 1  # its copy is gone, and the patient is still in the set


def test_identical_training_files_of_two_patients_are_named(phantoms):
    training = phantoms[[0, 1, 2, 3, 0, 1]]
    patients = ["a", "b", "c", "d", "e", "b"]
    result = find_copies(training, phantoms[[0, 8]], patient_ids=patients, controls=None)
    summary = json.loads(json.dumps(summarize(result)))
    identical = summary["identical_training"]
    assert (identical["num_images"], identical["num_of_two_patients"]) == (2, 1)
    assert identical["images"][0] == {
        "path": "training[4]",
        "identical_to": "training[0]",
        "patient_id": "e",
        "other_patient_id": "a",
    }
    assert sorted(result.patients["patient_id"]) == ["a", "e"]
    (sentence,) = [words for words in file_sentences(summary) if words.startswith("Identical")]
    assert "2 training images are another one byte for byte" in sentence
    assert "One of them is filed under another patient, too" in sentence


def test_slices_of_one_file_are_no_twins_of_each_other(tmp_path, phantoms, drifted):
    import nibabel as nib

    volume = np.stack([drifted[row, 0].numpy()[::-1, ::-1].T for row in (3, 4)], axis=2)
    (tmp_path / "synthetic").mkdir()
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "synthetic" / "a.nii")
    result = find_copies(phantoms[:8], tmp_path / "synthetic", slices="all", controls=None)
    assert sorted(result.matches["label"]) == ["duplicate", "similar"]
    assert result.matches["twin_of"].tolist() == ["", ""]
