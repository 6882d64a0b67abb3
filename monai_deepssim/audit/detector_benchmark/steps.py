"""The steps of a benchmark, from options to files."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.audit.detector_benchmark.cells import CellScores, CellStore, score_cell
from monai_deepssim.audit.detector_benchmark.detectors import DetectorSource
from monai_deepssim.audit.detector_benchmark.measures import Measure, measure_cell
from monai_deepssim.audit.detector_benchmark.options import BenchmarkOptions
from monai_deepssim.audit.detector_benchmark.pairs import (
    PairSet,
    make_phantom_pairs,
    perturb,
    perturb_in_turn,
    read_pairs,
)
from monai_deepssim.calibration import ClassThresholds, choose_class_thresholds
from monai_deepssim.metrics import CopyDetectionMetric

__all__ = ["BenchmarkResult", "Row", "perform_benchmark"]

_TUNING = "tuning"


@dataclass(frozen=True)
class Row:
    """One detector under one perturbation.

    Attributes:
        detector: its name.
        perturbation: its name.
        measures: by name.
        milliseconds: an image, to represent it and to search the gallery.
        is_kept: whether the scores were taken from an earlier run.
    """

    detector: str
    perturbation: str
    measures: dict[str, Measure]
    milliseconds: float
    is_kept: bool


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything that a benchmark found out.

    Attributes:
        options: as given.
        rows: a row a detector and perturbation, by detector first.
        thresholds: of each detector, from the tuning pairs.
        tuning: pairs that thresholds were chosen on, by class.
        test: pairs of the test, by class.
        gallery_size: real images of the test.
        num_left_out_pairs: pairs of a CSV that lie across the split.
        seconds: in all.
    """

    options: BenchmarkOptions
    rows: list[Row]
    thresholds: dict[str, ClassThresholds]
    tuning: dict[str, int]
    test: dict[str, int]
    gallery_size: int
    num_left_out_pairs: int
    seconds: float

    def row(self, detector: str, perturbation: str) -> Row:
        """The row of a cell."""
        return next(row for row in self.rows if (row.detector, row.perturbation) == (detector, perturbation))

    @property
    def detectors(self) -> list[str]:
        """Names, in the order of the config."""
        return [source.name for source in self.options.detectors]


def perform_benchmark(options: BenchmarkOptions) -> BenchmarkResult:
    """Score all pairs by all detectors under all perturbations.

    Args:
        options: checked.

    Returns:
        What was found; files other than cells are not written.

    Raises:
        UnusableInputError: if the pairs, a detector or the output folder cannot be used.
    """
    start = time.perf_counter()
    # First, so that a wrong path is known before any image is made.
    detectors = {source.name: source.make() for source in options.detectors}
    store = CellStore(options.output_dir / "cells")
    num_left_out = 0
    if options.pairs_csv is not None and options.images_dir is not None:
        tuning, test, num_left_out = read_pairs(
            options.pairs_csv, options.images_dir, options.tuning_fraction, options.tuning_seed, options.image_size
        )
    else:
        tuning, test = (
            make_phantom_pairs(options.num_pairs, options.gallery_size, seed, options.image_size)
            for seed in (options.tuning_seed, options.test_seed)
        )
    total = len(detectors) * (len(options.perturbations) + 1)
    # Into a log file a bar writes a line each time it moves, so there it moves rarely.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, desc="Scoring", unit=" cells", mininterval=interval) as bar:
        cells = _Cells(options, store, detectors, bar)
        images = perturb_in_turn(tuning, options.perturbations, options.tuning_seed)
        thresholds = {}
        for source in options.detectors:
            scores, _ = cells.get(source, _TUNING, tuning, images)
            thresholds[source.name] = choose_class_thresholds(
                scores.pair_scores, tuning.labels, two_class=source.name in options.two_class
            )
        rows = []
        for perturbation in options.perturbations:
            images = perturb(test, perturbation, options.test_seed)
            for source in options.detectors:
                scores, is_kept = cells.get(source, perturbation, test, images)
                measures = measure_cell(scores, test, thresholds[source.name], options.num_resamples)
                rows.append(Row(source.name, perturbation, measures, scores.milliseconds, is_kept))
    order = {name: position for position, name in enumerate(detectors)}
    return BenchmarkResult(
        options=options,
        rows=sorted(rows, key=lambda row: order[row.detector]),
        thresholds=thresholds,
        tuning=tuning.counts,
        test=test.counts,
        gallery_size=len(test.gallery),
        num_left_out_pairs=num_left_out,
        seconds=time.perf_counter() - start,
    )


class _Cells:
    """Cells from the store where they are known, and from the detectors, fitted when they are first needed."""

    def __init__(
        self, options: BenchmarkOptions, store: CellStore, detectors: dict[str, CopyDetectionMetric], bar: tqdm
    ) -> None:
        self.options = options
        self.store = store
        self.detectors = detectors
        self.bar = bar
        self.fitted_to: dict[str, PairSet] = {}

    def get(self, source: DetectorSource, perturbation: str, pairs: PairSet, images: Tensor) -> tuple[CellScores, bool]:
        self.bar.set_postfix_str(f"{source.name}, {perturbation}", refresh=False)
        key = self.store.key(source.fingerprint, pairs, images)
        cell = None if self.options.overwrite else self.store.load(source.name, perturbation, key)
        is_kept = cell is not None
        if cell is None:
            cell = score_cell(self._fitted(source.name, pairs), pairs, images, self.options.batch_size)
            self.store.save(source.name, perturbation, key, cell)
        self.bar.update()
        return cell, is_kept

    def _fitted(self, name: str, pairs: PairSet) -> CopyDetectionMetric:
        detector = self.detectors[name]
        if self.fitted_to.get(name) is not pairs:
            detector.fit(pairs.gallery.split(self.options.batch_size))
            # Compilation and first calls take time that is no part of an image's.
            detector.search(detector.represent_batch(pairs.synthetic[:2]), 1)
            self.fitted_to[name] = pairs
        return detector


def mean_and_worst(values: dict[str, float]) -> tuple[float, float, str]:
    """The mean of numbers, the lowest, and its name; numbers that are not defined are left out.

    Example:
        >>> mean_and_worst({"none": 1.0, "warp": 0.5, "blur": float("nan")})
        (0.75, 0.5, 'warp')
    """
    known = {name: value for name, value in values.items() if not np.isnan(value)}
    if not known:
        return float("nan"), float("nan"), ""
    worst = min(known, key=lambda name: known[name])
    return float(np.mean(list(known.values()))), known[worst], worst
