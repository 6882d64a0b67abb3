"""From what an audit measured to the decision: what the release gate goes by, and the headline."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pandas import DataFrame

from monai_deepssim.audit.embedded_side import EmbeddedSide, Strangers
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.training_search import TrainingSearch
from monai_deepssim.calibration import (
    DetectionCurve,
    DetectionPoint,
    Discoveries,
    Gate,
    GateEvidence,
    GateRules,
    MemorizedPatients,
    SecondOpinion,
    compute_detection_curve,
    decide_gate,
    discoveries_at_fdr,
    find_discoveries,
    find_unexplained,
)
from monai_deepssim.data import file_of
from monai_deepssim.metrics import SideComparison
from monai_deepssim.search import EXACT_SEARCH, SearchRecall

__all__ = ["Seen", "ask_detector", "curve_of_controls", "decide"]

#: The change that recall is stated for where the generator's own autoencoder is not given: a blurred copy is what an
#: autoencoder makes of an image.
# With fewer controls of the reference change, 9 in 10 found and all found are one and the same.
_FEWEST_CONTROLS = 5

# Where the sides differ like this, copies changed like that have to be found at all levels.
_OCCURRING = {"sharpness": "blur", "noise": "noise", "field_of_view": "crop"}

_REFERENCE, _REFERENCE_WITH_AUTOENCODER = "blur_2", "autoencoder"
# In voxels of a volume of 64, as wide as 2 pixels of 136 rows.
_REFERENCE_OF_VOLUMES = "blur_1"


@dataclass(frozen=True)
class Seen:
    """What bears on whether a copy could have been seen at all.

    Attributes:
        training: the training side.
        synthetic: the synthetic side.
        sides_differ: how the preprocessing of these sides differs.
        discoveries: what the null has called; ``None`` where there is none.
        curve: what became of the controls; ``None`` without controls.
        holdout: the held-out side, if there is one.
        chosen_by: name of the score by which the synthetic images were chosen; empty where they were not.
        second_opinion: verdict of another detector on images that were chosen.
        search: which search proposed the candidates, and its recall.
    """

    training: EmbeddedSide
    synthetic: EmbeddedSide
    sides_differ: SideComparison
    discoveries: Discoveries | None
    curve: DetectionCurve | None
    holdout: EmbeddedSide | None = None
    chosen_by: str = ""
    second_opinion: SecondOpinion | None = None
    search: SearchRecall = EXACT_SEARCH


def curve_of_controls(
    controls: DataFrame | None, sides_differ: SideComparison, options: AuditOptions
) -> DetectionCurve | None:
    """The detection curve of the controls; ``None`` where none were planted."""
    if controls is None:
        return None
    reference = _REFERENCE if options.volumes == "none" else _REFERENCE_OF_VOLUMES
    reference = reference if options.autoencoder is None else _REFERENCE_WITH_AUTOENCODER
    kinds = {difference.kind for difference in sides_differ.differences}
    return compute_detection_curve(controls, reference, {_OCCURRING[kind] for kind in kinds & _OCCURRING.keys()})


def decide(matches: DataFrame, memorized: DataFrame, seen: Seen, options: AuditOptions) -> Gate:
    """Decide whether the synthetic images may be released.

    Args:
        matches: each synthetic image with its nearest training image.
        memorized: training images that have a copy.
        seen: what bears on whether a copy could have been seen.
        options: the audit's options.
    """
    rules = GateRules(
        max_copy_fraction=options.max_copy_fraction,
        max_patient_fraction=options.max_patient_fraction,
        gate_on=options.gate_on,
        min_recall=options.min_recall,
        count_parts=options.count_parts,
    )
    ordered = matches.sort_index()
    q_values = ordered["q_value"].astype(float).fillna(1.0).tolist()
    uncovered, reference = seen.sides_differ.uncovered, None if seen.curve is None else seen.curve.reference_point
    flags = {
        "is_copy": (ordered["label"] == "duplicate").to_numpy(),
        "is_part": (ordered["label"] == "part").to_numpy(),
        "is_discovery": np.asarray(discoveries_at_fdr(q_values, options.fdr), bool),
        "is_unexplained": ordered["unexplained"].astype(bool).to_numpy(),
        "is_twin": (ordered["twin_of"] != "").to_numpy(),
    }
    opinion = seen.second_opinion
    votes = [*flags.values(), *([] if opinion is None else [np.asarray(opinion.is_suspicious, bool)])]
    rows = _rows_that_count(seen.synthetic, np.any(votes, axis=0))
    limits = (options.max_copy_fraction, options.max_patient_fraction)
    least = min((limit for limit in limits if limit is not None), default=None)
    evidence = GateEvidence(
        **{name: flag[rows].tolist() for name, flag in flags.items()},
        files=[file_of(seen.synthetic.usable_items[row]) for row in rows],
        skipped_synthetic=_count_skipped(seen.synthetic),
        skipped_training=len(seen.training.skipped),
        skipped_holdout=len(seen.holdout.skipped) if seen.holdout else 0,
        ignored_files=sum(one.side.num_unread for one in (seen.training, seen.synthetic, seen.holdout) if one),
        sides_differ=uncovered[0].description if uncovered else "",
        null_can_call=None if seen.discoveries is None else seen.discoveries.can_call_above(least),
        null_remedy="" if seen.discoveries is None else seen.discoveries.remedy_above(least),
        recall=_recall(reference, options.min_recall),
        reference="" if reference is None else reference.words,
        missed=() if seen.curve is None else _missed(seen.curve, options.min_recall),
        is_verified=options.verify,
        search_engine=seen.search.engine,
        search_recall=seen.search.recall,
        patients=_count_patients(memorized, _suspicious(ordered, q_values, options.fdr), seen.training),
        chosen_by=seen.chosen_by,
        second_opinion=None if opinion is None else replace(opinion, is_suspicious=votes[-1][rows]),
    )
    return decide_gate(rules, evidence)


def ask_detector(
    search: TrainingSearch, synthetic: EmbeddedSide, strangers: Strangers | None, fdr: float
) -> SecondOpinion | None:
    """Ask the detector, whose score decided nothing, which of the images that were chosen on the pixels are suspicious.

    Args:
        search: the search among the training images.
        synthetic: the images that were chosen.
        strangers: held-out images that are not in the training set; ``None`` without any.
        fdr: accepted share of wrong ones among those that it calls.

    Returns:
        Its verdict; ``None`` where there is nothing to compare its scores with.
    """
    null = search.null_of_detector(strangers)
    if null is None:
        return None
    scores = search.detector.search(synthetic.images, 1)[0][:, 0]
    is_discovery = find_discoveries(scores, null, fdr).is_discovery
    is_unexplained = find_unexplained(scores, null.measurements, is_discovery).flags
    return SecondOpinion(search.detector.name, np.asarray(is_discovery) | is_unexplained)


def _count_skipped(synthetic: EmbeddedSide) -> int:
    skipped = {one.path for one in synthetic.skipped}
    others = [repeat for repeat in synthetic.side.repeats if repeat.is_another_image and repeat.first in skipped]
    return len(skipped) + len(others)


def _rows_that_count(synthetic: EmbeddedSide, is_suspicious: np.ndarray) -> list[int]:
    """Every image once, and a suspicious one as often as it is there: no repetition may lower a share."""
    row_of = {item["path"]: row for row, item in enumerate(synthetic.usable_items)}
    others = [row_of.get(repeat.first) for repeat in synthetic.side.repeats if repeat.is_another_image]
    return [*range(len(row_of)), *(row for row in others if row is not None and is_suspicious[row])]


def _recall(reference: DetectionPoint | None, min_recall: float) -> float | None:
    """Recall of the reference change; unknown from a handful of controls, unless none is asked for."""
    if reference is None or (min_recall > 0 and reference.found.total < _FEWEST_CONTROLS):
        return None
    return reference.found.value


def _missed(curve: DetectionCurve, min_recall: float) -> tuple[str, ...]:
    """How few controls were found after which change; the reference is told apart."""
    return tuple(
        f"{point.found.count} of {point.found.total} {point.words}"
        for point in curve.missed(min_recall)
        if point.name != curve.reference
    )


def _suspicious(matches: DataFrame, q_values: list[float], fdr: float) -> DataFrame:
    """Images that are closer than chance explains, unexplained, or twins of a copy."""
    is_twin = (matches["twin_of"] != "").to_numpy()
    return matches[discoveries_at_fdr(q_values, fdr) | matches["unexplained"].astype(bool).to_numpy() | is_twin]


def _count_patients(memorized: DataFrame, suspicious: DataFrame, training: EmbeddedSide) -> MemorizedPatients | None:
    """Count patients with a copy, or whom a suspicious image is nearest to."""
    known = set(training.patients) - {""}
    if not known:
        return None
    affected = {*memorized["patient_id"], *suspicious["patient_id"]} - {""}
    return MemorizedPatients(memorized=len(affected), total=len(known), unknown=training.patients.count(""))
