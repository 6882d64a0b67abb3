"""How the sentences of a release gate write numbers."""

from __future__ import annotations

from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules

__all__ = ["counted", "parts_beside", "percent"]


def counted(count: int, noun: str) -> str:
    """Write a number with its noun.

    Example:
        >>> counted(1, "file"), counted(1200, "file")
        ('1 file', '1,200 files')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float, other: float | None = None) -> str:
    """Write a share with as many digits as it takes to tell it from another one.

    Example:
        >>> percent(0.05), percent(0.010002, 0.01)
        ('5 %', '1.0002 %')
    """
    for digits in range(3, 9):
        text = f"{100 * share:.{digits}g} %"
        if other is None or other == share or text != f"{100 * other:.{digits}g} %":
            break
    return text


def parts_beside(rules: GateRules, evidence: GateEvidence) -> str:
    """Name the copies of a part that the rules leave out, in words that follow a count; empty where there are none.

    Example:
        >>> parts_beside(GateRules(count_parts=False), GateEvidence([0, 0], [1, 0], [0, 0], [0, 0]))
        ', beside 1 copy of a part that is not counted (--count_parts false)'
    """
    left_out = evidence.parts_left_out(rules.count_parts)
    if not left_out:
        return ""
    words = "copy of a part that is" if left_out == 1 else "copies of a part that are"
    return f", beside {left_out:,} {words} not counted (--count_parts false)"
