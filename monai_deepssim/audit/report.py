"""``report.html``: one file that says in a minute what was found, and shows the strongest matches side by side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
from pandas import DataFrame
from torch import Tensor

from monai_deepssim.audit.closing import (
    SCORE_NAMES,
    error_rate_sentence,
    false_alarm_sentence,
    gate_sentence,
    proportions_warning,
)
from monai_deepssim.audit.figures import draw_image, draw_side_comparison, draw_ssim_map, score_histogram
from monai_deepssim.audit.html import data_uri, data_uris, report_environment
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.summary import package_versions
from monai_deepssim.audit.verdict import COPY_LABELS, is_copy
from monai_deepssim.data import ImageDataset
from monai_deepssim.similarity import Alignment, copied_area, deform_onto

__all__ = ["draw_pair", "image_of_side", "pair_pictures", "render_report"]

_NUM_PAIRS = 24
# Of those that are not copies the strongest are shown, too: what lies just below the threshold has to be looked at.
_NUM_BELOW = 8
_NUM_MEMORIZED = 20
_NUM_RUNNERS_UP = 4
# Score above which neighbouring slices were not seen; of the pairs at 0.86 to 0.90 they were a third.
_CERTAIN_SCORE = 0.97


def render_report(result: AuditResult) -> str:
    """Make the report: HTML without scripts that needs no other file and no network.

    Args:
        result: the audit's result.

    Returns:
        The HTML. Everything that comes from files is escaped.
    """
    strongest, others = result.matches.iloc[:_NUM_PAIRS], result.matches.iloc[_NUM_PAIRS:]
    below = others[~is_copy(others)].iloc[:_NUM_BELOW] if is_copy(strongest).iloc[-1] else others.iloc[:0]
    pairs = [_pair(match, result) for match in [*strongest.itertuples(), *below.itertuples()]]
    scores = result.matches["score"].to_numpy(float)
    null_scores = None if result.discoveries is None else np.asarray(result.discoveries.null.scores)
    return (
        report_environment()
        .get_template("report.html")
        .render(
            result=result,
            verdict=_verdict(result),
            gate_sentence=gate_sentence(result),
            created=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
            score_name=SCORE_NAMES.get(result.thresholds.score, result.thresholds.score),
            detector_name=SCORE_NAMES.get(result.detector, result.detector),
            error_rates=error_rate_sentence(result),
            false_alarms=None if result.false_alarms is None else false_alarm_sentence(result),
            histogram=data_uri(score_histogram(scores, result.thresholds, null_scores)),
            pairs=pairs,
            num_strongest=len(strongest),
            memorized=list(result.memorized.iloc[:_NUM_MEMORIZED].itertuples()),
            skipped=result.skipped,
            sides=result.sides,
            proportions=proportions_warning(result),
            sides_differ=result.sides_differ,
            sides_picture=(
                data_uri(draw_side_comparison(result.sides_differ)) if result.options.report_images != "none" else None
            ),
            versions=package_versions(),
        )
    )


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
        if len(result.close):
            verb = "is" if len(result.close) == 1 else "are"
            advice += (
                f" {len(result.close)} more {verb} closer to a training image than chance explains: look there, too."
            )
        return {"tone": "bad", "title": title, "advice": advice}
    title = f"No copy was found among {share.total} synthetic images"
    if skipped or result.gate.result == "undecided":
        advice = f"{skipped} images could not be read, so this is not the whole set."
        return {"tone": "unsure", "title": title, "advice": advice}
    if len(result.close):
        verb = "is" if len(result.close) == 1 else "are"
        advice = f"But {len(result.close)} {verb} closer to a training image than chance explains, though below the "
        advice += "threshold of a copy: look at every such pair before you share the set."
        return {"tone": "unsure", "title": title, "advice": advice}
    advice = "This is what one detector at one threshold could see; it does not prove that there is no copy."
    return {"tone": "good", "title": title, "advice": advice}


def _pair(match: Any, result: AuditResult) -> dict[str, Any]:
    pairs = result.pairs[result.pairs["query"] == match.Index]
    nearest, runners_up = next(pairs.itertuples()), pairs.iloc[1 : 1 + _NUM_RUNNERS_UP]
    paths = [result.training.usable_items[row]["path"] for row in runners_up["training"]]
    return {
        "match": match,
        "alignment": nearest.alignment,
        "detector_score": nearest.detector_score,
        "runners_up": list(zip(paths, runners_up["score"].tolist(), strict=True)),
        "explanation": _explain(match, result, pairs),
        "pictures": data_uris(pair_pictures(match, result)) if result.options.report_images != "none" else [],
    }


def _explain(match: Any, result: AuditResult, pairs: DataFrame) -> str:
    """What else than a copy of this very image may have such a score; empty where nothing may."""
    if match.label not in COPY_LABELS or match.score >= _CERTAIN_SCORE or not result.options.verify:
        return ""
    if not match.patient_id:
        return "A copy of a neighbouring slice of the same patient would score like this, too."
    items = result.training.usable_items
    others = sum(item["patient_id"] == match.patient_id for item in items) - 1
    if not others:
        return "The only training image of this patient."
    near = [items[row]["patient_id"] for row in pairs["training"]]
    same = sum(patient == match.patient_id for patient in near)
    return (
        f"{others} more training images are of this patient, {same - 1} of them among the {len(near)} that were "
        "compared: it may be a copy of a neighbouring slice. The patient is shown either way."
    )


def pair_pictures(match: Any, result: AuditResult) -> list[tuple[str, bytes | None]]:
    """Draw a row of the matches: the synthetic and the training image, and the latter aligned."""
    image_size = result.options.image_size
    nearest = next(result.pairs[result.pairs["query"] == match.Index].itertuples())
    synthetic = image_of_side(result.synthetic.usable_items[match.Index], image_size)
    training = image_of_side(result.training.usable_items[nearest.training], image_size)
    pair = [("synthetic", synthetic), ("training", training)]
    return draw_pair(pair, nearest.alignment, outline=match.label == "part")


def draw_pair(
    images: Sequence[tuple[str, Tensor | None]], alignment: Alignment | None, *, outline: bool = False
) -> list[tuple[str, bytes | None]]:
    """Draw two images beside each other, then the second aligned to the first, and where these two agree.

    Args:
        images: the two, each with its name; ``None`` for a file that has gone since.
        alignment: alignment of the second image to the first; without one only the two images are drawn.
        outline: whether the area where they agree is outlined on the first and on the aligned second.

    Returns:
        Name and PNG file of each picture.
    """
    drawn = [(name, None if image is None else draw_image(image)) for name, image in images]
    (_, first), (name, second) = images
    if alignment is None or first is None or second is None:
        return drawn
    aligned = alignment.apply(second)
    if alignment.deformation_pixels:
        aligned = deform_onto(first[None], aligned[None])[0]
    area = None
    if outline:
        _, area = copied_area(first, second, alignment)
        drawn[0] = (images[0][0], draw_image(first, area))
    return [
        *drawn,
        (f"{name}, aligned", draw_image(aligned, area)),
        ("where they agree", draw_ssim_map(first, aligned)),
    ]


def image_of_side(item: dict[str, Any], image_size: Sequence[int]) -> Tensor | None:
    """The image as the detector saw it, ``(1, rows, columns)``; ``None`` if the file has gone since."""
    loaded = ImageDataset([item], image_size=image_size)[0]
    return None if loaded["problem"] else loaded["image"]
