"""q-values against Benjamini and Hochberg's definition, and what a set of held-out images can show at all."""

import json
import math
import re

import numpy as np
import pytest

from monai_deepssim.calibration import (
    HOLDOUT_CAVEAT,
    NullScores,
    benjamini_hochberg,
    discoveries_at_fdr,
    fewest_discoverable,
    find_discoveries,
)


def test_the_discoveries_are_those_of_the_step_up_procedure() -> None:
    generator = np.random.default_rng(1)
    for fdr in (0.01, 0.05, 0.2):
        p_values = np.concatenate([generator.random(30) ** 6, generator.random(70)])
        lines = fdr * np.arange(1, 101) / 100
        below = np.flatnonzero(np.sort(p_values) <= lines)
        cut = np.sort(p_values)[below[-1]] if len(below) else -1
        np.testing.assert_array_equal(discoveries_at_fdr(benjamini_hochberg(p_values), fdr), p_values <= cut)


def test_a_q_value_exactly_on_the_level_is_not_lost_to_rounding() -> None:
    lost = 0
    for num_tested in range(1, 200):
        # num_discovered images at the smallest p-value that is enough for them: m p / k = 0.05 in real numbers.
        num_discovered = (num_tested + 1) // 2
        p_values = np.ones(num_tested)
        p_values[:num_discovered] = 0.05 * num_discovered / num_tested
        q_values = benjamini_hochberg(p_values)
        lost += (q_values[0] > 0.05).item()
        assert discoveries_at_fdr(q_values, 0.05).sum() == num_discovered
    assert lost  # or this test shows nothing


def test_no_image_is_fine_and_a_p_value_above_one_is_not() -> None:
    assert len(benjamini_hochberg([])) == 0
    with pytest.raises(ValueError, match=r"want them in \[0, 1\]"):
        benjamini_hochberg([0.5, 1.2])
    with pytest.raises(ValueError, match="got fdr=5"):
        discoveries_at_fdr([0.5], fdr=5)


@pytest.mark.parametrize("num_holdout", [19, 99, 500])
@pytest.mark.parametrize("num_synthetic", [20, 50, 333])
def test_the_fewest_that_can_be_discovered_are_discovered_and_one_less_is_not(num_holdout, num_synthetic) -> None:
    null = NullScores(np.linspace(0, 0.9, num_holdout))
    fewest = fewest_discoverable(num_synthetic, null.refined_p_values([1.0])[0], 0.05)
    for num_above in {fewest - 1, min(fewest, num_synthetic)}:
        scores = np.full(num_synthetic, 0.1)
        scores[:num_above] = 1.0
        found = find_discoveries(scores, null, 0.05)
        assert found.fewest_discoverable == fewest
        assert found.count == (num_above if num_above >= fewest else 0)


