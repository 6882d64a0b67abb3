"""``report.html``: the table, and figures that show at a glance which detector fails where."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_deepssim.audit.html import data_uri, figure_png, report_environment
from monai_deepssim.audit.summary import package_versions
from monai_deepssim.benchmark.outputs import MIX, SEARCH_HEADINGS, three_digits
from monai_deepssim.benchmark.steps import BenchmarkResult
from monai_deepssim.files import write_text

__all__ = ["render_report", "write_report"]

# Headings of the columns of labelled pairs.
_PAIR_HEADINGS = {
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "fpr_at_95_recall": "FPR at 95 % recall",
    "rank_1": "source first",
    "rank_10": "source among ten",
}


def write_report(path: Path, result: BenchmarkResult) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        result: of the benchmark.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    write_text(path, render_report(result))


def render_report(result: BenchmarkResult) -> str:
    """Make the report: HTML without scripts that needs no other file and no network, and shows no image of a patient.

    Args:
        result: of the benchmark.

    Returns:
        The HTML. Everything that comes from the user is escaped.
    """
    environment = report_environment("benchmark")
    environment.filters["number"] = three_digits
    headings = _headings(result)
    maps = ("roc_auc", "search_roc_auc") if result.has_pairs else ("roc_auc", "recall_at_one_threshold")
    bars = "macro_f1" if result.has_pairs else "recall_at_one_threshold"
    return environment.get_template("report.html").render(
        result=result,
        options=result.options,
        headings=headings,
        created=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        heat_maps={headings[name]: data_uri(_heat_map(result, name, headings[name])) for name in maps},
        bars=data_uri(_bars(result, bars, headings[bars])),
        bars_heading=headings[bars],
        f1_under=MIX if MIX in result.options.perturbations else result.options.perturbations[0],
        versions=package_versions(),
    )


def _headings(result: BenchmarkResult) -> dict[str, str]:
    """Headings by the measure's name in the rows."""
    headings = dict(_PAIR_HEADINGS) if result.has_pairs else {}
    for name, heading in SEARCH_HEADINGS.items():
        name_in_rows = result.search_measures[name]
        headings[name_in_rows] = heading if name_in_rows == name else f"{heading} of the search"
    return headings


def _heat_map(result: BenchmarkResult, measure: str, heading: str) -> bytes:
    """A PNG of one measure: one row per perturbation, one column per detector."""
    names, perturbations = result.detectors, list(result.options.perturbations)
    values = np.array(
        [[result.row(name, change).measures[measure].value for name in names] for change in perturbations]
    )
    figure = Figure(figsize=(2.4 + 1.05 * len(names), 1.4 + 0.34 * len(perturbations)), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # An AUC of 0.5 is chance; the scale has one lightness for the colour-blind and for print.
    lowest, label = (0.5, "0.5 or less: chance; 1: perfect") if "auc" in measure else (0.0, "share of the copies")
    picture = axes.imshow(values, vmin=lowest, vmax=1.0, cmap="cividis", aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        colour = "black" if value > (1 + lowest) / 2 else "white"
        axes.text(column, row, three_digits(value), ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(perturbations)), perturbations, fontsize=8)
    axes.set_title(heading, fontsize=9)
    axes.spines[:].set_visible(False)
    scale = figure.colorbar(picture, ax=axes, shrink=0.8)
    scale.set_label(label, fontsize=7.5)
    scale.ax.tick_params(labelsize=7)
    return figure_png(figure)


def _bars(result: BenchmarkResult, measure: str, heading: str) -> bytes:
    """A PNG of one measure with its intervals: one group per detector, without change and under the mix."""
    perturbations = result.options.perturbations
    shown = [name for name in ("none", MIX) if name in perturbations] or [perturbations[0]]
    figure = Figure(figsize=(2.4 + 1.05 * len(result.detectors), 3.2), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(shown)
    for position, (change, colour) in enumerate(zip(shown, ("#9aa9bd", "#2f5f8f"), strict=False)):
        measures = [result.row(name, change).measures[measure] for name in result.detectors]
        heights = np.array([one.value for one in measures])
        # A percentile interval may leave its number outside by rounding.
        errors = np.array([[one.value - one.low, one.high - one.value] for one in measures]).clip(min=0).T
        places = np.arange(len(measures)) + (position - (len(shown) - 1) / 2) * width
        axes.bar(
            places,
            heights,
            width * 0.92,
            yerr=errors,
            color=colour,
            label=f"perturbation {change}",
            capsize=2,
            ecolor="#1f2937",
        )
    axes.set_xticks(range(len(result.detectors)), result.detectors, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel(heading, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown))
    return figure_png(figure)
