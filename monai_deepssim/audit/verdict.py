"""From scores to the verdict: the class of each synthetic image, and which training images were copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from monai_deepssim.calibration import Thresholds
from monai_deepssim.report import (
    MATCHES_COLUMNS,
    MEMORIZED_COLUMNS,
    PATIENTS_COLUMNS,
    alignment_columns,
    as_table,
)

__all__ = ["affected_patients", "match_images", "memorized_images"]


def match_images(
    items: Sequence[Mapping[str, Any]],
    pairs: pd.DataFrame,
    training: Sequence[Mapping[str, Any]],
    thresholds: Thresholds,
    detector: str,
) -> pd.DataFrame:
    """Give each image its nearest training image and its class.

    Args:
        items: the images, ``path`` of each.
        pairs: pairs of these images (``query``) with training images (``training``), by their rows, the highest
            ``score`` of each image first; with ``detector_score``, and where they were compared on the pixels the
            columns of :func:`~monai_deepssim.metrics.verify_candidates`.
        training: the training images, ``path`` and ``patient_id`` of each.
        thresholds: thresholds of the score.
        detector: name of the detector; its similarity has a column only if it is DeepSSIM's.

    Returns:
        The columns of ``matches.csv``, the highest score first; the index is the row of the image.

    Example:
        >>> pairs = pd.DataFrame({"query": [0, 0], "training": [1, 0], "score": [0.99, 0.5], "detector_score": 0.9})
        >>> training = [{"path": f"{name}.png", "patient_id": name} for name in "ab"]
        >>> table = match_images([{"path": "fake.png"}], pairs, training, PUBLISHED_THRESHOLDS, "deepssim")
        >>> table[["training_path", "label"]].values.tolist()
        [['b.png', 'duplicate']]
    """
    rows = []
    for pair in pairs.drop_duplicates("query").to_dict("records"):
        nearest = training[pair["training"]]
        rows.append(
            {
                **pair,
                "synthetic_path": items[pair["query"]]["path"],
                "training_path": nearest["path"],
                "patient_id": nearest["patient_id"],
                "deepssim": pair["detector_score"] if detector == "deepssim" else None,
                **alignment_columns(pair.get("alignment")),
                "label": thresholds.classify(pair["score"], pair.get("copied_area")),
            }
        )
    table = as_table(rows, MATCHES_COLUMNS, [row["query"] for row in rows])
    return table.sort_values(["score", "synthetic_path"], ascending=[False, True], kind="stable")


def memorized_images(
    matches: pd.DataFrame, pairs: pd.DataFrame, training: Sequence[Mapping[str, Any]], thresholds: Thresholds
) -> pd.DataFrame:
    """Gather the copies by the training images that they copy, the strongest first.

    An image that is there twice, under two patients' names too, is copied twice: all pairs that score as a duplicate
    count, not the nearest alone.

    Args:
        matches: each synthetic image with its nearest training image.
        pairs: pairs of the synthetic images, as for :func:`match_images`.
        training: the training images.
        thresholds: thresholds of the score.

    Returns:
        The columns of ``memorized.csv``, ``synthetic_paths`` being lists; the index is the row of the training image.

    Example:
        >>> pairs = pd.DataFrame({"query": 0, "training": [0, 2, 1], "score": [0.99, 0.98, 0.5], "detector_score": 0.0})
        >>> training = [{"path": f"{name}.png", "patient_id": ""} for name in "abc"]
        >>> matches = match_images([{"path": "fake.png"}], pairs, training, PUBLISHED_THRESHOLDS, "ncc")
        >>> memorized_images(matches, pairs, training, PUBLISHED_THRESHOLDS)["training_path"].tolist()
        ['a.png', 'c.png']
    """
    copies = pairs[pairs["score"] > thresholds.duplicate]
    copies = copies.assign(synthetic_path=copies["query"].map(matches["synthetic_path"]))
    copies = copies.sort_values(["score", "synthetic_path"], ascending=[False, True])
    rows = {
        row: {
            "training_path": training[row]["path"],
            "patient_id": training[row]["patient_id"],
            "num_copies": len(group),
            "max_score": group["score"].iloc[0],
            "synthetic_paths": group["synthetic_path"].tolist(),
        }
        for row, group in copies.groupby("training")
    }
    table = as_table(list(rows.values()), MEMORIZED_COLUMNS, list(rows))
    return table.sort_values(["max_score", "training_path"], ascending=[False, True], kind="stable")


def affected_patients(memorized: pd.DataFrame, training: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Gather what was memorized by patient, those with the most copies first.

    Args:
        memorized: memorized training images that :func:`memorized_images` returns.
        training: the training images.

    Returns:
        The columns of ``patients.csv``, ``training_paths`` and ``synthetic_paths`` being lists. Images of unknown
        patients are in one row, whose ``patient_id`` is empty.

    Example:
        >>> memorized = as_table(
        ...     [{"training_path": "a.png", "patient_id": "p1", "num_copies": 1, "max_score": 0.9,
        ...       "synthetic_paths": ["fake.png"]}], MEMORIZED_COLUMNS)
        >>> training = [{"path": "a.png", "patient_id": "p1"}, {"path": "b.png", "patient_id": "p1"}]
        >>> affected_patients(memorized, training)[["patient_id", "num_training", "num_memorized"]].values.tolist()
        [['p1', 2, 1]]
    """
    sizes = Counter(item["patient_id"] for item in training)
    rows = []
    for patient, group in memorized.groupby("patient_id"):
        copies = dict.fromkeys(path for paths in group["synthetic_paths"] for path in paths)
        rows.append(
            {
                "patient_id": patient,
                "num_training": sizes[patient],
                "num_memorized": len(group),
                "num_copies": len(copies),
                "max_score": group["max_score"].max(),
                "training_paths": group["training_path"].tolist(),
                "synthetic_paths": list(copies),
            }
        )
    table = as_table(rows, PATIENTS_COLUMNS)
    return table.sort_values(["num_copies", "patient_id"], ascending=[False, True], kind="stable", ignore_index=True)
