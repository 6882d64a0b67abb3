"""A cell's scores to the numbers of its row, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from monai_deepssim.audit.detector_benchmark.cells import CellScores
from monai_deepssim.audit.detector_benchmark.pairs import PairSet
from monai_deepssim.calibration import (
    ClassThresholds,
    bootstrap_weights,
    compute_detection_rates,
    percentile_interval,
    proportion_interval,
    resample_detection_rates,
)
from monai_deepssim.metrics import CLASS_NAMES, classify_scores

__all__ = ["MEASURES", "Measure", "measure_cell"]

#: Names of the measures in the order of the columns, and whether more is better.
MEASURES: dict[str, bool] = {
    "macro_f1": True,
    "roc_auc": True,
    "average_precision": True,
    "tpr_at_1_fpr": True,
    "fpr_at_95_recall": False,
    "search_roc_auc": True,
    "rank_1": True,
    "rank_10": True,
}
_DUPLICATE = CLASS_NAMES.index("duplicate")


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


def measure_cell(
    cell: CellScores, pairs: PairSet, thresholds: ClassThresholds, num_resamples: int
) -> dict[str, Measure]:
    """Compute the numbers of :data:`MEASURES`.

    Macro F1, AUC, average precision, TPR and FPR are of the pairs' scores, the AUC of the search of the synthetic
    images' nearest scores; the ranks are of the images that are copies. Intervals: exact binomial ones for the ranks,
    percentiles of the bootstrap for all others; pairs of one patient are resampled together.

    Args:
        cell: the scores.
        pairs: their labels and patients.
        thresholds: chosen on other pairs.
        num_resamples: of the bootstrap.

    Returns:
        A measure a name.
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

    is_copy = np.array([len(sources) > 0 for sources in pairs.sources])
    image_weights = bootstrap_weights(len(is_copy), num_resamples, groups=pairs.synthetic_patients)
    auc = resample_detection_rates(cell.nearest_scores, is_copy, image_weights)["roc_auc"]
    measures["search_roc_auc"] = Measure(
        compute_detection_rates(cell.nearest_scores, is_copy)["roc_auc"], *percentile_interval(auc)
    )
    copied_patients = [patient for patient, copy in zip(pairs.synthetic_patients, is_copy, strict=True) if copy]
    for k in (1, 10):
        found = (cell.ranks[is_copy] >= 1) & (cell.ranks[is_copy] <= k)
        share = proportion_interval(found, groups=copied_patients)
        measures[f"rank_{k}"] = Measure(share.value, share.low, share.high)
    return {name: measures[name] for name in MEASURES}


def _resample_macro_f1(
    labels: np.ndarray, predicted: np.ndarray, classes: list[int], weights: np.ndarray
) -> np.ndarray:
    scores = []
    for number in classes:
        right = weights @ ((labels == number) & (predicted == number))
        called = weights @ (labels == number).astype(int) + weights @ (predicted == number).astype(int)
        scores.append(2 * right / np.maximum(called, 1))
    return np.mean(scores, axis=0)
