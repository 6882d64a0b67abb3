"""What became of the copies and repetitions that a demo has planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame

from monai_deepssim.calibration import is_copy
from monai_deepssim.data import read_planted

__all__ = ["DemoResult", "RepetitionsResult", "evaluate_demo", "evaluate_repetitions"]


@dataclass(frozen=True)
class DemoResult:
    """How well the planted copies were found.

    Attributes:
        planted: copies among the synthetic images.
        found: number of planted copies that were judged duplicates.
        right_source: number of found copies that were matched with the image that they are a copy of.
        false_alarms: images judged duplicates that are not copies.
        precision: share of the images judged duplicates that are copies; ``None`` when nothing was.
        recall: share of the planted copies that were found.
    """

    planted: int
    found: int
    right_source: int
    false_alarms: int
    precision: float | None
    recall: float


@dataclass(frozen=True)
class RepetitionsResult:
    """How well the planted repetitions were found.

    Attributes:
        planted: repetitions.
        found: number of repetitions that were grouped with the image that they repeat.
        false_alarms: images in a group with one that they do not repeat.
    """

    planted: int
    found: int
    false_alarms: int


def evaluate_demo(folder: Path, matches: DataFrame) -> DemoResult:
    """Compare the verdict with what was planted.

    Args:
        folder: as given to :func:`~monai_deepssim.data.write_copies_demo`.
        matches: matches of all synthetic images.

    Returns:
        How many planted copies were found.
    """
    truth = read_planted(folder)
    planted = sum(bool(source) for source in truth.values())
    judged = list(matches[is_copy(matches)].itertuples())
    found = [match for match in judged if truth[match.synthetic_path]]
    return DemoResult(
        planted=planted,
        found=len(found),
        right_source=sum(match.training_path == truth[match.synthetic_path] for match in found),
        false_alarms=len(judged) - len(found),
        precision=len(found) / len(judged) if judged else None,
        recall=len(found) / planted if planted else 1.0,
    )


def evaluate_repetitions(folder: Path, groups: DataFrame) -> RepetitionsResult:
    """Compare the groups with what was planted.

    Args:
        folder: as given to :func:`~monai_deepssim.data.write_repetitions_demo`.
        groups: the groups that were found: ``kept`` and ``left_out`` of each.

    Returns:
        How many repetitions were found.
    """
    truth = read_planted(folder)
    found = false_alarms = 0
    for group in groups.itertuples():
        members = {group.kept, *group.left_out}
        for path in members:
            subject = truth[path] or path
            others = {other for other in members if other != path and (truth[other] or other) == subject}
            found += bool(truth[path]) and bool(others)
            false_alarms += not others
    return RepetitionsResult(sum(bool(source) for source in truth.values()), found, false_alarms)
