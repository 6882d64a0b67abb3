"""From what an audit measured to its result: classes, error rates, shares and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame, Series

from monai_deepssim.audit.decision import Seen, curve_of_controls, decide
from monai_deepssim.audit.demo import evaluate_demo
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.error_rates import add_error_rates
from monai_deepssim.audit.evidence import DEMO_FOLDER, Evidence
from monai_deepssim.audit.memorization_index import add_memorization_index
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.verdict import affected_patients, match_images, memorized_images
from monai_deepssim.calibration import Proportion, SecondOpinion, is_copy, proportion_interval
from monai_deepssim.data import check_unchanged, file_of
from monai_deepssim.progress import Stages
from monai_deepssim.report import HELD_OUT_COLUMNS

__all__ = ["Selection", "judge"]


@dataclass(frozen=True)
class Selection:
    """What is known of synthetic images that were chosen by their scores: they are no sample of their generator.

    Attributes:
        reason: a sentence that says what they were chosen from.
        chosen_by: name of the score that they were chosen by.
        rates: p-value and q-value that each image had among all of them, by its path.
        second_opinion: verdict of a detector that did not choose; ``None`` where there is none.
    """

    reason: str
    chosen_by: str
    rates: Mapping[str, tuple[float, float]]
    second_opinion: SecondOpinion | None


def judge(evidence: Evidence, options: AuditOptions, stages: Stages, selection: Selection | None = None) -> AuditResult:
    """Turn scores into classes, error rates, shares and the gate.

    Args:
        evidence: what was measured.
        options: the audit's options.
        stages: stages of the audit.
        selection: where the synthetic images were chosen by their scores: error rates are then those of the whole set,
            and no interval is given.
    """
    training, synthetic, holdout = evidence.training, evidence.synthetic, evidence.holdout
    detector, pairs, thresholds = evidence.detector, evidence.pairs, evidence.thresholds
    matches = match_images(synthetic.usable_items, pairs, training.usable_items, thresholds, detector.name)
    if options.memorization_index:
        with stages("memorization_index"):
            matches = add_memorization_index(matches, training, synthetic, detector, options)
    matches, discoveries = add_error_rates(matches, evidence.null, options.fdr, _score_of_plain_copy(evidence, options))
    matches = matches.assign(**{name: evidence.twins[name].reindex(matches.index) for name in evidence.twins})
    matches["twin_of"] = matches["twin_of"].fillna("")
    if selection is not None:
        matches = _add_known_rates(matches, selection.rates)
    # Slices of one synthetic volume are no independent witnesses.
    files = [file_of(synthetic.usable_items[row]) for row in matches.index]
    memorized = memorized_images(matches, pairs, training.usable_items, thresholds)
    held_out = None
    if holdout is not None and evidence.pairs_of_holdout is not None:
        held_out = _match_held_out(evidence, holdout, evidence.pairs_of_holdout)
    seen = Seen(
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        sides_differ=evidence.sides_differ,
        discoveries=discoveries,
        curve=curve_of_controls(evidence.controls, evidence.sides_differ, options),
        search=detector.recall,
        chosen_by="" if selection is None else selection.chosen_by,
        second_opinion=None if selection is None else selection.second_opinion,
    )
    check_unchanged(item for side in (training, synthetic, holdout) if side for item in side.side.all_items)
    return AuditResult(
        options=options,
        thresholds=thresholds,
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        detector=detector.name,
        embedder=detector.identity,
        search=detector.recall,
        matches=matches,
        pairs=pairs,
        memorized=memorized,
        copy_fraction=proportion_interval(is_copy(matches).tolist(), groups=files),
        memorized_fraction=proportion_interval(
            [row in memorized.index for row in range(len(training.usable_items))], groups=training.patients
        ),
        patients=affected_patients(memorized, training.usable_items),
        false_alarms=_false_alarms(held_out),
        held_out=held_out,
        controls=evidence.controls,
        curve=seen.curve,
        members=evidence.members if selection is None else None,
        second_opinion=seen.second_opinion,
        discoveries=discoveries if selection is None else None,
        selection="" if selection is None else selection.reason,
        sides_differ=evidence.sides_differ,
        gate=decide(matches, memorized, seen, options),
        demo=evaluate_demo(options.output_dir / DEMO_FOLDER, matches) if options.demo else None,
        seconds=stages.seconds,
    )


def _score_of_plain_copy(evidence: Evidence, options: AuditOptions) -> float:
    """What an image scores that is identical to a training image; some detectors have a scale of their own."""
    if options.verify:
        return 1.0
    images = evidence.training.images
    return float(evidence.detector.compare(images, images, np.zeros((1, 2), np.int64))[0])


def _match_held_out(evidence: Evidence, holdout: EmbeddedSide, pairs: DataFrame) -> DataFrame:
    items, name = evidence.training.usable_items, evidence.detector.name
    strangers = match_images(holdout.usable_items, pairs, items, evidence.thresholds, name)
    renamed = strangers.rename(columns={"synthetic_path": "holdout_path", "patient_id": "training_patient_id"})
    known = {"patient_id": Series(holdout.patients), "contamination": Series(evidence.contamination)}
    return renamed.assign(**known)[HELD_OUT_COLUMNS]


def _false_alarms(held_out: DataFrame | None) -> Proportion | None:
    if held_out is None:
        return None
    strangers = held_out[held_out["contamination"] == ""]
    if strangers.empty:
        return None
    return proportion_interval(is_copy(strangers).tolist(), groups=strangers["patient_id"].tolist())


def _add_known_rates(matches: DataFrame, rates: Mapping[str, tuple[float, float]]) -> DataFrame:
    known = [rates.get(path, (None, None)) for path in matches["synthetic_path"]]
    p_values, q_values = zip(*known, strict=True)
    return matches.assign(p_value=p_values, q_value=q_values)
