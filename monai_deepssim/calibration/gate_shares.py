"""The shares that a release gate judges: of suspicious images, and of memorized patients."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    count, total = int(is_suspicious.sum()), len(is_suspicious)
    with_skipped = np.append(is_suspicious, np.ones(evidence.skipped_synthetic, dtype=bool))
    if rules.gate_on == "files" or evidence.chosen_by:
        return JudgedShare(count, total, None, None, float(with_skipped.mean()), rules.max_copy_fraction)
    files: Groups | None = None if evidence.files is None else list(evidence.files)
    limit = upper_limit(is_suspicious, files, _CONFIDENCE)
    files_with_skipped = None if files is None else [*files, *[""] * evidence.skipped_synthetic]
    at_worst = max(limit, upper_limit(with_skipped, files_with_skipped, _CONFIDENCE))
    needed = _needed(rules, evidence, is_suspicious, files)
    return JudgedShare(
        count,
        total,
        limit,
        _over_recall(limit, evidence.recall),
        _over_recall(at_worst, evidence.recall),
        rules.max_copy_fraction,
        *needed,
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
    count, total = patients.memorized, patients.total
    most = min(total, count + evidence.skipped_synthetic)
    if rules.gate_on == "files" or evidence.chosen_by or patients.unknown:
        most_share = most / (total + patients.unknown)
        return JudgedShare(count, total + patients.unknown, None, None, most_share, rules.max_patient_fraction)
    limit, at_worst = (upper_limit(np.arange(total) < number, confidence=_CONFIDENCE) for number in (count, most))
    return JudgedShare(
        count,
        total,
        limit,
        _over_recall(limit, evidence.recall),
        _over_recall(at_worst, evidence.recall),
        rules.max_patient_fraction,
    )


def _over_recall(limit: float, recall: float | None) -> float:
    if recall is None:
        return limit
    return min(1.0, limit / recall) if recall > 0 else 1.0


def _needed(
    rules: GateRules, evidence: GateEvidence, is_suspicious: np.ndarray, files: Groups | None
) -> tuple[int | None, int | None]:
    if rules.max_copy_fraction is None:
        return None, None
    # Limit / recall <= accepted, solved for the limit.
    accepted = min(1.0, rules.max_copy_fraction * (1.0 if evidence.recall is None else evidence.recall))

    def images_like_these(flags: np.ndarray) -> int | None:
        images = images_needed(accepted, int(flags.sum()), _CONFIDENCE)
        if images is None or files is None:
            return images
        effective_total = proportion_interval(flags, files, 2 * _CONFIDENCE - 1).effective_total or len(flags)
        return math.ceil(images * len(flags) / effective_total)

    return images_like_these(is_suspicious), images_like_these(np.zeros_like(is_suspicious))
