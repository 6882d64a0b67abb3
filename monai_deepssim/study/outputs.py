"""``cells.csv``, ``table.md`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.audit.summary import package_versions
from monai_deepssim.files import write_text
from monai_deepssim.study.figures import level_name
from monai_deepssim.study.measures import (
    SHARES,
    CellMeasures,
    Share,
    compute_fid_of_statistics,
)
from monai_deepssim.study.steps import StudyResult

__all__ = ["render_table", "write_cells", "write_summary"]

_DIGITS = 6


def write_cells(path: Path, result: StudyResult) -> None:
    """Write a row a cell over all its trainings, and below it a row for each of them, its ``seed`` named.

    A share has its exact binomial interval (``_low``, ``_high``); over all trainings also that of other trainings
    (``_clustered_low``, ``_clustered_high``).

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = []
    for cell in result.cells:
        shared = {**asdict(cell.setting), "steps": cell.steps, "passes": cell.passes}
        row: dict[str, Any] = {**shared, "seed": "all", "fid": cell.fid}
        for name, share in cell.shares.items():
            row |= {name: share.pooled.value, f"{name}_low": share.pooled.low, f"{name}_high": share.pooled.high}
            row |= {f"{name}_clustered_low": share.clustered.low, f"{name}_clustered_high": share.clustered.high}
            row |= {f"{name}_total": share.pooled.total}
        rows.append(row)
        for seed, fid in enumerate(cell.fid_by_seed):
            row = {**shared, "seed": str(seed), "fid": fid}
            for name, share in cell.shares.items():
                own = share.by_seed[seed]
                row |= {name: own.value, f"{name}_low": own.low, f"{name}_high": own.high, f"{name}_total": own.total}
            rows.append(row)
    write_text(path, pd.DataFrame(rows).round(_DIGITS).to_csv(index=False, lineterminator="\n"))


def render_table(result: StudyResult) -> str:
    """Make tables in Markdown: what was measured along each curve, and the directions.

    Args:
        result: of the study.

    Returns:
        The text of ``table.md``.
    """
    lines = []
    for name, cells in result.curves.items():
        lines += _table(
            [name, "steps", "passes", "copies, DeepSSIM verified", "copies, copy detection", "look real", "FID"],
            [
                [
                    level_name(name, cell.setting),
                    f"{cell.steps:,}",
                    f"{cell.passes:,.0f}",
                    *(
                        _percent(cell.shares[share])
                        for share in ("copies_deepssim", "copies_copy_detection", "looks_real")
                    ),
                    "-" if math.isnan(cell.fid) else f"{cell.fid:.2f}",
                ]
                for cell in cells
            ],
        )
    lines += _table(
        ["expected", "by", "from", "to", "difference", "trainings that agree", "p", "measured"],
        [
            [
                direction.factor.expectation,
                SHARES[direction.share].removeprefix("copies, "),
                level_name(direction.factor.name, direction.low),
                level_name(direction.factor.name, direction.high),
                f"{100 * direction.difference:+.0f} %",
                f"{direction.num_agreeing} of {direction.num_seeds}",
                f"{direction.p_value:.2g}",
                direction.verdict,
            ]
            for direction in result.directions
        ],
    )
    return "\n".join(lines) + "\n"


def write_summary(path: Path, result: StudyResult) -> None:
    """Write settings, controls, all numbers, hashes, versions and times.

    Raises:
        UnusableInputError: if the file cannot be written.
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
        "num_control": result.num_control,
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
        "cells": [_cell(cell) for cell in result.cells],
        "directions": [
            {
                "factor": direction.factor.name,
                "expected": direction.factor.expectation,
                "share": direction.share,
                "from": getattr(direction.low, direction.factor.name),
                "to": getattr(direction.high, direction.factor.name),
                "difference": round(direction.difference, _DIGITS),
                "num_agreeing": direction.num_agreeing,
                "p_value": direction.p_value,
                "measured": direction.verdict,
            }
            for direction in result.directions
        ],
        "memorized_by_repetition": [
            {"from": low, "to": high, **_proportion(share)} for low, high, share in result.by_repetition
        ],
        "checkpoints_sha256": result.checkpoints,
        "cells_of_an_earlier_run": result.num_kept,
        "versions": package_versions(),
        "seconds": round(result.seconds, 1),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _cell(cell: CellMeasures) -> dict[str, Any]:
    shares = {
        name: {
            **_proportion(share.pooled),
            "interval_over_trainings": [round(share.clustered.low, _DIGITS), round(share.clustered.high, _DIGITS)],
            "by_seed": [round(own.value, _DIGITS) for own in share.by_seed],
        }
        for name, share in cell.shares.items()
    }
    fids = {"fid": _finite(cell.fid), "fid_by_seed": [_finite(fid) for fid in cell.fid_by_seed]}
    return {**asdict(cell.setting), "steps": cell.steps, "passes": round(cell.passes, 2), **shares, **fids}


def _proportion(share: Any) -> dict[str, Any]:
    return {
        "value": round(share.value, _DIGITS),
        "interval": [round(share.low, _DIGITS), round(share.high, _DIGITS)],
        "count": share.count,
        "total": share.total,
    }


def _finite(value: float) -> float | None:
    # JSON has no NaN.
    return round(value, _DIGITS) if math.isfinite(value) else None


def _percent(share: Share) -> str:
    pooled = share.pooled
    return f"{100 * pooled.value:.0f} % ({100 * pooled.low:.0f} to {100 * pooled.high:.0f})"


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)] + [""]
