"""``results.csv``, ``table.md`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.audit.summary import package_versions
from monai_deepssim.benchmark.measures import SEARCH_MEASURES
from monai_deepssim.benchmark.steps import BenchmarkResult, mean_and_worst
from monai_deepssim.files import write_text

__all__ = ["MIX", "SEARCH_HEADINGS", "render_table", "three_digits", "write_results", "write_summary"]

#: The perturbation whose macro F1 the papers compare.
MIX = "mix"
#: Headings of :data:`~monai_deepssim.benchmark.measures.SEARCH_MEASURES`.
SEARCH_HEADINGS = {
    "roc_auc": "AUC",
    "tpr_at_1_fpr": "recall at FPR 1 %",
    "recall_at_one_threshold": "recall at one threshold",
    "fpr_at_one_threshold": "FPR at one threshold",
    "proposed": "proposed",
    "kept": "kept",
    "scored": "scored",
    "called": "called",
    "named": "source called",
    "called_strangers": "strangers called",
}
_DIGITS = 6


def write_results(path: Path, result: BenchmarkResult) -> None:
    """Write one row per detector and perturbation, with all measures, intervals and thresholds.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    counts = (
        {"num_pairs": sum(result.test.values()), "num_duplicates": result.test["duplicate"]}
        if result.has_pairs
        else {f"num_{kind}": count for kind, count in result.test.items()}
    )
    rows = []
    for row in result.rows:
        cells: dict[str, Any] = {"detector": row.detector, "perturbation": row.perturbation, **counts}
        for name, measure in row.measures.items():
            cells |= {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}
        cells["milliseconds_per_image"] = round(row.milliseconds, 3)
        if result.has_pairs:
            thresholds = result.class_thresholds[row.detector]
            cells |= {"lower_threshold": thresholds.lower, "upper_threshold": thresholds.upper}
        cells["one_threshold"] = result.one_thresholds[row.detector]
        rows.append(cells)
    write_text(path, pd.DataFrame(rows).round(_DIGITS).to_csv(index=False, lineterminator="\n"))


def render_table(result: BenchmarkResult) -> str:
    """Make the tables in Markdown: one row per detector, and for each detector one row per perturbation.

    Args:
        result: What the benchmark found out.

    Returns:
        The text of ``table.md``.
    """
    lines = [*_render_pairs(result), ""] if result.has_pairs else [*_render_detectors(result), ""]
    lines.append(_caption(result))
    for name in result.detectors:
        lines += ["", f"Search by `{name}`:", "", *_render_search(result, name)]
    return "\n".join(lines) + "\n"


def _render_pairs(result: BenchmarkResult) -> list[str]:
    perturbations = list(result.options.perturbations)
    f1_column = f"macro F1, `{MIX}`" if MIX in perturbations else "macro F1, mean"
    columns = [
        "detector",
        f1_column,
        "AUC, mean",
        "AUC, lowest",
        "AUC of the search, lowest",
        "source among ten, lowest",
        "ms an image",
    ]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for name in result.detectors:
        mean_f1, _, _ = _mean_and_worst(result, name, "macro_f1")
        mean_auc, _, _ = _mean_and_worst(result, name, "roc_auc")
        f1 = result.row(name, MIX).measures["macro_f1"].value if MIX in perturbations else mean_f1
        cells = [f"`{name}`", three_digits(f1), three_digits(mean_auc)]
        cells += [_lowest(result, name, measure) for measure in ("roc_auc", "search_roc_auc", "rank_10")]
        lines.append(_line([*cells, _median_milliseconds(result, name)]))
    lines += ["", "ROC AUC, duplicates against all other pairs:", ""]
    lines += [_line(["perturbation", *(f"`{name}`" for name in result.detectors)])]
    lines += [_line(["---"] * (len(result.detectors) + 1))]
    for perturbation in perturbations:
        values = [result.row(name, perturbation).measures["roc_auc"].value for name in result.detectors]
        lines.append(_line([f"`{perturbation}`", *map(three_digits, values)]))
    return lines


