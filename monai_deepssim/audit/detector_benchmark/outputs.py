"""``results.csv``, ``table.md`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.audit.detector_benchmark.steps import BenchmarkResult, mean_and_worst
from monai_deepssim.audit.files import write_text
from monai_deepssim.audit.result import package_versions

__all__ = ["MIX", "render_table", "three_digits", "write_results", "write_summary"]

#: The perturbation whose macro F1 the papers compare.
MIX = "mix"
_DIGITS = 6


def write_results(path: Path, result: BenchmarkResult) -> None:
    """Write a row a detector and perturbation, with all measures, intervals and thresholds.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = []
    for row in result.rows:
        thresholds = result.thresholds[row.detector]
        cells: dict[str, Any] = {
            "detector": row.detector,
            "perturbation": row.perturbation,
            "num_pairs": sum(result.test.values()),
            "num_duplicates": result.test["duplicate"],
        }
        for name, measure in row.measures.items():
            cells |= {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}
        cells |= {
            "milliseconds_per_image": round(row.milliseconds, 3),
            "lower_threshold": thresholds.lower,
            "upper_threshold": thresholds.upper,
        }
        rows.append(cells)
    write_text(path, pd.DataFrame(rows).round(_DIGITS).to_csv(index=False, lineterminator="\n"))


def render_table(result: BenchmarkResult) -> str:
    """Make the README's tables in Markdown: a row a detector, and ROC AUC a perturbation.

    Args:
        result: of the benchmark.

    Returns:
        The text of ``table.md``.
    """
    perturbations = list(result.options.perturbations)
    f1_column = f"macro F1, `{MIX}`" if MIX in perturbations else "macro F1, mean"
    columns = [
        "detector",
        f1_column,
        "AUC, mean",
        "AUC, lowest",
        "AUC of the search, lowest",
        "source among ten, lowest",
    ]
    lines = [_line([*columns, "ms an image"]), _line(["---"] * (len(columns) + 1))]
    for name in result.detectors:
        rows = [result.row(name, perturbation) for perturbation in perturbations]

        def worst(measure: str, rows: list[Any] = rows) -> tuple[float, str]:
            values = {row.perturbation: row.measures[measure].value for row in rows}
            _, value, where = mean_and_worst(values)
            return value, f" (`{where}`)" if value < 1 else ""

        mean_f1, _, _ = mean_and_worst({row.perturbation: row.measures["macro_f1"].value for row in rows})
        mean_auc, _, _ = mean_and_worst({row.perturbation: row.measures["roc_auc"].value for row in rows})
        f1 = result.row(name, MIX).measures["macro_f1"].value if MIX in perturbations else mean_f1
        cells = [f"`{name}`", three_digits(f1), three_digits(mean_auc)]
        for measure in ("roc_auc", "search_roc_auc", "rank_10"):
            value, where = worst(measure)
            cells.append(f"{three_digits(value)}{where}")
        cells.append(f"{sorted(row.milliseconds for row in rows)[len(rows) // 2]:.1f}")
        lines.append(_line(cells))
    lines += ["", "ROC AUC, duplicates against all other pairs:", ""]
    lines += [_line(["perturbation", *(f"`{name}`" for name in result.detectors)])]
    lines += [_line(["---"] * (len(result.detectors) + 1))]
    for perturbation in perturbations:
        values = [result.row(name, perturbation).measures["roc_auc"].value for name in result.detectors]
        lines.append(_line([f"`{perturbation}`", *map(three_digits, values)]))
    lines += ["", _caption(result)]
    return "\n".join(lines) + "\n"


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
            "source": "phantoms" if options.pairs_csv is None else str(options.pairs_csv),
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
                "two_class": source.name in options.two_class,
                "thresholds": [result.thresholds[source.name].lower, result.thresholds[source.name].upper],
                "macro_f1_on_tuning_pairs": result.thresholds[source.name].macro_f1,
            }
            for source in options.detectors
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


def _caption(result: BenchmarkResult) -> str:
    options = result.options
    pairs = ", ".join(f"{count} {name}" for name, count in result.test.items())
    if options.pairs_csv is None:
        origin = (
            f"phantom pairs of seed {options.test_seed}; thresholds from {sum(result.tuning.values())} pairs of seed "
        )
        origin += f"{options.tuning_seed}"
    else:
        origin = (
            f"pairs of {options.pairs_csv.name}; thresholds from {sum(result.tuning.values())} pairs of other patients"
        )
    return f"{pairs}: {origin}. Gallery of {result.gallery_size} real images."


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
