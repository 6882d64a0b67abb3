"""What a report says first: what its headline rests on, in four lines, and what was not tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_deepssim.report.sentences import (
    ENOUGH_RECALL,
    above_null_words,
    control_key,
    control_name,
    count_ignored,
    count_words,
    has_volumes,
    percent_words,
    proportions_warning,
    share_words,
)

__all__ = ["recall_words", "search_words", "untested", "what_it_rests_on"]

# Of fewer copies under a change, chance explains that many of them are missed.
_ENOUGH_CONTROLS = 20


def what_it_rests_on(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say in four lines what the headline rests on.

    Args:
        summary: content of ``summary.json``.

    Returns:
        Heading and sentences of each line, without names of files, folders or patients.
    """
    return [
        ("Compared", _compared(summary)),
        ("Copies that would be found", recall_words(summary)),
        ("Wrong accusations", _wrong_accusations(summary)),
        ("How far it goes", _reach(summary)),
    ]


def _compared(summary: Mapping[str, Any]) -> str:
    skipped = len(summary["skipped"])
    words = f"{count_words(summary['num_synthetic'], 'synthetic image')} with all "
    words += f"{count_words(summary['num_training'], 'training image')}"
    how = "by a search, then on the pixels after alignment" if summary["verified"] else "by the detector's score alone"
    search = search_words(summary)
    repeats = len(summary["repeats"].get("synthetic", []))
    if repeats:
        words += f" ({count_words(repeats, 'more repeats one of these', 'more repeat some of these')})"
    words += f"; {how}." + (f" {search}" if search else "")
    return words + (f" {count_words(skipped, 'image')} could not be read." if skipped else "")


def search_words(summary: Mapping[str, Any]) -> str:
    """Say what an index found of what the exact search finds; nothing where the search was exact.

    Example:
        >>> search = {"engine": "hnsw", "recall": 0.994, "num_sampled": 200, "num_neighbors": 64, "num_candidates": 144}
        >>> search_words({"search": search})[:91]
        'hnsw found 99.4 % of the 64 nearest training images that an exact search finds, on a sample'
    """
    search = summary.get("search") or {"engine": "exact"}
    if search["engine"] == "exact":
        return ""
    # Nothing is rounded to all of them.
    share = percent_words(search["recall"] if search["recall"] == 1 else min(search["recall"], 0.999))
    return (
        f"{search['engine']} found {share} of the {search['num_neighbors']} nearest training images that an exact "
        f"search finds, on a sample of {count_words(search['num_sampled'], 'image')} and among "
        f"{search['num_candidates']} candidates each."
    )


def recall_words(summary: Mapping[str, Any]) -> str:
    """Say which share of copies would have been found, on the reference change of the controls."""
    controls = summary["controls"]
    if controls is None:
        return "Unknown: no copies were planted to see whether they would be found."
    point = next((one for one in controls["curve"] if control_key(one) == controls["reference"]), None)
    name = controls["reference"] if point is None else control_name(point)
    share, total = share_words(controls["recall"], 0), controls["recall"]["total"]
    words = f"{share} of the {total} copies that were planted after this change were found: {name}."
    return f"{words} {_mild_changes(controls)}".rstrip()


def _mild_changes(controls: Mapping[str, Any]) -> str:
    """Say after which mild changes copies are missed, beside the reference."""
    mild = [one for one in controls["curve"] if one["upper_limit"] is not None]
    mild = [one for one in mild if control_key(one) != controls["reference"]]
    if not mild:
        return ""
    fewest, most = (limit(one["total"] for one in mild) for limit in (min, max))
    tried = f"{count_words(len(mild), 'other mild change was', 'other mild changes were')} tried with "
    tried += f"{'' if fewest == most else 'at least '}{count_words(fewest, 'copy', 'copies')} each"
    missed = [control_name(one) for one in mild if one["upper_limit"] < ENOUGH_RECALL]
    if not missed:
        words = f"{tried}, and after none of them were clearly fewer than {percent_words(ENOUGH_RECALL, 0)} found."
        few = " So few show a change only where it hides most copies, if at all."
        return words if fewest >= _ENOUGH_CONTROLS else words + few
    return f"{tried}, and copies are missed after {', '.join(missed)}."


def _wrong_accusations(summary: Mapping[str, Any]) -> str:
    false_alarms, null = summary["false_alarms"], summary["null"]
    if false_alarms is not None:
        verb = "is called a copy" if false_alarms["count"] == 1 else "are called copies"
        words = f"{false_alarms['count']} of {false_alarms['total']} held-out images {verb}, though none is: "
        words += f"{share_words(false_alarms)}."
        if summary["num_copies"] and false_alarms["interval"][1] >= summary["copy_fraction"]["value"]:
            words += " So few held-out images cannot exclude that each copy is a false alarm: the pictures can."
        if null is not None and not null["can_call"]:
            words += f" {null['sentence']}"
            if summary["num_copies"]:
                words += " The copies above rest on the threshold and on their pictures."
        return words
    if summary["discoveries"] is None:
        return "Unknown: there were no images that are not copies to compare with."
    held_out = (
        "there were no held-out images" if summary["holdout_dir"] is None else "all held-out images are in training"
    )
    words = f"Not measured: {held_out}. The training images, compared with each other, stand in for them."
    return words if null is None or null["can_call"] else f"{words} {null['sentence']}"


