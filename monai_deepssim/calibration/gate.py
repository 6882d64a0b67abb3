"""The release gate: passed, exceeded or undecided, and every reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from monai_deepssim.calibration.gate_caveats import GateCaveat, gate_caveats
from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules
from monai_deepssim.calibration.gate_reasons import GateReason, gate_reasons, why_passed
from monai_deepssim.calibration.gate_shares import JudgedShare, measure_images, measure_patients

__all__ = ["Gate", "decide_gate"]

_EXIT_STATUS = {None: 0, "passed": 0, "undecided": 2, "exceeded": 3}


@dataclass(frozen=True)
class Gate:
    """The decision on a synthetic set, which is the entry ``gate`` of ``summary.json``.

    Attributes:
        result: ``passed``, ``exceeded``, ``undecided``, or ``None`` where no limit was asked for.
        reason: the worst of the reasons, or why it is passed.
        reasons: all of them, the worst first. Where no limit was asked for, what would have left it undecided.
        caveats: what was not asked for: with any of these a gate that is passed is not a clean one.
        max_copy_fraction: share of suspicious images that is accepted.
        max_patient_fraction: share of memorized patients that is accepted.
        gate_on: ``generator`` or ``files``.
        min_recall: recall that is required.
        num_images: images that count: a suspicious one as often as it is there, any other once.
        num_suspicious: suspicious images among them.
        suspicious: these by class, each in one class.
        parts_left_out: copies of a part that were not to count.
        upper_limit: one-sided upper 95 % limit of their share; ``None`` where the set stands for no other images.
        upper_limit_over_recall: the limit divided by the recall; ``None`` where the recall is unknown, too.
        images_needed: images like these that would bring the limit below what is accepted, at the count seen so far;
            ``None`` where their number does not decide, or none would do.
        patients: ``memorized``, ``total`` and ``upper_limit`` of the training patients; ``None`` where none is known.
    """

    result: str | None
    reason: str
    reasons: tuple[GateReason, ...]
    caveats: tuple[GateCaveat, ...]
    max_copy_fraction: float | None
    max_patient_fraction: float | None
    gate_on: str
    min_recall: float
    num_images: int
    num_suspicious: int
    suspicious: dict[str, int]
    parts_left_out: int
    upper_limit: float | None
    upper_limit_over_recall: float | None
    images_needed: int | None
    patients: dict[str, Any] | None

    @property
    def exit_status(self) -> int:
        """Exit status of the command: 0 passed or not asked for, 2 undecided, 3 exceeded."""
        return _EXIT_STATUS[self.result]

    def as_json(self) -> dict[str, Any]:
        """The entry of ``summary.json``."""
        entry = asdict(self)
        return {**entry, "reasons": list(entry["reasons"]), "caveats": list(entry["caveats"])}


def decide_gate(rules: GateRules, evidence: GateEvidence) -> Gate:
    """Decide whether a set of synthetic images may be released.

    Exceeded is decided by what was seen: the share of suspicious images, or of memorized patients, is above what is
    accepted. Undecided is whatever may hide more: the upper limit of the share, divided by the recall of the controls,
    is above what is accepted; the recall is unknown or low; images could not be read; the sides do not fit; nothing
    could have been told from chance. Passed is only what could have failed. Exceeded beats undecided, and that passed.

    Recall is asked for twice. Of the reference change, by which the limit is divided, the share that was found has to
    be what is asked for. Of every other change the share must not be below it beyond chance, see
    :func:`compute_detection_curve`.

    Each synthetic image that was skipped counts as if it were suspicious, and a copy of one more patient.

    Args:
        rules: what is accepted.
        evidence: what was measured.

    Returns:
        The decision.

    Example:
        >>> import numpy as np
        >>> none = np.zeros(500)
        >>> evidence = GateEvidence(none, none, none, none, recall=0.95, null_can_call=True)
        >>> gate = decide_gate(GateRules(max_copy_fraction=0.01), evidence)
        >>> gate.result, round(gate.upper_limit, 4), gate.images_needed
        ('passed', 0.006, 314)
        >>> gate = decide_gate(GateRules(max_copy_fraction=0.005), evidence)
        >>> gate.result, [reason.code for reason in gate.reasons]
        ('undecided', ['too_few_images'])
    """
    is_suspicious, counts = evidence.suspicious(rules.count_parts)
    images, patients = measure_images(rules, evidence, is_suspicious), measure_patients(rules, evidence)
    reasons, caveats = gate_reasons(rules, evidence, images, patients), gate_caveats(rules, evidence)
    if not rules.is_asked:
        result, reason = None, "No limit was asked for: give one, such as --max_copy_fraction 0.01."
    elif reasons:
        result, reason = reasons[0].result, reasons[0].text
    else:
        result, reason = "passed", why_passed(rules, evidence, images, patients)
        reason = " ".join([reason, *(caveat.text for caveat in caveats)])
    return Gate(
        result=result,
        reason=reason,
        reasons=tuple(reasons),
        caveats=caveats,
        max_copy_fraction=rules.max_copy_fraction,
        max_patient_fraction=rules.max_patient_fraction,
        gate_on=rules.gate_on,
        min_recall=rules.min_recall,
        num_images=len(is_suspicious),
        num_suspicious=images.count,
        suspicious=counts,
        parts_left_out=evidence.parts_left_out(rules.count_parts),
        upper_limit=images.limit,
        upper_limit_over_recall=None if evidence.recall is None else images.limit_over_recall,
        images_needed=None if images.is_exceeded else images.needed,
        patients=_patients_entry(evidence, patients),
    )


def _patients_entry(evidence: GateEvidence, share: JudgedShare | None) -> dict[str, Any] | None:
    if share is None or evidence.patients is None:
        return None
    patients = evidence.patients
    return {"memorized": patients.memorized, "total": patients.total, "upper_limit": share.limit}
