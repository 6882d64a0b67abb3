"""The steps of a benchmark, from options to everything that was measured."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.benchmark.cells import CellScores, cell_key, load_cell, score_cell
from monai_deepssim.benchmark.detectors import DetectorSource
from monai_deepssim.benchmark.measures import (
    PAIR_MEASURES,
    SEARCH_MEASURES,
    choose_stranger_threshold,
    measure_pairs,
    measure_search,
)
from monai_deepssim.benchmark.options import BenchmarkOptions
from monai_deepssim.benchmark.own_images import draw_phantoms, read_own_images
from monai_deepssim.benchmark.pairs import PairSet, make_phantom_pairs, perturb_in_turn, read_pairs
from monai_deepssim.benchmark.queries import QuerySet, perturb
from monai_deepssim.calibration import ClassThresholds, choose_class_thresholds
from monai_deepssim.metrics import CopyDetectionMetric
from monai_deepssim.progress import progress_bar
from monai_deepssim.stores import ArrayStore

__all__ = ["BenchmarkResult", "perform_benchmark"]


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything that a benchmark found out.

    Attributes:
        options: Options of the benchmark.
        table: One row per ``detector`` and ``perturbation``, which are its index; its columns are the other ones of
            ``results.csv``.
        class_thresholds: Thresholds of each detector from the tuning pairs; none without labelled pairs.
        own_thresholds: Threshold of each detector itself, ``None`` where it has none.
        tuning: Tuning pairs by class, or tuning queries by kind.
        test: Test pairs by class, or test queries by kind.
        gallery_size: Number of real images that are searched in the test.
        num_left_out_pairs: Number of pairs of a CSV that lie across the split.
        num_kept: Number of cells of the test that were taken from an earlier run.
        seconds: Time in all.
    """

    options: BenchmarkOptions
    table: pd.DataFrame
    class_thresholds: dict[str, ClassThresholds]
    own_thresholds: dict[str, float | None]
    tuning: dict[str, int]
    test: dict[str, int]
    gallery_size: int
    num_left_out_pairs: int
    num_kept: int
    seconds: float

    @property
    def detectors(self) -> list[str]:
        """Names, in the order of the config."""
        return [source.name for source in self.options.sources]

    @property
    def has_pairs(self) -> bool:
        """Whether labelled pairs were scored; the user's own images have none."""
        return bool(self.class_thresholds)

    @property
    def headings(self) -> dict[str, str]:
        """Headings of the measures, by their columns."""
        if not self.has_pairs:
            return SEARCH_MEASURES
        searched = {
            _search_column(name): f"{heading} of the search" if name in PAIR_MEASURES else heading
            for name, heading in SEARCH_MEASURES.items()
        }
        return PAIR_MEASURES | searched

    @property
    def search_columns(self) -> list[str]:
        """Columns of :data:`~.measures.SEARCH_MEASURES`: with pairs, the plain name may be a measure of the pairs."""
        return [_search_column(name) if self.has_pairs else name for name in SEARCH_MEASURES]


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
        cells = _Cells(options, detectors, bar)
        class_thresholds, one_thresholds = _choose_thresholds(options, cells, tuning)
        cells.num_kept = 0  # those of the test count
        counts = {f"num_{kind}": count for kind, count in test.counts.items()}
        if isinstance(test, PairSet):
            counts = {"num_pairs": len(test.labels), "num_duplicates": test.counts["duplicate"]}
        rows = []
        for perturbation in options.perturbations:
            queries = test.under(perturbation)
            images = perturb(queries, perturbation, options.test_seed)
            for source in options.sources:
                name, cell = source.name, cells.get(source, perturbation, queries, images)
                thresholds = (class_thresholds.get(name), one_thresholds[name], detectors[name].threshold)
                numbers = _measure(cell, queries, *thresholds, options.num_resamples)
                rows.append({"detector": name, "perturbation": perturbation, **counts, **numbers})
    return BenchmarkResult(
        options=options,
        table=pd.DataFrame(rows).set_index(["detector", "perturbation"]).loc[list(detectors)],
        class_thresholds=class_thresholds,
        own_thresholds={name: detector.threshold for name, detector in detectors.items()},
        tuning=tuning.counts,
        test=test.counts,
        gallery_size=len(test.gallery),
        num_left_out_pairs=num_left_out,
        num_kept=cells.num_kept,
        seconds=time.perf_counter() - start,
    )