def test_the_summary_says_what_the_discoveries_rest_on() -> None:
    found = find_discoveries([0.9, 0.1], NullScores(np.linspace(0, 0.5, 60), np.arange(60) // 3), fdr=0.1)
    entry = json.loads(json.dumps(found.as_json()))
    assert entry["fdr"] == 0.1
    assert (entry["num_discoveries"], entry["num_discoveries_exact"], entry["fewest_discoverable"]) == (1, 1, 1)
    assert (entry["null"], entry["num_null_scores"], entry["num_null_patients"]) == ("held-out images", 60, 20)
    assert entry["smallest_p_value"] == entry["plain_copy_p_value"] == 1 / 21 == found.p_values[0]
    assert (entry["method"], entry["caveat"]) == ("conformal p-values, Benjamini-Hochberg", HOLDOUT_CAVEAT)
    null = json.loads(json.dumps(found.null_as_json()))
    assert (null["source"], null["num_scores"], null["num_patients"]) == ("held-out images", 60, 20)
    assert (null["num_duplicates_left_out"], null["tail"]["is_used"], null["can_call"]) == (0, False, True)


@pytest.mark.parametrize(("num_images", "extra_votes"), [(20, 0), (100, 1), (1000, 0), (1000, 1), (5050, 0)])
def test_as_many_comparisons_as_are_said_to_be_needed_are_enough_and_one_less_is_not(num_images, extra_votes) -> None:
    count = max(1, num_images // 100)
    scores = np.where(np.arange(num_images) < count, 1.0, 0.1)
    undecided = find_discoveries(scores, NullScores(np.linspace(0, 0.5, 18), extra_votes=extra_votes))
    assert not undecided.can_call
    assert undecided.count == 0
    needed = undecided.comparisons_needed
    copies = "1 copy" if count == 1 else f"{count} copies"
    assert undecided.sentence.startswith("Scores alone say little here: compared with images of 18 patients, no ")
    assert undecided.sentence.endswith(f"To tell {copies}, images of {needed:,} patients are needed.")
    fewest = undecided.fewest_discoverable
    together = f"no fewer than {fewest:,} copies" if fewest <= num_images else "no number of copies"
    for sentence in (undecided.sentence, undecided.remedy_above(None)):
        assert f"{together} among {num_images:,} synthetic images could be told from chance" in sentence
    for num_null, is_enough in ((needed, True), (needed - 1, False)):
        found = find_discoveries(scores, NullScores(np.linspace(0, 0.5, num_null), extra_votes=extra_votes))
        assert found.num_exact == (count if is_enough else 0)


def test_the_tail_calls_what_exact_p_values_cannot_and_both_are_told_apart() -> None:
    generator = np.random.default_rng(7)
    null = NullScores(generator.normal(0.5, 0.04, 199))
    scores = np.append(np.full(10, 0.95), generator.normal(0.5, 0.04, 990))
    found = find_discoveries(scores, null)
    assert (found.count, found.num_exact, found.can_call) == (10, 0, True)
    np.testing.assert_array_equal(found.p_values[:10], np.full(10, 1 / 200))
    assert (found.tail_p_values[:10] < 5e-4).all()
    assert found.sentence == (
        "Scores alone are enough here: compared with images of 199 patients, 10 copies without any change among 1,000 "
        "synthetic images could be told from chance, which rests on a fitted tail."
    )
    assert found.as_json()["method"].startswith("conformal p-values, below the smallest of them a generalised Pareto")
    assert found.null_as_json()["tail"]["is_used"]


def test_a_null_that_a_plain_copy_does_not_exceed_could_not_have_called_one() -> None:
    found = find_discoveries(np.full(20, 0.5), NullScores(np.append(np.linspace(0, 0.5, 900), np.full(100, 1.0))))
    assert not found.can_call
    assert found.fewest_discoverable > 20


def test_what_could_have_been_called_depends_on_what_a_plain_copy_scores() -> None:
    generator = np.random.default_rng(8)
    distances = -generator.gamma(3, 0.1, 199)
    scores = np.full(1000, -0.5)
    assert find_discoveries(scores, NullScores(distances)).can_call
    assert not find_discoveries(scores, NullScores(distances), plain_copy_score=0.0).can_call


def test_a_null_can_call_one_copy_more_than_is_accepted_or_it_cannot() -> None:
    # Two patients: the smallest p-value is 1/3, so 7 of 20 images need 20 / 3 / 0.05 = 134 to be called.
    few = find_discoveries([0.5] * 20, NullScores([0.4, 0.6]))
    assert not few.can_call_above(0.05)
    assert not few.can_call_above(1.0)
    # 399 patients: 20 images with p = 1/400 need one.
    many = find_discoveries([0.5] * 20, NullScores(np.linspace(0.3, 0.6, 399)))
    assert many.can_call_above(0.0)


@pytest.mark.parametrize(
    ("num_images", "num_held_out", "fdr", "limit", "names_fdr"),
    [
        (100, 40, 1e-6, 0.5, True),
        (100, 40, 1e-6, 0.05, False),
        (100, 40, 0.001, 0.0, False),
        (1000, 60, 0.05, 0.0, False),
        (200, 30, 0.05, None, False),
        (40, 20, 1e-9, 1.0, True),
    ],
)
def test_each_remedy_for_a_null_that_can_call_nothing_lets_it_call(num_images, num_held_out, fdr, limit, names_fdr):
    # Too few for a fitted tail, so that the exact p-values decide.
    scores = np.linspace(0.2, 0.5, num_images)
    before = find_discoveries(scores, NullScores(np.linspace(0.3, 0.6, num_held_out)), fdr)
    assert not before.can_call_above(limit)
    words = before.remedy_above(limit)
    patients = int(re.search(r"held-out images of ([\d,]+) patients", words)[1].replace(",", ""))
    if patients < 1e6:
        null = NullScores(np.full(patients, 0.5))
        assert null.tail.is_usable is False
        assert find_discoveries(scores, null, fdr).can_call_above(limit)
        fewer = NullScores(np.full(patients - 1, 0.5))
        assert not find_discoveries(scores, fewer, fdr).can_call_above(limit)
    assert ("give --fdr 0.05 or" in words) == names_fdr
    accepted = 0.01 if limit is None else limit
    assert f"To tell {math.floor(accepted * num_images) + (limit is not None):,} cop" in words
    if names_fdr:
        assert find_discoveries(scores, before.null, 0.05).can_call_above(limit)
    assert "limit" not in words  # a limit is not raised so that it can be decided
