"""The figures of a report, in the colours of its page: scores, the detection curve, members against non-members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monai_deepssim.report.html import INK, figure_svg, themed
from monai_deepssim.report.sentences import control_key, control_name, percent_words, score_name

__all__ = [
    "draw_detection_curve",
    "draw_roc",
    "plot_scores",
    "score_histogram",
]

# The three classes: told apart in print and by the colour-blind (Okabe and Ito's palette, darkened to a contrast of 3).
_COLOURS = {"duplicate": "#b93f0c", "similar": "#8a6100", "different": "#3c668f"}
_HATCHES = {"duplicate": "//////", "similar": "....", "different": ""}  # for print in grey
_SOFT = "#5b6676"
# In inches: as wide as a telephone, so that its text is readable on one.
_WIDTH = 4.9


def score_histogram(
    scores: np.ndarray,
    thresholds: Mapping[str, Any],
    null_scores: np.ndarray | None = None,
    *,
    counted: str = "synthetic images",
    nearest: str = "nearest training image",
) -> Markup:
    """Draw :func:`plot_scores` as an SVG element.

    Example:
        >>> thresholds = {"similar": {"value": None}, "duplicate": {"value": 0.85, "score": "copy_score"}}
        >>> str(score_histogram(np.array([0.3, 0.9]), thresholds))[:5]
        '<svg '
    """
    similar, duplicate = thresholds["similar"]["value"], thresholds["duplicate"]["value"]
    with themed():
        figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
        FigureCanvasAgg(figure)
        plot_scores(scores, thresholds, null_scores, counted=counted, nearest=nearest, axes=figure.add_subplot())
    ends = f"from {scores.min():.3g} to {scores.max():.3g}" if len(scores) else "of none"
    label = f"Histogram of the scores of {len(scores)} {counted}, {ends}; duplicates are above {duplicate:g}"
    return figure_svg(figure, label if similar is None else f"{label}, similar ones above {similar:g}")


def plot_scores(
    scores: np.ndarray,
    thresholds: Mapping[str, Any],
    null_scores: np.ndarray | None = None,
    *,
    counted: str = "synthetic images",
    nearest: str = "nearest training image",
    axes: Any = None,
) -> Any:
    """Plot how many images have which score, with the thresholds.

    Args:
        scores: ``(N,)``, of the nearest images.
        thresholds: ``similar`` and ``duplicate`` as in ``summary.json``: ``value``, ``score`` and ``source`` of each;
            a class whose value is ``None`` does not exist.
        null_scores: scores of images that are not copies, drawn as a line of the same area.
        counted: what the images are called.
        nearest: what they are compared with.
        axes: matplotlib's, to plot into; new ones by default.

    Returns:
        The axes.
    """
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.subplots(figsize=(9.2, 2.9), layout="constrained")[1]
    # Whole and part copies have one threshold, and one colour.
    shown = {"duplicate": "copy"} if counted == "synthetic images" else {}
    lines = [(name, thresholds[name]["value"]) for name in ("similar", "duplicate")]
    lines = [(name, value) for name, value in lines if value is not None]
    # Edges at the thresholds, so that no bar holds two classes.
    edges = np.unique(np.round([*_edges(scores, [value for _, value in lines]), *(value for _, value in lines)], 6))
    # A score on a threshold is of the class below it.
    class_names = ["different", *(name for name, _ in lines)]
    classes = np.searchsorted([value for _, value in lines], scores, side="left")
    for name in reversed(class_names):
        members = scores[classes == class_names.index(name)]
        # The bar that a score on a threshold falls into is the one above: move it by less than its last digit.
        axes.hist(
            np.clip(members - 1e-7, edges[0], edges[-1]),
            bins=edges.tolist(),
            color=_COLOURS[name],
            edgecolor="white",
            linewidth=0,
            hatch=_HATCHES[name],
            label=f"{shown.get(name, name)} ({len(members)})",
        )
    if null_scores is not None and len(null_scores):
        axes.hist(
            np.clip(null_scores, edges[0], edges[-1]),
            bins=edges.tolist(),
            weights=np.full(len(null_scores), len(scores) / len(null_scores)),
            histtype="step",
            color=INK,
            linewidth=1.1,
            label=f"not copies ({len(null_scores)}, scaled)",
        )
    for name, value in lines:
        axes.axvline(value, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        transform = axes.get_xaxis_transform()
        axes.text(value, 0.99, f"{name} above {value:g} ", transform=transform, va="top", ha="right", rotation=90)
    axes.margins(y=0.18)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"{score_name(thresholds)} of the {nearest} (higher is closer)")
    axes.set_ylabel(counted)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize="small")
    return axes


def _edges(scores: np.ndarray, thresholds: list[float]) -> np.ndarray:
    if max(scores.max(initial=-1), *thresholds) <= 1 and min(scores.min(initial=1), *thresholds) >= -1:
        low = min(0.0, float(np.floor(scores.min(initial=1) * 10) / 10), *thresholds)
        return np.arange(low, 1.0001, 0.02)
    # Scores on a scale of their own, such as negative squared errors or a memorization index.
    low, high = min(scores.min(), *thresholds), max(scores.max(), *thresholds)
    return np.linspace(low, high + 1e-6 * (high - low), 50)


def draw_detection_curve(curve: Sequence[Mapping[str, Any]], min_recall: float | None, reference: str) -> Markup:
    """Draw which share of the planted controls was found, one row per change and level, with its interval.

    Args:
        curve: ``change``, ``level``, ``unit``, ``value``, ``interval`` and ``upper_limit`` of each, as in
            ``summary.json``; a change without a limit that is not the reference need not be found and has a hollow dot.
        min_recall: share that has to be found for a decision; 0 or ``None`` for no share.
        reference: name of the reference change, such as ``blur_2``.

    Returns:
        An SVG element.

    Example:
        >>> point = {"change": "blur", "level": 2.0, "unit": "px", "value": 0.95, "interval": [0.75, 1.0]}
        >>> point["upper_limit"] = None
        >>> "blur 2 px" in draw_detection_curve([point], 0.9, "blur_2")
        True
    """
    names = [control_name(point) for point in curve]
    values = np.array([point["value"] for point in curve])
    low, high = np.array([point["interval"] for point in curve]).reshape(-1, 2).T
    places = np.arange(len(curve))
    is_reference = [control_key(point) == reference for point in curve]
    with themed():
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.19 * len(curve)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for first in [place for place in places[1:] if curve[place]["change"] != curve[place - 1]["change"]]:
            axes.axhline(first - 0.5, color="#e3e7ee", linewidth=0.8)
        axes.hlines(places, low, high, color=_COLOURS["different"], linewidth=2)
        for is_asked, fill in ((True, _COLOURS["different"]), (False, "#fffffe")):
            asked = [is_reference[row] or point["upper_limit"] is not None for row, point in enumerate(curve)]
            rows = [row for row, one in enumerate(asked) if one == is_asked]
            axes.plot(values[rows], rows, "o", color=_COLOURS["different"], markerfacecolor=fill, markersize=5)
        if min_recall:
            axes.axvline(min_recall, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(places, names)
        for label, marked in zip(axes.get_yticklabels(), is_reference, strict=True):
            label.set_fontweight("bold" if marked else "normal")
        axes.set_ylim(len(curve) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("share of the planted copies that was found")
    shares = "; ".join(f"{name}: {percent_words(value, 0)}" for name, value in zip(names, values, strict=True))
    return figure_svg(figure, f"Share of planted copies found, by change. {shares}")


def draw_roc(roc: Mapping[str, Sequence[float]], auc: float) -> Markup:
    """Draw how well members are told from non-members.

    Args:
        roc: ``fpr`` and ``tpr``.
        auc: area under this curve.

    Returns:
        An SVG element.

    Example:
        >>> str(draw_roc({"fpr": [0, 1], "tpr": [0, 1]}, 0.5))[:5]
        '<svg '
    """
    with themed():
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle=(0, (4, 3)), label="guessing")
        axes.plot(roc["fpr"], roc["tpr"], color=_COLOURS["duplicate"], linewidth=1.8, label=f"this set (AUC {auc:.3f})")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("share of held-out images taken for training images")
        axes.set_ylabel("share of training images recognised")
        axes.legend(frameon=False, loc="lower right")
    return figure_svg(figure, f"ROC curve of training against held-out images, with an area under it of {auc:.3f}")