def _measure(
    cell: CellScores,
    queries: QuerySet,
    class_thresholds: ClassThresholds | None,
    one_threshold: float,
    own_threshold: float | None,
    num_resamples: int,
) -> dict[str, float]:
    """The columns of one row of the table, behind those that are the same in all."""
    measures = measure_search(cell, queries, one_threshold, own_threshold, num_resamples)
    bounds = {}
    if class_thresholds is not None and isinstance(queries, PairSet):
        searched = {_search_column(column): value for column, value in measures.items()}
        measures = measure_pairs(cell, queries, class_thresholds, num_resamples) | searched
        bounds = {"lower_threshold": class_thresholds.lower, "upper_threshold": class_thresholds.upper}
    milliseconds = round(cell.milliseconds, 3)
    return {**measures, "milliseconds_per_image": milliseconds, **bounds, "one_threshold": one_threshold}


def _search_column(name: str) -> str:
    """Name of a measure of the search, or of an end of its interval, beside those of pairs."""
    return f"search_{name}" if name.removesuffix("_low").removesuffix("_high") in PAIR_MEASURES else name


def _read_queries(options: BenchmarkOptions) -> tuple[QuerySet, QuerySet, int]:
    """Return the tuning and the test queries, and the number of pairs that are in neither."""
    drawing = {
        name: getattr(options, name)
        for name in ("num_copies", "num_strangers", "gallery_size", "tuning_seed", "test_seed", "image_size")
    }
    if options.phantom is not None:
        return *draw_phantoms(options.phantom, **drawing), 0
    if options.images is not None:
        pattern = options.patient_id_pattern
        tuning, test = read_own_images(
            options.images, group_column=options.group_column, patient_id_pattern=pattern, **drawing
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
    """Choose the thresholds of classes, where there are labelled pairs.

    For each detector also the one threshold that at most 1 % of the tuning strangers exceed, over all perturbations.
    """
    class_thresholds: dict[str, ClassThresholds] = {}
    stranger_scores: dict[str, list[np.ndarray]] = {source.name: [] for source in options.sources}
    changed: Iterable[tuple[str, Tensor]]
    if isinstance(tuning, PairSet):
        changed = [("tuning", perturb_in_turn(tuning, options.perturbations, options.tuning_seed))]
    else:
        changed = ((f"tuning_{name}", perturb(tuning, name, options.tuning_seed)) for name in options.perturbations)
    for cell_name, images in changed:
        for source in options.sources:
            cell = cells.get(source, cell_name, tuning, images)
            stranger_scores[source.name].append(cell.nearest_scores[~tuning.is_copy])
            if isinstance(tuning, PairSet):
                class_thresholds[source.name] = choose_class_thresholds(
                    cell.pair_scores, tuning.labels, two_class=source.name in options.two_class
                )
    return class_thresholds, {
        name: choose_stranger_threshold(np.concatenate(scores)) for name, scores in stranger_scores.items()
    }


class _Cells:
    """Cells from the store where they are known, and from the detectors, fitted when they are first needed."""

    def __init__(self, options: BenchmarkOptions, detectors: dict[str, CopyDetectionMetric], bar: tqdm) -> None:
        self.options = options
        self.store = ArrayStore(options.output_dir / "cells")
        self.detectors = detectors
        self.bar = bar
        self.fitted_to: dict[str, Tensor] = {}
        self.num_kept = 0

    def get(self, source: DetectorSource, perturbation: str, queries: QuerySet, images: Tensor) -> CellScores:
        name, fingerprint = f"{source.name}/{perturbation}", source.fingerprint
        self.bar.set_postfix_str(f"{source.name}, {perturbation}", refresh=False)
        # A detector that cannot be told from another has no key, and its cells are not kept.
        key = None if fingerprint is None else cell_key(fingerprint, queries, images)
        cell = None if key is None or self.options.overwrite else load_cell(self.store, name, key)
        self.num_kept += cell is not None
        if cell is None:
            cell = score_cell(self._fitted(source.name, queries), queries, images, self.options.batch_size)
            if key is not None:
                self.store.save(name, key, vars(cell))
        self.bar.update()
        return cell

    def _fitted(self, name: str, queries: QuerySet) -> CopyDetectionMetric:
        detector = self.detectors[name]
        if self.fitted_to.get(name) is not queries.gallery:
            detector.fit(queries.gallery.split(self.options.batch_size))
            # Compilation and first calls take time that is no part of an image's.
            detector.search(detector.represent_batch(queries.synthetic[:2]), 1)
            self.fitted_to[name] = queries.gallery
        return detector
