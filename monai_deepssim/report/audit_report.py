"""``report.html``: one file for the person who signs, with all that an audit says and the pictures that prove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame
from PIL import Image

from monai_deepssim.report.encoding import PictureForm, choose_form
from monai_deepssim.report.figures import draw_detection_curve, draw_roc, score_histogram
from monai_deepssim.report.first_screen import untested, what_it_rests_on
from monai_deepssim.report.html import inline_script, report_environment
from monai_deepssim.report.listed_pairs import KINDS, list_pairs
from monai_deepssim.report.pair_pictures import AGREEMENT_GRADIENT
from monai_deepssim.report.privacy_risks import members_measures, privacy_risks
from monai_deepssim.report.sentences import (
    SCORE_NAMES,
    above_null_words,
    control_sentences,
    error_rate_sentence,
    false_alarm_sentence,
    file_sentences,
    has_volumes,
    score_name,
    suspicious_beside_copies,
)

__all__ = ["describe", "render_report"]

Pictures = Callable[[int], list[tuple[str, Image.Image | None]]]

# Pairs with pictures: beyond, a page takes too long to make and to open.
_MOST_PICTURES = 1000


def render_report(
    summary: Mapping[str, Any],
    tables: Mapping[str, DataFrame],
    *,
    candidates: DataFrame,
    pictures: Pictures | None = None,
    mean_images: Sequence[Image.Image] | None = None,
    null_scores: np.ndarray | None = None,
) -> str:
    """Make the report: one HTML file that needs no other and no network, with a script of its own and no other.

    Args:
        summary: content of ``summary.json``.
        tables: ``matches``, the highest score first and indexed by the row of the image, ``memorized`` and
            ``patients``, with the columns of the CSV files of these names.
        candidates: training images that were compared with each image, the closest first: ``query``, ``score``,
            ``detector_score``, ``training_path``, ``patient_id``, and ``alignment`` in words.
        pictures: takes the row of an image, and returns the pictures of it and its nearest training image with their
            names; ``None`` as a picture is a file that has gone since.
        mean_images: the mean training and the mean synthetic image.
        null_scores: scores of images that are not copies.

    Returns:
        The HTML. Everything that comes from files is escaped.
    """
    shows = summary["options"]["report_images"]
    pairs = list_pairs(summary, tables, candidates)
    illustrated = [pair for pair in pairs if shows == "all" or pair["kind"] in ("copy", "part")][:_MOST_PICTURES]
    if shows == "none" or pictures is None:
        illustrated = []
    form = choose_form(4 * len(illustrated), summary["options"]["image_size"])
    for pair in pairs:
        pair["pictures"] = []
    for pair in illustrated:
        pair["pictures"] = _encode(pictures(pair["row"]), form) if pictures is not None else []
    script, script_source = inline_script("list.js")
    means = mean_images if shows == "all" and mean_images is not None else []
    names = [f"{summary['sides_differ'][f'num_{side}']} {side} images" for side in ("training", "synthetic")]
    scores = tables["matches"]["score"].to_numpy(float)
    return (
        report_environment()
        .get_template("audit.html")
        .render(
            **describe(summary),
            file_sentences=file_sentences(summary),
            histogram=score_histogram(scores, summary["thresholds"], null_scores),
            patients=_patients(tables["patients"], pairs),
            suspicious=[pair for pair in pairs if pair["kind"] in ("twin", "unexplained", "discovery")],
            pairs=pairs,
            kinds={kind: KINDS[kind][0] for kind in KINDS if any(pair["kind"] == kind for pair in pairs)},
            num_illustrated=len(illustrated),
            scale_of_pictures=form.scale,
            gradient=AGREEMENT_GRADIENT,
            mean_images=[(name, form.uri(image)) for name, image in zip(names, means, strict=False)],
            script=script,
            script_source=script_source,
        )
    )


def _patients(table: DataFrame, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The affected patients, each with the numbers of the pairs that show the copies."""
    numbers: dict[str, list[int]] = {}
    for pair in pairs:
        if pair["kind"] in ("copy", "part"):
            numbers.setdefault(pair["match"]["patient_id"], []).append(pair["number"])
    return [{**row, "pairs": numbers.get(row["patient_id"], [])} for row in table.to_dict("records")]


def _encode(pictures: list[tuple[str, Image.Image | None]], form: PictureForm) -> list[tuple[str, str | None]]:
    return [(name, None if picture is None else form.uri(picture)) for name, picture in pictures]


def describe(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Make what both reports of an audit show: the summary, its sentences, and the figures that hold no name.

    Args:
        summary: content of ``summary.json``.

    Returns:
        Values for a template, by name.
    """
    controls, members = summary["controls"], summary["members"]
    detector = summary["detector"]
    return {
        "summary": summary,
        "of_volumes": has_volumes(summary),
        "headline": summary["headline"],
        "rests_on": what_it_rests_on(summary),
        "untested": untested(summary),
        "risks": privacy_risks(summary),
        "score_name": score_name(summary["thresholds"]),
        "detector_name": SCORE_NAMES.get(detector, detector),
        "num_others": suspicious_beside_copies(summary),
        "above_null": above_null_words(summary),
        "error_rates": error_rate_sentence(summary),
        "false_alarms": None if summary["false_alarms"] is None else false_alarm_sentence(summary),
        "detection_curve": None
        if controls is None
        else draw_detection_curve(controls["curve"], summary["gate"]["min_recall"], controls["reference"]),
        "control_sentences": None if controls is None else control_sentences(controls),
        "members_measures": None if members is None else members_measures(members),
        "roc": None if members is None else draw_roc(members["roc"], members["auc"]),
    }
