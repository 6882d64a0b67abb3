"""q-values against Benjamini and Hochberg's definition, and what a set of held-out images can show at all."""

import json

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
    null = NullScores(np.linspace(0, 0.5, num_holdout))
    fewest = fewest_discoverable(num_synthetic, null.smallest_p_value, 0.05)
    for num_above in {fewest - 1, min(fewest, num_synthetic)}:
        scores = np.full(num_synthetic, 0.1)
        scores[:num_above] = 0.9
        found = find_discoveries(scores, null, 0.05)
        assert found.fewest_discoverable == fewest
        assert found.count == (num_above if num_above >= fewest else 0)


def test_the_summary_says_what_the_discoveries_rest_on() -> None:
    found = find_discoveries([0.9, 0.1], NullScores(np.linspace(0, 0.5, 60), np.arange(60) // 3), fdr=0.1)
    entry = json.loads(json.dumps(found.as_json()))
    assert entry["fdr"] == 0.1
    assert (entry["num_discoveries"], entry["fewest_discoverable"]) == (1, 1)
    assert (entry["null"], entry["num_null_scores"], entry["num_null_patients"]) == ("held-out images", 60, 20)
    assert entry["smallest_p_value"] == 1 / 21 == found.p_values[0]
    assert entry["caveat"] == HOLDOUT_CAVEAT
