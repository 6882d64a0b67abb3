"""The files of a study: ``table.md``, ``figures/``, ``report.html`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.calibration import proportion_interval
from monai_deepssim.files import atomic_file, make_folder, write_text
from monai_deepssim.report import data_uri, markdown_table, package_versions, render_page
from monai_deepssim.study.figures import draw_curve, level_name
from monai_deepssim.study.grid import FACTORS
from monai_deepssim.study.measures import SHARES, compute_fid_of_statistics
from monai_deepssim.study.steps import StudyResult

__all__ = ["DIGITS", "render_study", "render_table", "write_figures", "write_summary"]

#: After the point, of all numbers that are written.
DIGITS = 6


def render_table(result: StudyResult) -> str:
    """Make tables in Markdown: what was measured along each curve, and the directions.

    Args:
        result: What the study found out.

    Returns:
        The text of ``table.md``.
    """
    lines = []
    shares = {name: SHARES[name] for name in ("copies_deepssim", "copies_copy_detection")} | {"looks_real": "look real"}
    for factor, curve in result.curves.items():
        rows = [
            [
                level_name(factor, level[factor]),
                f"{level['steps']:,}",
                f"{level['passes']:,.0f}",
                *(_with_interval(level, name) for name in shares),
                "-" if math.isnan(level["fid"]) else f"{level['fid']:.2f}",
            ]
            for level in curve[curve["seed"] == "all"].to_dict("records")
        ]
        lines += [*markdown_table([factor, "steps", "passes", *shares.values(), "FID"], rows), ""]
    rows = [
        [
            one["expected"],
            SHARES[one["share"]].removeprefix("copies, "),
            level_name(one["factor"], one["from"]),
            level_name(one["factor"], one["to"]),
            f"{100 * one['difference']:+.0f} %",
            f"{one['num_agreeing']} of {result.options.num_seeds}",
            f"{one['p_value']:.2g}",
            one["measured"],
        ]
        for one in result.directions
    ]
    headings = ["expected", "by", "from", "to", "difference", "trainings that agree", "p", "measured"]
    return "\n".join([*lines, *markdown_table(headings, rows), ""]) + "\n"


def _with_interval(row: dict[str, Any], share: str) -> str:
    value, low, high = (100 * row[share + end] for end in ("", "_low", "_high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"


def write_figures(folder: Path, result: StudyResult) -> dict[str, bytes]:
    """Draw the curve of each factor into a file of its own.

    Args:
        folder: Folder of the files.
        result: What the study found out.

    Returns:
        The PNG files by factor.

    Raises:
        UnusableInputError: If a file cannot be written.
    """
    pictures = {name: draw_curve(FACTORS[name], curve, result.controls) for name, curve in result.curves.items()}
    make_folder(folder)
    for name, picture in pictures.items():
        with atomic_file(folder / f"{name}.png") as file:
            file.write(picture)
    return pictures


def render_study(result: StudyResult, figures: dict[str, bytes]) -> str:
    """Make the report, which shows images of the training sets unless the options say otherwise.

    Args:
        result: What the study found out.
        figures: PNG files by factor.

    Returns:
        The HTML.
    """
    options, controls = result.options, result.controls
    sheets = {cell.name: options.output_dir / "cells" / cell.name / "seed0_samples.png" for cell in options.cells}
    return render_page(
        "study",
        result=result,
        options=options,
        factors=FACTORS,
        share_names=SHARES,
        level_name=level_name,
        figures={name: data_uri(picture) for name, picture in figures.items()},
        curves={name: curve[curve["seed"] == "all"].to_dict("records") for name, curve in result.curves.items()},
        # A sheet that was removed is only a picture less.
        sheets={
            name: data_uri(sheet.read_bytes())
            for name, sheet in sheets.items()
            if options.report_images and sheet.is_file()
        },
        found={
            "DeepSSIM verified": proportion_interval(controls.found_deepssim),
            "copy detection": proportion_interval(controls.found_copy_detection),
        },
        best_fid=compute_fid_of_statistics(controls.reconstruction_statistics, controls.holdout_statistics),
        real_fid=compute_fid_of_statistics(controls.real_statistics, controls.holdout_statistics),
    )


def write_summary(path: Path, result: StudyResult) -> None:
    """Write settings, controls, all numbers, hashes, versions and times.

    Args:
        path: Path of the JSON file to write.
        result: What the study found out.

    Raises:
        UnusableInputError: If the file cannot be written.
    """
    options, controls = result.options, result.controls
    best, real = (
        compute_fid_of_statistics(rows, controls.holdout_statistics)
        for rows in (controls.reconstruction_statistics, controls.real_statistics)
    )
    summary = {
        "schema_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "images": str(options.dataset_dir) if options.dataset_dir else {"phantom": options.phantom},
        "num_pool": result.num_pool,
        "num_control": len(controls.holdout_statistics),
        "image_size": list(options.image_size),
        "base": asdict(options.base),
        "equal": options.equal,
        "num_seeds": options.num_seeds,
        "num_samples": options.num_samples,
        "seed": options.seed,
        "controls": {
            "aligned_ssim_threshold": controls.aligned_ssim_threshold,
            "correlation_threshold": controls.correlation_threshold,
            "lowest_real_ssim": controls.lowest_real_ssim,
            "highest_distance": controls.highest_distance,
            "reconstructions_found_deepssim": float(controls.found_deepssim.mean()),
            "reconstructions_found_copy_detection": float(controls.found_copy_detection.mean()),
            "fid_of_the_autoencoder_alone": _finite(best),
            "fid_of_other_real_images": _finite(real),
        },
        "cells": [_cell_as_json(cell) for _, cell in result.cells.groupby(list(FACTORS), sort=False)],
        "directions": [{**one, "difference": round(one["difference"], DIGITS)} for one in result.directions],
        "memorized_by_repetition": [
            {**group, "value": round(group["value"], DIGITS), "interval": [round(x, DIGITS) for x in group["interval"]]}
            for group in result.by_repetition
        ],
        "checkpoints_sha256": result.checkpoints,
        "cells_of_an_earlier_run": result.num_kept,
        "versions": package_versions(),
        "seconds": round(result.seconds, 1),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _cell_as_json(cell: pd.DataFrame) -> dict[str, Any]:
    pooled, *trainings = cell.round(DIGITS).to_dict("records")
    shares = {
        name: {
            "value": pooled[name],
            "interval": [pooled[f"{name}_low"], pooled[f"{name}_high"]],
            "count": round(pooled[name] * pooled[f"{name}_total"]),
            "total": pooled[f"{name}_total"],
            "interval_over_trainings": [pooled[f"{name}_clustered_low"], pooled[f"{name}_clustered_high"]],
            "by_seed": [training[name] for training in trainings],
        }
        for name in SHARES
    }
    setting = {name: pooled[name] for name in (*FACTORS, "steps")}
    fids = {"fid": _finite(pooled["fid"]), "fid_by_seed": [_finite(training["fid"]) for training in trainings]}
    return {**setting, "passes": round(pooled["passes"], 2), **shares, **fids}


def _finite(value: float) -> float | None:
    # JSON has no NaN.
    return round(value, DIGITS) if math.isfinite(value) else None
