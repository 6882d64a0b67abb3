"""Rates over all thresholds, their resampling, and the two thresholds of three classes."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from monai_deepssim.calibration import (
    bootstrap_weights,
    choose_class_thresholds,
    compute_detection_rates,
    percentile_interval,
    resample_detection_rates,
)
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import classify_scores


def drawn_pairs(seed, size=120):
    """Scores with ties, and labels that they tell more or less."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, size)
    means = np.array([0.3, 0.8, 0.5])[labels]
    return np.round(means + generator.normal(0, 0.15, size), 1), labels


@pytest.mark.parametrize("seed", range(5))
def test_resampled_rates_are_those_that_scikit_learn_gives_with_weights(seed):
    scores, labels = drawn_pairs(seed)
    weights = bootstrap_weights(len(scores), num_resamples=6, seed=seed)
    resampled = resample_detection_rates(scores, labels == 1, weights)
    for row, weight in enumerate(weights):
        fpr, tpr, _ = roc_curve(labels == 1, scores, sample_weight=weight, drop_intermediate=False)
        expected = {
            "roc_auc": roc_auc_score(labels == 1, scores, sample_weight=weight),
            "average_precision": average_precision_score(labels == 1, scores, sample_weight=weight),
            "tpr_at_1_fpr": tpr[fpr <= 0.01].max(),
            "fpr_at_95_recall": fpr[tpr >= 0.95].min(),
        }
        for name, value in expected.items():
            assert resampled[name][row] == pytest.approx(value, abs=1e-9), name


def test_the_rates_of_the_pairs_themselves_are_those_of_weights_of_one():
    scores, labels = drawn_pairs(7)
    rates = compute_detection_rates(scores, labels == 1)
    resampled = resample_detection_rates(scores, labels == 1, np.ones((1, len(scores))))
    assert {name: values[0] for name, values in resampled.items()} == pytest.approx(rates)


def test_a_sample_of_one_kind_has_no_rate():
    assert all(np.isnan(value) for value in compute_detection_rates([0.1, 0.2], [True, True]).values())
    rates = resample_detection_rates([0.1, 0.2], [True, False], np.array([[2, 0], [1, 1]]))
    assert np.isnan(rates["roc_auc"][0])
    assert rates["roc_auc"][1] == 0


def test_the_rows_of_a_group_are_drawn_together():
    groups = ["a", "a", "b", "", "", "c"]
    weights = bootstrap_weights(6, num_resamples=200, seed=0, groups=groups)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert not (weights[:, 3] == weights[:, 4]).all(), "unknown patients are not one patient"
    assert (weights[:, [0, 2, 3, 4, 5]].sum(1) == 5).all()


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    truth, covered = 0.921350396, 0  # AUC of two normal distributions two standard deviations apart
    for seed in range(200):
        generator = np.random.default_rng(seed)
        scores = np.concatenate([generator.normal(0, 1, 60), generator.normal(2, 1, 60)])
        weights = bootstrap_weights(120, num_resamples=200, seed=seed)
        low, high = percentile_interval(resample_detection_rates(scores, np.arange(120) >= 60, weights)["roc_auc"])
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.parametrize("two_class", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_thresholds_have_a_higher_macro_f1(seed, two_class):
    scores, labels = drawn_pairs(seed, size=40)
    chosen = choose_class_thresholds(scores, labels, two_class=two_class)

    def macro_f1(lower, upper):
        predicted = classify_scores(scores, (lower, upper))
        return f1_score(labels, predicted, labels=[0, 1, 2], average="macro", zero_division=0)

    assert macro_f1(chosen.lower, chosen.upper) == pytest.approx(chosen.macro_f1)
    cuts = np.append(np.unique(scores) - 0.05, scores.max())
    pairs = [(cut, cut) for cut in cuts] if two_class else combinations_with_replacement(cuts, 2)
    assert max(macro_f1(*pair) for pair in pairs) == pytest.approx(chosen.macro_f1)
    assert (chosen.lower == chosen.upper) == two_class


def test_a_class_that_does_not_occur_is_not_in_the_mean():
    assert choose_class_thresholds([0.1, 0.2, 0.8], [0, 0, 1]).macro_f1 == 1


def test_pairs_without_a_duplicate_cannot_give_thresholds():
    with pytest.raises(UnusableInputError, match="0 are duplicates"):
        choose_class_thresholds([0.1, 0.2], [0, 2])


def test_an_unknown_label_is_an_error():
    with pytest.raises(ValueError, match="0, 1 or 2"):
        choose_class_thresholds([0.1, 0.2], [0, 3])
