"""Scores of image pairs against the labels that people gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from monai.metrics.metric import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    silhouette_score,
)

from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares

__all__ = [
    "ALIGNED_SSIM_THRESHOLDS",
    "CLASS_NAMES",
    "DEEPSSIM_THRESHOLDS",
    "LabelledPairsMetric",
    "classify_scores",
    "evaluate_pairs",
]

Values: TypeAlias = torch.Tensor | np.ndarray | Sequence[float]

#: Name of each class number, as in the published test set's labels.
CLASS_NAMES = ("different", "duplicate", "similar")
_DIFFERENT, _DUPLICATE, _SIMILAR = range(3)
_SCALARS = ("macro_f1", "roc_auc", "silhouette")

#: DeepSSIM's published thresholds for its cosine (arXiv 2509.16582): at most the first is different, above the second
#: a duplicate.
DEEPSSIM_THRESHOLDS = (0.60, 0.85)
#: Thresholds for aligned SSIM, chosen on phantom subjects kept for tuning and measured on others by
#: benchmarks/aligned_ssim_thresholds.py; docs/measured.md says why they are a little below the best F1.
ALIGNED_SSIM_THRESHOLDS = (0.63, 0.86)


def classify_scores(
    scores: Values, thresholds: tuple[float, float] = DEEPSSIM_THRESHOLDS, *, inclusive: bool = False
) -> np.ndarray:
    """Sort scores into different, duplicate and similar.

    At most the lower threshold is different (0), above the upper one a duplicate (1), between them similar (2).

    Args:
        scores: ``(N,)`` similarities, higher is closer.
        thresholds: the lower and the upper one; they belong to one kind of score.
        inclusive: whether a score that equals a threshold is in the class above it; it is in the one below otherwise.

    Returns:
        ``(N,)`` int64 class numbers, indices into :data:`CLASS_NAMES`.

    Raises:
        ValueError: when a score is not finite, ``scores`` is not one-dimensional or the thresholds do not ascend.

    Example:
        >>> classify_scores([0.60, 0.61, 0.85, 0.86])
        array([0, 2, 2, 1])
    """
    scores = _to_vector(scores, "scores")
    lower, upper = thresholds
    if not lower <= upper:
        raise ValueError(f"got thresholds {thresholds}, want (lower, upper) with lower <= upper.")
    if not np.isfinite(scores).all():
        position = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"score {position} of {len(scores)} is {scores[position]}. Leave out the pair or repair it.")
    is_above = np.greater_equal if inclusive else np.greater
    return np.where(
        is_above(scores, upper), _DUPLICATE, np.where(is_above(scores, lower), _SIMILAR, _DIFFERENT)
    ).astype(np.int64)


def evaluate_pairs(
    scores: Values,
    labels: Values,
    thresholds: tuple[float, float] = DEEPSSIM_THRESHOLDS,
    *,
    inclusive: bool = False,
) -> dict[str, Any]:
    """Evaluate scores of labelled pairs as DeepSSIM's paper does.

    Scardace, Puglisi, Guarnera, Battiato, Ravì. *A Novel Metric for Detecting Memorization in Generative Models for
    Brain MRI Synthesis.* arXiv 2509.16582 (2025).

    Args:
        scores: ``(N,)`` similarities, higher is closer.
        labels: ``(N,)`` true classes: 0 different, 1 duplicate, 2 similar.
        thresholds: the lower and the upper one, see :func:`classify_scores`.
        inclusive: whether a score that equals a threshold is in the class above it.

    Returns:
        Plain values, ready for JSON:

        - ``num_pairs``, ``thresholds``, and ``counts``, pairs of each true class by name;
        - ``macro_f1`` over the classes that occur among the labels or the predictions, as scikit-learn's, and
          ``weighted_f1``, where each class counts as often as it is among the labels;
        - ``precision`` and ``recall`` of each class by name; None where no pair was predicted or labelled so;
        - ``silhouette`` of the scores grouped by label, in [-1, 1]; None with only one class, or each pair its own;
        - ``roc_auc`` of the scores, duplicates against the rest; None unless there are both;
        - ``confusion_matrix``, 3 x 3, one row per true class, one column per predicted one, in the order of
          :data:`CLASS_NAMES`.

    Raises:
        ValueError: when there is no pair, scores and labels are not equally many, a score is not finite or a label is
            not 0, 1 or 2.

    Example:
        >>> result = evaluate_pairs([0.2, 0.9, 0.7, 0.8], [0, 1, 2, 1])
        >>> round(result["macro_f1"], 4), result["precision"]["similar"], result["recall"]["duplicate"]
        (0.7778, 0.5, 0.5)
        >>> result["confusion_matrix"]
        [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    """
    scores, labels = _to_vector(scores, "scores"), _to_vector(labels, "labels")
    if len(scores) != len(labels) or len(scores) == 0:
        raise ValueError(f"got {len(scores)} scores and {len(labels)} labels, wanted equally many, at least one.")
    unknown = ~np.isin(labels, range(len(CLASS_NAMES)))
    if unknown.any():
        position = int(np.flatnonzero(unknown)[0])
        raise ValueError(
            f"label {position} of {len(labels)} is {labels[position]}, wanted 0 (different), 1 (duplicate) or "
            "2 (similar)."
        )
    labels = labels.astype(np.int64)
    predicted = classify_scores(scores, thresholds, inclusive=inclusive)
    classes = list(range(len(CLASS_NAMES)))
    duplicate, num_groups = labels == _DUPLICATE, len(np.unique(labels))
    by_class = {"labels": classes, "average": None, "zero_division": np.nan}
    return {
        "num_pairs": len(scores),
        "thresholds": [float(threshold) for threshold in thresholds],
        "counts": {name: int((labels == number).sum()) for number, name in enumerate(CLASS_NAMES)},
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(labels, predicted, average="weighted", zero_division=0)),
        "precision": _by_name(precision_score(labels, predicted, **by_class)),
        "recall": _by_name(recall_score(labels, predicted, **by_class)),
        "silhouette": (
            float(silhouette_score(scores.reshape(-1, 1), labels)) if 2 <= num_groups < len(labels) else None
        ),
        "roc_auc": float(roc_auc_score(duplicate, scores)) if 0 < duplicate.sum() < len(labels) else None,
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def _by_name(values: np.ndarray) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in zip(CLASS_NAMES, values, strict=True)}


def _to_vector(values: Values, name: str) -> np.ndarray:
    # The scores' own precision is kept: a float32 of 0.60 is above 0.60 in double precision.
    vector = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if vector.ndim == 2 and vector.shape[1] == 1:
        vector = vector[:, 0]  # as a metric's buffer holds them
    if vector.ndim != 1:
        raise ValueError(f"{name} have shape {vector.shape}, wanted one value per pair, (N,) or (N, 1).")
    return vector


class LabelledPairsMetric(SyncsUnevenShares, CumulativeIterationMetric):
    """Gathers scores and labels of pairs, batch after batch, for :func:`evaluate_pairs`.

    ``metric(y_pred=scores, y=labels)`` takes ``(B, 1)`` scores, higher is closer, and ``(B,)`` or ``(B, 1)`` labels (0
    different, 1 duplicate, 2 similar); ``aggregate()`` gives one number, :meth:`evaluate` all of them. As a
    ``metric_fn`` of MONAI's ``IgniteMetricHandler`` it can be the key metric.

    Args:
        metric_name: ``"macro_f1"``, ``"roc_auc"`` or ``"silhouette"``: what ``aggregate()`` gives.
        thresholds: the lower and the upper one, see :func:`classify_scores`.

    Raises:
        ValueError: when ``metric_name`` is not one of these.

    Example:
        >>> metric = LabelledPairsMetric()
        >>> _ = metric(y_pred=torch.tensor([[0.2], [0.9], [0.7]]), y=torch.tensor([0, 1, 2]))
        >>> metric.aggregate().item(), metric.evaluate()["recall"]["similar"]
        (1.0, 1.0)
    """

    def __init__(self, metric_name: str = "macro_f1", thresholds: tuple[float, float] = DEEPSSIM_THRESHOLDS) -> None:
        super().__init__()
        if metric_name not in _SCALARS:
            raise ValueError(f"got metric_name={metric_name!r}, want one of {', '.join(_SCALARS)}")
        self.metric_name = metric_name
        self.thresholds = thresholds

    def evaluate(self) -> dict[str, Any]:
        """Evaluate all pairs so far, see :func:`evaluate_pairs`.

        Raises:
            ValueError: when no pair was gathered.
        """
        buffers = self.get_buffer()
        if buffers is None:
            raise ValueError("There is nothing to evaluate: call the metric on one pair or more first.")
        scores, labels = buffers
        return evaluate_pairs(scores, labels, self.thresholds)

    def aggregate(self) -> torch.Tensor:
        """Compute the number that ``metric_name`` names, NaN where it is not defined.

        Returns:
            Scalar tensor.

        Raises:
            ValueError: when no pair was gathered.
        """
        value = self.evaluate()[self.metric_name]
        return torch.tensor(float("nan") if value is None else value, dtype=torch.float64)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        if y is None or y_pred.numel() != len(y_pred) or y.numel() != len(y_pred):
            raise ValueError(
                f"got scores {tuple(y_pred.shape)} and labels {None if y is None else tuple(y.shape)}, want (B, 1) and "
                "(B,): one score and one label per pair."
            )
        return [
            convert_to_tensor(values.detach().reshape(-1, 1).float(), track_meta=False)
            for values in (y_pred, torch.as_tensor(y))
        ]
