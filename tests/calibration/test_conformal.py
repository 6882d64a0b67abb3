"""Conformal p-values against their definition, counted one by one."""

import numpy as np
import pytest
import torch

from monai_deepssim.calibration import conformal_p_values

GENERATOR = np.random.default_rng(0)
# One decimal, so that there are ties.
SCORES = GENERATOR.random(40).round(1)
HOLDOUT = GENERATOR.random(60).round(1)
PATIENTS = [f"patient {number}" for number in GENERATOR.integers(0, 15, 60)]


def test_a_p_value_counts_the_held_out_scores_that_are_at_least_as_high() -> None:
    expected = [(1 + sum(other >= score for other in HOLDOUT)) / 61 for score in SCORES]
    np.testing.assert_allclose(conformal_p_values(SCORES, HOLDOUT), expected, rtol=1e-12)


@pytest.mark.parametrize(("rule", "vote"), [("mean", np.mean), ("max", np.max)])
def test_a_patient_has_one_vote_which_its_images_share_or_its_highest_takes(rule, vote) -> None:
    of_patient = {p: HOLDOUT[[other == p for other in PATIENTS]] for p in set(PATIENTS)}
    expected = [
        (1 + sum(vote(images >= score) for images in of_patient.values())) / (len(of_patient) + 1) for score in SCORES
    ]
    np.testing.assert_allclose(conformal_p_values(SCORES, HOLDOUT, PATIENTS, group_rule=rule), expected, rtol=1e-12)


@pytest.mark.parametrize("unknown", ["", None, float("nan")])
def test_an_unknown_patient_is_a_patient_of_its_own(unknown) -> None:
    some_unknown = [unknown if position % 3 == 0 else patient for position, patient in enumerate(PATIENTS)]
    named = [f"alone {position}" if position % 3 == 0 else patient for position, patient in enumerate(PATIENTS)]
    np.testing.assert_array_equal(
        conformal_p_values(SCORES, HOLDOUT, some_unknown), conformal_p_values(SCORES, HOLDOUT, named)
    )
    np.testing.assert_array_equal(
        conformal_p_values(SCORES, HOLDOUT, [unknown] * 60), conformal_p_values(SCORES, HOLDOUT)
    )


def test_more_images_of_the_same_patients_are_no_more_evidence() -> None:
    p_values = conformal_p_values(SCORES, HOLDOUT, PATIENTS)
    np.testing.assert_allclose(conformal_p_values(SCORES, np.tile(HOLDOUT, 5), PATIENTS * 5), p_values, rtol=1e-12)
    assert conformal_p_values([2.0], np.tile(HOLDOUT, 5), PATIENTS * 5)[0] == 1 / (len(set(PATIENTS)) + 1)


def test_tensors_give_what_arrays_give() -> None:
    p_values = conformal_p_values(torch.tensor(SCORES), torch.tensor(HOLDOUT, requires_grad=True))
    np.testing.assert_array_equal(p_values, conformal_p_values(SCORES, HOLDOUT))
    assert len(conformal_p_values([], HOLDOUT)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5]], [0.5]), r"got scores of shape \(1, 1\)"),
        (([0.5, float("nan")], [0.5]), r"got scores\[1\] = nan"),
        (([0.5], []), "no held-out score"),
        (([0.5], [0.5, 0.6], ["a"]), "got 1 groups for 2"),
        (([0.5], [0.5], ["a"], "median"), "want one of mean, max"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        conformal_p_values(*arguments)
