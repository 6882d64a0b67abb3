"""The detection curve: shares of the controls with their intervals, and what each change is called."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest

from monai_deepssim.calibration import MILD_CHANGES, compute_detection_curve, proportion_interval, upper_limit
from monai_deepssim.transforms import CONTROL_CHANGES


def controls_of(change, level, unit, found, patients=None):
    names = [f"patient {row}" for row in range(len(found))] if patients is None else patients
    return pd.DataFrame({"change": change, "level": level, "unit": unit, "found": found, "patient_id": names})


def test_each_change_and_level_has_its_count_and_its_exact_interval():
    controls = pd.concat(
        [
            controls_of("none", np.nan, "", [True] * 20),
            controls_of("blur", 1.0, "px", [True] * 20),
            controls_of("blur", 2.0, "px", [True] * 19 + [False]),
            controls_of("noise", 0.05, "", [False] * 10),
        ]
    )
    entry = json.loads(json.dumps(compute_detection_curve(controls, "blur_2").as_json()))
    expected = binomtest(19, 20).proportion_ci(method="exact")
    assert [(point["change"], point["level"], point["unit"]) for point in entry["curve"]] == [
        ("none", None, ""),
        ("blur", 1.0, "px"),
        ("blur", 2.0, "px"),
        ("noise", 0.05, ""),
    ]
    assert entry["curve"][2]["count"] == 19
    assert entry["curve"][2]["total"] == 20
    assert entry["curve"][2]["interval"] == pytest.approx([expected.low, expected.high])
    assert entry["recall"]["value"] == 0.95
    assert entry["num_planted"] == 70
    assert entry["sentences"][3] == (
        "A copy with noise of standard deviation 0.05 would have been found with probability 0.00 (0.00 to 0.31)."
    )


def test_a_patient_who_was_planted_twice_is_one_witness():
    patients = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]
    found = [True, True, False, False] + [True] * 6
    point = compute_detection_curve(controls_of("blur", 2.0, "px", found, patients), "blur_2").points[0]
    expected = proportion_interval(found, patients)
    assert (point.found.low, point.found.high) == (expected.low, expected.high)
    assert point.found.num_groups == 5
    assert point.found.low < proportion_interval(found).low


def test_patients_that_are_unknown_are_not_one_patient():
    curve = compute_detection_curve(
        controls_of("blur", 2.0, "px", [True] * 9 + [False], ["", None, np.nan] + [""] * 7), "blur_2"
    )
    assert curve.recall.num_groups is None


def test_the_recall_is_unknown_where_the_reference_was_not_planted():
    curve = compute_detection_curve(controls_of("blur", 2.0, "px", [True]), "autoencoder")
    assert curve.recall is None
    assert curve.reference_point is None
    assert curve.as_json()["recall"] is None
    assert compute_detection_curve(controls_of("autoencoder", np.nan, "", [True]), "autoencoder").recall.value == 1
    none = pd.DataFrame({name: [] for name in ("change", "level", "unit", "found", "patient_id")})
    assert compute_detection_curve(none, "blur_2").as_json()["num_planted"] == 0


@pytest.mark.parametrize(
    ("change", "level", "unit", "words"),
    [
        ("none", np.nan, "", "without any change"),
        ("blur", 2.0, "px", "blurred by 2 px"),
        ("noise", 0.05, "", "with noise of standard deviation 0.05"),
        ("gamma", 1.5, "", "with a gamma of 1.5"),
        ("rotation", 15.0, "degrees", "rotated by 15 degrees"),
        ("shift", 10.0, "%", "shifted by 10 % of the side"),
        ("zoom", 0.9, "", "zoomed by a factor of 0.9"),
        ("crop", 20.0, "%", "cropped by 20 %"),
        ("warp", 2.0, "%", "warped by 2 % of the side"),
        ("bias_field", np.nan, "", "under a bias field"),
        ("mix", 0.3, "", "mixed with a share of 0.3 of another image"),
        ("half_resolution", None, None, "at half the resolution"),
        ("autoencoder", np.nan, "", "passed through the generator's autoencoder"),
        ("<b>", 3.0, "", "under the change '<b>' at level 3"),
        ("swirl", np.nan, "", "under the change 'swirl'"),
        ("blur", np.nan, "", "under the change 'blur'"),
        ("bias_field", 0.3, "", "under a bias field (level 0.3)"),
    ],
)
def test_each_change_has_its_words(change, level, unit, words):
    point = compute_detection_curve(controls_of(change, level, unit, [True, True]), "").points[0]
    assert point.words == words
    assert point.sentence == f"A copy {words} would have been found with probability 1.00 (0.16 to 1.00)."


def all_controls(found_of):
    """20 controls of each change of an audit, of which as many are found as the dictionary says, or else all."""
    return pd.concat(
        [
            controls_of(
                change.change, change.level, change.unit, [row < found_of.get(change.name, 20) for row in range(20)]
            )
            for change in CONTROL_CHANGES
        ]
    )


def test_every_change_of_an_audit_has_a_mild_level_that_has_to_be_found():
    names = {change.name for change in CONTROL_CHANGES}
    assert MILD_CHANGES - names == {"autoencoder"}
    assert {change.change for change in CONTROL_CHANGES if change.name in MILD_CHANGES} == {
        change.change for change in CONTROL_CHANGES
    }


def test_a_change_is_missed_where_the_exact_binomial_test_says_so_at_a_level_for_all_changes_together():
    num_asked = len(MILD_CHANGES) - 1
    for count in range(21):
        (point,) = [
            point
            for point in compute_detection_curve(all_controls({"shift_10": count}), "blur_2").points
            if point.name == "shift_10"
        ]
        p_value = binomtest(count, 20, 0.9, alternative="less").pvalue
        assert (point.upper_limit < 0.9) == (p_value < 0.05 / num_asked), count
    curve = compute_detection_curve(all_controls({"shift_10": 1, "rotation_5": 13, "gamma_0.5": 14}), "blur_2")
    assert [point.name for point in curve.missed(0.9)] == ["rotation_5", "shift_10"]
    assert curve.missed(0) == []


def test_a_detector_that_finds_as_much_as_is_asked_for_is_seldom_called_blind_and_one_that_finds_half_nearly_always():
    num_asked = len(MILD_CHANGES) - 1
    confidence = 1 - 0.05 / num_asked
    called = [upper_limit(np.arange(20) < count, confidence=confidence) < 0.9 for count in range(21)]
    chance = {recall: binom.pmf(np.flatnonzero(called), 20, recall).sum() for recall in (0.97, 0.9, 0.7, 0.5, 0.3)}
    # The changes go through the same patients; by the sum it does not matter what they have to do with each other.
    assert num_asked * chance[0.9] <= 0.05
    assert num_asked * chance[0.97] < 1e-4
    assert (chance[0.5], chance[0.3]) > (0.94, 0.999)
    assert 0.3 < chance[0.7] < 0.5


def test_strong_levels_are_told_and_not_asked_for_unless_the_synthetic_images_have_them():
    controls = all_controls({"blur_3": 0, "warp_2": 0, "crop_20": 0})
    assert compute_detection_curve(controls, "blur_2").missed(0.9) == []
    missed = compute_detection_curve(controls, "blur_2", occurring={"blur", "crop"}).missed(0.9)
    assert [point.name for point in missed] == ["blur_3", "crop_20"]


def test_of_two_patients_nothing_is_called_missed():
    patients = ["a", "b"] * 10
    curve = compute_detection_curve(controls_of("shift", 10.0, "%", [False] * 20, patients), "blur_2")
    assert curve.points[0].upper_limit == pytest.approx(upper_limit([False] * 2))
    assert curve.missed(0.7) == []
