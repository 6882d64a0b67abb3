"""Training images that are there twice: left out where they are plainly so, kept where it would favour the verdict."""

import numpy as np
import pytest
from scipy.stats import binom

from monai_deepssim.calibration import NullScores, find_discoveries, find_partners, leave_out_duplicates


def test_the_images_left_out_are_those_that_score_as_duplicates() -> None:
    generator = np.random.default_rng(30)
    scores = np.append(generator.normal(0.5, 0.04, 180), generator.uniform(0.88, 1.0, 20))
    left_out = leave_out_duplicates(scores, 0.86)
    np.testing.assert_array_equal(left_out.flags, scores > 0.86)
    assert (left_out.count, left_out.num_kept_duplicates) == (20, 0)
    assert left_out.sentence.startswith("20 of 200 training images have a duplicate")


def test_duplicates_below_the_threshold_stay_and_do_not_keep_the_others_in() -> None:
    generator = np.random.default_rng(31)
    scores = np.append(generator.normal(0.5, 0.03, 180), [0.80, 0.83, 0.85, 0.87, 0.9, 0.95])
    np.testing.assert_array_equal(leave_out_duplicates(scores, 0.86).flags, scores > 0.86)


@pytest.mark.parametrize("threshold", [0.45, 0.5, 0.56])
def test_a_threshold_too_low_for_the_images_cuts_nothing_off_and_says_so(threshold) -> None:
    cut = 0
    for seed in range(100):
        scores = np.random.default_rng(seed).normal(0.5, 0.04, 200)
        left_out = leave_out_duplicates(scores, threshold)
        cut += left_out.count > 0
        if not left_out.count:
            assert left_out.num_kept_duplicates == (scores > threshold).sum()
            assert "can hide copies" in left_out.sentence
    # A gap by chance is a matter of one set in twenty at most.
    assert cut <= binom.ppf(0.999, 100, 0.05)


@pytest.mark.parametrize("number", [50, 200])
def test_images_that_are_each_others_nearest_part_no_clean_set_in_two(number) -> None:
    cut = 0
    for seed in range(100):
        vectors = np.random.default_rng(seed).standard_normal((number, 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        similarity = vectors @ vectors.T - 2 * np.eye(number)
        scores, nearest = similarity.max(axis=1), similarity.argmax(axis=1)
        partners = find_partners(nearest, np.arange(number))
        # All are duplicates by this threshold, so any that stand apart are left out.
        cut += leave_out_duplicates(scores, np.sort(scores)[-3], partners=partners).count > 0
    assert cut <= binom.ppf(0.999, 100, 0.05)


def test_images_known_to_be_identical_are_left_out_in_any_case() -> None:
    scores, identical = np.linspace(0.4, 1.0, 50), np.arange(50) >= 48
    left_out = leave_out_duplicates(scores, 0.86, is_identical=identical)
    np.testing.assert_array_equal(left_out.flags, identical)
    assert left_out.num_kept_duplicates == (scores[:48] > 0.86).sum()
    assert left_out.sentence.count(".") >= 2


def test_no_duplicate_needs_no_sentence() -> None:
    left_out = leave_out_duplicates([0.4, 0.5], 0.86)
    assert (left_out.count, left_out.sentence) == (0, "")


def test_duplicates_silence_the_null_and_leaving_them_out_gives_it_back() -> None:
    with_them, without = [], []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        # 5 % of the training images are duplicates, so that 10 % have one; 30 % of the synthetic images are copies.
        null = np.append(generator.normal(0.5, 0.04, 180), generator.normal(0.95, 0.02, 20))
        scores = np.append(generator.normal(0.95, 0.02, 90), generator.normal(0.5, 0.04, 210))
        kept = ~leave_out_duplicates(null, 0.86).flags
        for powers, members in ((with_them, null), (without, null[kept])):
            found = find_discoveries(scores, NullScores(members, extra_votes=1))
            powers.append(found.is_discovery[:90].mean())
    assert np.mean(with_them) < 0.05
    assert np.mean(without) > 0.95
