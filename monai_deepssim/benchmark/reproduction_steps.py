"""The published protocol, from options to the scores of all pairs by all detectors and what they are worth."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from monai_deepssim.benchmark.protocol import PROTOCOL, ProtocolDetector, ProtocolEntry
from monai_deepssim.benchmark.protocol_images import ProtocolImages
from monai_deepssim.benchmark.reproduction_options import ReproductionOptions
from monai_deepssim.data import (
    ScoreMatrix,
    labelled_pairs,
    read_score_matrix,
    write_phantom_pairs,
    write_score_matrix,
)
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder
from monai_deepssim.metrics import evaluate_pairs
from monai_deepssim.progress import progress_bar

__all__ = ["ReproductionResult", "perform_reproduction"]

# Those whose score is to be the SSIM that a training list holds.
_SCORES_OF_SSIM = ("ssim", "deepssim")
_BLOCK_ROWS = 64  # of a score matrix: real images that are compared at once


@dataclass(frozen=True)
class ReproductionResult:
    """Everything that a run of the protocol found out.

    Attributes:
        options: Options of the run; images and list are those of the phantoms where none were given.
        rows: One row per detector, without and with augmentation: ``detector``, ``augmented``, ``scores_from`` and,
            where it could not be run, ``missing``; else what :func:`~monai_deepssim.metrics.evaluate_pairs` gives.
        scores: One row per pair of the test list: ``real_key``, ``synth_key``, ``label``, and a column per row above.
        ssim_errors: Per detector and split of the training list, how far scores are from its SSIM; else empty.
        is_phantom: Whether the pairs are phantoms.
        seconds: Time in all.
    """

    options: ReproductionOptions
    rows: list[dict[str, Any]]
    scores: pd.DataFrame
    ssim_errors: pd.DataFrame
    is_phantom: bool
    seconds: float


def column_of(detector: str, augmented: bool) -> str:
    """Name of the column of scores, and of the published matrix.

    Example:
        >>> column_of("deepssim", True)
        'deepssim_augmented'
    """
    return f"{detector}_augmented" if augmented else detector


def perform_reproduction(options: ReproductionOptions) -> ReproductionResult:
    """Score all pairs by all detectors, without and with the published augmentations.

    Args:
        options: Checked options.

    Returns:
        What was found; files other than matrices and phantoms are not written.

    Raises:
        UnusableInputError: The images, a list, a matrix or weights cannot be used.
    """
    start = time.perf_counter()
    testset, images_dir, is_phantom = options.testset_csv, options.images_dir, options.testset_csv is None
    if testset is None:
        images_dir = write_phantom_pairs(options.output_dir / "phantoms", options.num_pairs)
        testset = options.output_dir / "phantoms" / "test.csv"
    pairs = _read_pairs(testset, images_dir, "label")
    training = [] if options.trainset_csv is None else _read_pairs(options.trainset_csv, images_dir, "ssim")
    keys, training_keys = _keys(pairs), _keys(training)
    scorer = _Scorer(options, images_dir, {item["key"]: item for pair in [*pairs, *training] for item in _sides(pair)})
    detectors = scorer.make_detectors()  # first, so that weights that do not fit are known before an hour is spent
    labels = np.array([pair["label"] for pair in pairs])
    table = pd.DataFrame({"real_key": [k[0] for k in keys], "synth_key": [k[1] for k in keys], "label": labels})
    rows, errors = [], []
    for name in options.only:
        entry = PROTOCOL[name]
        for augmented in (False, True):
            row = {"detector": name, "augmented": augmented, "scores_from": "", "missing": ""}
            rows.append(row)
            matrix = scorer.read_matrix(name, augmented)
            if matrix is None and detectors[name] is None:
                row["missing"] = scorer.missing(entry, augmented)
                continue
            row["scores_from"] = "images" if matrix is None else str(matrix[0])
            wanted = keys if augmented or name not in _SCORES_OF_SSIM else [*keys, *training_keys]
            scores = scorer.score(name, detectors[name], matrix, wanted, augmented)
            table[column_of(name, augmented)] = scores[: len(keys)].astype(np.float64)
            row |= evaluate_pairs(scores[: len(keys)], labels, entry.thresholds, inclusive=entry.inclusive)
            if len(wanted) > len(keys):
                errors += _ssim_errors(name, scores[len(keys) :], training)
    return ReproductionResult(
        options=options,
        rows=rows,
        scores=table,
        ssim_errors=pd.DataFrame(errors),
        is_phantom=is_phantom,
        seconds=time.perf_counter() - start,
    )


def _read_pairs(csv_file: Path, images_dir: Path | None, column: str) -> list[dict[str, Any]]:
    pairs = labelled_pairs(csv_file, images_dir)
    if column not in pairs[0]:
        wanted = "real_key, synth_key, label" if column == "label" else "real_key, synth_key, ssim, split"
        raise UnusableInputError(f"{csv_file}: the column {column} is missing, wanted {wanted}. Give the other list.")
    return pairs


def _sides(pair: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return pair["real"], pair["synthetic"]


def _keys(pairs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(pair["real"]["key"], pair["synthetic"]["key"]) for pair in pairs]


def _ssim_errors(name: str, scores: np.ndarray, pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How far the scores of a detector are from the SSIM of a training list, by split."""
    differences = scores.astype(np.float64) - [pair["ssim"] for pair in pairs]
    splits = np.array([pair["split"] for pair in pairs])
    return [
        {
            "detector": name,
            "split": split,
            "num_pairs": int((splits == split).sum()),
            "mean_absolute_error": float(np.abs(differences[splits == split]).mean()),
            "root_mean_squared_error": float(np.sqrt((differences[splits == split] ** 2).mean())),
        }
        for split in ("train", "valid")
        if (splits == split).any()
    ]


