"""A cell's scores to the numbers of its row, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from monai_deepssim.benchmark.cells import CellScores
from monai_deepssim.benchmark.pairs import PairSet
from monai_deepssim.benchmark.queries import QuerySet
from monai_deepssim.calibration import (
    ClassThresholds,
    bootstrap_weights,
    compute_detection_rates,
    percentile_interval,
    proportion_interval,
    resample_detection_rates,
)
from monai_deepssim.metrics import CLASS_NAMES, classify_scores

__all__ = [
    "PAIR_MEASURES",
    "SEARCH_MEASURES",
    "Measure",
    "choose_stranger_threshold",
    "measure_pairs",
    "measure_search",
]

#: Names of the measures of a search, in the order of the columns.
SEARCH_MEASURES: tuple[str, ...] = (
    "roc_auc",
    "tpr_at_1_fpr",
    "recall_at_one_threshold",
    "fpr_at_one_threshold",
    "proposed",
    "kept",
    "scored",
    "called",
    "named",
    "called_strangers",
)
#: Names of the measures of labelled pairs, likewise.
PAIR_MEASURES: tuple[str, ...] = (
    "macro_f1",
    "roc_auc",
    "average_precision",
    "tpr_at_1_fpr",
    "fpr_at_95_recall",
    "rank_1",
    "rank_10",
)
_DUPLICATE = CLASS_NAMES.index("duplicate")
_FPR = 0.01


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def choose_stranger_threshold(scores: np.ndarray) -> float:
    """Choose the lowest threshold that at most 1 % of the strangers' scores exceed.

    Args:
        scores: ``(N,)``, scores of images that are not copies.

    Returns:
        The threshold, one of the scores: an image is called a copy when its score is above it.

    Example:
        >>> choose_stranger_threshold(np.arange(200.0)), choose_stranger_threshold(np.arange(50.0))
        (197.0, 49.0)
    """
    return float(np.sort(scores)[::-1][int(_FPR * len(scores))])


def measure_search(
    cell: CellScores, queries: QuerySet, one_threshold: float, own_threshold: float | None, num_resamples: int
) -> dict[str, Measure]:
    """Compute the numbers of :data:`SEARCH_MEASURES` from the nearest scores: copies against all other images.

    Intervals: binomial ones for shares, with images of one group taken together; percentiles of the bootstrap over
    groups for the AUC and the recall at an FPR of 1 %.

    Args:
        cell: The scores.
        queries: Which images are copies, and their groups.
        one_threshold: Threshold for all perturbations, chosen on other groups.
        own_threshold: Threshold of the detector itself, if it has one.
        num_resamples: Number of bootstrap resamplings.

    Returns:
        A measure per name.
    """
    is_copy, groups = queries.is_copy, np.asarray(queries.groups)
    weights = bootstrap_weights(len(is_copy), num_resamples, groups=queries.groups)
    rates = compute_detection_rates(cell.nearest_scores, is_copy)
    resampled = resample_detection_rates(cell.nearest_scores, is_copy, weights)
    measures = {
        name: Measure(rates[name], *percentile_interval(resampled[name])) for name in ("roc_auc", "tpr_at_1_fpr")
    }

    def share(flags: np.ndarray, among: np.ndarray) -> Measure:
        return _share(flags[among], groups[among].tolist())

    is_above = cell.nearest_scores > one_threshold
    # A comparison with NaN is false, which would say that nothing is called.
    own = np.nan if own_threshold is None else own_threshold
    is_called, is_named = cell.nearest_scores > own, cell.source_scores > own
    undefined = Measure(float("nan"), float("nan"), float("nan"))
    return measures | {
        "recall_at_one_threshold": share(is_above, is_copy),
        "fpr_at_one_threshold": share(is_above, ~is_copy),
        "proposed": share(cell.is_proposed, is_copy),
        "kept": share(cell.is_kept, is_copy),
        "scored": share(cell.ranks == 1, is_copy),
        "called": undefined if own_threshold is None else share(is_called, is_copy),
        "named": undefined if own_threshold is None else share(is_named, is_copy),
        "called_strangers": undefined if own_threshold is None else share(is_called, ~is_copy),
    }


def measure_pairs(
    cell: CellScores, pairs: PairSet, thresholds: ClassThresholds, num_resamples: int
) -> dict[str, Measure]:
    """Compute the numbers of :data:`PAIR_MEASURES`.

    Macro F1, AUC, average precision, TPR and FPR are of the pairs' scores; the ranks are of the images that are copies.
    Intervals: binomial ones for the ranks, percentiles of the bootstrap for all others; pairs of one patient are
    resampled together.

    Args:
        cell: The scores.
        pairs: Labels and patients of the pairs.
        thresholds: Thresholds that were chosen on other pairs.
        num_resamples: Number of bootstrap resamplings.

    Returns:
        A measure per name.
    """
    is_duplicate = pairs.labels == _DUPLICATE
    weights = bootstrap_weights(len(pairs.labels), num_resamples, groups=pairs.patients)
    rates = compute_detection_rates(cell.pair_scores, is_duplicate)
    resampled = resample_detection_rates(cell.pair_scores, is_duplicate, weights)
    measures = {name: Measure(rate, *percentile_interval(resampled[name])) for name, rate in rates.items()}

    predicted = classify_scores(cell.pair_scores, (thresholds.lower, thresholds.upper))
    classes = np.unique(pairs.labels).tolist()
    macro_f1 = f1_score(pairs.labels, predicted, labels=classes, average="macro", zero_division=0)
    resampled_f1 = _resample_macro_f1(pairs.labels, predicted, classes, weights)
    measures["macro_f1"] = Measure(float(macro_f1), *percentile_interval(resampled_f1))

    ranks = cell.ranks[pairs.is_copy]
    patients = np.asarray(pairs.groups)[pairs.is_copy].tolist()
    for k in (1, 10):
        measures[f"rank_{k}"] = _share((ranks >= 1) & (ranks <= k), patients)
    return {name: measures[name] for name in PAIR_MEASURES}


def _share(flags: np.ndarray, groups: list[str]) -> Measure:
    if len(flags) == 0:
        return Measure(float("nan"), float("nan"), float("nan"))
    share = proportion_interval(flags, groups=groups)
    return Measure(share.value, share.low, share.high)


def _resample_macro_f1(
    labels: np.ndarray, predicted: np.ndarray, classes: list[int], weights: np.ndarray
) -> np.ndarray:
    scores = []
    for number in classes:
        right = weights @ ((labels == number) & (predicted == number))
        called = weights @ (labels == number).astype(int) + weights @ (predicted == number).astype(int)
        scores.append(2 * right / np.maximum(called, 1))
    return np.mean(scores, axis=0)
