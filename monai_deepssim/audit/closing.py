"""What an audit says on the terminal when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_deepssim.audit.result import AuditResult, Skipped
from monai_deepssim.files import printable
from monai_deepssim.metrics import MIN_COMPARED_IMAGES, SideComparison

__all__ = [
    "SCORE_NAMES",
    "closing_lines",
    "error_rate_sentence",
    "false_alarm_sentence",
    "gate_sentence",
    "proportions_warning",
    "side_lines",
]

#: What a score is called where people read it; others by the name of their detector.
SCORE_NAMES = {"copy_score": "copy score", "deepssim": "DeepSSIM cosine"}

_NUM_PAIRS = 5
_NUM_SKIPPED = 20


def closing_lines(result: AuditResult, report: Path) -> list[str]:
    """Tell the result in a few lines: copies, patients, strongest pairs, folders, gate, and where the report is.

    Args:
        result: result of the audit.
        report: path of ``report.html``.

    Returns:
        The lines, safe to print.
    """
    share, share_of_training = result.copy_fraction, result.memorized_fraction
    interval = "" if result.selection else f"; 95 % interval {share.low:.1%} to {share.high:.1%}"
    lines = [
        "",
        f"{share.count} of {share.total} synthetic images are copies of a training image "
        f"({share.value:.1%}{interval}).",
        f"Memorized: {share_of_training.count} of {share_of_training.total} training images, {_patients(result)}.",
        "",
        f"Strongest pairs ({SCORE_NAMES.get(result.thresholds.score, result.thresholds.score)}, synthetic image, "
        "training image, patient):",
    ]
    for match in result.matches.iloc[:_NUM_PAIRS].itertuples():
        patient = match.patient_id or "patient unknown"
        lines.append(
            f"  {match.score:.3f}  {match.label:9}  {match.synthetic_path}  <-  {match.training_path}  ({patient})"
        )
    parts = result.count("part")
    if parts:
        lines.append(f"Of the copies, {parts} {'is' if parts == 1 else 'are'} of a part of a training image.")
    lines += ["", error_rate_sentence(result), *side_lines(result.sides_differ)]
    lines += [false_alarm_sentence(result)] if result.false_alarms is not None else []
    lines += _skipped_lines(result.skipped)
    for part in result.sides:
        if part.side.ignored:
            first = part.side.ignored[0]
            lines.append(
                f"Ignored: {len(part.side.ignored)} files in {part.side.source} are not images that can be "
                f"audited, such as {first['path']} ({first['reason']})."
            )
        if part.images.converted:
            lines.append(f"Colour: {len(part.images.converted)} {part.side.name} images were converted to grey.")
        if part.images.resampled:
            count = f"{len(part.images.resampled)} {part.side.name} images"
            lines.append(f"Pixels: {count} have pixels that are not square, and were resampled to square ones.")
    warning = proportions_warning(result)
    lines += [f"Warning: {warning}"] if warning else []
    if result.demo is not None:
        demo = result.demo
        precision = "none judged a copy" if demo.precision is None else f"precision {demo.precision:.3f}"
        lines += [
            "",
            f"Demo: found {demo.found} of {demo.planted} planted copies, {demo.right_source} of them with the right "
            f"source, and {demo.false_alarms} false alarms ({precision}, recall {demo.recall:.3f}).",
        ]
    sides = result.sides[2:]
    holdout = [f"Held-out images:  {part.side.source} ({len(part.usable_items)} scored)" for part in sides]
    lines += [
        "",
        f"Training images:  {result.training.side.source} ({share_of_training.total} audited)",
        f"Synthetic images: {result.synthetic.side.source} ({share.total} audited)",
        *holdout,
        f"Gate:             {gate_sentence(result)}",
        f"Report:           {report}",
    ]
    return [printable(line) for line in lines]


def gate_sentence(result: AuditResult) -> str:
    """The gate and its result, in one line."""
    gate = result.gate
    if gate.max_copy_fraction is None:
        return "none (--max_copy_fraction 0.01 ends with status 3 when more than 1 % are copies)"
    reason = gate.reason
    if len(result.close):
        reason += f"; not counted: {_close_words(result)}"
    return f"at most {gate.max_copy_fraction:.4g} may be copies: {str(gate.result).upper()} ({reason})"


def error_rate_sentence(result: AuditResult) -> str:
    """What the false-discovery control found, in a sentence or two."""
    found = result.discoveries
    if result.selection:
        text = f"Error rates: none of this set alone, for {result.selection}"
        return f"{text} By those of the whole set, {_close_words(result)}." if len(result.close) else text
    if found is None:
        return "Error rates: there are no images of two patients to compare scores with. Give --holdout_dir."
    against = "held-out images" if result.holdout is not None else "what training images reach among each other"
    text = (
        f"Error rates: {found.count} of {len(found.p_values)} synthetic images are closer to a training image than "
        f"{against}, at a false-discovery rate of {found.fdr:g}."
    )
    if len(result.close):
        text += f" Of these, {_close_words(result)}: look at the pairs."
    if found.count == 0 and found.fewest_discoverable > result.copy_fraction.count:
        total, needed = len(found.p_values), found.fewest_discoverable
        text += f" With {found.null.num_groups} patients to compare with, "
        if needed > total:
            text += f"none of {total} images could be called, however close: this is not evidence that there is none."
        else:
            text += f"at least {needed} have to be close for any to be called: this is not evidence that there is none."
    return text


def false_alarm_sentence(result: AuditResult) -> str:
    """How many held-out images the threshold calls copies, though none is one."""
    share = result.false_alarms
    assert share is not None, "there are no held-out images"
    text = (
        f"False alarms: {share.count} of {share.total} held-out images, none of which is a copy, score above the "
        f"threshold of a copy ({share.value:.1%}; 95 % interval {share.low:.1%} to {share.high:.1%})."
    )
    if share.count:
        text += " If one of them is a training image under another name, take it out: see holdout.csv."
    return text


def _close_words(result: AuditResult) -> str:
    """Images that are closer to a training image than chance explains, and below the threshold of a copy."""
    count = len(result.close)
    verb = "is" if count == 1 else "are"
    return (
        f"{count} {verb} not {'a copy' if count == 1 else 'copies'} by the threshold and yet closer to a training "
        "image than chance explains"
    )


def proportions_warning(result: AuditResult) -> str | None:
    """What may be wrong where one side alone was resampled to square pixels; ``None`` where nothing is."""
    resampled = [part.side.name for part in result.sides if part.images.resampled]
    untouched = [part.side.name for part in result.sides if not part.images.resampled]
    if not resampled or not untouched:
        return None
    return (
        f"pixels of {' and '.join(resampled)} images were made square, and none of {' and '.join(untouched)} images. "
        "If the generator was trained on pixels as stored, its images have other proportions than these, and copies "
        "are missed: give every side with the pixels that the generator saw."
    )


def _patients(result: AuditResult) -> str:
    unknown = result.memorized_without_patient
    if result.memorized.empty:
        return "of no patient"
    if not result.patients:
        return "patients unknown (--patient_id_pattern or a CSV can name them)"
    known = f"of {len(result.patients)} patient{'s' if len(result.patients) > 1 else ''}"
    return f"{known}, and {unknown} of unknown patients" if unknown else known


def _skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    if not skipped:
        return []
    lines = ["", f"Skipped: {len(skipped)} images could not be used and are not in the numbers above:"]
    lines += [f"  {entry.side} {entry.path}: {entry.reason}" for entry in skipped[:_NUM_SKIPPED]]
    if len(skipped) > _NUM_SKIPPED:
        lines.append(f"  and {len(skipped) - _NUM_SKIPPED} more, listed in summary.json")
    return lines


def side_lines(comparison: SideComparison) -> list[str]:
    """Say how the preprocessing of the sides differs, in one line per difference.

    Args:
        comparison: comparison of the training and the synthetic side.

    Returns:
        The lines: a summary, then the differences, those first that hide copies.

    Example:
        >>> import torch
        >>> from monai_deepssim.metrics import compare_sides
        >>> print(*side_lines(compare_sides(torch.rand(2, 1, 40, 32), torch.rand(3, 1, 40, 32))), sep="\\n")
        Preprocessing: not compared; want at least 5 images per side, got 2 training and 3 synthetic images.
    """
    if not comparison.is_testable:
        return [
            f"Preprocessing: not compared; want at least {MIN_COMPARED_IMAGES} images per side, got "
            f"{comparison.num_training} training and {comparison.num_synthetic} synthetic images."
        ]
    compared = f"{comparison.num_training} training and {comparison.num_synthetic} synthetic images"
    if not comparison.differences:
        return [f"Preprocessing: no difference found between {compared}."]
    lines = [f"Preprocessing: {compared} differ."]
    for difference in comparison.uncovered:
        lines.append(f"  Warning: {difference.description} Copies may be missed: preprocess both sides alike.")
    for difference in comparison.differences:
        if difference.covered:
            lines.append(f"  {difference.description} The alignment covers this.")
    return lines
