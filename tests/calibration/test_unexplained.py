"""Images that stand apart from all others: the attacks that must be seen, and clean sets that must not be flagged."""

import numpy as np
import pytest
from scipy.stats import beta, binom, expon, norm, truncnorm

from monai_deepssim.calibration import find_unexplained

NUM_RUNS = 200
SHAPES = {"exponential": expon(0.4, 0.03), "normal": norm(0.5, 0.04), "beta": beta(8, 8)}
CLEAN = truncnorm(-4, 2.5, 0.5, 0.045)  # at most 0.6125


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("num_images", "num_null"), [(20, 10), (100, 50), (100, 2000), (1000, 10), (5000, 200)])
def test_a_clean_set_is_flagged_at_most_one_time_in_twenty(name, num_images, num_null) -> None:
    generator = np.random.default_rng(40)
    draws = (SHAPES[name].rvs((2, num_images + num_null), random_state=generator)[0] for _ in range(NUM_RUNS))
    flagged = sum(find_unexplained(scores[:num_images], scores[num_images:]).count > 0 for scores in draws)
    assert flagged <= binom.ppf(0.999, NUM_RUNS, 0.05), flagged / NUM_RUNS


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_synthetic_images_that_are_a_little_closer_than_null_images_are_no_reason_for_a_flag(shift) -> None:
    generator = np.random.default_rng(41)
    flagged = 0
    for _ in range(NUM_RUNS):
        scores = norm(0.5 + 0.04 * shift, 0.04).rvs(100, random_state=generator)
        flagged += find_unexplained(scores, norm(0.5, 0.04).rvs(200, random_state=generator)).count > 0
    assert flagged <= binom.ppf(0.999, NUM_RUNS, 0.05), flagged / NUM_RUNS


def flags_of_attack(seed, num_copies, num_clean, num_null):
    generator = np.random.default_rng(seed)
    copies = generator.uniform(0.754, 0.821, num_copies)
    clean, null = (CLEAN.rvs(size, random_state=generator) for size in (num_clean, num_null))
    result = find_unexplained(np.append(copies, clean), null)
    return result.flags[:num_copies], result.flags[num_copies:]


@pytest.mark.parametrize(("num_copies", "num_clean"), [(15, 100), (20, 0), (1, 100), (5, 1000)])
def test_copies_below_the_threshold_of_a_copy_are_flagged_and_the_others_are_not(num_copies, num_clean) -> None:
    results = [flags_of_attack(seed, num_copies, num_clean, num_null=200) for seed in range(100)]
    assert np.mean([copies.all() for copies, _ in results]) >= 0.97
    assert np.sum([others.sum() for _, others in results]) <= 5


def test_clean_images_just_above_the_null_are_not_flagged_along_with_copies() -> None:
    generator, flagged = np.random.default_rng(47), 0
    for _ in range(NUM_RUNS):
        copies, (clean, null) = generator.uniform(0.85, 0.9, 15), expon(0.4, 0.03).rvs((2, 200), random_state=generator)
        result = find_unexplained(np.append(copies, clean), null[:20])
        assert result.flags[:15].all()
        flagged += result.flags[15:].any()
    assert flagged <= binom.ppf(0.999, NUM_RUNS, 0.05), flagged / NUM_RUNS


def test_a_whole_set_of_copies_cannot_be_seen_with_three_null_scores_and_the_result_says_so() -> None:
    generator = np.random.default_rng(42)
    result = find_unexplained(generator.uniform(0.754, 0.821, 20), CLEAN.rvs(3, random_state=generator))
    assert result.count == 0
    assert result.threshold is None
    assert "There are 3 null scores, and it takes 20" in result.limit
    assert "too few" in find_unexplained([0.9, 0.5], []).limit
    assert find_unexplained([], []).count == 0


def test_without_a_null_a_minority_that_stands_apart_is_seen() -> None:
    generator = np.random.default_rng(43)
    clean = CLEAN.rvs(100, random_state=generator)
    result = find_unexplained(np.append(clean, [0.78, 0.79, 0.80, 0.81, 0.82]), [])
    np.testing.assert_array_equal(np.flatnonzero(result.flags), [100, 101, 102, 103, 104])
    assert "no null scores" in result.limit
    assert result.p_value < 0.05
    assert result.threshold == 0.78


def test_an_image_that_a_null_image_reaches_is_never_flagged() -> None:
    clean = CLEAN.rvs(100, random_state=np.random.default_rng(44))
    scores = np.append(clean, [0.80, 0.81, 0.82])
    assert find_unexplained(scores, clean).count == 3
    assert find_unexplained(scores, np.append(clean, 0.9)).count == 0


def test_images_that_are_explained_are_not_flagged_and_do_not_hide_the_others() -> None:
    clean = CLEAN.rvs((2, 100), random_state=np.random.default_rng(45))
    scores = np.concatenate([np.linspace(0.86, 0.99, 30), [0.76, 0.78, 0.80], clean[0]])
    is_explained = scores >= 0.86
    result = find_unexplained(scores, clean[1], is_explained)
    np.testing.assert_array_equal(np.flatnonzero(result.flags), [30, 31, 32])


def test_two_groups_that_stand_apart_are_both_flagged() -> None:
    clean = CLEAN.rvs((2, 100), random_state=np.random.default_rng(46))
    groups = np.concatenate([np.linspace(0.95, 0.97, 40), np.linspace(0.75, 0.77, 40)])
    assert find_unexplained(np.append(groups, clean[0]), clean[1]).count == 80


def test_ties_are_no_gap() -> None:
    assert find_unexplained(np.full(50, 0.7), np.full(50, 0.7)).count == 0
    assert find_unexplained(np.repeat([0.6, 0.5], 25), np.full(50, 0.5)).p_value <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, float("nan")], [0.5]), r"got scores\[1\] = nan"),
        (([0.5], [0.5], [True, False]), "got 2 flags of explained images for 1 scores"),
        (([0.5], [0.5], None, 5), "got level=5"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        find_unexplained(*arguments)
