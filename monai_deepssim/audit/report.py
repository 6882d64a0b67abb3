"""The reports of an audit: its numbers, its tables and the pictures of its pairs, for the room that renders them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from PIL.Image import Image
from torch import Tensor

from monai_deepssim.audit.clean_up.file_units import source_root
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.summary import summarize, write_summary
from monai_deepssim.data import ImageDataset
from monai_deepssim.files import write_text
from monai_deepssim.release import FILE_LIST, hash_results, list_side_files, write_file_list
from monai_deepssim.report import (
    SHAREABLE_REPORT,
    TABLES,
    draw_image,
    draw_pair,
    render_report,
    render_shareable,
    write_table,
)

__all__ = ["image_of_side", "pair_pictures", "render_audit", "report_tables", "write_results"]


def write_results(folder: Path, result: AuditResult) -> None:
    """Write the tables of an audit, its reports, and the summary last: where it is, all the rest is complete.

    Args:
        folder: an existing folder.
        result: result of the audit.

    Raises:
        UnusableInputError: if a file cannot be written.
    """
    summary = summarize(result)
    tables = report_tables(result)
    write_table(folder / "matches.csv", result.matches.sort_values("synthetic_path"))
    for name in ("memorized", "patients", "holdout", "controls"):
        if name in tables:
            write_table(folder / f"{name}.csv", tables[name])
    side = result.synthetic
    root, hashes = source_root(side.side), side.file_hashes
    files = list_side_files(side.side.items, side.images.problems, root, hashes, side.side.repeats)
    write_file_list(folder / FILE_LIST, files)
    write_text(folder / "report.html", render_audit(result, summary))
    if result.options.shareable_report:
        write_text(folder / SHAREABLE_REPORT, render_shareable(summary, tables), private=False)
    hashes = hash_results(folder, [FILE_LIST, "report.html", *(f"{name}.csv" for name in TABLES)])
    write_summary(folder / "summary.json", {**summary, "result_files": hashes})


def render_audit(result: AuditResult, summary: Mapping[str, Any]) -> str:
    """Make ``report.html``.

    Args:
        result: result of the audit.
        summary: content of its ``summary.json``.

    Returns:
        The HTML.
    """
    null_scores = None if result.discoveries is None else np.asarray(result.discoveries.null.scores)
    sides = result.sides_differ
    return render_report(
        summary,
        report_tables(result),
        candidates=_candidates(result),
        pictures=lambda row: pair_pictures(row, result),
        mean_images=[draw_image(mean) for mean in (sides.training_mean, sides.synthetic_mean)],
        null_scores=null_scores,
    )


def report_tables(result: AuditResult) -> dict[str, DataFrame]:
    """The tables that a report shows, by name; ``matches`` has the highest score first."""
    tables = {
        "matches": result.matches,
        "memorized": result.memorized,
        "patients": result.patients,
    }
    others = {"holdout": result.held_out, "controls": result.controls}
    return {**tables, **{name: table for name, table in others.items() if table is not None}}


def _candidates(result: AuditResult) -> DataFrame:
    """The training images that were compared with each synthetic image (``query``), the closest first."""
    items, pairs = result.training.usable_items, result.pairs
    columns = ["query", "score", "detector_score"]
    return pairs[columns].assign(
        training_path=[items[row]["path"] for row in pairs["training"]],
        patient_id=[items[row]["patient_id"] for row in pairs["training"]],
        alignment=[str(alignment or "") for alignment in pairs.get("alignment", [""] * len(pairs))],
    )


def pair_pictures(row: int, result: AuditResult) -> list[tuple[str, Image | None]]:
    """Draw a row of the matches: the synthetic and the training image, and the latter aligned."""
    image_size = result.options.image_size
    nearest = next(result.pairs[result.pairs["query"] == row].itertuples())
    synthetic = image_of_side(result.synthetic.usable_items[row], image_size)
    training = image_of_side(result.training.usable_items[nearest.training], image_size)
    pair = [("synthetic", synthetic), ("training", training)]
    return draw_pair(pair, nearest.alignment, outline=result.matches["label"][row] == "part")


def image_of_side(item: dict[str, Any], image_size: Sequence[int]) -> Tensor | None:
    """The image as the detector saw it, ``(1, rows, columns)``; ``None`` if the file has gone since."""
    loaded = ImageDataset([item], image_size=image_size)[0]
    return None if loaded["problem"] else loaded["image"]