def _reach(summary: Mapping[str, Any]) -> str:
    gate = summary["gate"]
    if summary["selection"]:
        return "These files were chosen by their scores: the result holds for them and says nothing of their generator."
    if gate["gate_on"] == "files":
        return "The result is about exactly these files, and says nothing of others that the generator makes."
    limit, over_recall = gate["upper_limit"], gate["upper_limit_over_recall"]
    if limit is None:
        return f"Of all that this generator makes, {share_words(summary['copy_fraction'])} are copies."
    words = "With 95 % confidence, one-sided, this audit would call at most "
    words += f"{100 * limit:.2g} % of all that this generator makes suspicious"
    if over_recall is not None and over_recall > limit:
        return f"{words}; with the copies that it misses, {100 * over_recall:.2g} %."
    return f"{words}; copies that it misses come on top."


def _missed_controls(summary: Mapping[str, Any]) -> list[str]:
    """Name the changes after which planted copies were missed."""
    controls = summary["controls"]
    missed = [] if controls is None else [one for one in controls["curve"] if one["value"] < ENOUGH_RECALL]
    if not missed:
        return []
    names = ", ".join(f"{control_name(one)} ({percent_words(one['value'], 0)} found)" for one in missed)
    return [f"Copies with these changes are often missed, as planted ones were: {names}."]


def _middle_slices(summary: Mapping[str, Any]) -> str:
    """Say of how many volumes one slice alone was read; nothing where none was, or whole volumes were."""
    if summary["options"]["slices"] is not None or has_volumes(summary):
        return ""
    counts = [images.get("num_middle_slices") for images in summary["images"].values()]
    if None in counts:  # an audit of before they were counted
        return "Of a volume, if there is one, the middle slice alone was audited."
    read = count_words(sum(counts), "volume")
    return f"Of {read} the middle slice alone was audited; --slices all audits every slice." if sum(counts) else ""


def untested(summary: Mapping[str, Any]) -> list[str]:
    """Name what the audit did not test, what follows from its data first.

    Args:
        summary: content of ``summary.json``.

    Returns:
        Sentences without names of files, folders or patients.
    """
    skipped, options = summary["skipped"], summary["options"]
    unread, left_out = count_ignored(summary, "unread", "link"), count_ignored(summary, "asked")
    shared = (summary.get("identical_training") or {"num_of_two_patients": 0})["num_of_two_patients"]
    hidden = [one["description"] for one in summary["sides_differ"]["differences"] if not one["covered"]]
    conditions = [
        *((True, sentence) for sentence in _missed_controls(summary)),
        (skipped, f"{count_words(len(skipped), 'image')} could not be read."),
        (unread, f"{count_words(unread, 'file or folder', 'files or folders')} beside the images could not be read."),
        (left_out, f"{count_words(left_out, 'file or folder', 'files or folders')} were left out on purpose."),
        (hidden, f"Copies may be hidden by how the sides were preprocessed: {' '.join(hidden)}"),
        (proportions_warning(summary), f"Proportions: {proportions_warning(summary)}"),
        *((True, caveat["text"]) for caveat in summary["gate"]["caveats"]),
        (
            summary["num_similar_above_null"],
            f"{above_null_words(summary)}, and yet not apart from the rest: look at these pairs.",
        ),
        (summary["controls"] is None, "How many copies are missed is not known: no controls were planted."),
        (
            summary["holdout_dir"] is None,
            "Without held-out images it was not tested whether the set knows who was in training, nor how often an "
            "innocent image is accused.",
        ),
        (
            summary["memorized_fraction"]["count"] and not summary["num_patients"],
            "No patient identifiers were given: whom the copies concern is not known.",
        ),
        (
            shared,
            f"{count_words(shared, 'training image is', 'training images are')} filed under two patients: a copy of "
            "one counts for both, and whom it concerns is not known.",
        ),
        (
            summary["verified"] and summary["memorized_fraction"]["count"],
            f"At most {options['top_k']} training images are compared with each synthetic image on the pixels: a copy "
            "that resembles more of them exposes more than are counted.",
        ),
        (_middle_slices(summary), _middle_slices(summary)),
        (
            has_volumes(summary),
            "Volumes were compared as a whole: one that shares a few slices with a training volume may be missed; "
            "audit the slices, too (--slices all, without --volumes).",
        ),
        (
            True,
            "A copy of a small part of an image, or a heavily blurred one, may be missed: look below the threshold.",
        ),
        (True, "Text in the images, headers and file names were not read; nor was the generator itself attacked."),
        (True, "What images that are not copies tell of a patient, such as a diagnosis, was not tested."),
    ]
    return [sentence for holds, sentence in conditions if holds]
