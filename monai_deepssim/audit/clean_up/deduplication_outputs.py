"""What a deduplication tells: ``report.html``, ``summary.json``, and lines on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np

from monai_deepssim.audit.clean_up.deduplication_steps import DeduplicationResult
from monai_deepssim.audit.clean_up.duplicate_groups import DuplicateGroup
from monai_deepssim.audit.report import image_of_side
from monai_deepssim.audit.summary import thresholds_as_json, what_it_rests_on, write_summary
from monai_deepssim.files import write_text
from monai_deepssim.report import (
    AGREEMENT_GRADIENT,
    SCORE_NAMES,
    PictureForm,
    choose_form,
    draw_pair,
    file_sentences,
    report_environment,
    score_histogram,
    score_name,
)

__all__ = ["deduplication_lines", "write_deduplication_files"]

_SCHEMA_VERSION = 1
_NUM_PAIRS, _NUM_GROUPS, _NUM_LINES, _NUM_SKIPPED = 24, 200, 5, 20
_PATIENT_WORDS = {"same": "same patient", "different": "different patients", "unknown": "patients unknown"}


def deduplication_lines(result: DeduplicationResult) -> list[str]:
    """Tell the result in a few lines.

    Args:
        result: result of the deduplication.

    Returns:
        The lines.
    """
    items, groups = result.training.usable_items, result.duplicates.groups
    left_out = result.left_out
    in_groups = sum(len(group.members) for group in groups)
    lines = [
        "",
        f"{in_groups} of {len(result.units)} training files have a duplicate in another one, in {len(groups)} groups: "
        f"{result.count_groups('different')} across patients, {result.count_groups('same')} of one patient, "
        f"{result.count_groups('unknown')} of unknown patients.",
    ]
    if groups:
        score = score_name(thresholds_as_json(result.thresholds))
        lines += ["", f"First groups ({score} of the closest pair, its two images, size of the group):"]
    for group in groups[:_NUM_LINES]:
        pair = group.pairs[0]
        lines.append(
            f"  {pair.score:.3f}  {_PATIENT_WORDS[group.patients]:18}  {items[pair.query]['path']}  <->  "
            f"{items[pair.training]['path']}  ({len(group.members)} files)"
        )
    skipped = result.training.skipped
    if skipped:
        lines += ["", f"Skipped: {len(skipped)} images could not be used:"]
        lines += [f"  {entry.path}: {entry.reason}" for entry in skipped[:_NUM_SKIPPED]]
    if len(skipped) > _NUM_SKIPPED:
        lines.append(f"  and {len(skipped) - _NUM_SKIPPED} more, listed in summary.json")
    if result.demo is not None:
        demo = result.demo
        lines += [
            "",
            f"Demo: found {demo.found} of {demo.planted} planted repetitions, and {demo.false_alarms} false alarms.",
        ]
    return [
        *lines,
        "",
        f"Training images: {result.training.side.source} ({len(result.training.images.indices)} compared)",
        f"Left out:        {left_out['duplicate']} duplicates, {left_out['skipped']} that could not be used, "
        f"{left_out['ignored']} that are not images; why each, in {result.manifest}",
        f"Kept:            {result.num_kept} files, in {result.folder}. Nothing was changed or deleted in "
        f"{result.training.side.source}.",
        f"Report:          {result.options.output_dir / 'report.html'}",
    ]


def write_deduplication_files(result: DeduplicationResult) -> None:
    """Write the report, and the summary last: where it is, all the rest is complete.

    Raises:
        UnusableInputError: if a file cannot be written.
    """
    folder, summary = result.options.output_dir, _summarize(result)
    write_text(folder / "report.html", _render(result, summary))
    write_summary(folder / "summary.json", summary)


def _render(result: DeduplicationResult, summary: Mapping[str, Any]) -> str:
    """Make the report: HTML without scripts that needs no other file."""
    nearest, groups = list(result.duplicates.nearest.values()), result.duplicates.groups
    histogram = None
    if nearest:
        scores = np.array([pair.score for pair in nearest])
        histogram = score_histogram(
            scores, summary["thresholds"], counted="training images", nearest="nearest image of another file"
        )
    labels = Counter(pair.label for pair in nearest)
    form = choose_form(4 * min(len(groups), _NUM_PAIRS), result.options.image_size)
    return (
        report_environment("audit")
        .get_template("deduplication.html")
        .render(
            result=result,
            summary=summary,
            of_volumes=result.options.volumes != "none",
            file_sentences=file_sentences(summary),
            headline=_verdict(result),
            created=datetime.fromisoformat(summary["created"]).strftime("%d %B %Y, %H:%M UTC"),
            scale=AGREEMENT_GRADIENT,
            score_name=score_name(summary["thresholds"]),
            detector_name=SCORE_NAMES.get(result.detector, result.detector),
            grouped=sum(len(group.members) for group in groups),
            labels={name: labels[name] for name in ("duplicate", "similar", "different")},
            histogram=histogram,
            pairs=[_entry(number, group, result, form) for number, group in enumerate(groups[:_NUM_PAIRS], start=1)],
            patient_words=_PATIENT_WORDS,
            shown_groups=_NUM_GROUPS,
        )
    )


def _summarize(result: DeduplicationResult) -> dict[str, Any]:
    """The content of ``summary.json``; a value that is absent is ``None``."""
    options, kinds = result.options, ("different", "same", "unknown")
    with_duplicate = {row for pair in result.pairs for row in (pair.query, pair.training)}
    return {
        "schema_version": _SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "demo": None if result.demo is None else vars(result.demo),
        "training_dir": str(result.training.side.source),
        "output_dir": str(options.output_dir),
        "deduplicated_dir": str(result.folder),
        "manifest": str(result.manifest),
        "files": result.options.files,
        "num_training": len(result.training.images.indices),
        "num_with_duplicate": len(with_duplicate),
        "num_files": len(result.files),
        "num_kept": result.num_kept,
        "num_left_out": result.left_out,
        "num_groups": len(result.groups),
        "largest_group": max((len(group.members) for group in result.duplicates.groups), default=0),
        "groups_by_patients": {name: result.count_groups(name) for name in kinds},
        "pairs_by_patients": {name: result.count_pairs(name) for name in kinds},
        "num_searches": result.duplicates.rounds,
        **what_it_rests_on(result),
    }


def _verdict(result: DeduplicationResult) -> dict[str, str]:
    """The headline, a line under it, and the tone that colours it."""
    groups, skipped = result.duplicates.groups, len(result.training.skipped)
    across, total = result.count_groups("different"), len(result.units)
    if result.demo is not None:
        title = f"{len(groups)} groups of duplicates in a training set of {total} files"
        advice = f"This is a demo without patient data: {result.demo.planted} repetitions of phantom subjects were "
        advice += f"planted, and {result.demo.found} of them were found."
        return {"tone": "bad" if across else "unsure", "title": title, "advice": advice}
    if groups:
        noun = "group" if len(groups) == 1 else "groups"
        title = f"{len(groups)} {noun} of duplicates in a training set of {total} files"
        advice = "An image that is in a training set several times is memorized more easily: train with the files that "
        advice += f"were kept ({result.num_kept})."
        if across:
            advice += f" {across} of the groups cross{'es' if across == 1 else ''} patients: correct the names first."
        return {"tone": "bad" if across else "unsure", "title": title, "advice": advice}
    title = f"No duplicate was found among {total} training files"
    if skipped:
        advice = f"{skipped} images could not be read, so this is not the whole set."
        return {"tone": "unsure", "title": title, "advice": advice}
    advice = "This is what one detector at one threshold could see; it does not prove that there is no duplicate."
    return {"tone": "good", "title": title, "advice": advice}


def _entry(number: int, group: DuplicateGroup, result: DeduplicationResult, form: PictureForm) -> dict[str, Any]:
    # A group across patients is shown by a pair that crosses them, if it has one.
    pair = next((pair for pair in group.pairs if pair.patients == group.patients), group.pairs[0])
    items, image_size = result.training.usable_items, result.options.image_size
    pictures: list[tuple[str, str | None]] = []
    if result.options.report_images != "none":
        images = [("first", image_of_side(items[pair.query], image_size))]
        images.append(("second", image_of_side(items[pair.training], image_size)))
        drawn = draw_pair(images, pair.alignment)
        pictures = [(name, None if picture is None else form.uri(picture)) for name, picture in drawn]
    return {
        "number": number,
        "group": group,
        "pair": pair,
        "first": items[pair.query],
        "second": items[pair.training],
        "pictures": pictures,
    }
