"""What an audit says in words, on the terminal and in its reports: sentences made from ``summary.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_deepssim.metrics import MIN_COMPARED_IMAGES

__all__ = [
    "SCORE_NAMES",
    "control_key",
    "control_name",
    "control_sentences",
    "count_words",
    "error_rate_sentence",
    "false_alarm_sentence",
    "gate_sentence",
    "num_audited",
    "proportions_warning",
    "score_name",
    "share_words",
    "side_lines",
]

#: What a score is called where people read it; others by the name of their detector.
SCORE_NAMES = {"copy_score": "copy score", "deepssim": "DeepSSIM cosine"}


def score_name(thresholds: Mapping[str, Any]) -> str:
    """Name the score that thresholds are of.

    Example:
        >>> score_name({"duplicate": {"value": 0.85, "score": "copy_score"}})
        'copy score'
    """
    score = thresholds["duplicate"]["score"]
    return SCORE_NAMES.get(score, str(score))


def count_words(count: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun.

    Example:
        >>> count_words(1, "copy", "copies"), count_words(2000, "image")
        ('1 copy', '2,000 images')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def share_words(share: Mapping[str, Any], digits: int = 1) -> str:
    """Write a share with its interval, where it has one.

    Example:
        >>> share_words({"value": 0.05, "interval": [0.01, 0.125]})
        '5.0 % (95 % interval 1.0 % to 12.5 %)'
    """
    value = f"{100 * share['value']:.{digits}f} %"
    if share["interval"] is None:
        return value
    low, high = (f"{100 * end:.{digits}f} %" for end in share["interval"])
    return f"{value} (95 % interval {low} to {high})"


def num_audited(summary: Mapping[str, Any], side: str) -> int:
    """Count the images of a side that could be used."""
    return sum(summary["images"][side]["original_sizes"].values())


def gate_sentence(summary: Mapping[str, Any]) -> str:
    """The gate and its result, in one line."""
    gate = summary["gate"]
    limits = []
    if gate["max_copy_fraction"] is not None:
        limits.append(f"at most {gate['max_copy_fraction']:.4g} may be copies")
    if gate["max_patient_fraction"] is not None:
        limits.append(f"at most {gate['max_patient_fraction']:.4g} of the patients may be memorized")
    if not limits:
        return "none (--max_copy_fraction 0.01 ends with status 3 when more than 1 % are copies)"
    reason = gate["reason"]
    if summary["num_close"] and gate["suspicious"] is None:
        reason += f"; not counted: {_close_words(summary)}"
    return f"{' and '.join(limits)}: {str(gate['result']).upper()} ({reason})"


def error_rate_sentence(summary: Mapping[str, Any]) -> str:
    """What the false-discovery control says, in a sentence or two."""
    discoveries = summary["discoveries"]
    if summary["selection"]:
        text = f"Error rates: none of this set alone, for {summary['selection']}"
        return f"{text} By those of the whole set, {_close_words(summary)}." if summary["num_close"] else text
    if discoveries is None:
        return "Error rates: there are no images of two patients to compare scores with. Give --holdout_dir."
    has_holdout = summary["holdout_dir"] is not None
    against = "held-out images" if has_holdout else "what training images reach among each other"
    total = summary["num_synthetic"]
    rate = f"at a false-discovery rate of {discoveries['fdr']:g}"
    text = (
        f"Error rates: {discoveries['num_discoveries']} of {total} synthetic images are closer to a training image "
        f"than {against}, {rate}."
    )
    if not discoveries["num_discoveries"]:
        text = f"Error rates: no synthetic image is known to be closer to a training image than {against}, {rate}. "
        text += "This clears no image that scores as a copy."
    if summary["num_close"]:
        text += f" Of these, {_close_words(summary)}: look at the pairs."
    fewest = discoveries["fewest_discoverable"]
    if discoveries["num_discoveries"] == 0 and fewest > summary["num_copies"] + summary["num_parts"]:
        text += f" With {discoveries['num_null_patients']} patients to compare with, "
        if fewest > total:
            text += f"none of {total} images could be called, however close: this is not evidence that there is none."
        else:
            text += f"at least {fewest} have to be close for any to be called: this is not evidence that there is none."
    return text


def false_alarm_sentence(summary: Mapping[str, Any]) -> str:
    """How many held-out images the threshold calls copies, though none is one."""
    share = summary["false_alarms"]
    low, high = share["interval"]
    text = (
        f"False alarms: {share['count']} of {share['total']} held-out images, none of which is a copy, score above the "
        f"threshold of a copy ({share['value']:.1%}; 95 % interval {low:.1%} to {high:.1%})."
    )
    if share["count"]:
        text += " If one of them is a training image under another name, take it out: see holdout.csv."
    return text


def _close_words(summary: Mapping[str, Any]) -> str:
    """Images that are closer to a training image than chance explains, and below the threshold of a copy."""
    count = summary["num_close"]
    verb = "is" if count == 1 else "are"
    return (
        f"{count} {verb} not {'a copy' if count == 1 else 'copies'} by the threshold and yet closer to a training "
        "image than chance explains"
    )


def proportions_warning(summary: Mapping[str, Any]) -> str | None:
    """What may be wrong where one side alone was resampled to square pixels; ``None`` where nothing is."""
    resampled = [side for side, images in summary["images"].items() if images["resampled_to_square_pixels"]]
    untouched = [side for side in summary["images"] if side not in resampled]
    if not resampled or not untouched:
        return None
    return (
        f"pixels of {' and '.join(resampled)} images were made square, and none of {' and '.join(untouched)} images. "
        "If the generator was trained on pixels as stored, its images have other proportions than these, and copies "
        "are missed: give every side with the pixels that the generator saw."
    )


def side_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Say how the preprocessing of the sides differs, in one line per difference.

    Args:
        comparison: ``sides_differ`` of ``summary.json``.

    Returns:
        The lines: a summary, then the differences, those first that hide copies.

    Example:
        >>> import torch
        >>> from monai_deepssim.metrics import compare_sides
        >>> print(*side_lines(compare_sides(torch.rand(2, 1, 40, 32), torch.rand(3, 1, 40, 32)).as_json()), sep="\\n")
        Preprocessing: not compared; want at least 5 images per side, got 2 training and 3 synthetic images.
    """
    compared = f"{comparison['num_training']} training and {comparison['num_synthetic']} synthetic images"
    if not comparison["is_testable"]:
        first = f"Preprocessing: not compared; want at least {MIN_COMPARED_IMAGES} images per side, got {compared}."
        return [first, *(f"  Warning: {one['description']} Copies may be missed." for one in comparison["differences"])]
    differences = comparison["differences"]
    if not differences:
        return [f"Preprocessing: no difference found between {compared}."]
    lines = [f"Preprocessing: {compared} differ."]
    for difference in differences:
        if not difference["covered"]:
            lines.append(f"  Warning: {difference['description']} Copies may be missed: preprocess both sides alike.")
    lines += [f"  {one['description']} The alignment covers this." for one in differences if one["covered"]]
    return lines


