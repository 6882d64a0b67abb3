"""What a verification says on the terminal."""

from __future__ import annotations

from collections import Counter

from monai_deepssim.release.verification import ReleaseVerification

__all__ = ["verification_colour", "verification_lines"]

_NUM_SHOWN = 20
_ORDER = ("changed", "missing", "new", "renamed", "link", "folder", "special", "unreadable")


def verification_lines(verification: ReleaseVerification) -> list[str]:
    """Tell the result in lines, the verdict first.

    Args:
        verification: what was found.

    Returns:
        The lines; names of files in them are as they are.
    """
    audit, differences = verification.audit, verification.differences
    lines = [_headline(verification)]
    width = max((len(difference.kind) for difference in differences), default=0)
    lines += [f"  {entry.kind:<{width}}  {entry.file}: {entry.detail}" for entry in differences[:_NUM_SHOWN]]
    if len(differences) > _NUM_SHOWN:
        lines.append(f"  and {len(differences) - _NUM_SHOWN} more; --json lists all of them")
    lines += [f"Audit: {problem}." for problem in audit.problems]
    result, reason = audit.gate.get("result"), audit.gate.get("reason")
    lines.append(f"Gate: {result or 'none'}{f' ({reason})' if reason else ''}")
    if verification.num_partly_judged:
        lines.append(
            f"Note: {verification.num_partly_judged} of the files are volumes, of which only the slices asked for were "
            "judged. --slices all judges all of them."
        )
    return [
        *lines,
        f"Audit:    {audit.folder}, of {audit.summary.get('created')}",
        f"SHA-256 of its summary.json, for the record: {audit.summary_sha256}",
    ]


def verification_colour(verification: ReleaseVerification) -> str:
    """The colour of the first line."""
    return {"verified": "green", "exceeded": "red", "different": "red"}.get(verification.verdict, "yellow")


def _headline(verification: ReleaseVerification) -> str:
    folder, count = verification.released_dir, verification.num_same
    same = f"the {count} files in {folder} are those that were audited, byte for byte"
    if verification.verdict == "different":
        kinds = Counter(difference.kind for difference in verification.differences)
        words = ", ".join(f"{kinds[kind]} {kind}" for kind in _ORDER if kinds[kind])
        return f"NOT VERIFIED: {folder} is not what was audited ({words})."
    return {
        "verified": f"VERIFIED: {same}, and the gate was passed.",
        "exceeded": f"GATE EXCEEDED: {same}, and they must not be released.",
        "undecided": f"UNDECIDED: {same}, but the gate is undecided.",
        "no gate": f"UNDECIDED: {same}, but the audit had no gate. Repeat it with --max_copy_fraction.",
        "unreliable": f"NOT VERIFIED: {same}, but the audit's own files are not as it wrote them.",
    }[verification.verdict]
