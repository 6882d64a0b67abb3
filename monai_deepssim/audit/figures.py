"""The pictures of a report, as PNG files: scores, images, where two agree, mean images of two sides."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from skimage.metrics import structural_similarity
from skimage.segmentation import mark_boundaries
from torch import Tensor

from monai_deepssim.audit.closing import SCORE_NAMES
from monai_deepssim.audit.html import figure_png
from monai_deepssim.audit.verdict import Thresholds
from monai_deepssim.metrics import SideComparison
from monai_deepssim.similarity import standardize

__all__ = ["draw_image", "draw_side_comparison", "draw_ssim_map", "plot_scores", "score_histogram"]

# The three classes, dark enough to be told apart in print and by the colour-blind (Okabe and Ito's palette).
_COLOURS = {"duplicate": "#c2410c", "similar": "#d99a00", "different": "#4c78a8"}
# Okabe and Ito's orange.
_OUTLINE = (0.9, 0.62, 0.0)


def score_histogram(
    scores: np.ndarray,
    thresholds: Thresholds,
    null_scores: np.ndarray | None = None,
    *,
    counted: str = "synthetic images",
    nearest: str = "nearest training image",
) -> bytes:
    """Draw :func:`plot_scores` as a PNG file.

    Example:
        >>> from monai_deepssim.audit.verdict import PUBLISHED_THRESHOLDS
        >>> score_histogram(np.array([0.3, 0.9]), PUBLISHED_THRESHOLDS)[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(9.2, 2.9), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    plot_scores(scores, thresholds, null_scores, counted=counted, nearest=nearest, axes=figure.add_subplot())
    return figure_png(figure)


def plot_scores(
    scores: np.ndarray,
    thresholds: Thresholds,
    null_scores: np.ndarray | None = None,
    *,
    counted: str = "synthetic images",
    nearest: str = "nearest training image",
    axes: Any = None,
) -> Any:
    """Plot how many images have which score, with the thresholds.

    Args:
        scores: ``(N,)``, of the nearest images.
        thresholds: thresholds of the score.
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
    lines = [("duplicate", thresholds.duplicate)]
    if thresholds.similar is not None:
        lines.insert(0, ("similar", thresholds.similar))
    # Edges at the thresholds, so that no bar holds two classes.
    edges = np.unique(np.round([*_edges(scores, [value for _, value in lines]), *(value for _, value in lines)], 6))
    labels = np.array([thresholds.classify(score) for score in scores.tolist()])
    for name, colour in reversed(_COLOURS.items()):
        if name == "similar" and thresholds.similar is None:
            continue
        members = labels == name
        # A score on a threshold is of the class below it, but of the bar above: move it by less than its last digit.
        axes.hist(
            np.clip(scores[members] - 1e-7, edges[0], edges[-1]),
            bins=edges.tolist(),
            color=colour,
            label=f"{shown.get(name, name)} ({members.sum()})",
        )
    if null_scores is not None:
        axes.hist(
            np.clip(null_scores, edges[0], edges[-1]),
            bins=edges.tolist(),
            weights=np.full(len(null_scores), len(scores) / len(null_scores)),
            histtype="step",
            color="#111827",
            linewidth=1.1,
            label="images that are not copies",
        )
    for name, value in lines:
        axes.axvline(value, color="#1f2937", linewidth=1, linestyle=(0, (4, 3)))
        transform = axes.get_xaxis_transform()
        axes.text(value, 0.99, f" {name} above {value:g}", transform=transform, va="top", fontsize=8, color="#1f2937")
    axes.margins(y=0.18)
    axes.set_xlim(edges[0], edges[-1])
    score = SCORE_NAMES.get(thresholds.score, thresholds.score)
    axes.set_xlabel(f"score of the {nearest} ({score}; higher is closer)", fontsize=9)
    axes.set_ylabel(counted, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return axes


def _edges(scores: np.ndarray, thresholds: list[float]) -> np.ndarray:
    if max(scores.max(), *thresholds) <= 1 and min(scores.min(), *thresholds) >= -1:
        low = min(0.0, float(np.floor(scores.min() * 10) / 10), *thresholds)
        return np.arange(low, 1.0001, 0.02)
    # Scores on a scale of their own, such as negative squared errors or a memorization index.
    low, high = min(scores.min(), *thresholds), max(scores.max(), *thresholds)
    return np.linspace(low, high + 1e-6 * (high - low), 50)


def draw_image(image: Tensor, outlined: np.ndarray | None = None) -> bytes:
    """Draw an image in grey.

    Args:
        image: ``(1, rows, columns)`` in [0, 1].
        outlined: mask ``(rows, columns)`` of an area to outline.

    Returns:
        A PNG file of its size.

    Example:
        >>> draw_image(torch.zeros(1, 8, 8))[1:4]
        b'PNG'
    """
    pixels = torch.as_tensor(image)[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    if outlined is None:
        return _png(Image.fromarray(pixels))
    return _png(Image.fromarray((mark_boundaries(pixels, outlined.astype(int), color=_OUTLINE) * 255).astype(np.uint8)))


def draw_ssim_map(first: Tensor, second: Tensor) -> bytes:
    """Draw where two images agree: SSIM of the window around each pixel, black at 0 or below, bright at 1.

    Args:
        first: ``(1, rows, columns)``.
        second: image of the same shape.

    Returns:
        A PNG file of their size, in colour.

    Example:
        >>> image = torch.rand(1, 16, 16)
        >>> draw_ssim_map(image, image)[1:4]
        b'PNG'
    """
    one, other = (standardize(image[None].float())[0, 0].numpy() for image in (first, second))
    extent = float(one.max() - one.min()) or 1.0
    _, ssim = structural_similarity(one, other, data_range=extent, full=True)
    return _png(Image.fromarray((colormaps["magma"](np.clip(ssim, 0, 1))[..., :3] * 255).astype(np.uint8)))


def draw_side_comparison(comparison: SideComparison) -> bytes:
    """Draw the mean images of both sides beside each other, on one grey scale from 0 to 1.

    Args:
        comparison: comparison of the training and the synthetic side.

    Returns:
        A PNG file.

    Example:
        >>> import torch
        >>> from monai_deepssim.metrics import compare_sides
        >>> draw_side_comparison(compare_sides(torch.rand(2, 1, 40, 32), torch.rand(3, 1, 40, 32)))[1:4]
        b'PNG'
    """
    means = [
        ("training", comparison.num_training, comparison.training_mean),
        ("synthetic", comparison.num_synthetic, comparison.synthetic_mean),
    ]
    rows, columns = comparison.training_mean.shape[1:]
    figure = Figure(figsize=(5.2, 2.5 * rows / columns + 0.35), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, count, mean) in zip(figure.subplots(1, 2), means, strict=True):
        axes.imshow(mean[0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"mean of {count} {name} image{'' if count == 1 else 's'}", fontsize=9, color="#1f2937")
        axes.set_axis_off()
    return figure_png(figure)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
