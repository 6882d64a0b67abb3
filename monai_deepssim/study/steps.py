"""The steps of a study, from options to everything that was measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, ensure_writable, write_text
from monai_deepssim.generators import load_autoencoder
from monai_deepssim.options import options_as_json
from monai_deepssim.progress import say
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION
from monai_deepssim.stores import ArrayStore
from monai_deepssim.study.estimate import estimate_study
from monai_deepssim.study.figures import draw_contact_sheet
from monai_deepssim.study.grid import FACTORS, Setting, Training, curve
from monai_deepssim.study.images import StudyImages, prepare_images
from monai_deepssim.study.judges import Controls, Judges
from monai_deepssim.study.measures import find_direction, measure_cell, memorized_by_repetition
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.trainings import StudyTrainings

__all__ = ["StudyResult", "cell_key", "perform_study"]

# Changed when a cell's arrays change their meaning, so that earlier ones are made again.
_CELL_VERSION = 1
# Options that the cells of a folder share beside their images; of files the content counts.
_FILES = (
    "generator_settings",
    "autoencoder_checkpoint",
    "copy_detector_settings",
    "copy_detector_checkpoint",
    "checkpoint",
)
_SHARED = (
    *("patient_id_pattern", "slices", "slice_axis", "num_holdout", "image_size", "seed"),
    *_FILES,
    "deepssim_image_size",
)
_COPIES = ("copies_deepssim", "copies_copy_detection")


@dataclass(frozen=True)
class StudyResult:
    """Everything that a study found out.

    Attributes:
        options: Options of the study.
        cells: Rows of :func:`~.measures.measure_cell`, in the order of the grid.
        controls: What real images score.
        curves: By factor the rows of ``cells`` along it, where there is more than one cell.
        directions: Of each curve and copy fraction, see :func:`~.measures.find_direction`.
        by_repetition: How many training images have a copy, by how often they were there, in cells with repetitions.
        num_pool: Number of images that training sets were drawn from.
        checkpoints: SHA-256 of the weights, by what they are of.
        num_kept: Number of cells, counted by seed, that an earlier run had measured.
        seconds: Time of this run.
    """

    options: StudyOptions
    cells: pd.DataFrame
    controls: Controls
    curves: dict[str, pd.DataFrame]
    directions: list[dict[str, Any]]
    by_repetition: list[dict[str, Any]]
    num_pool: int
    checkpoints: dict[str, str]
    num_kept: int
    seconds: float


def perform_study(options: StudyOptions) -> StudyResult:
    """Train, draw and judge what is not known yet, and measure.

    Args:
        options: Checked options.

    Returns:
        What was found; tables and reports are not written.

    Raises:
        UnusableInputError: If the images, a setting, a checkpoint or the folder cannot be used.
    """
    start = time.perf_counter()
    ensure_writable(options.output_dir)
    trainings = StudyTrainings(options)
    for cell in options.cells:
        trainings.channels(cell.width)  # says now which width cannot be
    identity = _refuse_another_study(options)
    images = prepare_images(options)
    store = ArrayStore(options.output_dir / "cells")
    keys = {cell: cell_key(identity, options, trainings.num_steps(cell)) for cell in options.cells}
    names = {cell.file(replicate): cell for cell in options.cells for replicate in range(options.num_seeds)}
    known = {name: store.load(name, keys[cell]) for name, cell in names.items()}
    scores = {name: arrays for name, arrays in known.items() if arrays is not None}
    missing = [
        (training, cells)
        for training in Training.of_cells(options.cells, options.num_seeds)
        if (cells := [cell for cell in training.cells if cell.file(training.replicate) not in scores])
    ]
    num_kept = len(scores)
    if num_kept:
        say(f"{num_kept} cells are known from an earlier run.")
    if missing:
        say(estimate_study(options, trainings, missing, len(images.pool)))

    checkpoints = {
        "autoencoder": trainings.train_autoencoder(),
        "copy_detector": trainings.train_copy_detector(len(images.pool)),
        "deepssim": options.checkpoint,
    }
    judges = _make_judges(options, images, trainings, checkpoints)
    for number, (training, cells) in enumerate(missing):
        for cell in cells:
            say(f"Training {number + 1} of {len(missing)}: {cell.name}, seed {training.replicate}")
            name = cell.file(training.replicate)
            scores[name] = _score_cell(training, cell, images, trainings, judges, checkpoints["autoencoder"])
            store.save(name, keys[cell], scores[name])
        trainings.finish(training)
    return StudyResult(
        options=options,
        controls=judges.controls,
        **_measure(options, trainings, scores, judges.controls),
        num_pool=len(images.pool),
        checkpoints={name: _sha256(path) for name, path in checkpoints.items()},
        num_kept=num_kept,
        seconds=time.perf_counter() - start,
    )


def _make_judges(
    options: StudyOptions, images: StudyImages, trainings: StudyTrainings, checkpoints: Mapping[str, Path]
) -> Judges:
    autoencoder = load_autoencoder(trainings.build("autoencoder_def"), checkpoints["autoencoder"], options.device)
    return Judges(
        images=images,
        deepssim=checkpoints["deepssim"],
        copy_detector=checkpoints["copy_detector"],
        autoencoder=autoencoder,  # type: ignore[arg-type]
        deepssim_image_size=options.deepssim_image_size,
        top_k=options.top_k,
        device=options.device,
        allow_torchscript=options.allow_torchscript,
    )


def _score_cell(
    training: Training, cell: Setting, images: StudyImages, trainings: StudyTrainings, judges: Judges, autoencoder: Path
) -> dict[str, np.ndarray]:
    """Train up to a cell, draw its samples, score them, and make the sheet of the first ones."""
    options = trainings.options
    training_set = images.training_set(cell, options.seed, training.replicate)
    generator = trainings.train_generator(training, cell, training_set, autoencoder)
    samples = trainings.draw(training, cell, generator, autoencoder)
    scores = {**judges.score(samples, training_set.rows), "copies": training_set.copies}
    if options.report_images:
        sheet = draw_contact_sheet(samples, images.pool[training_set.rows], scores, judges.controls)
        with atomic_file(options.output_dir / "cells" / f"{cell.file(training.replicate)}_samples.png") as file:
            sheet.save(file, format="PNG")
    return scores


def _measure(
    options: StudyOptions, trainings: StudyTrainings, scores: Mapping[str, Mapping[str, np.ndarray]], controls: Controls
) -> dict[str, Any]:
    """The tables of a result, by name."""
    of_cells = {cell: [scores[cell.file(seed)] for seed in range(options.num_seeds)] for cell in options.cells}
    rows = {
        cell: measure_cell(cell, trainings.num_steps(cell), trainings.batch_size, of_cell, controls)
        for cell, of_cell in of_cells.items()
    }
    cells_of_curves = {name: curve(options.cells, options.base, name) for name in FACTORS}
    curves = {name: pd.concat([rows[cell] for cell in cells]) for name, cells in cells_of_curves.items() if cells[1:]}
    repeated = [own for cell, of_cell in of_cells.items() if cell.repetitions != "none" for own in of_cell]
    return {
        "cells": pd.concat(rows.values()),
        "curves": curves,
        "directions": [find_direction(FACTORS[name], own, share) for name, own in curves.items() for share in _COPIES],
        "by_repetition": memorized_by_repetition(repeated, controls) if repeated else [],
    }


def cell_key(identity: str, options: StudyOptions, num_steps: int) -> str:
    """What a cell's scores were made of, beside the cell itself, which its file names."""
    versions = [_CELL_VERSION, ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION]
    parts = [*versions, identity, num_steps, options.num_samples, options.top_k]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _refuse_another_study(options: StudyOptions) -> str:
    """Say what all cells share, and refuse a folder that holds cells of something else.

    Returns:
        A text that identifies it.
    """
    values = options_as_json(options)
    shared: dict[str, Any] = {"images": values["dataset_dir"] or values["phantom"]}
    for name in _SHARED:
        shared[name] = values[name] if name not in _FILES else _sha256(getattr(options, name))
    text = json.dumps(shared, indent=2, default=str) + "\n"
    path = options.output_dir / "study.json"
    earlier_text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else text
    if earlier_text != text:
        try:
            earlier = dict(json.loads(earlier_text))
        except (ValueError, TypeError):
            earlier = {}
        changed = [name for name, value in json.loads(text).items() if earlier.get(name) != value]
        raise UnusableInputError(
            f"{options.output_dir}: holds a study with another {', '.join(changed) or 'setting'}. Its cells cannot be "
            "compared with those of this one: give another --output_dir. (Factors, seeds and the number of samples can "
            "be changed in the same folder.)"
        )
    write_text(path, text)
    return text


def _sha256(path: Path | Sequence[Path] | None) -> Any:
    """Hash of a file, of each of several, or nothing."""
    if isinstance(path, Sequence):
        return [_sha256(one) for one in path]
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
