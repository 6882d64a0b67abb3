"""The images of a study: a pool to draw training sets from, and held-out images that no generator sees."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.data import list_images, load_slice, split_by_patient, write_png
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import unwritable, write_text
from monai_deepssim.generators import GeneratorImages, repetition_counts
from monai_deepssim.study.grid import Setting
from monai_deepssim.study.options import MIN_SAMPLES, StudyOptions

__all__ = ["StudyImages", "TrainingSet", "load_images", "prepare_images"]

_POOL, _HOLDOUT = "pool.csv", "holdout.csv"


@dataclass(frozen=True)
class TrainingSet:
    """The images of one training.

    Attributes:
        rows: ``(M,)``, positions in the pool, in its order.
        copies: ``(M,)``, how often each is there.
        csv: a data list and at the same time the counts of its repetitions, as ``GeneratorImages`` takes both.
    """

    rows: np.ndarray
    copies: np.ndarray
    csv: Path


@dataclass(frozen=True)
class StudyImages:
    """All real images of a study, 8-bit as the generators see them.

    Attributes:
        folder: of the files.
        pool: ``(P, 1, H, W)`` in [0, 1], of which the training sets are subsets.
        for_thresholds: held-out images ``(T, 1, H, W)`` that thresholds are chosen with.
        for_control: held-out images ``(C, 1, H, W)`` of other patients, which no threshold has seen.
    """

    folder: Path
    pool: Tensor
    for_thresholds: Tensor
    for_control: Tensor

    @property
    def pool_csv(self) -> Path:
        """Data list of the pool."""
        return self.folder / _POOL

    @property
    def holdout_csv(self) -> Path:
        """Data list of the held-out images."""
        return self.folder / _HOLDOUT

    def training_set(self, setting: Setting, seed: int, replicate: int) -> TrainingSet:
        """Draw a training set; within a replicate, a larger one holds all images of a smaller one.

        Args:
            setting: how many images, and how often repeated.
            seed: of the study.
            replicate: its number.

        Returns:
            The set, whose list has been written beside the images.
        """
        rows, order = _read(self.pool_csv), np.random.default_rng([seed, replicate]).permutation(len(self.pool))
        chosen = np.sort(order[: setting.training_images])
        copies = repetition_counts([rows[row] for row in chosen], setting.repetitions, seed=replicate)
        name = f"training-{setting.training_images:04d}-{setting.repetitions}-seed{replicate}.csv"
        table = [
            [rows[row]["image"], rows[row]["patient_id"], str(count)] for row, count in zip(chosen, copies, strict=True)
        ]
        _write_table(self.folder / name, [["image", "patient_id", "copies"], *table])
        return TrainingSet(chosen, np.array(copies), self.folder / name)


def prepare_images(options: StudyOptions) -> None:
    """Write the pool and the held-out images into the study's folder, unless they are there.

    They are made under another name and renamed when complete.

    Raises:
        UnusableInputError: if there are too few images, or they or the folder cannot be used.
    """
    folder = options.output_dir / "images"
    if folder.is_dir():
        return
    parts = {}
    for split, name in (("training", _POOL), ("validation", _HOLDOUT)):
        parts[name] = GeneratorImages(
            dataset_dir=options.dataset_dir,
            phantom=None if options.dataset_dir else options.phantom,
            image_size=options.image_size,
            split=split,
            num_validation=options.num_holdout,
            seed=options.seed,
            patient_id_pattern=options.patient_id_pattern,
            slices=options.slices,
            slice_axis=options.slice_axis,
        )
    if len(parts[_POOL]) < options.largest:
        raise UnusableInputError(
            f"the largest training set is to have {options.largest} images, and there are {len(parts[_POOL])} besides "
            "the held-out ones. Give --factors#training_images smaller values, or more images (of phantoms, with "
            "--phantom#num_subjects)."
        )
    if len(parts[_HOLDOUT]) < 2 * MIN_SAMPLES:
        raise UnusableInputError(
            f"there are {len(parts[_HOLDOUT])} held-out images, wanted {2 * MIN_SAMPLES} or more: half of them for "
            "thresholds and half to check these. Raise --num_holdout."
        )
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for table, images in parts.items():
            rows = [["image", "source", "patient_id"]]
            for number in range(len(images)):
                item = images[number]
                rows.append([f"{Path(table).stem}-{number:05d}.png", _shown(item["path"]), item["patient_id"]])
                write_png(partial / rows[-1][0], item["image"])
            _write_table(partial / table, rows)
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def load_images(options: StudyOptions) -> StudyImages:
    """Read what :func:`prepare_images` wrote.

    Raises:
        UnusableInputError: if a file was changed or removed.
    """
    folder = options.output_dir / "images"
    holdout = list_images(folder / _HOLDOUT)
    for_thresholds, for_control = split_by_patient(holdout, 0.5, options.seed)
    return StudyImages(folder, _load(list_images(folder / _POOL)), _load(for_thresholds), _load(for_control))


def _load(items: Sequence[dict]) -> Tensor:
    return torch.stack([load_slice(item) for item in items])


def _read(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return [{**row, "path": row["image"]} for row in csv.DictReader(file)]


def _write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def _shown(path: str) -> str:
    """A path without what would break a row."""
    return re.sub(r"[\r\n]+", " ", os.fspath(path))
