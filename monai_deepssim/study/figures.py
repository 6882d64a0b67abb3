"""Pictures of a study: the curve of each factor, and sheets of samples beside the images that they resemble most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from monai_deepssim.report import figure_png
from monai_deepssim.study.grid import Factor
from monai_deepssim.study.judges import Controls
from monai_deepssim.study.measures import compute_fid_of_statistics

__all__ = ["draw_contact_sheet", "draw_curve", "level_name"]

# Dark enough to be told apart in print and by the colour-blind (Okabe and Ito's palette).
_DEEPSSIM, _COPY_DETECTION, _FIDELITY, _CONTROL = "#c2410c", "#2f5f8f", "#2f7d4f", "#5b6676"
_COLUMNS, _ROWS, _GAP, _CAPTION = 8, 2, 4, 13


def level_name(factor: str, level: Any) -> str:
    """A level of a factor as it stands on the axis.

    Example:
        >>> level_name("augmentation", True), level_name("repetitions", "none"), level_name("epochs", 1000)
        ('on', 'once', '1,000')
    """
    if factor == "augmentation":
        return "on" if level else "off"
    if factor == "generator":
        return {"vae": "VAE", "gan": "GAN", "diffusion": "latent diffusion"}[level]
    return {"none": "once", "low": "1 to 4", "high": "1 to 14"}[level] if factor == "repetitions" else f"{level:,}"


def draw_curve(factor: Factor, curve: pd.DataFrame, controls: Controls) -> bytes:
    """Draw a factor's curves: copy fractions of both detectors, the share of samples that look real, and FID.

    A line joins the shares of all trainings of a level. Thick bars are their exact binomial intervals, thin ones those
    over trainings, points the trainings alone.

    Args:
        factor: What changes along the curve.
        curve: Rows of :func:`~.measures.measure_cell`, by ascending level.
        controls: What real images score.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(11.4, 3.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    copies, real, fid = figure.subplots(1, 3, width_ratios=[1.35, 1, 1])
    levels = curve[curve["seed"] == "all"].reset_index(drop=True)
    # Place of each training's level on the axis.
    trainings = curve[curve["seed"] != "all"].merge(levels[factor.name].reset_index(name=factor.name))
    dashed = {"linewidth": 1, "linestyle": (0, (2, 2))}
    for name, colour, label, offset in (
        ("deepssim", _DEEPSSIM, "DeepSSIM, verified", -0.04),
        ("copy_detection", _COPY_DETECTION, "copy detection", 0.04),
    ):
        _draw_share(copies, levels, trainings, f"copies_{name}", colour, label, offset)
        copies.plot(levels[f"false_alarms_{name}"], color=colour, **dashed)
    copies.plot([], [], color=_CONTROL, label="held-out images called copies", **dashed)
    copies.set_ylabel("share of samples that are copies", fontsize=8.5)
    _draw_share(real, levels, trainings, "looks_real", _FIDELITY, "samples", 0.0)
    real.set_ylabel("share of samples that look real", fontsize=8.5)
    fid.plot(levels["fid"], color=_FIDELITY, marker="o", markersize=5, label="samples")
    fid.plot(trainings["index"], trainings["fid"], ".", color=_FIDELITY, alpha=0.5, markersize=5)
    best = compute_fid_of_statistics(controls.reconstruction_statistics, controls.holdout_statistics)
    if np.isfinite(best):
        fid.axhline(best, color=_CONTROL, label="the autoencoder alone", **dashed)
    fid.set_ylabel("FID, 15 statistics (lower is better)", fontsize=8.5)
    fid.set_ylim(0, 1.08 * np.nanmax([1.0, best, *curve["fid"]]))
    for axes in (copies, real):
        axes.set_ylim(-0.03, 1.03)
    for axes in (copies, real, fid):
        axes.set_xticks(levels.index, [level_name(factor.name, level) for level in levels[factor.name]], fontsize=8)
        axes.set_xlim(-0.3, len(levels) - 0.7)
        axes.set_xlabel(factor.title, fontsize=8.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=1)
    return figure_png(figure)


def _draw_share(
    axes: Axes, levels: pd.DataFrame, trainings: pd.DataFrame, name: str, colour: str, label: str, offset: float
) -> None:
    places = levels.index + offset
    clustered, pooled = ((levels[f"{name}{kind}_low"], levels[f"{name}{kind}_high"]) for kind in ("_clustered", ""))
    axes.vlines(places, *clustered, color=colour, linewidth=0.7, alpha=0.55)
    axes.vlines(places, *pooled, color=colour, linewidth=3, alpha=0.6)
    if len(trainings) > len(levels):
        axes.plot(trainings["index"] + offset + 0.05, trainings[name], ".", color=colour, alpha=0.6, markersize=5)
    axes.plot(places, levels[name], color=colour, marker="o", markersize=5, linewidth=1.4, label=label)


def draw_contact_sheet(
    samples: Tensor, training_images: Tensor, scores: Mapping[str, np.ndarray], controls: Controls
) -> Image.Image:
    """Show the first samples of a cell, each above the training image that it resembles most.

    Args:
        samples: ``(N, 1, H, W)`` in [0, 1].
        training_images: ``(M, 1, H, W)`` in [0, 1].
        scores: Scores of the samples.
        controls: Thresholds; a copy has a frame.

    Returns:
        The picture.
    """
    count = min(len(samples), _COLUMNS * _ROWS)
    rows, columns = samples.shape[2:]
    height, width = 2 * rows + _CAPTION + 3 * _GAP, columns + 2 * _GAP
    sheet = Image.new("RGB", (width * min(count, _COLUMNS), height * -(-count // _COLUMNS)), "white")
    pen = ImageDraw.Draw(sheet)
    for number in range(count):
        left, top = width * (number % _COLUMNS) + _GAP, height * (number // _COLUMNS) + _GAP
        score = float(scores["aligned_ssim"][number])
        is_copy = score > controls.aligned_ssim_threshold
        if is_copy:
            pen.rectangle((left - 2, top - 2, left + columns + 1, top + 2 * rows + 1), fill=_DEEPSSIM)
        sheet.paste(_picture(samples[number]), (left, top))
        sheet.paste(_picture(training_images[int(scores["nearest"][number])]), (left, top + rows))
        pen.text((left, top + 2 * rows + 2), f"{score:.2f}", fill=_DEEPSSIM if is_copy else "black")
    return sheet


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0].clamp(0, 1) * 255).round().byte().numpy())
