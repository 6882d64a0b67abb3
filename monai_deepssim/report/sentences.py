"""What an audit says in words, on the terminal and in its reports: sentences made from ``summary.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_deepssim.metrics import MIN_COMPARED_IMAGES

__all__ = [
    "ENOUGH_RECALL",
    "SCORE_NAMES",
    "above_null_words",
    "control_key",
    "control_name",
    "control_sentences",
    "count_ignored",
    "count_words",
    "error_rate_sentence",
    "false_alarm_sentence",
    "file_sentences",
    "gate_sentence",
    "has_volumes",
    "num_audited",
    "percent_words",
    "proportions_warning",
    "score_name",
    "score_words",
    "share_words",
    "shared_patients_sentence",
    "side_lines",
    "suspicious_beside_copies",
]

#: Share of the copies after a change below which a report says that they are often missed, whatever a gate asks for.
ENOUGH_RECALL = 0.9

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


def percent_words(share: float, digits: int = 1) -> str:
    """Write a share in per cent, in the one form that terminal, reports and docs have.

    Example:
        >>> percent_words(0.0), percent_words(1, 0)
        ('0.0 %', '100 %')
    """
    return f"{100 * share:.{digits}f} %"


def score_words(score: float, threshold: float) -> str:
    """Write a score with three digits that lies on the side of the threshold on which the score lies.

    Example:
        >>> score_words(0.859788, 0.86), score_words(0.86, 0.86), score_words(0.8601, 0.86)
        ('0.859', '0.860', '0.861')
    """
    rounded = round(score, 3)
    if score > threshold >= rounded:
        rounded += 0.001
    elif score <= threshold < rounded or score < threshold == rounded:
        rounded -= 0.001
    return f"{rounded:.3f}"


def share_words(share: Mapping[str, Any], digits: int = 1) -> str:
    """Write a share with its interval, where it has one.

    Example:
        >>> share_words({"value": 0.05, "interval": [0.01, 0.125]})
        '5.0 % (95 % interval 1.0 % to 12.5 %)'
    """
    value = percent_words(share["value"], digits)
    if share["interval"] is None:
        return value
    low, high = (percent_words(end, digits) for end in share["interval"])
    return f"{value} (95 % interval {low} to {high})"


def num_audited(summary: Mapping[str, Any], side: str) -> int:
    """Count the images of a side that could be used."""
    return sum(summary["images"][side]["original_sizes"].values())


# What became of files that are not among the images, by their kinds: a heading and the words after the count.
_IGNORED = {
    ("unread", "link"): ("Not read", "could hold images and were not compared"),
    ("asked",): ("Left out", "were left out on purpose (--ignore)"),
    ("note", "system", "seen"): ("Ignored", "are no images: tables, notes, files of the operating system"),
}


def count_ignored(summary: Mapping[str, Any], *kinds: str) -> int:
    """Count the files and folders of all sides that are not among the images, of some kinds.

    Example:
        >>> count_ignored({"ignored_files": {"synthetic": [{"kind": "note"}, {"kind": "asked"}]}}, "asked")
        1
    """
    return sum(file["kind"] in kinds for files in summary["ignored_files"].values() for file in files)


def file_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Say which files are not among the images, which count once, and which are volumes of several files.

    Args:
        summary: content of ``summary.json``.

    Returns:
        Sentences with names of files and folders.
    """
    sentences = []
    if has_volumes(summary):
        box = " x ".join(map(str, summary["options"]["image_size"]))
        sentences.append(
            f"Volumes: each image is a whole volume, resampled to cubic voxels and fitted to a box of {box} of them."
        )
    for side, images in summary["images"].items():
        for kinds, (heading, words) in _IGNORED.items():
            files = [file for file in summary["ignored_files"][side] if file["kind"] in kinds]
            if files:
                count = f"{count_words(len(files), 'file or folder', 'files or folders')} in {summary[f'{side}_dir']}"
                sentences.append(f"{heading}: {count} {words}, such as {files[0]['path']} ({files[0]['reason']}).")
        repeats = summary["repeats"][side]
        if repeats:
            first = repeats[0]
            sentences.append(
                f"Repeats: {count_words(len(repeats), f'{side} image')} repeat others and count once, such as "
                f"{first['path']}, which is {first['reason']} as {first['repeats']}.{_about_repeats(side)}"
            )
        sentences += _series_sentences(summary, side, images)
    identical = summary.get("identical_training")  # absent from an audit of before there was such an entry
    if identical and identical["num_images"]:
        first, of_two = identical["images"][0], identical["num_of_two_patients"]
        count = count_words(identical["num_images"], "training image is", "training images are")
        words = f"Identical: {count} another one byte for byte and count each, such as {first['path']} and "
        words += f"{first['identical_to']}."
        sentences.append(f"{words} {shared_patients_sentence(of_two)}".rstrip())
    return sentences


