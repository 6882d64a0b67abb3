"""The picture of how two sides compare: their mean images beside each other, as a PNG file."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_deepssim.metrics import SideComparison

__all__ = ["draw_side_comparison"]


def draw_side_comparison(comparison: SideComparison) -> bytes:
    """Draw the mean images of both sides beside each other, on one grey scale from 0 to 1.

    Args:
        comparison: of the training and the synthetic side.

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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
