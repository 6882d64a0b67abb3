"""What an audit says on the terminal when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from monai_deepssim.files import printable
from monai_deepssim.report.first_screen import search_words
from monai_deepssim.report.sentences import (
    above_null_words,
    control_sentences,
    error_rate_sentence,
    false_alarm_sentence,
    file_sentences,
    gate_sentence,
    has_volumes,
    num_audited,
    proportions_warning,
    score_name,
    score_words,
    share_words,
    side_lines,
)

__all__ = ["closing_lines"]

_NUM_PAIRS = 5
_NUM_SKIPPED = 20


def closing_lines(summary: Mapping[str, Any], matches: DataFrame, report: Path) -> list[str]:
    """Tell the result in a few lines: headline, copies, patients, strongest pairs, folders, gate, report.

    Args:
        summary: content of ``summary.json``.
        matches: each synthetic image with its nearest training image, the highest score first.
        report: path of ``report.html``.

    Returns:
        The lines, safe to print.
    """
    share, share_of_training = summary["copy_fraction"], summary["memorized_fraction"]
    lines = [
        "",
        f"{summary['headline']['title']}.",
        f"Copies: {share['count']} of {share['total']} synthetic images, {share_words(share)}.",
        f"Memorized: {share_of_training['count']} of {share_of_training['total']} training images, "
        f"{_patients(summary)}.",
        "",
        f"Strongest pairs ({score_name(summary['thresholds'])}, synthetic image, training image, patient):",
        *_pair_lines(matches.iloc[:_NUM_PAIRS], summary["thresholds"]["duplicate"]["value"]),
    ]
    above, parts = above_null_words(summary), summary["num_parts"]
    if parts:
        lines.append(f"Of the copies, {parts} {'is' if parts == 1 else 'are'} of a part of a training image.")
    lines += [f"Look at these as well: {above}."] if above else []
    lines += ["", error_rate_sentence(summary), *side_lines(summary["sides_differ"])]
    lines += [false_alarm_sentence(summary)] if summary["false_alarms"] is not None else []
    lines += [f"Search: {search_words(summary)}"] if search_words(summary) else []
    lines += _members_lines(summary) + _skipped_lines(summary["skipped"]) + _image_lines(summary)
    warning = proportions_warning(summary)
    lines += [f"Warning: {warning}"] if warning else []
    lines += _demo_lines(summary["demo"])
    holdout = []
    if summary["holdout_dir"] is not None:
        holdout = [f"Held-out images:  {summary['holdout_dir']} ({num_audited(summary, 'holdout')} scored)"]
    lines += [
        "",
        f"Training images:  {summary['training_dir']} ({summary['num_training']} audited)",
        f"Synthetic images: {summary['synthetic_dir']} ({summary['num_synthetic']} audited)",
        *holdout,
        f"Gate:             {gate_sentence(summary)}",
        f"Report:           {report}",
    ]
    return [printable(line) for line in lines]


def _pair_lines(matches: DataFrame, threshold: float) -> list[str]:
    return [
        f"  {score_words(match.score, threshold)}  {match.label:9}  {match.synthetic_path}  <-  {match.training_path}  "
        f"({match.patient_id or 'patient unknown'})"
        for match in matches.itertuples()
    ]


def _patients(summary: Mapping[str, Any]) -> str:
    known, unknown = summary["num_patients"], summary["num_memorized_without_patient"]
    if not summary["num_memorized"]:
        return "of no patient"
    if not known:
        return "patients unknown (--patient_id_pattern or a CSV can name them)"
    words = f"of {known} patient{'s' if known > 1 else ''}"
    return f"{words}, and {unknown} of unknown patients" if unknown else words


def _members_lines(summary: Mapping[str, Any]) -> list[str]:
    controls, members = summary["controls"], summary["members"]
    lines = []
    if controls is not None:
        sentences = control_sentences(controls)
        more = len(sentences["others"])
        rest = f" After {more} other changes enough were found: see the report." if more else ""
        lines.append(f"Controls: {' '.join(sentences['first'])}{rest}")
    return lines if members is None else [*lines, f"Members: {members['sentence']}"]


def _image_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = file_sentences(summary)
    for side, images in summary["images"].items():
        if images["converted_to_grey"]:
            lines.append(f"Colour: {len(images['converted_to_grey'])} {side} images were converted to grey.")
        resampled = len(images["resampled_to_square_pixels"])
        if resampled:
            count = f"{resampled} {side} images"
            if has_volumes(summary):
                lines.append(f"Voxels: {count} have voxels that are not cubes, and were resampled to cubic ones.")
            else:
                lines.append(f"Pixels: {count} have pixels that are not square, and were resampled to square ones.")
        if images["padding_replaced"]:
            count = f"{len(images['padding_replaced'])} {side} images"
            lines.append(f"Padding: in {count} it was set to the lowest intensity of the rest.")
        if images["stray_pixels_replaced"]:
            count = f"{len(images['stray_pixels_replaced'])} {side} images"
            lines.append(f"Stray pixels: in {count} pixels far from all others were set to the nearest of the rest.")
        if images["windows"] and not images["window_reason"]:
            lines.append(f"Window of {side} images in Hounsfield units: {'; '.join(images['windows'])}.")
    reasons = (images["window_reason"] for images in summary["images"].values())
    lines += [f"Window: {reason}" for reason in dict.fromkeys(reasons) if reason]
    return lines


def _skipped_lines(skipped: Sequence[Mapping[str, str]]) -> list[str]:
    if not skipped:
        return []
    lines = ["", f"Skipped: {len(skipped)} images could not be used and are not in the numbers above:"]
    lines += [f"  {entry['side']} {entry['path']}: {entry['reason']}" for entry in skipped[:_NUM_SKIPPED]]
    if len(skipped) > _NUM_SKIPPED:
        lines.append(f"  and {len(skipped) - _NUM_SKIPPED} more, listed in summary.json")
    return lines


def _demo_lines(demo: Mapping[str, Any] | None) -> list[str]:
    if demo is None:
        return []
    precision = "none judged a copy" if demo["precision"] is None else f"precision {demo['precision']:.3f}"
    return [
        "",
        f"Demo: found {demo['found']} of {demo['planted']} planted copies, {demo['right_source']} of them with the "
        f"right source, and {demo['false_alarms']} false alarms ({precision}, recall {demo['recall']:.3f}).",
    ]
