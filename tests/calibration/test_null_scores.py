"""Random halves: who is compared with whom, and what comes of it."""

import numpy as np
import pytest

from monai_deepssim.calibration import HALVES_CAVEAT, conformal_p_values, random_halves_null
from monai_deepssim.errors import UnusableInputError

POSITIONS = np.random.default_rng(2).random(30)
PATIENTS = np.array([f"patient {number}" for number in range(9)] + [""] * 3)[np.arange(30) % 12]


class NearestOnALine:
    """A score that notes who was compared with whom."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, indices, searched):
        self.calls.append((indices, searched))
        return -np.abs(POSITIONS[indices, None] - POSITIONS[searched]).min(axis=1)


def test_every_image_is_scored_once_a_repeat_against_the_half_without_its_patient() -> None:
    score_between = NearestOnALine()
    null = random_halves_null(score_between, 30, PATIENTS, repeats=4)
    assert len(score_between.calls) == 8
    for (first, second), (back, forth) in zip(score_between.calls[::2], score_between.calls[1::2], strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(30))
        np.testing.assert_array_equal(back, second)
        np.testing.assert_array_equal(forth, first)
        assert set(PATIENTS[first]) & set(PATIENTS[second]) <= {""}
        # Nine known patients and six images of unknown ones.
        num_patients = [len(set(PATIENTS[half]) - {""}) + (PATIENTS[half] == "").sum() for half in (first, second)]
        assert sorted(num_patients) == [7, 8]
    indices = np.concatenate([indices for indices, _ in score_between.calls])
    expected = [
        -min(abs(POSITIONS[index] - POSITIONS[other]) for other in searched)
        for some, searched in score_between.calls
        for index in some
    ]
    np.testing.assert_allclose(null.scores, expected)
    np.testing.assert_array_equal(np.bincount(indices), np.full(30, 4))
    for position in range(120):
        same = [PATIENTS[i] == PATIENTS[indices[position]] != "" or i == indices[position] for i in indices]
        np.testing.assert_array_equal(null.groups == null.groups[position], same)


def test_repeats_are_not_taken_for_more_images() -> None:
    few, many = (random_halves_null(NearestOnALine(), 30, PATIENTS, repeats=repeats) for repeats in (1, 20))
    assert few.num_groups == many.num_groups == 15
    assert few.smallest_p_value == many.smallest_p_value == 2 / 16
    assert many.p_values([1.0])[0] == 2 / 16


def test_p_values_are_doubled_and_the_report_is_told_why() -> None:
    null = random_halves_null(NearestOnALine(), 30, PATIENTS)
    scores = np.linspace(-0.1, 0, 7)
    doubled = np.minimum(2 * conformal_p_values(scores, null.scores, null.groups), 1)
    np.testing.assert_array_equal(null.p_values(scores), doubled)
    assert null.caveat == HALVES_CAVEAT
    assert "no held-out images" in null.caveat
    assert null.source == "training images, by random halves"


def test_a_seed_gives_the_same_halves_again_and_another_seed_others() -> None:
    first, again, other = (random_halves_null(NearestOnALine(), 30, seed=seed).groups for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_patient_cannot_be_halved() -> None:
    with pytest.raises(UnusableInputError, match="30 training images are of 1 patient"):
        random_halves_null(NearestOnALine(), 30, ["the same"] * 30)


def test_a_function_that_returns_too_few_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="returned 1 scores for 15 images"):
        random_halves_null(lambda indices, searched: [0.5], 30)
    with pytest.raises(ValueError, match="repeats=0"):
        random_halves_null(NearestOnALine(), 30, repeats=0)


def test_a_sample_of_the_images_is_scored_against_halves_of_all_of_them() -> None:
    score_between, sample = NearestOnALine(), np.array([3, 7, 8, 20, 29])
    null = random_halves_null(score_between, 30, PATIENTS, repeats=6, scored=sample)
    for (first, all_but_first), (second, all_but_second) in zip(
        score_between.calls[::2], score_between.calls[1::2], strict=True
    ):
        np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), sample)
        np.testing.assert_array_equal(np.sort(np.concatenate([all_but_first, all_but_second])), np.arange(30))
        assert set(first).isdisjoint(all_but_first)
    # A patient of whom nothing was scored is no evidence.
    assert len({PATIENTS[index] or index for index in sample}) == null.num_groups
    assert null.smallest_p_value == 2 / (null.num_groups + 1)
