"""``report.html`` and ``figures/``: the expected beside the measured, curves, and samples of each cell."""

from __future__ import annotations

from pathlib import Path

from monai_deepssim.audit.html import data_uri, render_report
from monai_deepssim.calibration import proportion_interval
from monai_deepssim.files import atomic_file, unwritable
from monai_deepssim.study.figures import draw_curve, level_name
from monai_deepssim.study.grid import FACTORS
from monai_deepssim.study.measures import SHARES, compute_fid_of_statistics
from monai_deepssim.study.steps import StudyResult

__all__ = ["render_study", "write_figures"]


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            with atomic_file(folder / f"{name}.png") as file:
                file.write(picture)
    except OSError as error:
        raise unwritable(folder, error) from error
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
    return render_report(
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
