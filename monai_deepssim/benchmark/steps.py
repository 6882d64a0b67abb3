"""The steps of a benchmark, from options to files."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.benchmark.cells import CellScores, CellStore, score_cell
from monai_deepssim.benchmark.detectors import DetectorSource
from monai_deepssim.benchmark.measures import (
    PAIR_MEASURES,
    SEARCH_MEASURES,
    Measure,
    choose_stranger_threshold,
    measure_pairs,
    measure_search,
)
from monai_deepssim.benchmark.options import BenchmarkOptions
from monai_deepssim.benchmark.own_images import read_own_images
from monai_deepssim.benchmark.pairs import PairSet, make_phantom_pairs, perturb_in_turn, read_pairs
from monai_deepssim.benchmark.queries import QuerySet, perturb
from monai_deepssim.calibration import ClassThresholds, choose_class_thresholds
from monai_deepssim.metrics import CopyDetectionMetric
from monai_deepssim.progress import progress_bar

__all__ = ["BenchmarkResult", "Row", "perform_benchmark"]

_TUNING = "tuning"


@dataclass(frozen=True)
class Row:
    """One detector under one perturbation.

    Attributes:
        detector: Name of the detector.
        perturbation: Name of the perturbation.
        measures: Numbers by name.
        milliseconds: Time per image, to represent it and to search the gallery.
        is_kept: Whether the scores were taken from an earlier run.
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
        options: Options of the benchmark.
        rows: One row per detector and perturbation, by detector first.
        class_thresholds: Thresholds of each detector from the tuning pairs; none without labelled pairs.
        one_thresholds: For each detector the threshold that at most 1 % of the tuning strangers exceed, over all
            perturbations.
        own_thresholds: Threshold of each detector itself, ``None`` where it has none.
        tuning: Tuning pairs by class, or tuning queries by kind.
        test: Test pairs by class, or test queries by kind.
        gallery_size: Number of real images that are searched in the test.
        num_left_out_pairs: Number of pairs of a CSV that lie across the split.
        seconds: Time in all.
    """

    options: BenchmarkOptions
    rows: list[Row]
    class_thresholds: dict[str, ClassThresholds]
    one_thresholds: dict[str, float]
    own_thresholds: dict[str, float | None]
    tuning: dict[str, int]
    test: dict[str, int]
    gallery_size: int
    num_left_out_pairs: int
    seconds: float

    def row(self, detector: str, perturbation: str) -> Row:
        """Return the row of a detector under a perturbation."""
        return next(row for row in self.rows if (row.detector, row.perturbation) == (detector, perturbation))

    @property
    def detectors(self) -> list[str]:
        """Names, in the order of the config."""
        return [source.name for source in self.options.sources]

    @property
    def has_pairs(self) -> bool:
        """Whether labelled pairs were scored; the user's own images have none."""
        return bool(self.class_thresholds)

    @property
    def search_measures(self) -> dict[str, str]:
        """For each of :data:`SEARCH_MEASURES` its name in the rows, where pairs may have the plain name."""
        return {name: _name_search_measure(name) if self.has_pairs else name for name in SEARCH_MEASURES}


def perform_benchmark(options: BenchmarkOptions) -> BenchmarkResult:
    """Let all detectors search for all synthetic images under all perturbations, and score the labelled pairs.

    Args:
        options: Checked options.

    Returns:
        What was found; files other than cells are not written.

    Raises:
        UnusableInputError: The images, the pairs, a detector or the output folder cannot be used.
    """
    start = time.perf_counter()
    # First, so that a wrong path is known before any image is made.
    detectors = {source.name: source.make() for source in options.sources}
    tuning, test, num_left_out = _read_queries(options)
    num_tuning_cells = 1 if isinstance(tuning, PairSet) else len(options.perturbations)
    total = len(detectors) * (len(options.perturbations) + num_tuning_cells)
    with progress_bar(total=total, desc="Scoring", unit=" cells") as bar:
        cells = _Cells(options, CellStore(options.output_dir / "cells"), detectors, bar)
        class_thresholds, one_thresholds = _choose_thresholds(options, cells, tuning)
        rows = []
        for perturbation in options.perturbations:
            queries = test.under(perturbation)
            images = perturb(queries, perturbation, options.test_seed)
            for source in options.sources:
                name = source.name
                scores, is_kept = cells.get(source, perturbation, queries, images)
                measures = measure_search(
                    scores, queries, one_thresholds[name], detectors[name].threshold, options.num_resamples
                )
                if isinstance(test, PairSet):
                    searched = {_name_search_measure(measure): value for measure, value in measures.items()}
                    measures = measure_pairs(scores, test, class_thresholds[name], options.num_resamples) | searched
                rows.append(Row(name, perturbation, measures, scores.milliseconds, is_kept))
    order = {name: position for position, name in enumerate(detectors)}
    return BenchmarkResult(
        options=options,
        rows=sorted(rows, key=lambda row: order[row.detector]),
        class_thresholds=class_thresholds,
        one_thresholds=one_thresholds,
        own_thresholds={name: detector.threshold for name, detector in detectors.items()},
        tuning=tuning.counts,
        test=test.counts,
        gallery_size=len(test.gallery),
        num_left_out_pairs=num_left_out,
        seconds=time.perf_counter() - start,
    )


