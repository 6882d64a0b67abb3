"""Thresholds against every cut there is, and against scikit-learn at the cut that was chosen."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_curve

from monai_deepssim.calibration import choose_threshold, measure_threshold, percentile_threshold
from monai_deepssim.errors import UnusableInputError


def draw_pairs(seed, decimals=2):
    generator = np.random.default_rng(seed)
    labels = generator.random(120) < 0.3
    # Few decimals, so that scores tie within and across the two kinds.
    return (generator.normal(0.4, 0.15, 120) + 0.3 * labels).round(decimals), labels


def rates_at(cut, scores, labels):
    flagged = scores > cut
    right, wrong = (flagged & labels).sum(), (flagged & ~labels).sum()
    return {
        "precision": right / flagged.sum() if flagged.any() else 0,
        "recall": right / labels.sum(),
        "fpr": wrong / (~labels).sum(),
        "f1": 2 * right / (flagged.sum() + labels.sum()),
        "flagged": flagged.sum(),
    }


def best_of_every_cut(scores, labels, criterion, target):
    """The rates at each distinct score and below all of them; the best by the words of the docstring."""
    every = [rates_at(cut, scores, labels) for cut in [-np.inf, *np.unique(scores)]]
    if criterion == "f1":
        return max(every, key=lambda r: (round(r["f1"], 12), r["recall"], -r["fpr"]))
    if criterion == "youden":
        return max(every, key=lambda r: (round(r["recall"] - r["fpr"], 12), r["recall"], -r["fpr"]))
    if criterion == "recall":
        return min((r for r in every if r["recall"] >= target), key=lambda r: (r["fpr"], -r["recall"]))
    allowed = [
        r
        for r in every
        if (r["precision"] >= target and r["flagged"] if criterion == "precision" else r["fpr"] <= target)
    ]
    return max(allowed, key=lambda r: (r["recall"], -r["fpr"]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize(
    ("criterion", "target"),
    [("f1", None), ("youden", None), ("precision", 0.8), ("recall", 0.9), ("recall", 1.0), ("fpr", 0.05), ("fpr", 0)],
)
def test_no_other_cut_is_better(seed, decimals, criterion, target) -> None:
    scores, labels = draw_pairs(seed, decimals)
    expected = best_of_every_cut(scores, labels, criterion, target)
    chosen = choose_threshold(scores, labels, criterion, target)
    assert (chosen.criterion, chosen.target) == (criterion, target)
    assert chosen.recall.value == expected["recall"]
    assert chosen.fpr.value == expected["fpr"]
    assert chosen.f1 == pytest.approx(expected["f1"])
    flagged = scores > chosen.value
    assert flagged.sum() == expected["flagged"]
    assert chosen.f1 == pytest.approx(f1_score(labels, flagged))
    assert chosen.recall.value == pytest.approx(recall_score(labels, flagged))
    if flagged.any():
        assert chosen.precision.value == pytest.approx(precision_score(labels, flagged))
    else:
        assert chosen.precision is None


def test_the_recall_at_a_false_positive_rate_is_that_of_scikit_learns_curve() -> None:
    scores, labels = draw_pairs(7, decimals=9)
    false_rates, true_rates, _ = roc_curve(labels, scores)
    for target in (0.01, 0.1, 0.5):
        expected = true_rates[false_rates <= target].max()
        assert choose_threshold(scores, labels, "fpr", target).recall.value == pytest.approx(expected)


def test_a_score_equal_to_the_threshold_is_no_copy_and_the_value_hangs_on_no_score() -> None:
    labels = [False, False, True, True]
    assert choose_threshold([0.1, 0.3, 0.7, 0.9], labels).value == pytest.approx(0.5)
    measured = measure_threshold(0.7, [0.1, 0.3, 0.7, 0.9], labels)
    assert (measured.recall.value, measured.criterion) == (0.5, "given")


def test_neighbouring_floats_are_told_apart() -> None:
    above = np.nextafter(0.5, 1)
    chosen = choose_threshold([0.2, 0.5, above, 0.9], [False, False, True, True])
    assert chosen.value == 0.5
    assert chosen.f1 == 1


def test_all_are_flagged_by_a_threshold_that_survives_six_digits() -> None:
    chosen = choose_threshold([0.3, 0.4, 0.5], [True, False, True], "recall", 1.0)
    assert chosen.recall.value == chosen.fpr.value == 1
    assert round(chosen.value, 6) < 0.3


def test_the_intervals_are_those_of_the_counts() -> None:
    scores, labels = draw_pairs(8)
    chosen = choose_threshold(scores, labels, confidence=0.9)
    flagged = scores > chosen.value
    for share, of, among in (
        (chosen.precision, labels, flagged),
        (chosen.recall, flagged, labels),
        (chosen.fpr, flagged, ~labels),
    ):
        assert (share.count, share.total) == ((of & among).sum(), among.sum())
        expected = binomtest(int((of & among).sum()), int(among.sum())).proportion_ci(0.9)
        assert (share.low, share.high) == (expected.low, expected.high)
    patients = np.arange(120) // 4
    clustered = choose_threshold(scores, labels, groups=patients, confidence=0.9)
    assert clustered.value == chosen.value
    assert clustered.recall.num_groups == len(np.unique(patients[labels]))
    assert clustered.recall.low < chosen.recall.low


def test_tensors_are_taken_and_the_result_is_plain() -> None:
    scores, labels = draw_pairs(9)
    chosen = choose_threshold(torch.tensor(scores), torch.tensor(labels), "recall", 0.9)
    assert chosen == choose_threshold(scores, labels, "recall", 0.9)
    entry = json.loads(json.dumps(chosen.as_json()))
    assert (entry["value"], entry["recall"]["value"]) == (chosen.value, chosen.recall.value)
    assert json.loads(json.dumps(measure_threshold(9, scores, labels).as_json()))["precision"] is None


def test_a_precision_out_of_reach_is_said_in_words() -> None:
    scores, labels = [0.1, 0.8, 0.9, 0.95], [False, True, True, False]
    with pytest.raises(UnusableInputError, match=r"precision of 0\.9 cannot be reached on these 4 pairs.*is 0\.6667"):
        choose_threshold(scores, labels, "precision", 0.9)


@pytest.mark.parametrize("label", [True, False])
def test_pairs_of_one_kind_are_refused_in_words(label) -> None:
    with pytest.raises(UnusableInputError, match=f"of the 2 labelled pairs {2 * label} are duplicates"):
        choose_threshold([0.1, 0.2], [label, label])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1, 0.2], [True]), "got 2 scores and 1 labels"),
        (([0.1, 0.2], [True, False], "auc"), "want one of f1, youden, precision, recall, fpr"),
        (([0.1, 0.2], [True, False], "f1", 0.9), "want no target"),
        (([0.1, 0.2], [True, False], "recall"), "want the wanted rate"),
        (([0.1, 0.2], [True, False], "recall", 95), "want a share"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        choose_threshold(*arguments)


def test_dars_threshold_is_numpys_percentile() -> None:
    scores = np.random.default_rng(10).random(333)
    assert percentile_threshold(torch.tensor(scores)) == np.percentile(scores, 95)
    assert (scores > percentile_threshold(scores, 90)).mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="no scores"):
        percentile_threshold([])
