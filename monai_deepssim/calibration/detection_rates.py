"""How well scores tell duplicates from all other pairs, whatever the threshold; and the same for resampled pairs."""

from __future__ import annotations

import numpy as np

from monai_deepssim.calibration.vectors import Vector, as_flags, as_scores

__all__ = ["compute_detection_rates", "resample_detection_rates"]

_FPR, _RECALL = 0.01, 0.95


def compute_detection_rates(scores: Vector, is_duplicate: Vector) -> dict[str, float]:
    """Compute ROC AUC, average precision, TPR at 1 % FPR and FPR at 95 % recall.

    Args:
        scores: ``(N,)``, higher is closer.
        is_duplicate: ``(N,)``, whether each pair is a duplicate.

    Returns:
        ``roc_auc``; ``average_precision``; ``tpr_at_1_fpr``, the highest true-positive rate (recall) of a threshold
        that lets at most 1 % of the others pass; ``fpr_at_95_recall``, the lowest false-positive rate of a threshold
        that finds at least 95 % of the duplicates. All NaN where there is no duplicate or nothing else.

    Raises:
        ValueError: when the lengths differ or a score is not finite.

    Example:
        >>> compute_detection_rates([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
        {'roc_auc': 0.75, 'average_precision': 0.8333333333333333, 'tpr_at_1_fpr': 0.5, 'fpr_at_95_recall': 0.5}
    """
    rates = resample_detection_rates(scores, is_duplicate, np.ones((1, len(scores))))
    return {name: float(rate[0]) for name, rate in rates.items()}


def resample_detection_rates(scores: Vector, is_duplicate: Vector, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute :func:`compute_detection_rates` for many resamplings of the pairs at once.

    scikit-learn takes weights too, for one resampling a call, which makes minutes of a benchmark's bootstrap.

    Args:
        scores: ``(N,)``.
        is_duplicate: ``(N,)``.
        weights: ``(B, N)``, how often each pair is in each resampling.

    Returns:
        The same names, ``(B,)`` each; NaN for a resampling without a duplicate or without another pair.

    Raises:
        ValueError: when the lengths differ or a score is not finite.

    Example:
        >>> once = np.ones((1, 4))
        >>> resample_detection_rates([0.1, 0.4, 0.35, 0.8], [False, False, True, True], once)["roc_auc"]
        array([0.75])
    """
    values, positive = as_scores(scores, "scores"), as_flags(is_duplicate, "is_duplicate")
    if len(values) != len(positive) or len(values) == 0:
        raise ValueError(f"got {len(values)} scores and {len(positive)} labels, want equally many, at least one")
    if weights.ndim != 2 or weights.shape[1] != len(values):
        raise ValueError(f"got weights {weights.shape}, want one column for each of {len(values)} pairs")
    order = np.argsort(-values, kind="stable")
    # Pairs with equal scores are on the same side of every threshold.
    last_of_ties = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    ordered = weights[:, order]
    start = np.zeros((len(weights), 1))
    found = np.hstack([start, np.cumsum(ordered * positive[order], axis=1)[:, last_of_ties]])
    wrong = np.hstack([start, np.cumsum(ordered * ~positive[order], axis=1)[:, last_of_ties]])
    with np.errstate(invalid="ignore", divide="ignore"):
        tpr, fpr = found / found[:, -1:], wrong / wrong[:, -1:]
        precision = np.where(found + wrong > 0, found / (found + wrong), 0.0)
    rates = {
        "roc_auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(1),
        "average_precision": (np.diff(tpr) * precision[:, 1:]).sum(1),
        "tpr_at_1_fpr": np.where(fpr <= _FPR, tpr, 0.0).max(1),
        "fpr_at_95_recall": np.where(tpr >= _RECALL, fpr, 1.0).min(1),
    }
    undefined = (found[:, -1] == 0) | (wrong[:, -1] == 0)
    return {name: np.where(undefined, np.nan, rate) for name, rate in rates.items()}
