"""The tables of a deduplication: the manifest of all files, the groups, and each image with its nearest other one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.audit.clean_up.duplicate_groups import DuplicateGroup, Duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit, relative_to_source
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.calibration import Thresholds
from monai_deepssim.report import alignment_columns, as_table

__all__ = ["GROUP_COLUMNS", "MANIFEST_COLUMNS", "NEAREST_COLUMNS", "files_table", "groups_table", "nearest_table"]

#: Columns of ``manifest.csv``.
MANIFEST_COLUMNS = [
    "file",
    "kept",
    "class",
    "group",
    "duplicate_of",
    "patients",
    "score",
    "nearest_path",
    "patient_id",
    "nearest_patient_id",
    "decided_by",
    "reason",
]
#: Columns of ``groups.csv``.
GROUP_COLUMNS = ["group", "patients", "num_files", "max_score", "kept", "left_out", "patient_ids"]
#: Columns of ``matches.csv``.
NEAREST_COLUMNS = [
    "training_path",
    "patient_id",
    "nearest_path",
    "nearest_patient_id",
    "patients",
    "score",
    "deepssim",
    "aligned_ssim",
    "flip",
    "rotation_degrees",
    "shift_pixels",
    "gamma",
    "label",
    "zoom",
    "deformation_pixels",
    "stretch",
    "inverted",
]

_PATIENTS = {"same": "the same patient", "different": "another patient", "unknown": "an unknown patient"}


def files_table(
    training: EmbeddedSide,
    units: Sequence[FileUnit],
    paths: Sequence[str],
    root: Path | None,
    duplicates: Duplicates,
    thresholds: Thresholds,
) -> pd.DataFrame:
    """Say of every file of the training set what becomes of it.

    Args:
        training: the set.
        units: its files.
        paths: path of each unit.
        root: what paths are relative to.
        duplicates: the duplicates that were found.
        thresholds: thresholds of the score.

    Returns:
        A row per file, in the order of their paths: the columns of :data:`MANIFEST_COLUMNS`, and ``location``, which is
        empty for a file that was ignored. ``class`` is ``duplicate``, ``similar`` or ``different``, by the closest
        slice; ``skipped`` where none of its slices could be used; ``ignored`` of a file that is not an image.
    """
    problems = training.images.problems
    items = training.usable_items
    row_of = {index: row for row, index in enumerate(training.images.indices.tolist())}
    group_of = {unit: number for number, group in enumerate(duplicates.groups) for unit in group.members}
    rows: list[dict[str, Any]] = []
    for number, unit in enumerate(units):
        group = duplicates.groups[group_of[number]] if number in group_of else None
        closest = _closest({row_of[index] for index in unit.indices if index in row_of}, group, duplicates)
        unusable = [index for index in unit.indices if index in problems]
        if len(unusable) == len(unit.indices):
            row: dict[str, Any] = {
                "kept": False,
                "class": "skipped",
                "reason": f"could not be used: {problems[unusable[0]]}",
            }
        else:
            row = {
                "kept": group is None or group.kept == number,
                "class": "different" if closest is None else closest.label,
                "reason": _reason(closest, group, number, paths, items, thresholds),
            }
            if group is not None:
                row["group"] = str(group_of[number] + 1)
                row["duplicate_of"] = "" if row["kept"] else paths[group.kept]
            if closest is not None:
                first, second = items[closest.query], items[closest.training]
                row |= {"patients": closest.patients, "score": closest.score}
                row |= {"decided_by": first["path"], "nearest_path": second["path"]}
                row |= {"patient_id": first["patient_id"], "nearest_patient_id": second["patient_id"]}
            if unusable:
                row["reason"] += (
                    f"; {len(unusable)} of its {len(unit.indices)} slices could not be used and were not compared"
                )
        rows += [{**row, "file": relative_to_source(file, root), "location": file} for file in unit.files]
    for ignored in training.side.ignored:
        reason = f"no image: {ignored['reason']}"
        rows.append({"file": ignored["path"], "location": "", "kept": False, "class": "ignored", "reason": reason})
    return as_table(rows, [*MANIFEST_COLUMNS, "location"]).sort_values("file", kind="stable", ignore_index=True)


def groups_table(groups: Sequence[DuplicateGroup], paths: Sequence[str], patients: Sequence[str]) -> pd.DataFrame:
    """A row per group, in their order: the columns of :data:`GROUP_COLUMNS`."""
    rows = [
        {
            "group": number,
            "patients": group.patients,
            "num_files": len(group.members),
            "max_score": group.pairs[0].score,
            "kept": paths[group.kept],
            "left_out": [paths[unit] for unit in group.left_out],
            "patient_ids": sorted({patients[unit] for unit in group.members if patients[unit]}),
        }
        for number, group in enumerate(groups, start=1)
    ]
    return as_table(rows, GROUP_COLUMNS)


def nearest_table(training: EmbeddedSide, duplicates: Duplicates, detector: str) -> pd.DataFrame:
    """Each training image with its nearest image of another file, in the order of their paths: the columns of
    :data:`NEAREST_COLUMNS`."""
    items = training.usable_items
    rows = []
    for pair in duplicates.nearest.values():
        first, second = items[pair.query], items[pair.training]
        rows.append(
            {
                "training_path": first["path"],
                "patient_id": first["patient_id"],
                "nearest_path": second["path"],
                "nearest_patient_id": second["patient_id"],
                "patients": pair.patients,
                "score": pair.score,
                "deepssim": pair.detector_score if detector == "deepssim" else None,
                "aligned_ssim": pair.aligned_ssim,
                **alignment_columns(pair.alignment),
                "label": pair.label,
            }
        )
    return as_table(rows, NEAREST_COLUMNS).sort_values("training_path", ignore_index=True)


def _closest(rows: set[int], group: DuplicateGroup | None, duplicates: Duplicates) -> Any:
    """The closest pair of one of a file's images, by their rows; among its duplicates, where it has any."""
    candidates = [duplicates.nearest[row] for row in sorted(rows) if row in duplicates.nearest]
    for pair in group.pairs if group is not None else ():
        if pair.query in rows:
            candidates.append(pair)
        elif pair.training in rows:
            candidates.append(pair._replace(query=pair.training, training=pair.query, alignment=None))
    return max(candidates, key=lambda pair: (pair.score, -pair.training), default=None)


def _reason(
    closest: Any,
    group: DuplicateGroup | None,
    number: int,
    paths: Sequence[str],
    items: Sequence[dict[str, str]],
    thresholds: Thresholds,
) -> str:
    if closest is None:
        return "there is no other file to compare it with"
    nearest = f"{items[closest.training]['path']} of {_PATIENTS[closest.patients]}"
    if group is None:
        return (
            f"its highest score is {closest.score:.3f}, with {nearest}, and duplicates are above "
            f"{thresholds.duplicate:g}"
        )
    if group.kept == number:
        return f"stands for its group of {len(group.members)}: its score with {nearest} is {closest.score:.3f}"
    return (
        f"its score with {nearest} is {closest.score:.3f}, above {thresholds.duplicate:g}; {paths[group.kept]} is kept "
        "for the group"
    )
