"""A training set without any data: phantom subjects, some of them in it several times, written as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from monai_deepssim.audit.clean_up.duplicate_groups import DuplicateGroup
from monai_deepssim.audit.demo import write_folder_once, write_png
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import RandStructurePreserving

__all__ = [
    "REPEATED_DEMO_PATIENT_PATTERN",
    "RepeatedDemoResult",
    "RepeatedDemoSettings",
    "evaluate_repeated_demo",
    "write_repeated_demo",
]

REPEATED_DEMO_PATIENT_PATTERN = r"(patient-\d+)"

_TRUTH_FILE = "ground_truth.csv"
_COLUMNS = ["training_path", "repeats"]


@dataclass(frozen=True)
class RepeatedDemoSettings:
    """How large the demo is.

    Attributes:
        num_subjects: phantom subjects, each a patient.
        num_repeated: of them, those that are in the set again.
        num_other_patients: of those, the ones that are there under another patient's name, as by a mistake.
        augmentation_prob: probability of each augmentation of a repetition.
        seed: of the subjects, and of what is done to the repetitions.
    """

    num_subjects: int = 120
    num_repeated: int = 30
    num_other_patients: int = 10
    augmentation_prob: float = 0.5
    seed: int = 2_000_003


@dataclass(frozen=True)
class RepeatedDemoResult:
    """How well the repetitions were found.

    Attributes:
        planted: repetitions.
        found: of those, grouped with the image that they repeat.
        false_alarms: images in a group with one that they do not repeat.
    """

    planted: int
    found: int
    false_alarms: int


def write_repeated_demo(folder: Path, settings: RepeatedDemoSettings) -> Path:
    """Write the demo's images as PNG files, unless an earlier run has written the same.

    Args:
        folder: gets ``training/`` and ``ground_truth.csv``, which says what repeats what.
        settings: how many images of which seed.

    Returns:
        The folder of the training images.

    Raises:
        UnusableInputError: if the folder holds something else or cannot be written, or nilearn is not installed.
    """

    def write(partial: Path) -> None:
        (partial / "training").mkdir()
        subjects = PhantomBrainDataset(settings.num_subjects, settings.seed)
        augment = RandStructurePreserving(prob=settings.augmentation_prob)
        augment.set_random_state(seed=settings.seed % 2**32)
        random = np.random.RandomState(settings.seed % 2**32)
        truth = []
        for number in range(settings.num_subjects):
            truth.append([f"patient-{number:03d}_scan-1.png", ""])
            write_png(partial / "training" / truth[-1][0], subjects[number]["image"])
        repeated = random.choice(settings.num_subjects, settings.num_repeated, replace=False)
        for place, number in enumerate(repeated.tolist()):
            wrong_name = place < settings.num_other_patients
            patient = settings.num_subjects + place if wrong_name else number
            truth.append([f"patient-{patient:03d}_scan-2.png", f"patient-{number:03d}_scan-1.png"])
            write_png(partial / "training" / truth[-1][0], augment(subjects[number]["image"]))
        with (partial / _TRUTH_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *truth])

    write_folder_once(folder, json.dumps(asdict(settings), indent=2) + "\n", write)
    return folder / "training"


def evaluate_repeated_demo(folder: Path, groups: Sequence[DuplicateGroup], paths: Sequence[str]) -> RepeatedDemoResult:
    """Compare the groups with what was planted.

    Args:
        folder: as given to :func:`write_repeated_demo`.
        groups: that were found.
        paths: of all files, by the numbers that the groups use.

    Returns:
        How many repetitions were found.
    """
    with (folder / _TRUTH_FILE).open(newline="", encoding="utf-8") as file:
        truth = {row["training_path"]: row["repeats"] for row in csv.DictReader(file)}
    found = false_alarms = 0
    for group in groups:
        members = {paths[unit] for unit in group.members}
        for path in sorted(members):
            subject = truth[path] or path
            others = {other for other in members if other != path and (truth[other] or other) == subject}
            found += bool(truth[path]) and bool(others)
            false_alarms += not others
    return RepeatedDemoResult(sum(bool(source) for source in truth.values()), found, false_alarms)
