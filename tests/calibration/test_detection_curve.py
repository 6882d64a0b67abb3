"""The detection curve: shares of the controls with their intervals, and what each change is called."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from monai_deepssim.calibration import compute_detection_curve, proportion_interval


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
