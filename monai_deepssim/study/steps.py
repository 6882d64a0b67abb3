"""The steps of a study, from options to everything that was measured."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.calibration import Proportion
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ArrayStore, ensure_writable, write_text
from monai_deepssim.generators import load_autoencoder
from monai_deepssim.progress import say
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION
from monai_deepssim.study.estimate import Estimate, estimate_study
from monai_deepssim.study.figures import draw_contact_sheet
from monai_deepssim.study.grid import FACTORS, Setting, Training, curve
from monai_deepssim.study.images import StudyImages, load_images, prepare_images
from monai_deepssim.study.judges import Controls, Judges
from monai_deepssim.study.measures import (
    CellMeasures,
    Direction,
    find_direction,
    measure_cell,
    memorized_by_repetition,
)
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.trainings import StudyTrainings

__all__ = ["StudyResult", "estimate_only", "perform_study"]

# Changed when a cell's arrays change their meaning, so that earlier ones are made again.
_CELL_VERSION = 1
_COPIES = ("copies_deepssim", "copies_copy_detection")


@dataclass(frozen=True)
class StudyResult:
    """Everything that a study found out.

    Attributes:
        options: as given.
        cells: in the order of the grid.
        controls: what real images score.
        curves: by factor the cells along it, where there is more than one.
        directions: of each curve and copy fraction.
        by_repetition: how many training images have a copy, by how often they were there, in cells with repetitions.
        num_pool: images that training sets were drawn from.
        num_control: held-out images that no threshold has seen.
        checkpoints: SHA-256 of the weights, by what they are of.
        num_kept: cells, counted by seed, that an earlier run had measured.
        seconds: of this run.
    """

    options: StudyOptions
    cells: list[CellMeasures]
    controls: Controls
    curves: dict[str, list[CellMeasures]]
    directions: list[Direction]
    by_repetition: list[tuple[int, int, Proportion]]
    num_pool: int
    num_control: int
    checkpoints: dict[str, str]
    num_kept: int
    seconds: float


def estimate_only(options: StudyOptions) -> Estimate:
    """Say how long a study would take, and do nothing else.

    Args:
        options: checked.

    Returns:
        The estimate. Of images that are not listed yet, the pool is taken for the phantoms' number.
    """
    trainings = StudyTrainings(options)
    missing = [(one, list(one.cells)) for one in Training.of_cells(options.cells, options.num_seeds)]
    return estimate_study(options, trainings, missing, int(options.phantom.get("num_subjects", options.largest)))


def perform_study(options: StudyOptions) -> StudyResult:
    """Train, draw and judge what is not known yet, and measure.

    Args:
        options: checked.

    Returns:
        What was found; tables and reports are not written.

    Raises:
        UnusableInputError: if the images, a setting, a checkpoint or the folder cannot be used.
    """
    start = time.perf_counter()
    ensure_writable(options.output_dir)
    for cell in options.cells:
        StudyTrainings(options).channels(cell.width)  # says now which width cannot be
    identity = _refuse_another_study(options)
    prepare_images(options)
    images = load_images(options)
    if len(images.pool) < options.largest:
        raise UnusableInputError(
            f"the largest training set is to have {options.largest} images, and {images.folder} has "
            f"{len(images.pool)}. Give another --output_dir, and more images."
        )
    trainings = StudyTrainings(options, images)
    store = ArrayStore(options.output_dir / "cells")
    found: dict[tuple[Setting, int], Mapping[str, np.ndarray]] = {}
    missing = []
    for training in Training.of_cells(options.cells, options.num_seeds):
        for cell in training.cells:
            known = store.load(_file(cell, training), _key(identity, options, trainings, cell))
            if known is not None:
                found[cell, training.replicate] = known
        left = [cell for cell in training.cells if (cell, training.replicate) not in found]
        if left:
            missing.append((training, left))
    num_kept = len(found)
    if num_kept:
        say(f"{num_kept} cells are known from an earlier run.")
    if missing:
        say(estimate_study(options, trainings, missing, len(images.pool)).in_words())

    autoencoder, copy_detector = trainings.train_autoencoder(), trainings.train_copy_detector()
    judges = _make_judges(options, images, trainings, autoencoder, copy_detector)
    for number, (training, left) in enumerate(missing):
        training_set = images.training_set(training.cells[0], options.seed, training.replicate)
        for cell in left:
            say(f"Training {number + 1} of {len(missing)}: {cell.name}, seed {training.replicate}")
            generator = trainings.train_generator(training, cell, training_set, autoencoder)
            samples = trainings.draw(training, cell, generator, autoencoder)
            scores = {**judges.score(samples, training_set.rows), "copies": training_set.copies}
            if options.report_images:
                sheet = draw_contact_sheet(samples, images.pool[training_set.rows], scores, judges.controls)
                sheet.save(options.output_dir / "cells" / f"{_file(cell, training)}_samples.png")
            store.save(_file(cell, training), _key(identity, options, trainings, cell), scores)
            found[cell, training.replicate] = scores
        trainings.finish(training)

    scores_of = {cell: [found[cell, replicate] for replicate in range(options.num_seeds)] for cell in options.cells}
    measured = {
        cell: measure_cell(cell, trainings.num_steps(cell), trainings.batch_size, own, judges.controls)
        for cell, own in scores_of.items()
    }
    curves = {name: [measured[cell] for cell in curve(options.cells, options.base, name)] for name in FACTORS}
    curves = {name: cells for name, cells in curves.items() if len(cells) > 1}
    repeated = [own for cell, group in scores_of.items() if cell.repetitions != "none" for own in group]
    return StudyResult(
        options=options,
        cells=list(measured.values()),
        controls=judges.controls,
        curves=curves,
        directions=[find_direction(FACTORS[name], cells, share) for name, cells in curves.items() for share in _COPIES],
        by_repetition=memorized_by_repetition(repeated, judges.controls) if repeated else [],
        num_pool=len(images.pool),
        num_control=len(images.for_control),
        checkpoints={
            name: _sha256(path)
            for name, path in (
                ("autoencoder", autoencoder),
                ("copy_detector", copy_detector),
                ("deepssim", options.checkpoint),
            )
        },
        num_kept=num_kept,
        seconds=time.perf_counter() - start,
    )


def _make_judges(
    options: StudyOptions, images: StudyImages, trainings: StudyTrainings, autoencoder: Path, copy_detector: Path
) -> Judges:
    network = trainings.build("autoencoder_def", {})
    return Judges(
        images=images,
        deepssim=options.checkpoint,
        copy_detector=copy_detector,
        autoencoder=load_autoencoder(network, autoencoder, options.device),  # type: ignore[arg-type]
        deepssim_image_size=options.deepssim_image_size,
        top_k=options.top_k,
        device=options.device,
    )


def _file(cell: Setting, training: Training) -> str:
    return f"{cell.name}/seed{training.replicate}"


def _key(identity: str, options: StudyOptions, trainings: StudyTrainings, cell: Setting) -> str:
    """What a cell's scores were made of, beside the cell itself, which its file names."""
    parts = [
        _CELL_VERSION,
        ALIGNED_SSIM_VERSION,
        identity,
        trainings.num_steps(cell),
        options.num_samples,
        options.top_k,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _refuse_another_study(options: StudyOptions) -> str:
    """Say what all cells share, and refuse a folder that holds cells of something else.

    Returns:
        A text that identifies it.
    """
    shared: dict[str, Any] = {
        "images": str(options.dataset_dir) if options.dataset_dir else options.phantom,
        "patient_id_pattern": options.patient_id_pattern,
        "slices": options.slices,
        "slice_axis": options.slice_axis,
        "num_holdout": options.num_holdout,
        "image_size": list(options.image_size),
        "seed": options.seed,
        "generator_settings": [_sha256(path) for path in options.generator_settings],
        "autoencoder_checkpoint": _sha256(options.autoencoder_checkpoint),
        "copy_detector_settings": [_sha256(path) for path in options.copy_detector_settings],
        "copy_detector_checkpoint": _sha256(options.copy_detector_checkpoint),
        "checkpoint": _sha256(options.checkpoint),
        "deepssim_image_size": list(options.deepssim_image_size),
    }
    text = json.dumps(shared, indent=2, default=str) + "\n"
    path = options.output_dir / "study.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        earlier = _read_json(path)
        changed = [name for name, value in json.loads(text).items() if earlier.get(name) != value]
        raise UnusableInputError(
            f"{options.output_dir}: holds a study with another {', '.join(changed) or 'setting'}. Its cells cannot be "
            "compared with those of this one: give another --output_dir. (Factors, seeds and the number of samples can "
            "be changed in the same folder.)"
        )
    write_text(path, text)
    return text


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sha256(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
