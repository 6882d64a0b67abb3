"""Thresholds from labelled pairs and from held-out scores, with the error rates that they reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from monai_deepssim.calibration.proportions import Proportion, proportion_interval
from monai_deepssim.calibration.vectors import Groups, Vector, as_flags, as_group_codes, as_scores
from monai_deepssim.errors import UnusableInputError

__all__ = ["Threshold", "choose_threshold", "measure_threshold", "percentile_threshold"]

_WITHOUT_TARGET = ("f1", "youden")
_WITH_TARGET = ("precision", "recall", "fpr")
# How far below the lowest score a threshold lies that flags all: one step of the six digits that an audit keeps.
_STEP = 1e-6


@dataclass(frozen=True)
class Threshold:
    """A score above which a pair is a duplicate, and how often that is right on labelled pairs.

    Attributes:
        value: a pair is a duplicate when its score is *above* this; a score equal to it is not.
        criterion: how it was chosen, ``"f1"``, ``"youden"``, ``"precision"``, ``"recall"``, ``"fpr"``, or ``"given"``.
        target: the rate that was wanted, for the criteria that take one.
        precision: share of duplicates among the flagged pairs, with its interval; ``None`` when none is flagged.
        recall: share of flagged pairs among the duplicates, with its interval.
        fpr: false-positive rate, the share of flagged pairs among the others, with its interval.
        f1: harmonic mean of precision and recall.
    """

    value: float
    criterion: str
    target: float | None
    precision: Proportion | None
    recall: Proportion
    fpr: Proportion
    f1: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "value": self.value,
            "criterion": self.criterion,
            "target": self.target,
            "precision": None if self.precision is None else self.precision.as_json(),
            "recall": self.recall.as_json(),
            "fpr": self.fpr.as_json(),
            "f1": self.f1,
        }


def choose_threshold(
    scores: Vector,
    labels: Vector,
    criterion: str = "f1",
    target: float | None = None,
    groups: Groups | None = None,
    confidence: float = 0.95,
) -> Threshold:
    r"""Choose the threshold that labelled pairs speak for.

    - ``"f1"``: the highest F1.
    - ``"youden"``: the highest recall - FPR (Youden, Cancer 1950).
    - ``"precision"``: the highest recall with at least the precision ``target``.
    - ``"recall"``: the lowest FPR with at least the recall ``target``.
    - ``"fpr"``: the highest recall with at most the false-positive rate ``target``.

    Of equally good ones the one that finds more duplicates is taken, and of those the one that flags fewer others. The
    value is the middle between the lowest score flagged and the highest not flagged, so that it hangs on neither.

    Three things to know before a rate is quoted. The rates belong to the pairs that the threshold was chosen on and
    are a little better than on new ones: measure them on other pairs with :func:`measure_threshold`. Precision moves
    with the share of duplicates among the pairs. And a rate *a pair* is not a rate *an image*: an audit compares each
    synthetic image with all training images, so the pairs should be images with their *nearest* other image, as the
    audit will see them, or the share of flagged images will be far above the FPR of arbitrary pairs.

    Args:
        scores: ``(N,)``, of the pairs; higher is closer.
        labels: ``(N,)``, whether each pair is a duplicate; both kinds must be there.
        criterion: one of the above.
        target: the wanted rate, for the last three.
        groups: ``(N,)``, the patient of each pair, for the intervals; see :func:`proportion_interval`.
        confidence: confidence level of the intervals.

    Returns:
        The threshold, and what it reaches on these pairs.

    Raises:
        UnusableInputError: when there is no duplicate, nothing else, or the precision cannot be reached.
        ValueError: when ``criterion`` is not one of these, ``target`` does not fit it, or the lengths differ.

    Example:
        >>> scores = [0.2, 0.5, 0.6, 0.7, 0.8, 0.9]
        >>> labels = [False, False, True, False, True, True]
        >>> chosen = choose_threshold(scores, labels, criterion="precision", target=1.0)
        >>> chosen.value, chosen.precision.value, round(chosen.recall.value, 3)
        (0.75, 1.0, 0.667)
        >>> round(choose_threshold(scores, labels, criterion="recall", target=1.0).value, 3)
        0.55
    """
    values, is_duplicate = _check_pairs(scores, labels)
    _check_criterion(criterion, target)
    false_rates, true_rates, cuts = roc_curve(is_duplicate, values, drop_intermediate=False)
    num_duplicates = int(is_duplicate.sum())
    found = np.rint(true_rates * num_duplicates)
    wrong = np.rint(false_rates * (len(values) - num_duplicates))
    flagged = found + wrong
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)

    if criterion in _WITHOUT_TARGET:
        gain = true_rates - false_rates if criterion == "youden" else 2 * found / (flagged + num_duplicates)
        is_candidate = gain >= gain.max() - 1e-12
    elif criterion == "precision":
        is_candidate = (flagged > 0) & (precision >= target)
        if not is_candidate.any():
            raise UnusableInputError(
                f"a precision of {target:g} cannot be reached on these {len(values)} pairs, of which {num_duplicates} "
                f"are duplicates: the highest is {precision.max():.4g}, because other pairs score as high as the "
                "duplicates do. Ask for less, or take a detector that tells them apart."
            )
    elif criterion == "recall":
        is_candidate = true_rates >= target
    else:
        is_candidate = false_rates <= target
    candidates = np.flatnonzero(is_candidate)
    # np.lexsort orders by its last key first.
    keys = (found, -wrong) if criterion == "recall" else (-wrong, found)
    best = candidates[np.lexsort([key[candidates] for key in keys])[-1]]
    return _measure(_cut_between(cuts[1:], int(best)), values, is_duplicate, criterion, target, groups, confidence)


def measure_threshold(
    value: float, scores: Vector, labels: Vector, groups: Groups | None = None, confidence: float = 0.95
) -> Threshold:
    """Measure the error rates of a threshold that was chosen elsewhere, on pairs that had no part in it.

    Args:
        value: a pair is flagged when its score is above it.
        scores: ``(N,)``, of the pairs; higher is closer.
        labels: ``(N,)``, whether each pair is a duplicate; both kinds must be there.
        groups: ``(N,)``, the patient of each pair, for the intervals; see :func:`proportion_interval`.
        confidence: confidence level of the intervals.

    Returns:
        The threshold, and what it reaches on these pairs.

    Raises:
        UnusableInputError: when there is no duplicate, or nothing else.

    Example:
        >>> measured = measure_threshold(0.85, [0.2, 0.85, 0.9, 0.95], [False, True, True, True])
        >>> round(measured.recall.value, 3), round(measured.recall.low, 3), measured.fpr.value
        (0.667, 0.094, 0.0)
    """
    return _measure(value, *_check_pairs(scores, labels), "given", None, groups, confidence)


def percentile_threshold(scores: Vector, percentile: float = 95.0) -> float:
    r"""Compute the threshold of Dar et al.: a percentile of how close real images of strangers come.

    .. math:: \tau = Q_{95}\big(\{ \max_h s(x, h) : x \in \text{training} \}\big)

    with h over the held-out images. A synthetic image is a copy when its highest score to a training image is above
    it. This is a rule, not an error rate: a synthetic image is compared with *all* training images, and the highest of
    more is higher, so with fewer held-out than training images it accuses more than 5 % of the images that are no
    copies, and with more of them fewer.

    Dar et al. *Unconditional latent diffusion models memorize patient imaging data.* Nature Biomedical Engineering
    (2025), arXiv 2402.01054.

    Args:
        scores: ``(M,)``, for each training image its highest score to any held-out image.
        percentile: 0 to 100.

    Returns:
        The threshold, by linear interpolation between neighbouring scores.

    Raises:
        ValueError: when there is no score.

    Example:
        >>> import numpy as np
        >>> round(percentile_threshold(np.linspace(0, 1, 101)), 6)
        0.95
    """
    values = as_scores(scores, "scores")
    if len(values) == 0:
        raise ValueError("got no scores, want one per training image")
    return float(np.percentile(values, percentile))


def _cut_between(distinct: np.ndarray, num_flagged: int) -> float:
    # distinct is descending; the first num_flagged of them are to be above the cut.
    if num_flagged == 0:
        return float(distinct[0])
    if num_flagged == len(distinct):
        return float(distinct[-1] - max(_STEP, abs(distinct[-1]) * _STEP))
    upper, lower = distinct[num_flagged - 1], distinct[num_flagged]
    middle = lower + (upper - lower) / 2
    # Between neighbouring floats there is no middle.
    return float(middle if middle < upper else lower)


def _measure(
    value: float,
    scores: np.ndarray,
    is_duplicate: np.ndarray,
    criterion: str,
    target: float | None,
    groups: Groups | None,
    confidence: float,
) -> Threshold:
    codes = None if groups is None else as_group_codes(groups, len(scores))
    is_flagged = scores > value

    def rate(of: np.ndarray, among: np.ndarray) -> Proportion:
        return proportion_interval(of[among], None if codes is None else codes[among], confidence)

    num_right = int((is_flagged & is_duplicate).sum())
    return Threshold(
        value=float(value),
        criterion=criterion,
        target=target,
        precision=rate(is_duplicate, is_flagged) if is_flagged.any() else None,
        recall=rate(is_flagged, is_duplicate),
        fpr=rate(is_flagged, ~is_duplicate),
        f1=2 * num_right / int(is_flagged.sum() + is_duplicate.sum()),
    )


def _check_pairs(scores: Vector, labels: Vector) -> tuple[np.ndarray, np.ndarray]:
    values, is_duplicate = as_scores(scores, "scores"), as_flags(labels, "labels")
    if len(values) != len(is_duplicate):
        raise ValueError(f"got {len(values)} scores and {len(is_duplicate)} labels, want one of each per pair")
    if is_duplicate.all() or not is_duplicate.any():
        raise UnusableInputError(
            f"of the {len(values)} labelled pairs {int(is_duplicate.sum())} are duplicates. A threshold parts two "
            "kinds of pairs: give pairs that are duplicates and pairs that are not."
        )
    return values, is_duplicate


def _check_criterion(criterion: str, target: float | None) -> None:
    if criterion not in _WITHOUT_TARGET + _WITH_TARGET:
        raise ValueError(f"got criterion={criterion!r}, want one of {', '.join(_WITHOUT_TARGET + _WITH_TARGET)}")
    if (target is None) != (criterion in _WITHOUT_TARGET):
        want = "no target" if criterion in _WITHOUT_TARGET else "the wanted rate, such as 0.95"
        raise ValueError(f"got target={target} for criterion={criterion!r}, want {want}")
    if target is not None and not 0 <= target <= 1:
        raise ValueError(f"got target={target}, want a share, 0 to 1")
