"""The images of a study: a pool to draw training sets from, and held-out images that no generator sees."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from monai_deepssim.csv_cells import plain_cell, safe_table
from monai_deepssim.data import list_images, load_slice, split_by_patient, write_png
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder, unwritable, write_text
from monai_deepssim.generators import GeneratorImages, repetition_counts
from monai_deepssim.study.grid import Setting
from monai_deepssim.study.options import MIN_SAMPLES, StudyOptions

__all__ = ["HOLDOUT_CSV", "POOL_CSV", "StudyImages", "TrainingSet", "prepare_images"]

#: Data lists in the study's folder.
POOL_CSV, HOLDOUT_CSV = Path("images", "pool.csv"), Path("images", "holdout.csv")


@dataclass(frozen=True)
class TrainingSet:
    """The images of one training.

    Attributes:
        rows: ``(M,)``, positions in the pool, in its order.
        copies: ``(M,)``, how often each is there.
        csv: Data list and at the same time counts of its repetitions, as ``GeneratorImages`` takes both.
    """

    rows: np.ndarray
    copies: np.ndarray
    csv: Path


@dataclass(frozen=True)
class StudyImages:
    """All real images of a study, 8-bit as the generators see them.

    Attributes:
        folder: Folder of the files.
        pool: ``(P, 1, H, W)`` in [0, 1], of which the training sets are subsets.
        for_thresholds: Held-out images ``(T, 1, H, W)`` that thresholds are chosen with.
        for_control: Held-out images ``(C, 1, H, W)`` of other patients, which no threshold has seen.
    """

    folder: Path
    pool: Tensor
    for_thresholds: Tensor
    for_control: Tensor

    def training_set(self, setting: Setting, seed: int, replicate: int) -> TrainingSet:
        """Draw a training set; within a replicate, a larger one holds all images of a smaller one.

        Args:
            setting: How many images, and how often repeated.
            seed: Seed of the study.
            replicate: Number of the replicate.

        Returns:
            The set, whose list has been written beside the images.
        """
        order = np.random.default_rng([seed, replicate]).permutation(len(self.pool))
        chosen = np.sort(order[: setting.training_images])
        pool = pd.read_csv(self.folder / POOL_CSV.name, dtype=str, keep_default_na=False)
        pool["patient_id"] = pool["patient_id"].map(plain_cell)
        table = pool.loc[chosen, ["image", "patient_id"]]
        copies = repetition_counts(table.to_dict("records"), setting.repetitions, seed=replicate)
        csv = self.folder / f"training-{setting.training_images:04d}-{setting.repetitions}-seed{replicate}.csv"
        write_text(csv, safe_table(table.assign(copies=copies)).to_csv(index=False, lineterminator="\n"))
        return TrainingSet(chosen, np.array(copies), csv)


def prepare_images(options: StudyOptions) -> StudyImages:
    """Write the pool and the held-out images into the study's folder, unless they are there, and read them.

    They are made under another name and renamed when complete.

    Args:
        options: Checked options.

    Returns:
        The images as they are in the files.

    Raises:
        UnusableInputError: If there are too few images, or they or the folder cannot be used.
    """
    folder = options.output_dir / POOL_CSV.parent
    if not folder.is_dir():
        _write_images(options, folder)
    pool = _load(list_images(options.output_dir / POOL_CSV))
    if len(pool) < options.largest:
        raise UnusableInputError(
            f"the largest training set is to have {options.largest} images, and {folder} has {len(pool)}. Give "
            "another --output_dir, and more images."
        )
    for_thresholds, for_control = split_by_patient(list_images(options.output_dir / HOLDOUT_CSV), 0.5, options.seed)
    return StudyImages(folder, pool, _load(for_thresholds), _load(for_control))


def _write_images(options: StudyOptions, folder: Path) -> None:
    pool, holdout = (
        GeneratorImages(
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
        for split in ("training", "validation")
    )
    if len(pool) < options.largest:
        raise UnusableInputError(
            f"the largest training set is to have {options.largest} images, and there are {len(pool)} besides "
            "the held-out ones. Give --factors#training_images smaller values, or more images (of phantoms, with "
            "--phantom#num_subjects)."
        )
    if len(holdout) < 2 * MIN_SAMPLES:
        raise UnusableInputError(
            f"there are {len(holdout)} held-out images, wanted {2 * MIN_SAMPLES} or more: half of them for "
            "thresholds and half to check these. Raise --num_holdout."
        )
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        for csv, images in ((POOL_CSV, pool), (HOLDOUT_CSV, holdout)):
            rows = []
            for number in range(len(images)):
                item = images[number]
                name, source = f"{csv.stem}-{number:05d}.png", " ".join(str(item["path"]).splitlines())
                write_png(partial / name, item["image"])
                rows.append({"image": name, "source": source, "patient_id": item["patient_id"]})
            write_text(partial / csv.name, safe_table(pd.DataFrame(rows)).to_csv(index=False, lineterminator="\n"))
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _load(items: Sequence[dict]) -> Tensor:
    return torch.stack([load_slice(item) for item in items])
