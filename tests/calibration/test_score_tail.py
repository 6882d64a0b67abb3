"""p-values of a fitted tail: their size far beyond the largest null score, and when there are none."""

import numpy as np
import pytest
from scipy.stats import beta, expon, genpareto, norm

from monai_deepssim.calibration import NullScores, fit_generalized_pareto, fit_score_tail

SHAPES = {"exponential": expon(0.4, 0.03), "normal": norm(0.5, 0.04), "beta": beta(8, 8)}
LEVELS = np.array([1e-3, 1e-4])


def lowest_scores_called(p_values_of, null):
    """The lowest score of a fine grid whose p-value is at most each level."""
    grid = np.linspace(np.median(null), 4 * null.max() - 3 * np.median(null), 300)
    p_values = p_values_of(grid)
    assert (np.diff(p_values) <= 1e-12).all()
    return [grid[np.argmax(p_values <= level)] if p_values[-1] <= level else np.inf for level in LEVELS]


@pytest.mark.parametrize("name", SHAPES)
def test_p_values_far_below_one_in_the_number_of_null_scores_are_as_rare_as_they_say(name) -> None:
    generator, refined, plain = np.random.default_rng(10), [], []
    for _ in range(30):
        null = SHAPES[name].rvs(size=199, random_state=generator)
        threshold = np.sort(null)[-41]
        shape, scale = fit_generalized_pareto(null[null > threshold] - threshold)
        fitted = genpareto(shape[0], threshold, scale[0])
        refined.append(SHAPES[name].sf(lowest_scores_called(NullScores(null).refined_p_values, null)))
        plain.append(SHAPES[name].sf(lowest_scores_called(lambda scores, fitted=fitted: fitted.sf(scores) * 0.2, null)))
    refined, plain = np.array(refined), np.array(plain)
    assert (refined.mean(axis=0) <= LEVELS + 3 * refined.std(axis=0) / np.sqrt(30)).all(), refined.mean(axis=0)
    # Scores without a limit are told as rarely as they say on average; those with one more rarely.
    assert name == "exponential" or refined[:, 1].mean() <= LEVELS[1]
    # A fit that is taken for the truth is not: 1 in 10,000 comes up several times as often.
    assert plain[:, 1].mean() > 3 * LEVELS[1]


def test_nothing_is_impossible_and_a_tail_that_seems_to_end_is_exponential() -> None:
    null = np.linspace(0.4, 0.6, 199)
    tail = fit_score_tail(null, 1 / 200)
    assert tail.shape < -0.5
    p_values = tail.p_values([0.1, 0.6, 0.601, 0.7, 5.0])
    assert (np.diff(p_values) < 0).all()
    assert p_values[0] == 1
    assert p_values[2] > 0.2 * np.exp(-2.5)
    assert 0 < p_values[-1] <= 1e-5


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_slices_of_a_patient_are_no_more_evidence_than_one(rule) -> None:
    scores = np.random.default_rng(11).exponential(size=150)
    alone = fit_score_tail(scores, 1 / 151)
    slices = fit_score_tail(np.repeat(scores, 4), 1 / 151, np.repeat(np.arange(150), 4), rule)
    assert slices.num_clusters == alone.num_clusters == 30
    np.testing.assert_allclose(slices.shares.std(), alone.shares.std(), rtol=0.2)
    np.testing.assert_allclose(slices.p_values([8.0]), alone.p_values([8.0]), rtol=0.6)


def test_the_highest_of_each_patient_have_a_tail_of_their_own() -> None:
    scores, patients = np.random.default_rng(12).exponential(size=600), np.arange(600) % 150
    by_highest = fit_score_tail(scores, 1 / 151, patients, "max")
    alone = fit_score_tail([scores[patients == patient].max() for patient in range(150)], 1 / 151)
    assert by_highest.threshold == alone.threshold
    np.testing.assert_array_equal(by_highest.p_values([5.0]), alone.p_values([5.0]))


def test_two_images_that_are_each_others_nearest_are_one_observation() -> None:
    scores = np.repeat(np.random.default_rng(13).exponential(size=100), 2)
    partners = np.arange(200) ^ 1
    assert fit_score_tail(scores, 1 / 201).num_clusters == 40
    paired = fit_score_tail(scores, 1 / 201, partners=partners)
    assert paired.num_clusters == 20
    # So the share of scores above the threshold is known half as well: its variance is twice as large.
    np.testing.assert_allclose(paired.shares.var() / fit_score_tail(scores, 1 / 201).shares.var(), 2, rtol=0.25)


def test_few_patients_have_no_tail_and_keep_their_exact_p_values() -> None:
    scores = np.random.default_rng(14).random(99)
    few = NullScores(scores)
    assert not few.tail.is_usable
    assert "takes 100 patients" in few.tail.reason
    assert few.refined_p_values([5.0])[0] == few.p_values([5.0])[0] == 1 / 100
    assert few.tail.as_json()["shape"] is None
    many_images = NullScores(np.tile(scores, 5), np.tile(np.arange(99), 5))
    assert not many_images.tail.is_usable


def test_a_tail_that_does_not_fit_is_not_used() -> None:
    generator = np.random.default_rng(15)
    clumps = NullScores(np.append(generator.normal(0.5, 0.02, 180), generator.normal(0.8, 0.005, 20)))
    assert clumps.tail.fit_p_value < 0.05
    assert "not as a generalised Pareto" in clumps.tail.reason
    assert clumps.refined_p_values([1.0])[0] == clumps.smallest_p_value
    assert clumps.tail.p_values([1.0])[0] == 1


def test_scores_that_are_all_alike_have_no_tail() -> None:
    tail = fit_score_tail(np.full(150, 0.5), 1 / 151)
    assert not tail.is_usable
    assert "0 independent patients" in tail.reason


def test_the_share_above_the_threshold_is_resampled_around_what_it_is() -> None:
    generator = np.random.default_rng(16)
    patients = generator.integers(0, 200, 600)
    tail = fit_score_tail(generator.exponential(size=600), 1 / 201, patients)
    assert abs(tail.shares.mean() - 0.2) < 0.005
