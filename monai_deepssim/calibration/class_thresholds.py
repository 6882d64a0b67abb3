"""The two thresholds that part different, similar and duplicate pairs, from labelled pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_deepssim.calibration.vectors import Vector, as_scores
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CLASS_NAMES

__all__ = ["ClassThresholds", "choose_class_thresholds"]

_DIFFERENT, _DUPLICATE, _SIMILAR = range(3)
# How far outside of the scores a threshold lies that puts all on one side.
_STEP = 1e-6


@dataclass(frozen=True)
class ClassThresholds:
    """Two thresholds, and the macro F1 that they reach on the pairs they were chosen on.

    Attributes:
        lower: a score at most this is different.
        upper: a score above this is a duplicate; between the two, similar.
        macro_f1: on the pairs that they were chosen on, a little better than on new ones.
    """

    lower: float
    upper: float
    macro_f1: float


def choose_class_thresholds(scores: Vector, labels: Vector, two_class: bool = False) -> ClassThresholds:
    """Choose the thresholds with the highest macro F1, by trying all.

    A threshold lies in the middle between two neighbouring scores, or beyond all of them; the two are tried in all
    combinations. Of equally good ones the highest are taken, the lower threshold first.

    Args:
        scores: ``(N,)``, of the pairs; higher is closer.
        labels: ``(N,)``, 0 different, 1 duplicate, 2 similar. Macro F1 is the mean over the classes that occur here.
        two_class: whether the detector knows no similar images: one threshold then takes the place of both, and the F1
            of the similar ones is 0.

    Returns:
        The thresholds.

    Raises:
        UnusableInputError: when there is no duplicate or nothing else.
        ValueError: when the lengths differ or a label is another.

    Example:
        >>> chosen = choose_class_thresholds([0.1, 0.2, 0.5, 0.6, 0.8, 0.9], [0, 0, 2, 2, 1, 1])
        >>> round(chosen.lower, 3), round(chosen.upper, 3), chosen.macro_f1
        (0.35, 0.7, 1.0)
        >>> chosen = choose_class_thresholds([0.1, 0.2, 0.5, 0.6, 0.8, 0.9], [0, 0, 2, 2, 1, 1], two_class=True)
        >>> chosen.lower == chosen.upper, round(chosen.macro_f1, 3)
        (True, 0.556)
    """
    values, classes = as_scores(scores, "scores"), np.asarray(labels)
    if len(values) != len(classes) or not np.isin(classes, range(len(CLASS_NAMES))).all():
        raise ValueError(f"got {len(values)} scores and {len(classes)} labels, want one label 0, 1 or 2 per score")
    counts = np.bincount(classes.astype(int), minlength=len(CLASS_NAMES))
    if not counts[_DUPLICATE] or counts[_DUPLICATE] == len(values):
        raise UnusableInputError(
            f"of the {len(values)} labelled pairs that thresholds are to be chosen on, {counts[_DUPLICATE]} are "
            "duplicates. Thresholds part kinds of pairs: give pairs that are duplicates and pairs that are not."
        )
    distinct, positions = np.unique(values, return_inverse=True)
    step = _STEP * max(1.0, float(np.abs(distinct).max()))
    cuts = np.concatenate([[distinct[0] - step], (distinct[:-1] + distinct[1:]) / 2, [distinct[-1]]])
    # below[c, k]: how many of class c have one of the k lowest distinct scores.
    below = np.zeros((len(CLASS_NAMES), len(cuts)))
    for number in range(len(CLASS_NAMES)):
        of_class = np.bincount(positions[classes == number], minlength=len(distinct))
        below[number, 1:] = np.cumsum(of_class)
    flagged = below.sum(0)
    f1_different = _f1(below[_DIFFERENT], flagged, counts[_DIFFERENT])
    f1_duplicate = _f1(counts[_DUPLICATE] - below[_DUPLICATE], len(values) - flagged, counts[_DUPLICATE])
    best = (-1.0, 0, 0)
    for lower in range(len(cuts)):
        uppers = np.arange(lower, lower + 1 if two_class else len(cuts))
        f1_similar = _f1(
            below[_SIMILAR, uppers] - below[_SIMILAR, lower], flagged[uppers] - flagged[lower], counts[_SIMILAR]
        )
        total = f1_different[lower] + f1_duplicate[uppers] + f1_similar
        # The last of equals.
        position = len(total) - 1 - int(np.argmax(np.round(total[::-1], 12)))
        if round(total[position], 12) >= best[0]:
            best = (round(float(total[position]), 12), lower, int(uppers[position]))
    return ClassThresholds(float(cuts[best[1]]), float(cuts[best[2]]), best[0] / int((counts > 0).sum()))


def _f1(right: np.ndarray, called: np.ndarray, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros_like(right)
    return 2 * right / (called + count)
