"""What a release gate was not asked to judge: a result under such rules is never a clean one."""

from __future__ import annotations

from dataclasses import dataclass

from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules
from monai_deepssim.calibration.gate_words import parts_beside, percent

__all__ = ["GateCaveat", "gate_caveats"]

# Below it more copies may be missed than found.
_HALF = 0.5


@dataclass(frozen=True)
class GateCaveat:
    """Something that the rules of a gate leave out.

    Attributes:
        code: name of the caveat, which stays the same from version to version.
        title: what is left out, in words that follow "passed".
        text: the same in a sentence.
    """

    code: str
    title: str
    text: str


def gate_caveats(rules: GateRules, evidence: GateEvidence) -> tuple[GateCaveat, ...]:
    """Gather what the rules of a gate leave out.

    Args:
        rules: what is accepted.
        evidence: what was measured.

    Example:
        >>> evidence = GateEvidence([0], [0], [0], [0], recall=0.0, reference="blurred by 2 px")
        >>> gate_caveats(GateRules(0.01, min_recall=0), evidence)[0].text
        'Recall was not asked for (--min_recall 0); of the planted copies blurred by 2 px, 0 % were found.'
        >>> gate_caveats(GateRules(0.01), evidence)
        ()
    """
    recall = evidence.recall
    seen = "" if recall is None else f"; of the planted copies {evidence.reference}, {percent(recall)} were found"
    required, limits = percent(rules.min_recall), (rules.max_copy_fraction, rules.max_patient_fraction)
    beside = parts_beside(rules, evidence)
    rows = [
        (
            rules.min_recall == 0,
            ("recall_not_asked", "without asking for recall", f"Recall was not asked for (--min_recall 0){seen}."),
        ),
        (
            0 < rules.min_recall < _HALF,
            (
                "little_recall_asked",
                f"with a recall of {required} asked for",
                f"No more than {required} of the copies had to be found (--min_recall {rules.min_recall:g}){seen}.",
            ),
        ),
        (
            rules.is_asked and all(limit in (None, 1) for limit in limits),
            (
                "any_share_accepted",
                "with any share of copies accepted",
                "A share of 100 % was accepted, so this gate could not be exceeded.",
            ),
        ),
        (
            bool(beside),
            (
                "parts_not_counted",
                "with copies of a part not counted",
                "Copies of a part were found, and are not counted, as --count_parts false asks.",
            ),
        ),
    ]
    return tuple(GateCaveat(*caveat) for holds, caveat in rows if holds)
