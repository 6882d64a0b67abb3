"""``report.html`` and ``figures/``: the expected beside the measured, curves, and samples of each cell."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from monai_deepssim.audit.html import data_uri, report_environment
from monai_deepssim.audit.summary import package_versions
from monai_deepssim.calibration import proportion_interval
from monai_deepssim.files import atomic_file, unwritable, write_text
from monai_deepssim.study.figures import draw_curve, level_name
from monai_deepssim.study.grid import FACTORS
from monai_deepssim.study.measures import SHARES, compute_fid_of_statistics
from monai_deepssim.study.steps import StudyResult

__all__ = ["write_figures", "write_report"]


def write_figures(folder: Path, result: StudyResult) -> dict[str, bytes]:
    """Draw the curve of each factor into a file of its own.

    Args:
        folder: of the files.
        result: of the study.

    Returns:
        The PNG files by factor.

    Raises:
        UnusableInputError: if a file cannot be written.
    """
    pictures = {name: draw_curve(FACTORS[name], cells, result.controls) for name, cells in result.curves.items()}
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.write(picture)
        except OSError as error:
            raise unwritable(path, error) from error
    return pictures


def write_report(path: Path, result: StudyResult, curves: dict[str, bytes]) -> None:
    """Write the report: HTML without scripts that needs no other file and no network.

    Args:
        path: of the HTML file.
        result: of the study.
        curves: PNG files by factor.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    controls, cells = result.controls, result.options.output_dir / "cells"
    sheets = {}
    if result.options.report_images:
        for cell in result.cells:
            sheet = cells / cell.setting.name / "seed0_samples.png"
            # A sheet that was removed is only a picture less.
            sheets[cell.setting] = data_uri(sheet.read_bytes()) if sheet.is_file() else ""
    environment = report_environment("study")
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    environment.globals["level_name"] = level_name
    html = environment.get_template("report.html").render(
        result=result,
        options=result.options,
        factors=FACTORS,
        share_names=SHARES,
        curves={name: data_uri(picture) for name, picture in curves.items()},
        sheets=sheets,
        found={
            "DeepSSIM verified": proportion_interval(controls.found_deepssim),
            "copy detection": proportion_interval(controls.found_copy_detection),
        },
        best_fid=compute_fid_of_statistics(controls.reconstruction_statistics, controls.holdout_statistics),
        real_fid=compute_fid_of_statistics(controls.real_statistics, controls.holdout_statistics),
        is_number=lambda value: bool(np.isfinite(value)),
        created=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        versions=package_versions(),
    )
    write_text(path, html)
