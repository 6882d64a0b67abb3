"""Which pairs a report lists, in which groups and order, and what it says of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from monai_deepssim.calibration import discoveries_at_fdr
from monai_deepssim.report.sentences import has_volumes

__all__ = ["KINDS", "explain_copy", "is_true", "kinds_of", "list_pairs"]

#: Kinds of listed images: the name of one, and the heading of their group.
KINDS = {
    "copy": ("copy", "Copies, by patient"),
    "part": ("part copy", "Copies, by patient"),
    "twin": ("twin of a copy", "Twins: not copies by the threshold, and yet copies of a synthetic copy"),
    "unexplained": ("unexplained", "Unexplained: not copies by the threshold, and yet above all that are not copies"),
    "discovery": ("closer than chance", "Not copies by the threshold, and yet closer than chance explains"),
    "similar": ("similar", "Similar: below the threshold of a copy"),
    "different": ("different", "Different: the strongest of the rest"),
}

# Of the images that are no evidence of anything the strongest are shown, to see where the threshold lies.
_NUM_DIFFERENT, _MOST_SIMILAR, _NUM_RUNNERS_UP = 8, 1000, 4
# Paper holds fewer: all copies and suspicious images, and as many similar ones as make up this number.
_NUM_PRINTED = 24
# Score above which neighbouring slices were not seen; of the pairs at 0.86 to 0.90 they were a third.
_CERTAIN_SCORE = 0.97


def is_true(column: pd.Series) -> np.ndarray:
    """Read a column of truth values, of a table or of its CSV file; a missing one is false."""
    return column.map(lambda value: str(value).lower() == "true").to_numpy(bool)


def kinds_of(matches: DataFrame, fdr: float) -> np.ndarray:
    """Give each image its kind, one of :data:`KINDS`, the most serious that it is of.

    Args:
        matches: ``label``, ``q_value``, ``unexplained`` and ``twin_of`` of each image.
        fdr: false-discovery rate of the audit.

    Returns:
        ``(N,)`` texts.

    Example:
        >>> matches = DataFrame({"label": ["duplicate", "similar", "different"], "q_value": [0.01, 0.02, 0.5]})
        >>> kinds_of(matches.assign(unexplained=None, twin_of=""), 0.05).tolist()
        ['copy', 'discovery', 'different']
    """
    q_values = pd.to_numeric(matches["q_value"], errors="coerce").fillna(1.0)
    is_discovery = np.asarray(discoveries_at_fdr(q_values.tolist(), fdr), bool)
    label = matches["label"].to_numpy()
    is_twin = (matches["twin_of"] != "").to_numpy()
    conditions = [label == "duplicate", label == "part", is_twin, is_true(matches["unexplained"]), is_discovery]
    names = ["copy", "part", "twin", "unexplained", "discovery"]
    return np.select([*conditions, label == "similar"], [*names, "similar"], "different")


def list_pairs(summary: Mapping[str, Any], tables: Mapping[str, DataFrame], candidates: DataFrame) -> list[dict]:
    """List the pairs of a report: all copies by patient, all suspicious and similar images, and some of the rest.

    Args:
        summary: content of ``summary.json``.
        tables: ``matches``, the highest score first, and ``patients``.
        candidates: training images that were compared with each image (``query``), the closest first.

    Returns:
        The pairs, numbered in this order: ``number``, ``row``, ``kind``, ``kind_name``, ``group``, ``title`` with the
        patient, ``is_printed`` (on paper), ``is_named`` (on the first screen, though not suspicious), ``match`` with
        the cells of ``matches.csv``, ``alignment`` in words, ``detector_score``, ``runners_up`` and ``note``.
    """
    matches = tables["matches"]
    matches = matches.assign(kind=kinds_of(matches, summary["options"]["fdr"]))
    is_copy = matches["kind"].isin(["copy", "part"])
    best = matches[is_copy].groupby("patient_id")["score"].transform("max").reindex(matches.index)
    limits = {"similar": _MOST_SIMILAR, "different": _NUM_DIFFERENT}
    places = matches["kind"].map(list(KINDS).index).where(~is_copy, 0)
    rank = matches.groupby("kind").cumcount()
    shown = matches.assign(place=places, best=-best.fillna(0.0), patient=matches["patient_id"].where(is_copy, ""))
    shown = shown[rank < matches["kind"].map(limits).fillna(np.inf)]
    shown = shown.sort_values(["place", "best", "patient"], kind="stable")
    of_patient = shown[shown["place"] == 0].groupby("patient")["score"]
    nth, copies = of_patient.cumcount(), of_patient.transform("size")
    # Those that the first screen speaks of; the strongest come first.
    is_named = (matches["kind"] == "similar") & (rank < (summary["num_similar_above_null"] or 0))
    num_training = dict(zip(tables["patients"]["patient_id"], tables["patients"]["num_training"], strict=True))
    by_query = dict(iter(candidates.groupby("query")))
    pairs = []
    for number, (row, match) in enumerate(shown.iterrows(), start=1):
        compared, of_copy = by_query[row], match["kind"] in ("copy", "part")
        patient = f"Patient {match['patient_id']}" if match["patient_id"] else "Patient unknown"
        place = f", copy {nth[row] + 1} of {copies[row]}" if of_copy and copies[row] > 1 else ""
        note = ""
        if of_copy and summary["verified"]:
            others = int(num_training.get(match["patient_id"], 1)) - 1
            other = "another volume" if has_volumes(summary) else "a neighbouring slice"
            note = explain_copy(match["score"], match["patient_id"], compared["patient_id"].tolist(), others, other)
        pairs.append(
            {
                "number": number,
                "row": row,
                "kind": match["kind"],
                "is_printed": match["kind"] not in ("similar", "different")
                or (match["kind"] == "similar" and (number <= _NUM_PRINTED or bool(is_named[row]))),
                "is_named": bool(is_named[row]),
                "kind_name": KINDS[match["kind"]][0],
                "group": KINDS[match["kind"]][1],
                "title": patient + place,
                "match": match,
                "alignment": compared["alignment"].iloc[0],
                "detector_score": compared["detector_score"].iloc[0],
                "runners_up": compared.iloc[1 : 1 + _NUM_RUNNERS_UP][["training_path", "score"]].values.tolist(),
                "note": note,
            }
        )
    return pairs


def explain_copy(
    score: float, patient: str, compared: list[str], num_others: int, other: str = "a neighbouring slice"
) -> str:
    """Say what else than a copy of this very image may have such a score; empty where nothing may.

    Args:
        score: score of the copy.
        patient: patient of its training image; empty where unknown.
        compared: patients of the training images that were compared with it.
        num_others: other training images of that patient.
        other: what these are to it.

    Example:
        >>> explain_copy(0.88, "p1", ["p1", "p2"], 0)
        'The only training image of this patient.'
    """
    if score >= _CERTAIN_SCORE:
        return ""
    if not patient:
        return f"A copy of {other} of the same patient would score like this, too."
    if not num_others:
        return "The only training image of this patient."
    verb = "image is" if num_others == 1 else "images are"
    return (
        f"May be of {other}: {num_others} more training {verb} of this patient, "
        f"{compared.count(patient) - 1} of them compared."
    )
