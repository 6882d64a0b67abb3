"""``table.md`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.benchmark.measures import SEARCH_MEASURES
from monai_deepssim.benchmark.steps import BenchmarkResult
from monai_deepssim.files import write_text
from monai_deepssim.report import markdown_table, package_versions

__all__ = ["DIGITS", "MIX", "render_table", "three_digits", "write_summary"]

#: The perturbation whose macro F1 the papers compare.
MIX = "mix"
#: After the point, of all numbers that are written.
DIGITS = 6


def render_table(result: BenchmarkResult) -> str:
    """Make the tables in Markdown: one row per detector, and for each detector one row per perturbation.

    Args:
        result: What the benchmark found out.

    Returns:
        The text of ``table.md``.
    """
    lines = _overview_of_pairs(result) if result.has_pairs else _overview_of_search(result)
    lines += ["", _caption(result)]
    for name in result.detectors:
        numbers = result.table.loc[name][result.search_columns]
        rows = [[f"`{perturbation}`", *map(three_digits, row)] for perturbation, row in numbers.T.items()]
        rows.append(["mean", *map(three_digits, numbers.mean())])
        lines += ["", f"Search by `{name}`:", "", *markdown_table(["perturbation", *SEARCH_MEASURES.values()], rows)]
    return "\n".join(lines) + "\n"


def _overview_of_pairs(result: BenchmarkResult) -> list[str]:
    has_mix = MIX in result.options.perturbations
    headings = ["detector", f"macro F1, `{MIX}`" if has_mix else "macro F1, mean", "AUC, mean", "AUC, lowest"]
    headings += ["AUC of the search, lowest", "source among ten, lowest", "ms per image"]
    rows = []
    for name in result.detectors:
        numbers = result.table.loc[name]
        f1 = numbers.loc[MIX, "macro_f1"] if has_mix else numbers["macro_f1"].mean()
        lowest = [_lowest(numbers[measure]) for measure in ("roc_auc", "search_roc_auc", "rank_10")]
        rows.append([f"`{name}`", three_digits(f1), three_digits(numbers["roc_auc"].mean()), *lowest, _median(numbers)])
    lines = [*markdown_table(headings, rows), "", "ROC AUC, duplicates against all other pairs:", ""]
    headings = ["perturbation", *(f"`{name}`" for name in result.detectors)]
    aucs = [
        [f"`{change}`", *(three_digits(result.table.loc[(name, change), "roc_auc"]) for name in result.detectors)]
        for change in result.options.perturbations
    ]
    return [*lines, *markdown_table(headings, aucs)]


def _overview_of_search(result: BenchmarkResult) -> list[str]:
    headings = ["detector", "AUC, mean", "AUC, lowest", "recall at one threshold, mean"]
    headings += ["recall at one threshold, lowest", "FPR at one threshold, mean", "ms per image"]
    rows = []
    for name in result.detectors:
        numbers = result.table.loc[name]
        auc, recall, fpr = (
            numbers[measure] for measure in ("roc_auc", "recall_at_one_threshold", "fpr_at_one_threshold")
        )
        cells = [text for column in (auc, recall) for text in (three_digits(column.mean()), _lowest(column))]
        rows.append([f"`{name}`", *cells, three_digits(fpr.mean()), _median(numbers)])
    return markdown_table(headings, rows)


def _lowest(column: pd.Series) -> str:
    """The lowest number, and under which perturbation where something went wrong."""
    if column.isna().all():
        return three_digits(math.nan)
    return three_digits(column.min()) + (f" (`{column.idxmin()}`)" if column.min() < 1 else "")


def _median(numbers: pd.DataFrame) -> str:
    return f"{numbers['milliseconds_per_image'].quantile(interpolation='higher'):.1f}"


def write_summary(path: Path, result: BenchmarkResult) -> None:
    """Write seeds, pairs, detectors with the hashes of their files, thresholds, versions and times.

    Args:
        path: Path of the JSON file to write.
        result: What the benchmark found out.

    Raises:
        UnusableInputError: If the file cannot be written.
    """
    options = result.options
    summary = {
        "schema_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pairs": {
            "source": str(options.images or options.pairs_csv or f"phantoms: {options.phantom or 'pairs'}"),
            "group_column": options.group_column,
            "patient_id_pattern": options.patient_id_pattern,
            "images_dir": None if options.images_dir is None else str(options.images_dir),
            "test": result.test,
            "tuning": result.tuning,
            "across_the_split": result.num_left_out_pairs,
            "gallery_size": result.gallery_size,
            "test_seed": options.test_seed,
            "tuning_seed": options.tuning_seed,
            "tuning_fraction": None if options.pairs_csv is None else options.tuning_fraction,
            "image_size": list(options.image_size),
        },
        "perturbations": list(options.perturbations),
        "detectors": {
            source.name: {"made_of": source.description, **_thresholds(result, source.name)}
            for source in options.sources
        },
        "left_out": options.left_out,
        "num_resamples": options.num_resamples,
        "cells_of_an_earlier_run": result.num_kept,
        "results": [
            {"detector": row["detector"], "perturbation": row["perturbation"]}
            | {"milliseconds": row["milliseconds_per_image"]}
            | {name: _measure(row, name) for name in result.headings}
            for row in result.table.reset_index().to_dict("records")
        ],
        "versions": package_versions(),
        "seconds": round(result.seconds, 1),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _thresholds(result: BenchmarkResult, detector: str) -> dict[str, Any]:
    thresholds = {
        "one_threshold": result.table.loc[detector]["one_threshold"].iloc[0],
        "own_threshold": result.own_thresholds[detector],
    }
    if result.has_pairs:
        of_classes = result.class_thresholds[detector]
        thresholds["two_class"] = detector in result.options.two_class
        thresholds["thresholds"] = [of_classes.lower, of_classes.upper]
        thresholds["macro_f1_on_tuning_pairs"] = of_classes.macro_f1
    return thresholds


def _measure(row: dict[str, Any], name: str) -> dict[str, Any]:
    # JSON has no NaN.
    value, low, high = (
        None if math.isnan(row[name + end]) else round(row[name + end], DIGITS) for end in ("", "_low", "_high")
    )
    return {"value": value, "interval": [low, high]}


def three_digits(value: float) -> str:
    """Write a number with three digits, rounded down, so that 1.000 says that nothing went wrong.

    Example:
        >>> three_digits(0.99996), three_digits(float("nan"))
        ('0.999', '-')
    """
    return "-" if math.isnan(value) else f"{math.floor(value * 1000 + 1e-9) / 1000:.3f}"


def _caption(result: BenchmarkResult) -> str:
    options = result.options
    counts = ", ".join(f"{count} {name}" for name, count in result.test.items())
    num_tuning = sum(result.tuning.values())
    if options.has_groups:
        num_scores = num_tuning * len(options.perturbations)
        name = f"phantoms ({options.phantom})" if options.images is None else f"images of {options.images.name}"
        origin = (
            f"{name}, seed {options.test_seed}; one threshold from {num_tuning} strangers of "
            f"other groups under all perturbations ({num_scores} scores)"
        )
    elif options.pairs_csv is None:
        origin = (
            f"phantom pairs of seed {options.test_seed}; thresholds from {num_tuning} pairs of seed "
            f"{options.tuning_seed}"
        )
    else:
        origin = f"pairs of {options.pairs_csv.name}; thresholds from {num_tuning} pairs of other patients"
    return f"{counts}: {origin}. Gallery of {result.gallery_size} real images."
