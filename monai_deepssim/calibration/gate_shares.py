"""The shares that a release gate judges: of suspicious images, and of memorized patients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules
from monai_deepssim.calibration.limits import images_needed, upper_limit
from monai_deepssim.calibration.proportions import proportion_interval
from monai_deepssim.calibration.vectors import Groups

__all__ = ["JudgedShare", "measure_images", "measure_patients"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class JudgedShare:
    """A share, its upper limit, and what it could be at worst.

    Attributes:
        count: images or patients counted.
        total: the number that they are a share of.
        limit: one-sided upper 95 % limit; ``None`` where the set stands for no others.
        limit_over_recall: the limit divided by the recall of the controls, at most 1; the limit where that is unknown.
        at_worst: what is compared with the accepted share, if all skipped synthetic images were suspicious.
        max_fraction: share that is accepted; ``None`` for no limit.
        needed: how many images like these would do, at this count; ``None`` where none would, or there is no limit.
        needed_without: the same, had nothing been counted.
    """

    count: int
    total: int
    limit: float | None
    limit_over_recall: float | None
    at_worst: float
    max_fraction: float | None
    needed: int | None = None
    needed_without: int | None = None

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.total

    @property
    def is_exceeded(self) -> bool:
        """Whether what was seen is more than what is accepted."""
        return self.max_fraction is not None and self.value > self.max_fraction

    @property
    def is_uncertain(self) -> bool:
        """Whether what was seen is accepted, and its limit is not."""
        if self.max_fraction is None or self.limit_over_recall is None or self.is_exceeded:
            return False
        return self.limit_over_recall > self.max_fraction

    @property
    def is_exceeded_at_worst(self) -> bool:
        """Whether it is more than what is accepted, if all skipped images were suspicious."""
        return self.max_fraction is not None and self.at_worst > self.max_fraction


def measure_images(rules: GateRules, evidence: GateEvidence, is_suspicious: np.ndarray) -> JudgedShare:
    """Measure the share of suspicious images.

    Args:
        rules: what is accepted.
        evidence: what was measured.
        is_suspicious: ``(N,)`` bool.

    Example:
        >>> none = np.zeros(100, dtype=bool)
        >>> evidence = GateEvidence(none, none, none, none, recall=0.9, skipped_synthetic=5)
        >>> share = measure_images(GateRules(0.01), evidence, none)
        >>> share.value, round(share.limit, 4), round(share.limit_over_recall, 4), share.needed
        (0.0, 0.0295, 0.0328, 332)
    """
    files: Groups | None = None if evidence.files is None else list(evidence.files)
    skipped = evidence.skipped_synthetic
    share = _judge(
        is_suspicious,
        np.append(is_suspicious, np.ones(skipped, dtype=bool)),
        rules.max_copy_fraction,
        evidence.recall,
        is_sample=_stands_for_more(rules, evidence),
        groups=files,
        groups_at_worst=None if files is None else [*files, *[""] * skipped],
    )
    if share.limit is None or rules.max_copy_fraction is None:
        return share
    # Limit / recall <= accepted, solved for the limit.
    accepted = min(1.0, rules.max_copy_fraction * (1.0 if evidence.recall is None else evidence.recall))
    return replace(
        share,
        needed=_images_like_these(accepted, is_suspicious, files),
        needed_without=_images_like_these(accepted, np.zeros_like(is_suspicious), files),
    )


def measure_patients(rules: GateRules, evidence: GateEvidence) -> JudgedShare | None:
    """Measure the share of memorized patients; ``None`` where no patient is known.

    Each training image of an unknown patient is taken for a patient who is not memorized: the true share is at least
    that one, and no upper limit is given.

    Args:
        rules: what is accepted.
        evidence: what was measured.

    Example:
        >>> from monai_deepssim.calibration.gate_evidence import MemorizedPatients
        >>> none = np.zeros(500)
        >>> evidence = GateEvidence(none, none, none, none, patients=MemorizedPatients(0, 100))
        >>> round(measure_patients(GateRules(max_patient_fraction=0.05), evidence).limit, 4)
        0.0295
    """
    patients = evidence.patients
    if patients is None or patients.total == 0:
        return None
    numbers = np.arange(patients.total + patients.unknown)
    return _judge(
        numbers < patients.memorized,
        numbers < min(patients.total, patients.memorized + evidence.skipped_synthetic),
        rules.max_patient_fraction,
        evidence.recall,
        is_sample=_stands_for_more(rules, evidence) and not patients.unknown,
    )


def _stands_for_more(rules: GateRules, evidence: GateEvidence) -> bool:
    """Whether the set is a sample of what its generator makes, so that its shares have limits."""
    return rules.gate_on == "generator" and not evidence.chosen_by


def _judge(
    flags: np.ndarray,
    flags_at_worst: np.ndarray,
    max_fraction: float | None,
    recall: float | None,
    *,
    is_sample: bool,
    groups: Groups | None = None,
    groups_at_worst: Groups | None = None,
) -> JudgedShare:
    count, total = int(flags.sum()), len(flags)
    if not is_sample:
        return JudgedShare(count, total, None, None, float(flags_at_worst.mean()), max_fraction)
    limit = upper_limit(flags, groups, _CONFIDENCE)
    at_worst = max(limit, upper_limit(flags_at_worst, groups_at_worst, _CONFIDENCE))
    return JudgedShare(count, total, limit, _over_recall(limit, recall), _over_recall(at_worst, recall), max_fraction)


def _over_recall(limit: float, recall: float | None) -> float:
    if recall is None:
        return limit
    return min(1.0, limit / recall) if recall > 0 else 1.0


def _images_like_these(accepted: float, flags: np.ndarray, files: Groups | None) -> int | None:
    images = images_needed(accepted, int(flags.sum()), _CONFIDENCE)
    if images is None or files is None:
        return images
    effective_total = proportion_interval(flags, files, 2 * _CONFIDENCE - 1).effective_total or len(flags)
    return math.ceil(images * len(flags) / effective_total)
