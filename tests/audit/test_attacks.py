"""Sets that passed a gate on a point estimate, or under a green header, and must not pass again."""

import pytest
import torch

from monai_deepssim import find_copies, remove_copies
from monai_deepssim.audit.summary import summarize
from monai_deepssim.data import PhantomBrainDataset


def make_phantoms(number: int, seed: int) -> torch.Tensor:
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(number, seed, progress=False)])


def add_noise(images: torch.Tensor, std: float) -> torch.Tensor:
    return (images + std * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


@pytest.fixture(scope="module")
def training() -> torch.Tensor:
    return make_phantoms(40, seed=71)


@pytest.fixture(scope="module")
def strangers() -> torch.Tensor:
    return make_phantoms(24, seed=72)


def test_noisy_copies_among_clean_images_exceed_the_gate(training, strangers):
    result = find_copies(
        training, torch.cat([strangers[:12], add_noise(training[:5], 0.05)]), max_copy_fraction=0.1, controls=None
    )
    assert result.gate.result == "exceeded"
    assert result.gate.num_suspicious == 5
    assert summarize(result)["headline"]["tone"] == "bad"


def test_a_cluster_below_the_threshold_is_unexplained_and_exceeds_the_gate(training, strangers):
    result = find_copies(
        training,
        torch.cat([strangers, add_noise(training[:8], 0.05)]),
        # Above the score of every copy: as if the change of these copies were one that the threshold does not forgive.
        thresholds=[0.9999995, 0.9999999],
        max_copy_fraction=0.01,
        controls=None,
    )
    assert result.count("duplicate") == 0
    suspicious = result.gate.suspicious
    assert suspicious["discoveries"] + suspicious["unexplained"] == 8
    assert result.gate.result == "exceeded"
    assert result.matches["synthetic_path"][result.matches["unexplained"]].tolist()
    assert "No copy was found" not in summarize(result)["headline"]["title"]


def test_a_set_of_nothing_but_copies_below_the_threshold_is_unexplained_too(training):
    result = find_copies(
        training,
        add_noise(training[:10], 0.05),
        thresholds=[0.9999995, 0.9999999],
        max_copy_fraction=0.01,
        controls=None,
    )
    assert result.count("duplicate") == 0
    assert result.gate.num_suspicious == 10
    assert result.gate.result == "exceeded"


def test_few_images_without_a_copy_are_undecided_and_told_how_many_would_do(training, strangers):
    result = find_copies(training, strangers, max_copy_fraction=0.01, controls=1)
    assert result.gate.result == "undecided"
    assert "too_few_images" in [reason.code for reason in result.gate.reasons]
    assert result.gate.images_needed == 299
    assert summarize(result)["headline"]["tone"] == "unsure"


def test_without_controls_the_recall_is_unknown_and_no_gate_passes(training, strangers):
    result = find_copies(training, strangers, max_copy_fraction=1.0, gate_on="files", controls=None)
    assert [reason.code for reason in result.gate.reasons] == ["recall_unknown"]
    assert result.gate.result == "undecided"


def test_a_single_control_that_is_found_tells_no_recall(training, strangers):
    result = find_copies(training, strangers, max_copy_fraction=1.0, gate_on="files", controls=1)
    assert [reason.code for reason in result.gate.reasons] == ["recall_unknown"]


def test_a_patient_whom_an_unexplained_image_is_nearest_to_counts(training, strangers):
    result = find_copies(
        training,
        torch.cat([strangers, add_noise(training[:8], 0.05)]),
        patient_ids=[f"patient {number}" for number in range(len(training))],
        thresholds=[0.9999995, 0.9999999],
        max_patient_fraction=0.05,
        controls=None,
    )
    assert result.gate.patients["memorized"] == 8
    assert result.gate.result == "exceeded"


def test_training_images_among_the_held_out_are_named_and_silence_no_copy(training, strangers):
    held_out = torch.cat([strangers[:10], training[20:23], (training[23:25] * 0.98)])
    result = find_copies(
        training, torch.cat([strangers[10:], training[:4]]), holdout=held_out, max_copy_fraction=0.1, controls=None
    )
    named = result.held_out[result.held_out["contamination"] != ""]
    assert set(named["holdout_path"]) == {f"holdout[{number}]" for number in range(10, 15)}
    assert named["contamination"].value_counts().to_dict() == {"content": 3, "score": 2}
    assert result.false_alarms.total == 10
    assert result.discoveries.null.num_groups == 10
    copies = result.matches[result.matches["label"] == "duplicate"]
    assert (copies["p_value"] == 1 / 11).all()


def test_the_gate_of_a_filter_can_fail_by_what_it_did_not_leave_out(training, strangers):
    # A comparison on the pixels that calls nothing a copy but one: the threshold is out of reach of noisy ones.
    options = {"thresholds": [0.9999995, 0.9999999], "controls": None, "max_copy_fraction": 0.05}
    copies = [training[8:9], add_noise(training[:6], 0.05)]
    result = remove_copies(training, torch.cat([strangers, *copies]), **options)
    assert result.left_out == {"duplicate": 1}
    assert result.after.gate.result == "exceeded"
    assert result.after.second_opinion.is_suspicious.sum() >= 6 or result.after.gate.suspicious["unexplained"] == 6


def test_what_a_filter_kept_is_judged_by_the_detector_too(training, strangers):
    options = {"controls": None, "max_copy_fraction": 0.2}
    result = remove_copies(training, torch.cat([strangers, training[:6]]), **options)
    assert result.num_kept == len(strangers)
    assert result.after.second_opinion.name == "deepssim"
    assert not result.after.second_opinion.is_suspicious.any()
    codes = [reason.code for reason in result.after.gate.reasons]
    assert "judged_by_its_chooser" not in codes
    assert "chosen_set" not in codes


def test_what_the_detector_alone_has_chosen_is_undecided(training, strangers):
    options = {"controls": None, "verify": False, "max_copy_fraction": 1.0}
    result = remove_copies(training, torch.cat([strangers, training[:6]]), **options)
    assert result.after.gate.result == "undecided"
    assert "judged_by_its_chooser" in [reason.code for reason in result.after.gate.reasons]