class _Scorer:
    """Scores pairs of keys, from published matrices where they are given, else from the images."""

    def __init__(self, options: ReproductionOptions, images_dir: Path | None, items: dict[str, dict[str, Any]]) -> None:
        self.options = options
        self.images = None if images_dir is None else ProtocolImages(images_dir, items, options)

    def make_detectors(self) -> dict[str, ProtocolDetector | None]:
        """Make the detectors that can be run on images."""
        detectors: dict[str, ProtocolDetector | None] = {}
        for name in self.options.only:
            entry = PROTOCOL[name]
            weights = getattr(self.options, entry.weights) if entry.weights else Path()
            is_read = all(self.matrix_file(name, augmented) is not None for augmented in (False, True))
            can_run = weights is not None and self.images is not None and not is_read
            detectors[name] = entry.make(weights, self.options) if can_run else None
        return detectors

    def missing(self, entry: ProtocolEntry, augmented: bool) -> str:
        """Say what would have to be given for a detector."""
        matrix = f"{column_of(entry.name, augmented)}.npz in --matrices_dir"
        if self.images is None:
            return f"no scores: give {matrix}, or the images by --images_dir"
        return f"no weights: give --{entry.weights}, or {matrix}"

    def matrix_file(self, name: str, augmented: bool) -> Path | None:
        """The published matrix of a detector, where there is one."""
        folder = self.options.matrices_dir
        path = None if folder is None else folder / f"{column_of(name, augmented)}.npz"
        return path if path is not None and path.is_file() else None

    def read_matrix(self, name: str, augmented: bool) -> tuple[Path, ScoreMatrix] | None:
        path, indices = self.matrix_file(name, augmented), self.options.indices_dir
        if path is None or indices is None:
            return None
        return path, read_score_matrix(path, indices / "real.npz", indices / "synth.npz")

    def score(
        self,
        name: str,
        detector: ProtocolDetector | None,
        matrix: tuple[Path, ScoreMatrix] | None,
        pairs: Sequence[tuple[str, str]],
        augmented: bool,
    ) -> np.ndarray:
        """Score pairs of keys: ``(N,)``."""
        if matrix is not None:
            return matrix[1].look_up(pairs)
        assert detector is not None
        assert self.images is not None
        what = f"{PROTOCOL[name].title}, augmented" if augmented else PROTOCOL[name].title
        if self.options.write_matrices:
            return self._write_matrix(name, detector, augmented, what).look_up(pairs)
        sides = [list(dict.fromkeys(side)) for side in zip(*pairs, strict=True)]
        real, synthetic = (self.images.represent(detector, side, augmented, what) for side in sides)
        rows = [{key: row for row, key in enumerate(side)} for side in sides]
        scores = [
            detector.compare(real[rows[0][one]][None], synthetic[rows[1][other]][None]).reshape(1)
            for one, other in pairs
        ]
        return torch.cat(scores).numpy()

    def _write_matrix(self, name: str, detector: ProtocolDetector, augmented: bool, what: str) -> ScoreMatrix:
        """Score all real with all synthetic images of the folder, and write the matrix and its index files."""
        assert self.images is not None
        real_keys, synth_keys = self.images.all_keys()
        real, synthetic = (self.images.represent(detector, keys, augmented, what) for keys in (real_keys, synth_keys))
        # In half precision, as it is published: two bytes per pair.
        scores = np.empty((len(real_keys), len(synth_keys)), np.float16)
        for start in progress_bar(range(0, len(real_keys), _BLOCK_ROWS), desc=f"{what}: matrix", unit=" blocks"):
            block = slice(start, start + _BLOCK_ROWS)
            scores[block] = detector.compare(real[block], synthetic).numpy()
        matrix = ScoreMatrix(scores, real_keys, synth_keys)
        folders = [self.options.output_dir / folder for folder in ("matrices", "indices")]
        for folder in folders:
            make_folder(folder)
        file = folders[0] / f"{column_of(name, augmented)}.npz"
        write_score_matrix(matrix, file, folders[1] / "real.npz", folders[1] / "synth.npz")
        return matrix
