"""What an audit says first: verdict and release gate in one title, with the colour that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from monai_deepssim.calibration.gate import Gate

__all__ = ["Headline", "headline"]

_NO_PROOF = "This is what the audit could see; it does not prove that there is no copy."


@dataclass(frozen=True)
class Headline:
    """The first words of a report.

    Attributes:
        title: what was found, and the result of the gate.
        tone: ``bad``, ``unsure`` or ``good``.
        advice: what it means and what to do, in a few sentences.
    """

    title: str
    tone: str
    advice: str


def headline(
    gate: Gate,
    *,
    num_skipped: int = 0,
    num_memorized: int = 0,
    num_patients: int = 0,
) -> Headline:
    """Say what was found in one title, and never more than that.

    It is good only where no image is suspicious, all could be read, recall was asked for, and the gate is passed and
    could have been exceeded, or, where no limit was asked for, nothing is known that would leave one undecided.

    Args:
        gate: the decision.
        num_skipped: images of all sides that could not be used.
        num_memorized: training images that have a copy.
        num_patients: known patients of these.

    Example:
        >>> import numpy as np
        >>> from monai_deepssim.calibration.gate import decide_gate
        >>> from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules
        >>> none = np.zeros(100)
        >>> evidence = GateEvidence(none, none, none, none, recall=0.95, null_can_call=True)
        >>> headline(decide_gate(GateRules(0.01, gate_on="files"), evidence)).title
        'Release gate passed: no copy was found among 100 synthetic images'
        >>> headline(decide_gate(GateRules(0.01), evidence)).tone
        'unsure'
    """
    num_copies = gate.suspicious["copies"] + gate.suspicious["parts"] + gate.parts_left_out
    num_others = gate.num_suspicious + gate.parts_left_out - num_copies
    is_clean = not (num_copies or num_others or num_skipped)
    tone = _tone(gate, num_copies, is_clean)
    title = _finding(num_copies, num_others, tone, gate)
    if gate.result is not None:
        asked = ", ".join(caveat.title for caveat in gate.caveats) if gate.result == "passed" else ""
        title = f"Release gate {gate.result}{f' ({asked})' if asked else ''}: {title}"
    title = title[0].upper() + title[1:]
    return Headline(title, tone, " ".join(_advice(gate, num_copies, is_clean, num_memorized, num_patients)))


def _tone(gate: Gate, num_copies: int, is_clean: bool) -> str:
    if gate.result == "exceeded" or (gate.result is None and num_copies):
        return "bad"
    return "good" if is_clean and not (gate.reasons or gate.caveats) else "unsure"


def _finding(num_copies: int, num_others: int, tone: str, gate: Gate) -> str:
    of_all = f"of {gate.num_images:,} synthetic images"
    if num_copies:
        more = f", and {num_others:,} more {'is' if num_others == 1 else 'are'} suspicious" if num_others else ""
        return f"{num_copies:,} {of_all} {'is a copy' if num_copies == 1 else 'are copies'} of a training image{more}"
    if num_others:
        verb = "is suspicious, though not a copy" if num_others == 1 else "are suspicious, though not copies"
        return f"{num_others:,} {of_all} {verb} by the threshold"
    if tone == "bad" and gate.patients is not None:
        return f"{gate.patients['memorized']:,} training patients are memorized"
    missed = "" if tone == "good" else ", but copies may have been missed"
    return f"no copy was found among {gate.num_images:,} synthetic images{missed}"


def _advice(gate: Gate, num_copies: int, is_clean: bool, num_memorized: int, num_patients: int) -> list[str]:
    reasons = [gate.reason] if gate.result is not None else [reason.text for reason in gate.reasons[:1]]
    more = len(gate.reasons) - 1
    if more > 0:
        unsettled = gate.result == "exceeded" and gate.reasons[-1].result == "undecided"
        settled = ", and leaving images out alone would not make the set releasable" if unsettled else ""
        reasons.append(f"{more} more {'reason is' if more == 1 else 'reasons are'} named below{settled}.")
    if gate.result != "passed":
        reasons += [caveat.text for caveat in gate.caveats]
    if num_copies and num_memorized:
        reasons.insert(0, _reproduced(num_memorized, num_patients))
    if gate.result in ("exceeded", "undecided"):
        return [*reasons, "Do not share this set." if gate.result == "exceeded" else "Do not share this set yet."]
    if num_copies and gate.result is None:
        return ["Do not share this set as if it were free of patient data.", *reasons]
    if gate.num_suspicious or num_copies:
        return [*reasons, "Look at each of these pairs, and leave out the copies, before you share the set."]
    return [*reasons, _NO_PROOF] if is_clean else [*reasons, "Some images could not be read.", _NO_PROOF]


def _reproduced(num_memorized: int, num_patients: int) -> str:
    images = f"{num_memorized:,} training image{'' if num_memorized == 1 else 's'}"
    if not num_patients:
        return f"The copies match {images}, repeated or neighbouring ones included; their patients are not known."
    known = f"{num_patients:,} known patient{'' if num_patients == 1 else 's'}"
    return f"The copies match {images} of {known}, repeated or neighbouring ones included."