def _read_queries(options: BenchmarkOptions) -> tuple[QuerySet, QuerySet, int]:
    """Return the tuning and the test queries, and the number of pairs that are in neither."""
    if options.images is not None:
        tuning, test = read_own_images(
            options.images,
            group_column=options.group_column,
            patient_id_pattern=options.patient_id_pattern,
            num_copies=options.num_copies,
            num_strangers=options.num_strangers,
            gallery_size=options.gallery_size,
            tuning_seed=options.tuning_seed,
            test_seed=options.test_seed,
            image_size=options.image_size,
        )
        return tuning, test, 0
    if options.pairs_csv is not None and options.images_dir is not None:
        return read_pairs(
            options.pairs_csv, options.images_dir, options.tuning_fraction, options.tuning_seed, options.image_size
        )
    tuning, test = (
        make_phantom_pairs(options.num_pairs, options.gallery_size, seed, options.image_size)
        for seed in (options.tuning_seed, options.test_seed)
    )
    return tuning, test, 0


def _choose_thresholds(
    options: BenchmarkOptions, cells: _Cells, tuning: QuerySet
) -> tuple[dict[str, ClassThresholds], dict[str, float]]:
    """Return the thresholds of classes, where there are labelled pairs, and the one that tuning strangers set."""
    class_thresholds: dict[str, ClassThresholds] = {}
    stranger_scores: dict[str, list[np.ndarray]] = {source.name: [] for source in options.sources}
    if isinstance(tuning, PairSet):
        images = perturb_in_turn(tuning, options.perturbations, options.tuning_seed)
        for source in options.sources:
            scores, _ = cells.get(source, _TUNING, tuning, images)
            class_thresholds[source.name] = choose_class_thresholds(
                scores.pair_scores, tuning.labels, two_class=source.name in options.two_class
            )
            stranger_scores[source.name].append(scores.nearest_scores[~tuning.is_copy])
    else:
        for perturbation in options.perturbations:
            images = perturb(tuning, perturbation, options.tuning_seed)
            for source in options.sources:
                scores, _ = cells.get(source, f"{_TUNING}_{perturbation}", tuning, images)
                stranger_scores[source.name].append(scores.nearest_scores[~tuning.is_copy])
    one_thresholds = {
        name: choose_stranger_threshold(np.concatenate(scores)) for name, scores in stranger_scores.items()
    }
    return class_thresholds, one_thresholds


def _name_search_measure(name: str) -> str:
    return f"search_{name}" if name in PAIR_MEASURES else name


class _Cells:
    """Cells from the store where they are known, and from the detectors, fitted when they are first needed."""

    def __init__(
        self, options: BenchmarkOptions, store: CellStore, detectors: dict[str, CopyDetectionMetric], bar: tqdm
    ) -> None:
        self.options = options
        self.store = store
        self.detectors = detectors
        self.bar = bar
        self.fitted_to: dict[str, Tensor] = {}

    def get(
        self, source: DetectorSource, perturbation: str, queries: QuerySet, images: Tensor
    ) -> tuple[CellScores, bool]:
        self.bar.set_postfix_str(f"{source.name}, {perturbation}", refresh=False)
        key = self.store.key(source.fingerprint, queries, images)
        cell = None if self.options.overwrite else self.store.load(source.name, perturbation, key)
        is_kept = cell is not None
        if cell is None:
            cell = score_cell(self._fitted(source.name, queries), queries, images, self.options.batch_size)
            self.store.save(source.name, perturbation, key, cell)
        self.bar.update()
        return cell, is_kept

    def _fitted(self, name: str, queries: QuerySet) -> CopyDetectionMetric:
        detector = self.detectors[name]
        if self.fitted_to.get(name) is not queries.gallery:
            detector.fit(queries.gallery.split(self.options.batch_size))
            # Compilation and first calls take time that is no part of an image's.
            detector.search(detector.represent_batch(queries.synthetic[:2]), 1)
            self.fitted_to[name] = queries.gallery
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
