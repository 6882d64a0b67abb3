"""Members against non-members: whether a synthetic set lies closer to its training images than to others like them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from monai_deepssim.calibration.cross_fitting import flag_by_halves, flag_by_third
from monai_deepssim.calibration.privacy_measures import (
    advantage_interval,
    auc_interval,
    effective_patients,
    epsilon_lower_bound,
    singling_out_risk,
)
from monai_deepssim.calibration.proportions import Proportion, proportion_interval
from monai_deepssim.calibration.vectors import Groups, Vector, as_group_codes, as_scores

__all__ = ["MEMBER_ATTACK", "MIN_MEMBER_PATIENTS", "MemberComparison", "compare_members"]

#: Patients of each side below which no interval is given: halves of fewer choose a threshold by chance.
MIN_MEMBER_PATIENTS = 10

#: The attack whose risk of singling out is given, in words.
MEMBER_ATTACK = (
    "The attacker has an image of a person and the synthetic set. If a synthetic image scores above a threshold with "
    "it, the attacker claims that this synthetic image singles out the person's record among the training data. The "
    "claim is right for a person who was in training; the same claims about held-out people are the control."
)

_ROC_POINTS = 200
_LOW_FPR, _LOWER_FPR = 0.01, 0.001
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class MemberComparison:
    """How well the scores by the nearest synthetic image tell members of the training set from non-members.

    Attributes:
        num_members: training images.
        num_non_members: held-out images.
        num_patients: patients of the members and of the non-members; an unknown one counts each time.
        roc: false- and true-positive rates, at most 200 points.
        auc: area under the ROC curve; 0.5 where nothing is told.
        auc_interval: its 95 % interval; ``None`` for fewer than 10 patients on a side, as for all that follows.
        tpr_at_1_fpr: share of the members above the lowest threshold that at most 1 % of the non-members reach;
            ``None`` for fewer than 100 patients of the non-members.
        tpr_at_01_fpr: the same at 0.1 %, for which it takes 1,000 patients.
        advantage: TPR - FPR at thresholds chosen on other patients.
        advantage_interval: its 95 % interval, clustered by patient.
        epsilon_lower_bound: lower bound on epsilon, at a confidence of 95 %.
        delta: the delta of this epsilon.
        singling_out: risk above controls, and the ends of its 95 % interval.
    """

    num_members: int
    num_non_members: int
    num_patients: tuple[int, int]
    roc: tuple[np.ndarray, np.ndarray]
    auc: float
    auc_interval: tuple[float, float] | None = None
    tpr_at_1_fpr: Proportion | None = None
    tpr_at_01_fpr: Proportion | None = None
    advantage: float | None = None
    advantage_interval: tuple[float, float] | None = None
    epsilon_lower_bound: float | None = None
    delta: float = 1e-5
    singling_out: tuple[float, float, float] | None = None

    @property
    def epsilon_conditions(self) -> str:
        """What the bound on epsilon rests on."""
        return (
            f"With a confidence of {100 * _CONFIDENCE:.0f} %, training and sampling together were not differentially "
            f"private towards one patient with a smaller epsilon, at delta = {self.delta:g}. 0 means that nothing was "
            "shown. Two conditions have to hold. First, chance decided which of these patients were in training and "
            "which were held out. Second, the scores of different patients do not depend on each other. The bound is "
            "that of Kairouz et al. (2015), who characterise differential privacy by hypothesis tests; its rates have "
            "Clopper-Pearson limits, at a threshold that was chosen on other patients."
        )

    @property
    def sentence(self) -> str:
        """Whether the set knows who was in training, in a few sentences."""
        if self.advantage is None or self.advantage_interval is None or self.auc_interval is None:
            members, non_members = self.num_patients
            return (
                f"Not decided: it takes {MIN_MEMBER_PATIENTS} patients on each side, and there are {members:,} in "
                f"training and {non_members:,} held out."
            )
        low, high = self.advantage_interval
        area = f"AUC {self.auc:.2f} ({self.auc_interval[0]:.2f} to {self.auc_interval[1]:.2f})"
        numbers = f"advantage {self.advantage:.3f} ({low:.3f} to {high:.3f}), {area}"
        if low > 0 or self.auc_interval[0] > 0.5:
            text = f"The synthetic set lies closer to its training images than to held-out images: {numbers}."
        elif self.auc_interval[1] < 0.5:
            text = (
                f"The synthetic set lies closer to the held-out images than to its training images: {numbers}. The two "
                "may not come from the same source, and then this comparison tells nothing."
            )
        else:
            text = f"Not decided: no difference between training and held-out images is certain: {numbers}."
        return " ".join([text, *self._missing_rates()])

    def _missing_rates(self) -> list[str]:
        rates = [(_LOW_FPR, self.tpr_at_1_fpr), (_LOWER_FPR, self.tpr_at_01_fpr)]
        return [
            f"How many members are recognised at {100 * rate:.2g} % false accusations was not measured: it takes "
            f"{round(1 / rate):,} held-out patients, and there are {self.num_patients[1]:,}."
            for rate, tpr in rates
            if tpr is None
        ]

    def as_json(self) -> dict[str, Any]:
        """The entry ``members`` of ``summary.json``."""
        risk = self.singling_out
        return {
            "num_members": self.num_members,
            "num_non_members": self.num_non_members,
            "auc": self.auc,
            "auc_interval": _as_list(self.auc_interval),
            "tpr_at_1_fpr": None if self.tpr_at_1_fpr is None else self.tpr_at_1_fpr.value,
            "tpr_at_1_fpr_interval": _interval_of(self.tpr_at_1_fpr),
            "tpr_at_0.1_fpr": None if self.tpr_at_01_fpr is None else self.tpr_at_01_fpr.value,
            "tpr_at_0.1_fpr_interval": _interval_of(self.tpr_at_01_fpr),
            "advantage": self.advantage,
            "advantage_interval": _as_list(self.advantage_interval),
            "epsilon_lower_bound": self.epsilon_lower_bound,
            "epsilon_conditions": self.epsilon_conditions,
            "singling_out_risk": None if risk is None else risk[0],
            "singling_out_risk_interval": None if risk is None else list(risk[1:]),
            "roc": {"fpr": self.roc[0].tolist(), "tpr": self.roc[1].tolist()},
            "sentence": self.sentence,
        }


def compare_members(
    member_scores: Vector,
    non_member_scores: Vector,
    member_patients: Groups | None = None,
    non_member_patients: Groups | None = None,
    *,
    delta: float = 1e-5,
    seed: int = 0,
) -> MemberComparison:
    """Compare how close training images and held-out images lie to a synthetic set.

    A generator that memorizes makes images that lie closer to those that it saw than to others of the same source. This
    needs no threshold of a copy, and sees copies that are too blurred for one.

    **Chosen on other patients.** The advantage at the best of all thresholds is above 0 by chance alone, so thresholds
    are chosen on other patients than they are judged by; the advantage is then on average no larger than that at the
    best threshold, and 0 where nothing is memorized. The TPR at a low FPR is at the threshold that the non-members set;
    its interval is of the members at this threshold.

    **Clustered by patient.** Rates have Clopper and Pearson's interval for independent images and Korn and Graubard's
    where a patient has several. The AUC has Newcombe's, for as many images as there are (effective) patients.

    Held-out images have to be of other patients and of the same source as the training images. Where they are of
    another scanner or hospital, a difference shows that, and no memory.

    Args:
        member_scores: ``(n,)``, the similarity of each training image to its nearest synthetic image; higher is closer.
        non_member_scores: ``(m,)``, the same for each held-out image.
        member_patients: ``(n,)``, the patient of each; an empty one is unknown and taken for one of its own.
        non_member_patients: ``(m,)``, likewise.
        delta: the delta for which epsilon is bounded, 0 to 1.
        seed: seed of the splits.

    Returns:
        The comparison; without intervals for fewer than 10 patients on a side.

    Raises:
        ValueError: when a side has no image, a score is not finite, the lengths differ, or delta is not in [0, 1).

    Example:
        >>> generator = np.random.default_rng(0)
        >>> members, non_members = generator.normal(0.5, 0.1, 1000), generator.normal(0.5, 0.1, 1000)
        >>> members[:100] = 0.95
        >>> comparison = compare_members(members, non_members)
        >>> comparison.advantage_interval[0] > 0.05, comparison.epsilon_lower_bound > 1
        (True, True)
    """
    scores = as_scores(member_scores, "member_scores"), as_scores(non_member_scores, "non_member_scores")
    if not len(scores[0]) or not len(scores[1]):
        raise ValueError(f"got {len(scores[0])} members and {len(scores[1])} non-members, want at least one of each")
    if not 0 <= delta < 1:
        raise ValueError(f"got delta={delta}, want a number from 0 to below 1, such as 1e-5")
    codes = _codes(member_patients, len(scores[0])), _codes(non_member_patients, len(scores[1]))
    num_patients = int(codes[0].max()) + 1, int(codes[1].max()) + 1
    is_member = np.arange(len(scores[0]) + len(scores[1])) < len(scores[0])
    fpr, tpr, thresholds = roc_curve(is_member, np.concatenate(scores), drop_intermediate=False)
    comparison = MemberComparison(
        num_members=len(scores[0]),
        num_non_members=len(scores[1]),
        num_patients=num_patients,
        roc=_thin(fpr, tpr),
        auc=float(roc_auc_score(is_member, np.concatenate(scores))),
        delta=delta,
    )
    if min(num_patients) < MIN_MEMBER_PATIENTS:
        return comparison
    generator = np.random.default_rng(seed)
    flags = flag_by_halves(scores, codes, generator)
    rates = _rates(flags, codes, _CONFIDENCE)
    audited = _rates(*flag_by_third(scores, codes, generator), _CONFIDENCE)
    low_threshold, lower_threshold = (
        thresholds[np.flatnonzero(fpr <= rate)[-1]] if num_patients[1] >= 1 / rate else None
        for rate in (_LOW_FPR, _LOWER_FPR)
    )
    return replace(
        comparison,
        auc_interval=auc_interval(comparison.auc, effective_patients(codes[0]), effective_patients(codes[1])),
        tpr_at_1_fpr=_tpr_at(low_threshold, scores[0], codes[0]),
        tpr_at_01_fpr=_tpr_at(lower_threshold, scores[0], codes[0]),
        advantage=rates[0].value - rates[1].value,
        advantage_interval=advantage_interval(rates[0], rates[1]),
        # Two limits, each at 97.5 %, which hold together at 95 %.
        epsilon_lower_bound=epsilon_lower_bound(audited[0].low, audited[1].high, delta),
        # Two intervals, each at 97.5 %.
        singling_out=singling_out_risk(*_rates(flags, codes, (1 + _CONFIDENCE) / 2)),
    )


def _rates(
    flags: tuple[np.ndarray, np.ndarray], codes: tuple[np.ndarray, np.ndarray], confidence: float
) -> tuple[Proportion, Proportion]:
    """True- and false-positive rate, clustered by patient."""
    return (
        proportion_interval(flags[0], codes[0], confidence),
        proportion_interval(flags[1], codes[1], confidence),
    )


def _tpr_at(threshold: float | None, scores: np.ndarray, codes: np.ndarray) -> Proportion | None:
    return None if threshold is None else proportion_interval(scores >= threshold, codes, _CONFIDENCE)


def _codes(patients: Groups | None, size: int) -> np.ndarray:
    return np.arange(size) if patients is None else as_group_codes(patients, size)


def _thin(fpr: np.ndarray, tpr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take points that lie evenly on the axis of the false-positive rate, and as many evenly on its logarithm."""
    if len(fpr) <= _ROC_POINTS:
        return fpr, tpr
    even = np.append(np.linspace(0, 1, _ROC_POINTS // 2), np.logspace(-4, 0, _ROC_POINTS // 2))
    # The highest point of each false-positive rate, and the last one at 1.
    rows = np.unique([0, *(np.searchsorted(fpr, even, side="right") - 1)])
    return fpr[rows], tpr[rows]


def _as_list(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _interval_of(rate: Proportion | None) -> list[float] | None:
    return None if rate is None else [rate.low, rate.high]