def _render_detectors(result: BenchmarkResult) -> list[str]:
    columns = [
        "detector",
        "AUC, mean",
        "AUC, lowest",
        "recall at one threshold, mean",
        "recall at one threshold, lowest",
        "FPR at one threshold, mean",
        "ms per image",
    ]
    lines = [_line(columns), _line(["---"] * len(columns))]
    for name in result.detectors:
        cells = [f"`{name}`"]
        for measure in ("roc_auc", "recall_at_one_threshold"):
            cells += [three_digits(_mean_and_worst(result, name, measure)[0]), _lowest(result, name, measure)]
        cells.append(three_digits(_mean_and_worst(result, name, "fpr_at_one_threshold")[0]))
        lines.append(_line([*cells, _median_milliseconds(result, name)]))
    return lines


def _render_search(result: BenchmarkResult, detector: str) -> list[str]:
    """One row per perturbation: how well copies are told from strangers, and where they were lost."""
    names = [result.search_measures[name] for name in SEARCH_MEASURES]
    headings = ["perturbation", *SEARCH_HEADINGS.values()]
    lines = [_line(headings), _line(["---"] * len(headings))]
    for perturbation in result.options.perturbations:
        measures = result.row(detector, perturbation).measures
        lines.append(_line([f"`{perturbation}`", *(three_digits(measures[name].value) for name in names)]))
    means = [_mean_and_worst(result, detector, name)[0] for name in names]
    return [*lines, _line(["mean", *map(three_digits, means)])]


def _mean_and_worst(result: BenchmarkResult, detector: str, measure: str) -> tuple[float, float, str]:
    perturbations = result.options.perturbations
    return mean_and_worst({name: result.row(detector, name).measures[measure].value for name in perturbations})


def _lowest(result: BenchmarkResult, detector: str, measure: str) -> str:
    _, value, perturbation = _mean_and_worst(result, detector, measure)
    return three_digits(value) + (f" (`{perturbation}`)" if value < 1 else "")


def _median_milliseconds(result: BenchmarkResult, detector: str) -> str:
    times = sorted(row.milliseconds for row in result.rows if row.detector == detector)
    return f"{times[len(times) // 2]:.1f}"


def write_summary(path: Path, result: BenchmarkResult) -> None:
    """Write seeds, pairs, detectors with the hashes of their files, thresholds, versions and times.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    options = result.options
    summary = {
        "schema_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pairs": {
            "source": str(options.images or options.pairs_csv or "phantoms"),
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
            source.name: {
                "made_of": source.description,
                "one_threshold": result.one_thresholds[source.name],
                "own_threshold": result.own_thresholds[source.name],
            }
            | _describe_class_thresholds(result, source.name)
            for source in options.sources
        },
        "left_out": options.left_out,
        "num_resamples": options.num_resamples,
        "cells_of_an_earlier_run": sum(row.is_kept for row in result.rows),
        "results": [
            {"detector": row.detector, "perturbation": row.perturbation, "milliseconds": round(row.milliseconds, 3)}
            | {name: _as_json(measure) for name, measure in row.measures.items()}
            for row in result.rows
        ],
        "versions": package_versions(),
        "seconds": round(result.seconds, 1),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def three_digits(value: float) -> str:
    """Write a number with three digits, rounded down, so that 1.000 says that nothing went wrong.

    Example:
        >>> three_digits(0.99996), three_digits(float("nan"))
        ('0.999', '-')
    """
    return "-" if math.isnan(value) else f"{math.floor(value * 1000 + 1e-9) / 1000:.3f}"


def _as_json(measure: Any) -> dict[str, Any]:
    # JSON has no NaN.
    value, low, high = (
        None if math.isnan(x) else round(x, _DIGITS) for x in (measure.value, measure.low, measure.high)
    )
    return {"value": value, "interval": [low, high]}


def _describe_class_thresholds(result: BenchmarkResult, detector: str) -> dict[str, Any]:
    if not result.has_pairs:
        return {}
    thresholds = result.class_thresholds[detector]
    return {
        "two_class": detector in result.options.two_class,
        "thresholds": [thresholds.lower, thresholds.upper],
        "macro_f1_on_tuning_pairs": thresholds.macro_f1,
    }


def _caption(result: BenchmarkResult) -> str:
    options = result.options
    counts = ", ".join(f"{count} {name}" for name, count in result.test.items())
    num_tuning = sum(result.tuning.values())
    if options.images is not None:
        num_scores = num_tuning * len(options.perturbations)
        origin = (
            f"images of {options.images.name}, seed {options.test_seed}; one threshold from {num_tuning} strangers of "
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


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
