"""What synthetic images are compared with: exact p-values, the tail below them, and training images as null."""

import numpy as np
import pytest

from monai_deepssim.calibration import (
    HOLDOUT_CAVEAT,
    LEAVE_ONE_OUT_CAVEAT,
    NullScores,
    conformal_p_values,
    leave_one_out_null,
)
from monai_deepssim.errors import UnusableInputError


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_the_exact_p_values_are_conformal_p_values_by_the_rule_that_was_asked_for(rule) -> None:
    generator = np.random.default_rng(2)
    scores, held_out, patients = generator.random(50), generator.random(60), generator.integers(0, 15, 60)
    null = NullScores(held_out, patients, group_rule=rule)
    np.testing.assert_array_equal(null.p_values(scores), conformal_p_values(scores, held_out, patients, rule))
    assert null.caveat == HOLDOUT_CAVEAT


@pytest.mark.parametrize("extra_votes", [0, 1])
@pytest.mark.parametrize("rule", ["mean", "max"])
def test_refined_p_values_differ_above_all_null_scores_only_and_never_upwards(extra_votes, rule) -> None:
    generator = np.random.default_rng(3)
    held_out, patients = generator.normal(0.5, 0.04, 400), np.arange(400) % 200
    null = NullScores(held_out, patients, group_rule=rule, extra_votes=extra_votes)
    scores = np.linspace(0.3, 1.0, 200)
    exact, refined = null.p_values(scores), null.refined_p_values(scores)
    is_above_all = scores > held_out.max()
    np.testing.assert_array_equal(refined[~is_above_all], exact[~is_above_all])
    np.testing.assert_allclose(exact[is_above_all], null.smallest_p_value)
    np.testing.assert_array_equal(refined[is_above_all], np.minimum(exact, null.tail.p_values(scores))[is_above_all])
    assert refined[-1] < null.smallest_p_value == (1 + extra_votes) / 201
    assert (np.diff(refined) <= 0).all()


def test_at_levels_that_exact_p_values_reach_the_tail_changes_nothing() -> None:
    generator = np.random.default_rng(4)
    null = NullScores(generator.normal(0.5, 0.04, 199))
    scores = generator.normal(0.55, 0.05, 1000)
    exact, refined = null.p_values(scores), null.refined_p_values(scores)
    assert (refined < exact).any()
    for level in np.arange(1, 200) / 200:
        np.testing.assert_array_equal(refined <= level + 1e-12, exact <= level + 1e-12)


def nearest_of_others(similarity, patients, rows):
    similarity = similarity[rows].copy()
    similarity[patients[rows, None] == patients] = -np.inf
    return similarity.max(axis=1), similarity.argmax(axis=1)


def test_leave_one_out_p_values_are_those_of_full_conformal_prediction_or_one_vote_above() -> None:
    generator = np.random.default_rng(5)
    positions = generator.random((31, 2))
    similarity = -np.linalg.norm(positions[:, None] - positions, axis=2)
    rows = np.arange(30)
    null = leave_one_out_null(*nearest_of_others(similarity[:30, :30], rows, rows), rows)
    for _ in range(200):
        to_training = -np.linalg.norm(positions[:30] - generator.random(2), axis=1)
        score = to_training.max()
        full = (1 + np.sum(np.maximum(null.scores, to_training) >= score)) / 31
        assert full - 1e-12 <= null.p_values([score])[0] <= full + 1 / 31 + 1e-12
    assert null.smallest_p_value == 2 / 31
    assert null.caveat == LEAVE_ONE_OUT_CAVEAT


def test_partners_are_each_others_nearest_and_both_in_the_null() -> None:
    null = leave_one_out_null([0.9, 0.9, 0.7, 0.8], np.array([7, 3, 3, 6]), np.array([3, 7, 5, 8]))
    np.testing.assert_array_equal(null.partners, [1, 0, -1, -1])


def test_of_two_images_that_are_each_others_nearest_the_higher_score_is_the_measurement() -> None:
    # Scores of a pair differ where the two directions are measured apart, as registration does.
    scores = [0.5, 0.9, 0.91, 0.7, 0.6, 0.6]
    null = leave_one_out_null(scores, np.array([1, 2, 1, 1, 5, 4]), np.arange(6))
    np.testing.assert_array_equal(null.measurements, [0.5, 0.91, 0.7, 0.6])
    np.testing.assert_array_equal(NullScores(scores).measurements, scores)


def test_patients_share_a_vote_in_the_leave_one_out_null_too() -> None:
    rows = np.arange(4)
    null = leave_one_out_null([0.5, 0.6, 0.7, 0.4], rows[::-1], rows, ["a", "b", "b", "c"], "max", num_left_out=3)
    np.testing.assert_array_equal(null.p_values([0.65, 0.95]), [0.75, 0.5])
    assert (null.num_groups, null.num_left_out, null.group_rule) == (3, 3, "max")


def test_one_patient_is_nobody_to_compare_with() -> None:
    rows = np.arange(3)
    with pytest.raises(UnusableInputError, match="3 training images are of 1 patient"):
        leave_one_out_null([0.5, 0.6, 0.7], rows, rows, ["the same"] * 3)
    with pytest.raises(ValueError, match="got 3 scores, 3 nearest images and 2 rows"):
        leave_one_out_null([0.5, 0.6, 0.7], rows, rows[:2])
