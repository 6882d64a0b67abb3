"""A cell's scores to the numbers of its row, each with its interval."""

from __future__ import annotations

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

__all__ = ["PAIR_MEASURES", "SEARCH_MEASURES", "choose_stranger_threshold", "measure_pairs", "measure_search"]

#: Measures of a search with their headings, in the order of the columns.
SEARCH_MEASURES = {
    "roc_auc": "AUC",
    "tpr_at_1_fpr": "recall at FPR 1 %",
    "recall_at_one_threshold": "recall at one threshold",
    "fpr_at_one_threshold": "FPR at one threshold",
    "proposed": "proposed",
    "kept": "kept",
    "scored": "scored",
    "called": "called",
    "named": "source called",
    "called_strangers": "strangers called",
}
#: Measures of labelled pairs with their headings, in the order of the columns.
PAIR_MEASURES = {
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "fpr_at_95_recall": "FPR at 95 % recall",
    "rank_1": "source first",
    "rank_10": "source among ten",
}
_DUPLICATE = CLASS_NAMES.index("duplicate")
_FPR = 0.01


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
) -> dict[str, float]:
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
        By name the number, and the ends of its 95 % interval as ``<name>_low`` and ``<name>_high``; NaN where it is not
        defined.
    """
    is_copy, groups = queries.is_copy, np.asarray(queries.groups)
    weights = bootstrap_weights(len(is_copy), num_resamples, groups=queries.groups)
    rates = compute_detection_rates(cell.nearest_scores, is_copy)
    resampled = resample_detection_rates(cell.nearest_scores, is_copy, weights)
    is_above = cell.nearest_scores > one_threshold
    shares = {
        "recall_at_one_threshold": (is_above, is_copy),
        "fpr_at_one_threshold": (is_above, ~is_copy),
        "proposed": (cell.is_proposed, is_copy),
        "kept": (cell.is_kept, is_copy),
        "scored": (cell.ranks == 1, is_copy),
    }
    # Without a threshold nothing can be called: a share of no images is not defined.
    own, has_threshold = (0.0, False) if own_threshold is None else (own_threshold, True)
    is_called = cell.nearest_scores > own
    shares["called"] = (is_called, is_copy & has_threshold)
    shares["named"] = (cell.source_scores > own, is_copy & has_threshold)
    shares["called_strangers"] = (is_called, ~is_copy & has_threshold)
    measures: dict[str, float] = {}
    for name in ("roc_auc", "tpr_at_1_fpr"):
        measures |= _with_interval(name, rates[name], percentile_interval(resampled[name]))
    for name, (flags, among) in shares.items():
        measures |= _share(name, flags[among], groups[among].tolist())
    return measures


def measure_pairs(
    cell: CellScores, pairs: PairSet, thresholds: ClassThresholds, num_resamples: int
) -> dict[str, float]:
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
        Numbers and ends of intervals by name, as :func:`measure_search` returns them.
    """
    is_duplicate = pairs.labels == _DUPLICATE
    weights = bootstrap_weights(len(pairs.labels), num_resamples, groups=pairs.patients)
    rates = compute_detection_rates(cell.pair_scores, is_duplicate)
    resampled = resample_detection_rates(cell.pair_scores, is_duplicate, weights)

    predicted = classify_scores(cell.pair_scores, (thresholds.lower, thresholds.upper))
    classes = np.unique(pairs.labels).tolist()
    rates["macro_f1"] = float(f1_score(pairs.labels, predicted, labels=classes, average="macro", zero_division=0))
    resampled["macro_f1"] = _resample_macro_f1(pairs.labels, predicted, classes, weights)

    ranks = cell.ranks[pairs.is_copy]
    patients = np.asarray(pairs.groups)[pairs.is_copy].tolist()
    measures: dict[str, float] = {}
    for name in PAIR_MEASURES:
        if name.startswith("rank_"):
            measures |= _share(name, (ranks >= 1) & (ranks <= int(name.removeprefix("rank_"))), patients)
        else:
            measures |= _with_interval(name, rates[name], percentile_interval(resampled[name]))
    return measures


def _share(name: str, flags: np.ndarray, groups: list[str]) -> dict[str, float]:
    if len(flags) == 0:
        return _with_interval(name, np.nan, (np.nan, np.nan))
    share = proportion_interval(flags, groups=groups)
    return _with_interval(name, share.value, (share.low, share.high))


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _resample_macro_f1(
    labels: np.ndarray, predicted: np.ndarray, classes: list[int], weights: np.ndarray
) -> np.ndarray:
    scores = []
    for number in classes:
        right = weights @ ((labels == number) & (predicted == number))
        called = weights @ (labels == number).astype(int) + weights @ (predicted == number).astype(int)
        scores.append(2 * right / np.maximum(called, 1))
    return np.mean(scores, axis=0)
