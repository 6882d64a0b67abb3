"""Pictures of a study: the curve of each factor, and sheets of samples beside the images that they resemble most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from monai_deepssim.audit.html import figure_png
from monai_deepssim.study.grid import Factor, Setting
from monai_deepssim.study.judges import Controls
from monai_deepssim.study.measures import CellMeasures, compute_fid_of_statistics

__all__ = ["draw_contact_sheet", "draw_curve", "level_name"]

# Dark enough to be told apart in print and by the colour-blind (Okabe and Ito's palette).
_DEEPSSIM, _COPY_DETECTION, _FIDELITY, _CONTROL = "#c2410c", "#2f5f8f", "#2f7d4f", "#5b6676"
_COLUMNS, _ROWS, _GAP, _CAPTION = 8, 2, 4, 13


def level_name(factor: str, setting: Setting) -> str:
    """A level as it stands on the axis.

    Example:
        >>> level_name("augmentation", Setting(32, "none", True, 32, 100))
        'on'
    """
    value = getattr(setting, factor)
    if factor == "augmentation":
        return "on" if value else "off"
    return {"none": "once", "low": "1 to 4", "high": "1 to 14"}[value] if factor == "repetitions" else f"{value:,}"


def draw_curve(factor: Factor, cells: Sequence[CellMeasures], controls: Controls) -> bytes:
    """Draw a factor's curves: copy fractions of both detectors, the share of samples that look real, and FID.

    A line joins the shares of all trainings of a level. Thick bars are their exact binomial intervals, thin ones those
    over trainings, points the trainings alone.

    Args:
        factor: of the curve.
        cells: its cells, by ascending level.
        controls: what real images score.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(11.4, 3.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    copies, real, fid = figure.subplots(1, 3, width_ratios=[1.35, 1, 1])
    _draw_share(copies, cells, "copies_deepssim", _DEEPSSIM, "DeepSSIM, verified", -0.04)
    _draw_share(copies, cells, "copies_copy_detection", _COPY_DETECTION, "copy detection", 0.04)
    for name, colour in (("deepssim", _DEEPSSIM), ("copy_detection", _COPY_DETECTION)):
        alarms = [cell.shares[f"false_alarms_{name}"].pooled.value for cell in cells]
        copies.plot(range(len(cells)), alarms, color=colour, linewidth=1, linestyle=(0, (2, 2)))
    copies.plot([], [], color=_CONTROL, linewidth=1, linestyle=(0, (2, 2)), label="held-out images called copies")
    copies.set_ylabel("share of samples that are copies", fontsize=8.5)
    _draw_share(real, cells, "looks_real", _FIDELITY, "samples", 0.0)
    real.set_ylabel("share of samples that look real", fontsize=8.5)
    fid.plot(
        range(len(cells)), [cell.fid for cell in cells], color=_FIDELITY, marker="o", markersize=5, label="samples"
    )
    for place, cell in enumerate(cells):
        fid.plot([place] * len(cell.fid_by_seed), cell.fid_by_seed, ".", color=_FIDELITY, alpha=0.5, markersize=5)
    best = compute_fid_of_statistics(controls.reconstruction_statistics, controls.holdout_statistics)
    if np.isfinite(best):
        fid.axhline(best, color=_CONTROL, linewidth=1, linestyle=(0, (2, 2)), label="the autoencoder alone")
    fid.set_ylabel("FID, 15 statistics (lower is better)", fontsize=8.5)
    drawn = [value for cell in cells for value in (cell.fid, *cell.fid_by_seed) if np.isfinite(value)]
    fid.set_ylim(0, 1.08 * max([*drawn, 1.0]))
    for axes in (copies, real):
        axes.set_ylim(-0.03, 1.03)
    for axes in (copies, real, fid):
        axes.set_xticks(range(len(cells)), [level_name(factor.name, cell.setting) for cell in cells], fontsize=8)
        axes.set_xlim(-0.3, len(cells) - 0.7)
        axes.set_xlabel(factor.title, fontsize=8.5)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=1)
    return figure_png(figure)


def _draw_share(axes: Axes, cells: Sequence[CellMeasures], name: str, colour: str, label: str, offset: float) -> None:
    places = np.arange(len(cells)) + offset
    shares = [cell.shares[name] for cell in cells]
    values = [share.pooled.value for share in shares]
    for place, share in zip(places, shares, strict=True):
        axes.plot([place] * 2, [share.clustered.low, share.clustered.high], color=colour, linewidth=0.7, alpha=0.55)
        axes.plot([place] * 2, [share.pooled.low, share.pooled.high], color=colour, linewidth=3, alpha=0.6)
        if len(share.by_seed) > 1:
            own = [one.value for one in share.by_seed]
            axes.plot([place + 0.05] * len(own), own, ".", color=colour, alpha=0.6, markersize=5)
    axes.plot(places, values, color=colour, marker="o", markersize=5, linewidth=1.4, label=label)


def draw_contact_sheet(
    samples: Tensor, training_images: Tensor, scores: Mapping[str, np.ndarray], controls: Controls
) -> Image.Image:
    """Show the first samples of a cell, each above the training image that it resembles most.

    Args:
        samples: ``(N, 1, H, W)`` in [0, 1].
        training_images: ``(M, 1, H, W)``.
        scores: of the samples.
        controls: thresholds; a copy has a frame.

    Returns:
        A picture.
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
