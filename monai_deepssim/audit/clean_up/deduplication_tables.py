"""The tables of a deduplication: the manifest of all files, the groups, and each image with its nearest other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_deepssim.audit.clean_up.duplicate_groups import DuplicateGroup, Duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit, relative_to_source
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.tables import alignment_columns, as_table, write_table
from monai_deepssim.audit.verdict import Thresholds

__all__ = [
    "GROUP_COLUMNS",
    "MANIFEST_COLUMNS",
    "NEAREST_COLUMNS",
    "TrainingFile",
    "training_files",
    "write_groups",
    "write_manifest",
    "write_nearest",
]

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


@dataclass(frozen=True)
class TrainingFile:
    """What becomes of a file of the training set.

    Attributes:
        path: relative to its source, which is also its place among the files that are kept.
        file: absolute path; empty for a file that was ignored.
        kept: whether it is kept.
        label: ``duplicate``, ``similar`` or ``different``, by its closest slice; ``skipped`` where none of its slices
            could be used; ``ignored`` of a file that is no image.
        reason: in words.
        group: number of its group, from 1; ``None`` where it is in none.
        duplicate_of: the file that stands for its group, if that is another one.
        closest: its closest pair of images, its own first; ``None`` where it has none.
        closest_paths: of these two images.
        closest_patients: likewise.
    """

    path: str
    file: str
    kept: bool
    label: str
    reason: str
    group: int | None = None
    duplicate_of: str = ""
    closest: Any = None
    closest_paths: tuple[str, str] = ("", "")
    closest_patients: tuple[str, str] = ("", "")


def training_files(
    training: EmbeddedSide,
    units: Sequence[FileUnit],
    paths: Sequence[str],
    root: Path,
    duplicates: Duplicates,
    thresholds: Thresholds,
) -> list[TrainingFile]:
    """Say of every file of the training set what becomes of it.

    Args:
        training: the set.
        units: its files.
        paths: of each unit.
        root: what paths are relative to.
        duplicates: that were found.
        thresholds: of the score.

    Returns:
        The files, in the order of their paths.
    """
    problems = training.images.problems
    usable = training.usable_items
    row_of = {index: row for row, index in enumerate(training.images.indices.tolist())}
    group_of = {unit: number for number, group in enumerate(duplicates.groups) for unit in group.members}
    files = []
    for number, unit in enumerate(units):
        group = duplicates.groups[group_of[number]] if number in group_of else None
        closest = _closest({row_of[index] for index in unit.indices if index in row_of}, group, duplicates)
        unusable = [index for index in unit.indices if index in problems]
        if len(unusable) == len(unit.indices):
            file = TrainingFile(paths[number], "", False, "skipped", f"could not be used: {problems[unusable[0]]}")
        else:
            kept = group is None or group.kept == number
            file = TrainingFile(
                path=paths[number],
                file="",
                kept=kept,
                label="different" if closest is None else closest.label,
                reason=_reason(closest, group, number, paths, usable, thresholds),
                group=group_of[number] + 1 if group is not None else None,
                duplicate_of="" if kept or group is None else paths[group.kept],
                closest=closest,
                closest_paths=_pair_of("path", closest, usable),
                closest_patients=_pair_of("patient_id", closest, usable),
            )
            if unusable:
                note = f"; {len(unusable)} of its {len(unit.indices)} slices could not be used and were not compared"
                file = replace(file, reason=file.reason + note)
        for name in unit.files:
            files.append(replace(file, path=relative_to_source(name, root), file=name))
    for ignored in training.side.ignored:
        files.append(TrainingFile(ignored["path"], "", False, "ignored", f"no image: {ignored['reason']}"))
    return sorted(files, key=lambda file: file.path)


def write_manifest(path: Path, files: Sequence[TrainingFile]) -> None:
    """Write a row for each file, kept or left out.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = []
    for file in files:
        row: dict[str, Any] = {
            "file": file.path,
            "kept": "yes" if file.kept else "no",
            "class": file.label,
            "group": "" if file.group is None else str(file.group),
            "duplicate_of": file.duplicate_of,
            "reason": file.reason,
        }
        if file.closest is not None:
            row["patients"], row["score"] = file.closest.patients, file.closest.score
            row["decided_by"], row["nearest_path"] = file.closest_paths
            row["patient_id"], row["nearest_patient_id"] = file.closest_patients
        rows.append(row)
    write_table(path, as_table(rows, MANIFEST_COLUMNS))


def write_groups(path: Path, groups: Sequence[DuplicateGroup], paths: Sequence[str], patients: Sequence[str]) -> None:
    """Write a row for each group, in their order; several paths or patients are parted by ``|``.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
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
    write_table(path, as_table(rows, GROUP_COLUMNS))


def write_nearest(path: Path, training: EmbeddedSide, duplicates: Duplicates, detector: str) -> None:
    """Write a row for each training image with its nearest image of another file, in the order of their paths.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
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
    write_table(path, as_table(rows, NEAREST_COLUMNS).sort_values("training_path"))


def _closest(rows: set[int], group: DuplicateGroup | None, duplicates: Duplicates) -> Any:
    """The closest pair of one of a file's images, by their rows; among its duplicates, where it has any."""
    candidates = [duplicates.nearest[row] for row in sorted(rows) if row in duplicates.nearest]
    for pair in group.pairs if group is not None else ():
        if pair.query in rows:
            candidates.append(pair)
        elif pair.training in rows:
            candidates.append(pair._replace(query=pair.training, training=pair.query, alignment=None))
    return max(candidates, key=lambda pair: (pair.score, -pair.training), default=None)


def _pair_of(name: str, pair: Any, items: Sequence[dict[str, str]]) -> tuple[str, str]:
    return ("", "") if pair is None else (items[pair.query][name], items[pair.training][name])


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
