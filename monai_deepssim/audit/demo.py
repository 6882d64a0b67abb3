"""An audit without any data: phantom subjects, a share of them planted as copies, written as files like any others."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from PIL import Image

from monai_deepssim.audit.verdict import is_copy
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import unwritable
from monai_deepssim.transforms import RandStructurePreserving

__all__ = [
    "DEMO_PATIENT_PATTERN",
    "DemoResult",
    "DemoSettings",
    "evaluate_demo",
    "planted_copies",
    "write_demo",
    "write_folder_once",
    "write_png",
]

DEMO_PATIENT_PATTERN = r"(phantom-\d+-\d+)"

_TRUTH_FILE = "ground_truth.csv"
_SETTINGS_FILE = "settings.json"
_TRUTH_COLUMNS = ["synthetic_path", "copy_of"]


@dataclass(frozen=True)
class DemoSettings:
    """How large the demo is; its two seeds never share a subject.

    Attributes:
        num_training: training images, one a subject.
        num_synthetic: synthetic images.
        num_copies: how many of those are copies of training images.
        augmentation_prob: probability of each augmentation of a copy; 0.8 is the published robustness test.
        training_seed: of the training subjects.
        synthetic_seed: of the subjects that are not copies, and of what is copied and how.
    """

    num_training: int = 400
    num_synthetic: int = 200
    num_copies: int = 50
    augmentation_prob: float = 0.8
    training_seed: int = 2_000_001
    synthetic_seed: int = 2_000_002


@dataclass(frozen=True)
class DemoResult:
    """How well the planted copies were found.

    Attributes:
        planted: copies among the synthetic images.
        found: of those, judged duplicates.
        right_source: of those found, how many were matched with the image that they are a copy of.
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

    def as_json(self) -> dict[str, Any]:
        """The entry of ``summary.json``."""
        return asdict(self)


def write_demo(folder: Path, settings: DemoSettings) -> tuple[Path, Path]:
    """Write the demo's images as PNG files, unless an earlier run has written the same.

    Args:
        folder: gets ``training/``, ``synthetic/`` and ``ground_truth.csv``, which says what is a copy of what.
        settings: how many images of which seeds.

    Returns:
        The folder of the training images and that of the synthetic ones.

    Raises:
        UnusableInputError: if the folder holds something else or cannot be written, or nilearn is not installed.
    """

    def write(partial: Path) -> None:
        (partial / "training").mkdir()
        (partial / "synthetic").mkdir()
        truth = _write_images(partial / "training", partial / "synthetic", settings)
        with (partial / _TRUTH_FILE).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_TRUTH_COLUMNS, *truth])

    write_folder_once(folder, json.dumps(asdict(settings), indent=2) + "\n", write)
    return folder / "training", folder / "synthetic"


def write_folder_once(folder: Path, settings: str, write: Callable[[Path], None]) -> None:
    """Make a demo's folder, unless an earlier run has made the same.

    It is made under another name and renamed when complete, so that a demo that was interrupted is made anew.

    Args:
        folder: of the demo.
        settings: a text that tells this demo from another one; it is kept in the folder.
        write: writes everything else into the folder that it is given.

    Raises:
        UnusableInputError: if the folder holds something else or cannot be written, or nilearn is not installed.
    """
    if folder.exists():
        done = folder / _SETTINGS_FILE
        if done.is_file() and done.read_text(encoding="utf-8") == settings:
            return
        raise UnusableInputError(f"{folder}: exists and is not this demo. Remove it, or give another --output_dir.")
    partial = folder.with_name(folder.name + ".partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        write(partial)
        (partial / _SETTINGS_FILE).write_text(settings, encoding="utf-8")
        partial.rename(folder)
    except ImportError as error:
        raise UnusableInputError(
            f"The demo needs a package that is not installed ({error}). Run pip install 'monai-deepssim[demo]', or "
            "give --training_dir and --synthetic_dir."
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error


def planted_copies(folder: Path) -> dict[str, str]:
    """Read what was planted.

    Args:
        folder: as given to :func:`write_demo`.

    Returns:
        By synthetic image the training image that it is a copy of, empty where it is none.
    """
    with (folder / _TRUTH_FILE).open(newline="", encoding="utf-8") as file:
        return {row["synthetic_path"]: row["copy_of"] for row in csv.DictReader(file)}


def evaluate_demo(folder: Path, matches: DataFrame) -> DemoResult:
    """Compare the verdict with what was planted.

    Args:
        folder: as given to :func:`write_demo`.
        matches: of all synthetic images.

    Returns:
        How many planted copies were found.
    """
    truth = planted_copies(folder)
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


def _write_images(training_dir: Path, synthetic_dir: Path, settings: DemoSettings) -> list[tuple[str, str]]:
    """Write both folders; returns the name of each synthetic image, and of its source if it is a copy."""
    training = PhantomBrainDataset(settings.num_training, settings.training_seed)
    names = []
    for number in range(len(training)):
        subject = training[number]
        names.append(f"{subject['patient_id']}.png")
        write_png(training_dir / names[-1], subject["image"])
    others = PhantomBrainDataset(settings.num_synthetic - settings.num_copies, settings.synthetic_seed)
    random = np.random.RandomState(settings.synthetic_seed % 2**32)
    augment = RandStructurePreserving(prob=settings.augmentation_prob)
    augment.set_random_state(seed=settings.synthetic_seed % 2**32)
    # A generator repeats some training images more than once, so sources are drawn with replacement.
    made = [
        (augment(training[source]["image"]), names[source])
        for source in random.randint(len(names), size=settings.num_copies)
    ]
    made += [(others[number]["image"], "") for number in range(len(others))]
    truth = []
    for number, position in enumerate(random.permutation(len(made))):
        image, source = made[position]
        truth.append((f"generated-{number:04d}.png", source))
        write_png(synthetic_dir / truth[-1][0], image)
    return truth


def write_png(path: Path, image: Any) -> None:
    """Write an image ``(1, rows, columns)`` in [0, 1] as 8-bit grey."""
    pixels = torch.as_tensor(image)[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(path)
