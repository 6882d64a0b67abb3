"""``report.html``: the table, and figures that show at a glance which detector fails where."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_deepssim.benchmark.measures import PAIR_MEASURES
from monai_deepssim.benchmark.outputs import MIX, three_digits
from monai_deepssim.benchmark.steps import BenchmarkResult
from monai_deepssim.report import data_uri, figure_png, render_page

__all__ = ["render_benchmark"]


def render_benchmark(result: BenchmarkResult) -> str:
    """Make the report, which shows no image of a patient.

    Args:
        result: What the benchmark found out.

    Returns:
        The HTML.
    """
    maps = ("roc_auc", "search_roc_auc") if result.has_pairs else ("roc_auc", "recall_at_one_threshold")
    bars = "macro_f1" if result.has_pairs else "recall_at_one_threshold"
    search = {"Search": {column: result.headings[column] for column in result.search_columns}}
    return render_page(
        "benchmark",
        result=result,
        options=result.options,
        tables={"Scores of pairs": PAIR_MEASURES} | search if result.has_pairs else search,
        rows=result.table.reset_index().to_dict("records"),
        one_thresholds=result.table["one_threshold"].groupby("detector").first(),
        number=three_digits,
        heat_maps={result.headings[name]: data_uri(_heat_map(result, name)) for name in maps},
        bars=data_uri(_bars(result, bars)),
        bars_heading=result.headings[bars],
    )


def _heat_map(result: BenchmarkResult, measure: str) -> bytes:
    """A PNG of one measure: one row per perturbation, one column per detector."""
    names, perturbations = result.detectors, list(result.options.perturbations)
    values = result.table[measure].unstack("detector").loc[perturbations, names].to_numpy()
    figure = Figure(figsize=(2.4 + 1.05 * len(names), 1.4 + 0.34 * len(perturbations)), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # An AUC of 0.5 is chance; the scale has one lightness for the colour-blind and for print.
    lowest, label = (0.5, "0.5 or less: chance; 1: perfect") if "auc" in measure else (0.0, "share of the copies")
    picture = axes.imshow(values, vmin=lowest, vmax=1.0, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > (1 + lowest) / 2 else "white"
        axes.text(column, row, three_digits(value), ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(perturbations)), perturbations, fontsize=8)
    axes.set_title(result.headings[measure], fontsize=9)
    axes.spines[:].set_visible(False)
    scale = figure.colorbar(picture, ax=axes, shrink=0.8)
    scale.set_label(label, fontsize=7.5)
    scale.ax.tick_params(labelsize=7)
    return figure_png(figure)


def _bars(result: BenchmarkResult, measure: str) -> bytes:
    """A PNG of one measure with its intervals: one group per detector, without change and under the mix."""
    perturbations = result.options.perturbations
    shown = [name for name in ("none", MIX) if name in perturbations] or [perturbations[0]]
    figure = Figure(figsize=(2.4 + 1.05 * len(result.detectors), 3.2), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / len(shown)
    for position, (change, colour) in enumerate(zip(shown, ("#9aa9bd", "#2f5f8f"), strict=False)):
        numbers = result.table.xs(change, level="perturbation")
        heights = numbers[measure]
        # A percentile interval may leave its number outside by rounding.
        errors = np.array([heights - numbers[f"{measure}_low"], numbers[f"{measure}_high"] - heights]).clip(min=0)
        places = np.arange(len(numbers)) + (position - (len(shown) - 1) / 2) * width
        axes.bar(places, heights, width * 0.92, color=colour, label=f"perturbation {change}")
        axes.errorbar(places, heights, errors, fmt="none", capsize=2, ecolor="#1f2937")
    axes.set_xticks(range(len(result.detectors)), result.detectors, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(0, 1.05)
    axes.set_ylabel(result.headings[measure], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown))
    return figure_png(figure)