def shared_patients_sentence(num_images: int) -> str:
    """Say what follows where training images of two patients are identical; nothing where none are.

    Example:
        >>> shared_patients_sentence(0)
        ''
    """
    if not num_images:
        return ""
    what = "One of them is" if num_images == 1 else f"{num_images:,} of them are"
    return f"{what} filed under another patient, too: a copy counts for both, and one of the two names is wrong."


def has_volumes(summary: Mapping[str, Any]) -> bool:
    """Whether an audit compared whole volumes; audits of before there was such an option did not."""
    return bool(summary["options"].get("volumes", "none") != "none")


def _about_repeats(side: str) -> str:
    if side != "synthetic":
        return ""
    return " The gate counts a suspicious one as often as it is there; --count_repeats true counts each of them."


def _series_sentences(summary: Mapping[str, Any], side: str, images: Mapping[str, Any]) -> list[str]:
    """How many images come from volumes of several files, and what that leaves out."""
    if not images["num_series"]:
        return []
    num_images, files = num_audited(summary, side), images["num_files_of_series"]
    series = "1 volume" if images["num_series"] == 1 else f"{images['num_series']:,} volumes"
    sentences = [
        f"Series: {count_words(num_images, f'{side} image')}; {count_words(files, 'file')} of DICOM series were taken "
        f"as {series}."
    ]
    if side == "synthetic" and summary["options"]["slices"] != "all" and not has_volumes(summary):
        sentences.append(
            "Warning: of each of these synthetic volumes only the slices asked for were audited. --slices all audits "
            "every slice; files that are an image each need a SeriesInstanceUID each."
        )
    return sentences


def gate_sentence(summary: Mapping[str, Any]) -> str:
    """The gate and its result, in one line."""
    gate = summary["gate"]
    limits = []
    if gate["max_copy_fraction"] is not None:
        limits.append(f"at most {100 * gate['max_copy_fraction']:.4g} % of the images may be suspicious")
    if gate["max_patient_fraction"] is not None:
        limits.append(f"at most {100 * gate['max_patient_fraction']:.4g} % of the patients may be memorized")
    if not limits:
        return "none (--max_copy_fraction 0.01 ends with status 3 when more than 1 % are suspicious)"
    # The reason of a gate that is passed names its caveats.
    caveats = [] if gate["result"] == "passed" else [caveat["text"] for caveat in gate["caveats"]]
    return f"{' and '.join(limits)}: {str(gate['result']).upper()} ({' '.join([gate['reason'], *caveats])})"


def above_null_words(summary: Mapping[str, Any]) -> str:
    """Name similar images that are not suspicious, and yet score above every image that is not a copy.

    Args:
        summary: ``num_similar_above_null``, and ``holdout_dir`` and ``null`` with what the images were compared with.

    Returns:
        Words such as ``3 similar images score above all 110 held-out images``; empty where there is none.
    """
    count = summary["num_similar_above_null"] or 0
    against = "every image that is not a copy"
    if summary["holdout_dir"] is not None and summary["null"] is not None:
        against = f"all {count_words(summary['null']['num_scores'], 'held-out image')}"
    return f"{count_words(count, 'similar image scores', 'similar images score')} above {against}" if count else ""


def suspicious_beside_copies(summary: Mapping[str, Any]) -> int:
    """Count the images that the gate calls suspicious and the threshold no copies."""
    counts = summary["gate"]["suspicious"]
    return int(sum(counts.values()) - counts["copies"] - counts["parts"])


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
        text = f"Error rates: no synthetic image can be told from {against} by its score alone, {rate}. "
        text += "This clears no image that scores as a copy: that rests on its threshold and its pictures."
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
    text = (
        f"False alarms: {share['count']} of {share['total']} held-out images, none of which is a copy, score above the "
        f"threshold of a copy: {share_words(share)}."
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
    pixels, square = ("voxels", "cubic") if has_volumes(summary) else ("pixels", "square")
    return (
        f"{pixels} of {' and '.join(resampled)} images were made {square}, and none of {' and '.join(untouched)} "
        f"images. If the generator was trained on {pixels} as stored, its images have other proportions than these, "
        f"and copies are missed: give every side with the {pixels} that the generator saw."
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
            lines.append(f"  Warning: {difference['description']} Copies may be missed until both sides are alike.")
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


def control_sentences(controls: Mapping[str, Any]) -> dict[str, list[str]]:
    """Part the sentences of the controls.

    Args:
        controls: entry of ``summary.json``.

    Returns:
        ``first``: those of the reference change and of changes after which fewer were found; ``others``.
    """
    sentences, curve = controls["sentences"], controls["curve"]
    if len(sentences) != len(curve):
        return {"first": list(sentences), "others": []}
    is_first = [one["value"] < ENOUGH_RECALL or control_key(one) == controls["reference"] for one in curve]
    return {
        "first": [sentence for sentence, first in zip(sentences, is_first, strict=True) if first],
        "others": [sentence for sentence, first in zip(sentences, is_first, strict=True) if not first],
    }
