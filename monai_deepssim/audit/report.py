"""``report.html``: one file that says in a minute what was found, and shows the strongest matches side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from monai_deepssim.audit.closing import gate_sentence
from monai_deepssim.audit.files import printable, write_text
from monai_deepssim.audit.result import AuditResult, package_versions
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import Match, Thresholds
from monai_deepssim.data import ImageDataset

__all__ = ["render_report", "score_histogram", "write_report"]

_NUM_PAIRS = 24
_NUM_MEMORIZED = 20
_NUM_RUNNERS_UP = 4
# The three classes, dark enough to be told apart in print and by the colour-blind (Okabe and Ito's palette).
_COLOURS = {"duplicate": "#c2410c", "similar": "#d99a00", "different": "#4c78a8"}


def write_report(path: Path, result: AuditResult) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        result: of the audit; its ``options.report_images`` decides whether there are images in the report.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    write_text(path, render_report(result))


def render_report(result: AuditResult) -> str:
    """Make the report: HTML without scripts that needs no other file and no network.

    Args:
        result: of the audit.

    Returns:
        The HTML. Everything that comes from files is escaped.
    """
    environment = Environment(
        loader=PackageLoader("monai_deepssim.audit", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shown"] = lambda text: printable(str(text))
    pairs = [_pair(match, result) for match in result.matches[:_NUM_PAIRS]]
    scores = np.array([match.score for match in result.matches])
    return environment.get_template("report.html").render(
        result=result,
        verdict=_verdict(result),
        gate_sentence=gate_sentence(result),
        created=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
        histogram=_data_uri(score_histogram(scores, result.options.thresholds)),
        pairs=pairs,
        memorized=result.memorized[:_NUM_MEMORIZED],
        sides=[result.training, result.synthetic],
        versions=package_versions(),
    )


def score_histogram(scores: np.ndarray, thresholds: Thresholds) -> bytes:
    """Draw how many synthetic images have which score, with the thresholds.

    Args:
        scores: ``(N,)``, of the nearest training images.
        thresholds: of the score.

    Returns:
        A PNG file.

    Example:
        >>> from monai_deepssim.audit.verdict import PUBLISHED_THRESHOLDS
        >>> score_histogram(np.array([0.3, 0.9]), PUBLISHED_THRESHOLDS)[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(9.2, 2.9), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low = min(0.0, float(np.floor(scores.min() * 10) / 10), thresholds.similar)
    # Edges at both thresholds, so that no bar holds two classes.
    edges = np.unique(np.round([*np.arange(low, 1.0001, 0.02), thresholds.similar, thresholds.duplicate], 6))
    classes = {
        "different": scores <= thresholds.similar,
        "similar": (scores > thresholds.similar) & (scores <= thresholds.duplicate),
        "duplicate": scores > thresholds.duplicate,
    }
    for name, members in classes.items():
        # A score on a threshold is of the class below it, but of the bar above: move it by less than its last digit.
        axes.hist(
            np.clip(scores[members] - 1e-7, low, 1.0),
            bins=edges.tolist(),
            color=_COLOURS[name],
            label=f"{name} ({members.sum()})",
        )
    for name, value in (("similar", thresholds.similar), ("duplicate", thresholds.duplicate)):
        axes.axvline(value, color="#1f2937", linewidth=1, linestyle=(0, (4, 3)))
        transform = axes.get_xaxis_transform()
        axes.text(value, 0.99, f" {name} above {value:g}", transform=transform, va="top", fontsize=8, color="#1f2937")
    axes.margins(y=0.18)
    axes.set_xlim(low, 1.0)
    axes.set_xlabel("score of the nearest training image (DeepSSIM cosine; higher is closer)", fontsize=9)
    axes.set_ylabel("synthetic images", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _verdict(result: AuditResult) -> dict[str, str]:
    """The headline, a line under it, and the tone that colours it: ``bad``, ``good`` or ``unsure``."""
    share, skipped, patients = result.copy_fraction, len(result.skipped), len(result.patients)
    if result.demo is not None:
        title = f"{share.count} of {share.total} synthetic images are copies of a training image"
        advice = f"This is a demo without patient data: {result.demo.planted} copies of phantom subjects were planted, "
        advice += f"and {result.demo.found} of them were found, with {result.demo.false_alarms} false alarms."
        return {"tone": "bad" if share.count else "unsure", "title": title, "advice": advice}
    if share.count:
        noun = "synthetic image is a copy" if share.count == 1 else "synthetic images are copies"
        title = f"{share.count} of {share.total} {noun} of a training image"
        advice = "Do not share this set as if it were free of patient data: it reproduces "
        advice += f"{len(result.memorized)} training image{'s' if len(result.memorized) > 1 else ''}"
        known = f" of {patients} known patient{'s' if patients > 1 else ''}."
        advice += known if patients else "; their patients are not known."
        return {"tone": "bad", "title": title, "advice": advice}
    title = f"No copy was found among {share.total} synthetic images"
    if skipped or result.gate.result == "undecided":
        advice = f"{skipped} images could not be read, so this is not the whole set."
        return {"tone": "unsure", "title": title, "advice": advice}
    advice = "This is what one embedder at a published threshold could see; it is no proof that there is none."
    return {"tone": "good", "title": title, "advice": advice}


def _pair(match: Match, result: AuditResult) -> dict[str, Any]:
    images: dict[str, str | None] = {"synthetic_image": None, "training_image": None}
    if result.options.report_images:
        size = result.options.image_size
        images = {
            "synthetic_image": _picture(result.synthetic.side, match.synthetic_index, size),
            "training_image": _picture(result.training.side, match.training_index, size),
        }
    runners_up = slice(1, 1 + _NUM_RUNNERS_UP)
    paths = [result.training.side.items[index]["path"] for index in result.shortlist.indices[match.row, runners_up]]
    scores = result.shortlist.scores[match.row, runners_up].tolist()
    return {"match": match, "runners_up": list(zip(paths, scores, strict=True)), **images}


def _picture(side: Side, index: int, size: Sequence[int]) -> str | None:
    """The image as the embedder saw it; ``None`` if the file has gone since."""
    item = ImageDataset([side.items[index]], image_size=size)[0]
    if item["problem"]:
        return None
    pixels = torch.as_tensor(item["image"])[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return _data_uri(buffer.getvalue())


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