def control_key(point: Mapping[str, Any]) -> str:
    """Name a change and level as ``summary.json`` names its reference, such as ``blur_2``."""
    level = point["level"]
    return str(point["change"]) if level is None else f"{point['change']}_{level:g}"


def control_name(point: Mapping[str, Any]) -> str:
    """Name a change and level for people, such as ``blur 2 px``."""
    level, unit = point["level"], point["unit"]
    if point["change"] == "none":
        return "no change"
    words = [str(point["change"]).replace("_", " "), "" if level is None else f"{level:g}", unit or ""]
    return " ".join(word for word in words if word)


def control_sentences(controls: Mapping[str, Any], min_recall: float) -> dict[str, list[str]]:
    """Part the sentences of the controls.

    Args:
        controls: entry of ``summary.json``.
        min_recall: share that has to be found.

    Returns:
        ``first``: those of the reference change and of changes after which fewer were found; ``others``.
    """
    sentences, curve = controls["sentences"], controls["curve"]
    if len(sentences) != len(curve):
        return {"first": list(sentences), "others": []}
    is_first = [one["value"] < min_recall or control_key(one) == controls["reference"] for one in curve]
    return {
        "first": [sentence for sentence, first in zip(sentences, is_first, strict=True) if first],
        "others": [sentence for sentence, first in zip(sentences, is_first, strict=True) if not first],
    }
