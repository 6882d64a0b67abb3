"""Sets without any patient's data, to try a workflow on: phantoms with planted copies, or repetitions, as PNG files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from monai_deepssim.data.phantom import PhantomBrainDataset
from monai_deepssim.data.phantom_organs import make_phantom_cohort
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder, open_private, unwritable, write_text
from monai_deepssim.transforms import RandStructurePreserving

__all__ = ["read_planted", "write_copies_demo", "write_png", "write_repetitions_demo"]

_TRUTH_FILE, _SETTINGS_FILE = "ground_truth.csv", "settings.json"


def write_copies_demo(
    folder: Path,
    *,
    num_training: int = 400,
    num_synthetic: int = 200,
    num_copies: int = 50,
    augmentation_prob: float = 0.8,
    training_seed: int = 2_000_001,
    synthetic_seed: int = 2_000_002,
    organ: str = "brain",
) -> tuple[Path, Path]:
    """Write a training set and a synthetic set with copies in it, unless an earlier run has written the same.

    Args:
        folder: folder that gets ``training/``, ``synthetic/`` and ``ground_truth.csv``, which says what is a copy of
            what.
        num_training: training images, one per subject.
        num_synthetic: synthetic images.
        num_copies: number of those that are copies of training images.
        augmentation_prob: probability of each augmentation of a copy; 0.8 is the published robustness test.
        training_seed: seed of the training subjects.
        synthetic_seed: seed of the subjects that are not copies, and of what is copied and how; the two sets share no
            subject.
        organ: what the phantoms show, a name of :data:`~monai_deepssim.data.PHANTOM_ORGANS`.

    Returns:
        The folder of the training images and that of the synthetic ones.

    Raises:
        UnusableInputError: if the folder holds something else or cannot be written, or nilearn is not installed.
    """
    settings = {
        name: value for name, value in locals().items() if name != "folder" and (name, value) != ("organ", "brain")
    }

    def write(partial: Path) -> list[dict[str, str]]:
        training = make_phantom_cohort(organ, num_subjects=num_training, seed=training_seed)
        names = []
        for number in range(num_training):
            names.append(f"{training[number]['patient_id']}.png")
            write_png(partial / "training" / names[-1], training[number]["image"])
        others = make_phantom_cohort(organ, num_subjects=num_synthetic - num_copies, seed=synthetic_seed)
        random = np.random.RandomState(synthetic_seed % 2**32)
        augment = RandStructurePreserving(prob=augmentation_prob)
        augment.set_random_state(seed=synthetic_seed % 2**32)
        # A generator repeats some training images more than once, so sources are drawn with replacement.
        sources = random.randint(len(names), size=num_copies).tolist()
        made = [(augment(training[source]["image"]), names[source]) for source in sources]
        made += [(others[number]["image"], "") for number in range(len(others))]
        truth = []
        for number, position in enumerate(random.permutation(len(made))):
            image, source = made[position]
            truth.append({"synthetic_path": f"generated-{number:04d}.png", "copy_of": source})
            write_png(partial / "synthetic" / truth[-1]["synthetic_path"], image)
        return truth

    _write_once(folder, settings, ("training", "synthetic"), write)
    return folder / "training", folder / "synthetic"


def write_repetitions_demo(
    folder: Path,
    *,
    num_subjects: int = 120,
    num_repeated: int = 30,
    num_other_patients: int = 10,
    augmentation_prob: float = 0.5,
    seed: int = 2_000_003,
) -> Path:
    """Write a training set with some of its subjects in it twice, unless an earlier run has written the same.

    Args:
        folder: folder that gets ``training/`` and ``ground_truth.csv``, which says what repeats what.
        num_subjects: number of phantom subjects, each one patient.
        num_repeated: number of subjects that are in the set a second time.
        num_other_patients: number of repetitions that are stored under another patient's name, as by a mistake.
        augmentation_prob: probability of each augmentation of a repetition.
        seed: seed of the subjects and of what is done to the repetitions.

    Returns:
        The folder of the training images.

    Raises:
        UnusableInputError: if the folder holds something else or cannot be written, or nilearn is not installed.
    """
    settings = {name: value for name, value in locals().items() if name != "folder"}

    def write(partial: Path) -> list[dict[str, str]]:
        subjects = PhantomBrainDataset(num_subjects, seed)
        augment = RandStructurePreserving(prob=augmentation_prob)
        augment.set_random_state(seed=seed % 2**32)
        random = np.random.RandomState(seed % 2**32)
        names = [f"patient-{number:03d}_scan-1.png" for number in range(num_subjects)]
        truth = [{"training_path": name, "repeats": ""} for name in names]
        for number, name in enumerate(names):
            write_png(partial / "training" / name, subjects[number]["image"])
        repeated = random.choice(num_subjects, num_repeated, replace=False).tolist()
        for place, number in enumerate(repeated):
            patient = num_subjects + place if place < num_other_patients else number
            truth.append({"training_path": f"patient-{patient:03d}_scan-2.png", "repeats": names[number]})
            write_png(partial / "training" / truth[-1]["training_path"], augment(subjects[number]["image"]))
        return truth

    _write_once(folder, settings, ("training",), write)
    return folder / "training"


def read_planted(folder: Path) -> dict[str, str]:
    """Read what was planted in a demo: by image the one that it copies or repeats, empty where there is none."""
    table = pd.read_csv(folder / _TRUTH_FILE, dtype=str, keep_default_na=False)
    return dict(table.itertuples(index=False, name=None))


def write_png(path: Path, image: Any) -> None:
    """Write an image ``(1, rows, columns)`` in [0, 1] as 8-bit grey, for its owner alone."""
    pixels = torch.as_tensor(image)[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    with open_private(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")


def _write_once(
    folder: Path,
    settings: Mapping[str, Any],
    subfolders: tuple[str, ...],
    write: Callable[[Path], list[dict[str, str]]],
) -> None:
    """Make a demo's folder under another name and rename it when complete; one that was interrupted is made anew."""
    text = json.dumps(settings, indent=2) + "\n"
    if folder.exists():
        done = folder / _SETTINGS_FILE
        if done.is_file() and done.read_text(encoding="utf-8") == text:
            return
        raise UnusableInputError(f"{folder}: exists and is not this demo. Remove it, or give another --output_dir.")
    partial = folder.with_name(folder.name + ".partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        for name in subfolders:
            make_folder(partial / name)
        write_text(partial / _TRUTH_FILE, pd.DataFrame(write(partial)).to_csv(index=False, lineterminator="\r\n"))
        write_text(partial / _SETTINGS_FILE, text)
        partial.rename(folder)
    except ImportError as error:
        raise UnusableInputError(
            f"The demo needs a package that is not installed ({error}). Run pip install 'monai-deepssim[demo]', or "
            "give images of your own."
        ) from error
    except OSError as error:
        raise unwritable(folder, error) from error
