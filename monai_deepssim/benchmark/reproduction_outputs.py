"""The table of the published protocol, like the paper's, and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_deepssim.benchmark.outputs import DIGITS, three_digits
from monai_deepssim.benchmark.protocol import PROTOCOL
from monai_deepssim.benchmark.reproduction_steps import ReproductionResult, column_of
from monai_deepssim.csv_cells import safe_table
from monai_deepssim.files import write_text
from monai_deepssim.metrics import CLASS_NAMES
from monai_deepssim.options import options_as_json
from monai_deepssim.report import data_uri, figure_png, markdown_table, package_versions, render_page

__all__ = ["make_histograms", "render_protocol_table", "write_results"]

_NUM_BINS = 55  # as many as the published histograms have
# In the order in which the published code prints them, with its colours.
_CLASSES = {"different": "#4c9a57", "similar": "#e0912f", "duplicate": "#c23b3b"}
_SINGLE = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "silhouette": "silhouette", "roc_auc": "ROC AUC"}


def render_protocol_table(result: ReproductionResult) -> str:
    """Make the tables in Markdown: one row per detector and augmentation.

    Args:
        result: What the run found out.

    Returns:
        The text of ``table.md``.
    """
    lines = [*markdown_table(list(_headings().values()), _cells(result)), "", _caption(result)]
    if len(result.ssim_errors):
        headings = ["score of the training list", "split", "pairs", "MAE against its SSIM", "RMSE"]
        rows = [
            [PROTOCOL[row["detector"]].title, row["split"], str(row["num_pairs"])]
            + [f"{row[name]:.4f}" for name in ("mean_absolute_error", "root_mean_squared_error")]
            for row in result.ssim_errors.to_dict("records")
        ]
        lines += ["", *markdown_table(headings, rows)]
    return "\n".join(lines) + "\n"


def _headings() -> dict[str, str]:
    """Headings of the columns of the table, by their columns in ``results.csv``."""
    by_class = {f"{measure}_{name}": f"{name}: {measure}" for name in _CLASSES for measure in ("precision", "recall")}
    return {"title": "detector", "augmented": "augmented", **by_class, **_SINGLE}


def _cells(result: ReproductionResult) -> list[list[str]]:
    table = []
    for row in _flat_rows(result):
        numbers = [row[name] for name in list(_headings())[2:]]
        if row["missing"]:
            cells = [row["missing"], *["-"] * (len(numbers) - 1)]
        else:
            cells = [three_digits(np.nan if number is None else number) for number in numbers]
        table.append([row["title"], "yes" if row["augmented"] else "no", *cells])
    return table


def _flat_rows(result: ReproductionResult) -> Iterator[dict[str, Any]]:
    """Yield the columns of ``results.csv``, one row per detector and augmentation."""
    for row in result.rows:
        entry = PROTOCOL[row["detector"]]
        values: dict[str, Any] = {"detector": row["detector"], "title": entry.title, "augmented": row["augmented"]}
        values |= {"lower_threshold": entry.thresholds[0], "upper_threshold": entry.thresholds[1]}
        for name in _CLASSES:
            for measure in ("precision", "recall"):
                values[f"{measure}_{name}"] = row.get(measure, {}).get(name)
        values |= {name: row.get(name) for name in _SINGLE}
        yield values | {"scores_from": row["scores_from"], "missing": row["missing"]}


def _caption(result: ReproductionResult) -> str:
    counts = result.scores["label"].value_counts()
    classes = ", ".join(f"{counts.get(number, 0)} {name}" for number, name in enumerate(CLASS_NAMES))
    origin = "phantom pairs, no patient" if result.is_phantom else f"pairs of {result.options.testset_csv}"
    return (
        f"{len(result.scores)} {origin}: {classes}. Published thresholds. Augmented: each image flipped along either "
        f"axis, rotated by up to 0.1745 rad and changed in contrast, each with probability 0.8, seed "
        f"{result.options.seed}. A dash: no pair was predicted or labelled so, or the detector was not run."
    )


def make_histograms(result: ReproductionResult) -> pd.DataFrame:
    """Count the scores of each label in 55 bins between the lowest and the highest score of a detector.

    Args:
        result: What the run found out.

    Returns:
        One row per detector, augmentation and bin: ``score_from``, ``score_to`` and a count per label.
    """
    tables = []
    for row in result.rows:
        if row["missing"]:
            continue
        scores = result.scores[column_of(row["detector"], row["augmented"])].to_numpy(np.float64)
        edges = np.histogram_bin_edges(scores, _NUM_BINS)
        counts = {
            name: np.histogram(scores[result.scores["label"] == CLASS_NAMES.index(name)], edges)[0] for name in _CLASSES
        }
        ends = {"score_from": edges[:-1].round(DIGITS), "score_to": edges[1:].round(DIGITS)}
        tables.append(pd.DataFrame({"detector": row["detector"], "augmented": row["augmented"], **ends, **counts}))
    columns = ["detector", "augmented", "score_from", "score_to", *_CLASSES]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def write_results(folder: Path, result: ReproductionResult) -> None:
    """Write tables, histograms, report and, last, ``summary.json``.

    Args:
        folder: Folder of the results.
        result: What the run found out.

    Raises:
        UnusableInputError: If a file cannot be written.
    """
    rows, histograms = list(_flat_rows(result)), make_histograms(result)
    tables = {
        "results.csv": pd.DataFrame(rows),
        "scores.csv": result.scores,
        "histograms.csv": histograms,
        "ssim_errors.csv": result.ssim_errors,
    }
    for name, table in tables.items():
        if len(table.columns):
            write_text(folder / name, safe_table(table.round(DIGITS)).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "table.md", render_protocol_table(result))
    figures = {
        f"{PROTOCOL[name].title}{', augmented' if augmented else ''}": data_uri(_draw(name, table))
        for (name, augmented), table in histograms.groupby(["detector", "augmented"], sort=False)
    }
    html = render_page(
        "benchmark",
        "reproduction.html",
        headings=list(_headings().values()),
        rows=_cells(result),
        caption=_caption(result),
        errors=result.ssim_errors.to_dict("records"),
        titles={name: entry.title for name, entry in PROTOCOL.items()},
        figures=figures,
    )
    write_text(folder / "report.html", html)
    write_text(folder / "summary.json", json.dumps(_summary(result, rows), indent=2) + "\n")


def _summary(result: ReproductionResult, rows: list[dict[str, Any]]) -> dict[str, Any]:
    evaluations = [
        {**row, **{name: own[name] for name in ("counts", "confusion_matrix") if name in own}}
        for row, own in zip(rows, result.rows, strict=True)
    ]
    return {
        "schema_version": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": options_as_json(result.options),
        "num_pairs": len(result.scores),
        "phantoms": result.is_phantom,
        "results": evaluations,
        "ssim_errors": result.ssim_errors.to_dict("records"),
        "versions": package_versions(),
        "seconds": round(result.seconds, 1),
    }


def _draw(detector: str, histogram: Mapping[str, Any] | pd.DataFrame) -> bytes:
    """A PNG of the histogram by label, with the thresholds as dashed lines."""
    figure = Figure(figsize=(5.0, 2.6), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = [*histogram["score_from"], histogram["score_to"].iloc[-1]]
    for name, colour in _CLASSES.items():
        axes.stairs(histogram[name], edges, fill=True, color=colour, alpha=0.75, label=name)
    for threshold in set(PROTOCOL[detector].thresholds):
        axes.axvline(threshold, color="#1f2937", linestyle="--", linewidth=1)
    axes.set_xlabel("score", fontsize=8)
    axes.set_ylabel("pairs", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)
    return figure_png(figure)
