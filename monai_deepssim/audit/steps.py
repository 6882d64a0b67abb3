"""The steps of an audit, from options to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.inferers import Inferer
from pandas import DataFrame, Series

from monai_deepssim.audit.controls import ControlPlanter, score_controls
from monai_deepssim.audit.decision import Seen, curve_of_controls, decide
from monai_deepssim.audit.demo import evaluate_demo
from monai_deepssim.audit.detector import AuditDetector, load_detector
from monai_deepssim.audit.embedded_sides import embed_controls, embed_sides
from monai_deepssim.audit.error_rates import add_error_rates, find_contamination
from monai_deepssim.audit.estimate import say_estimate
from monai_deepssim.audit.members import compare_with_members
from monai_deepssim.audit.memorization_index import add_memorization_index
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.report import write_results
from monai_deepssim.audit.result import AuditResult, EmbeddedSide, Strangers
from monai_deepssim.audit.side_check import check_sides
from monai_deepssim.audit.sources import Side, list_sides
from monai_deepssim.audit.tables import HELD_OUT_COLUMNS, TABLES
from monai_deepssim.audit.training_search import TrainingSearch
from monai_deepssim.audit.verdict import (
    Thresholds,
    affected_patients,
    is_copy,
    match_images,
    memorized_images,
)
from monai_deepssim.calibration import (
    Discoveries,
    MemberComparison,
    NullScores,
    Proportion,
    SecondOpinion,
    proportion_interval,
)
from monai_deepssim.data import file_of, write_copies_demo
from monai_deepssim.files import ensure_writable
from monai_deepssim.metrics import SideComparison
from monai_deepssim.progress import Stages, say, warn
from monai_deepssim.release import FILE_LIST
from monai_deepssim.report import SHAREABLE_REPORT
from monai_deepssim.similarity import kernels_are_compiled

__all__ = ["Evidence", "Selection", "audit_stages", "gather_evidence", "judge", "perform_audit", "write_result"]

_DEMO_FOLDER, _DEMO_PATIENT_PATTERN = "demo", r"(phantom-\d+-\d+)"
_STAGES = {
    "making_demo": "Make a demo: phantoms, and copies among them",
    "listing": "List the images",
    "compiling": "Compile the comparison on the pixels, once on this machine",
    "fingerprints": "Fingerprint the files",
    "embedding_training": "Embed the training images",
    "embedding_synthetic": "Embed the synthetic images",
    "embedding_holdout": "Embed the held-out images",
    "comparing_sides": "Compare how the sides were preprocessed",
    "local_features": "Find local features of the training images",
    "search": "Compare each synthetic image with its nearest training images",
    "error_rates": "Measure what images score that are not copies",
    "controls": "Plant controls, copies of training images, and look for them",
    "members": "Compare training with held-out images by their nearest synthetic image",
    "memorization_index": "Compute the Memorization Index",
    "report": "Write tables and report",
}
_RESULT_FILES = ["summary.json", "report.html", SHAREABLE_REPORT, FILE_LIST, "filter.json"]
_RESULT_FILES += [f"{name}.csv" for name in TABLES]


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


def perform_audit(
    options: AuditOptions,
    *,
    sides: Sequence[Side] | None = None,
    write: bool = True,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> AuditResult:
    """Do an audit and write its files.

    Args:
        options: checked.
        sides: the training, the synthetic and any held-out side, where they are known already; by default the folders
            that the options name are listed.
        write: whether the result goes into files; embeddings and verified pairs do in any case.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found, which is also in the files.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    stages = audit_stages(options)
    evidence = gather_evidence(options, stages, sides=sides, inferer=inferer, handlers=handlers)
    result = judge(evidence, options, stages)
    if write:
        write_result(result, stages)
    return result


def audit_stages(options: AuditOptions, further: Mapping[str, str] | None = None) -> Stages:
    """Name the stages of an audit.

    Args:
        options: checked.
        further: titles of the stages behind those of the audit, by name.
    """
    wanted = {
        "making_demo": options.demo,
        "compiling": options.verify and not kernels_are_compiled(),
        "embedding_holdout": options.has_holdout,
        "local_features": options.verify,
        "controls": options.controls is not None,
        "members": options.has_holdout,
        "memorization_index": options.memorization_index,
    }
    return Stages({**{name: title for name, title in _STAGES.items() if wanted.get(name, True)}, **(further or {})})


@dataclass(frozen=True)
class Evidence:
    """What was measured, before anything is judged.

    Attributes:
        detector: fitted on the training images.
        search: the search among the training images.
        training: the training side.
        synthetic: the synthetic side.
        holdout: the held-out side, if there is one.
        sides_differ: how the preprocessing of the training and the synthetic side differs.
        pairs: one row per synthetic image (``query``) and training image that were compared, the closest first.
        pairs_of_holdout: the same pairs for the held-out images.
        contamination: why each held-out image is taken for a training image; empty for those that are not, and without
            held-out images.
        null: scores of images that are not copies; ``None`` where there are none.
        thresholds: thresholds of the score that the verdict rests on.
        controls: what became of the planted copies, the columns of ``controls.csv``; ``None`` where none were planted.
        members: how close training and held-out images are to the synthetic ones; ``None`` without held-out images.
    """

    detector: AuditDetector
    search: TrainingSearch
    training: EmbeddedSide
    synthetic: EmbeddedSide
    holdout: EmbeddedSide | None
    sides_differ: SideComparison
    pairs: DataFrame
    pairs_of_holdout: DataFrame | None
    contamination: list[str]
    null: NullScores | None
    thresholds: Thresholds
    controls: DataFrame | None
    members: MemberComparison | None

    @property
    def strangers(self) -> Strangers | None:
        """The held-out images that are no training images; ``None`` without any."""
        rows = np.flatnonzero([not reason for reason in self.contamination])
        if self.holdout is None or not len(rows):
            return None
        patients = self.holdout.patients
        return Strangers(self.holdout.images.subset(rows), [patients[row] for row in rows])

    def of_subset(self, rows: np.ndarray, side: Side, options: AuditOptions) -> Evidence:
        """The same evidence, of some of the synthetic images.

        Args:
            rows: int64 ``(n,)``, of the synthetic images, ascending.
            side: the side of these images, in this order.
            options: the audit's options.
        """
        synthetic = self.synthetic.subset(rows, side)
        pairs = self.pairs[self.pairs["query"].isin(rows)]
        return replace(
            self,
            synthetic=synthetic,
            sides_differ=check_sides(self.training, synthetic, options.image_size),
            pairs=pairs.assign(query=np.searchsorted(rows, pairs["query"])),
        )


def gather_evidence(
    options: AuditOptions,
    stages: Stages,
    *,
    sides: Sequence[Side] | None = None,
    result_files: Sequence[str] = (),
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> Evidence:
    """Embed the sides, compare them, search the training images for all others, and score images that are not copies.

    Args:
        options: checked.
        stages: stages of the audit.
        sides: as for :func:`perform_audit`.
        result_files: names of files in the output folder that rest on an earlier audit, and go when it goes.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    ensure_writable(options.output_dir)
    detector, planter = load_detector(options), ControlPlanter(options)
    if sides is None:
        sides = _read_sides(options, stages)
    say_estimate(sides, detector, options, stages, planter.count(sides[0]))
    engine: dict[str, Any] = {"inferer": inferer, "handlers": handlers}
    embedded = embed_sides(sides, detector, options, [*_RESULT_FILES, *result_files], stages, **engine)
    training, synthetic = embedded[:2]
    holdout = embedded[2] if len(embedded) > 2 else None
    if len(training.usable_items) == 1:
        warn("there is one training image: every synthetic image is compared with it alone.")
    detector.fit(training.images)
    with stages("comparing_sides"):
        sides_differ = check_sides(training, synthetic, options.image_size)
    with stages("local_features"):
        search = TrainingSearch(training, detector, options)
    with stages("search"):
        pairs = search.find_pairs(synthetic)
    thresholds = options.thresholds or search.threshold_of_held_out(holdout)
    with stages("error_rates"):
        pairs_of_holdout, contamination, null = _score_strangers(search, holdout)
        if null is None:
            null = search.null_of_training(len(synthetic.usable_items), thresholds.duplicate)
    controls = None
    if options.controls is not None:
        with stages("controls"):
            planted = embed_controls(planter.plant(training, synthetic), detector, options, **engine)
            controls = score_controls(planted, search.find_pairs(planted), training, thresholds)
    evidence = Evidence(
        detector=detector,
        search=search,
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        sides_differ=sides_differ,
        pairs=pairs,
        pairs_of_holdout=pairs_of_holdout,
        contamination=contamination,
        null=null,
        thresholds=thresholds,
        controls=controls,
        members=None,
    )
    if holdout is None:
        return evidence
    with stages("members"):
        return replace(evidence, members=compare_with_members(training, synthetic, evidence.strangers, detector))


def write_result(result: AuditResult, stages: Stages) -> None:
    """Write the files of an audit into its output folder.

    Raises:
        UnusableInputError: if one cannot be written.
    """
    with stages("report"):
        write_results(result.options.output_dir, result)


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
        sides_differ=evidence.sides_differ,
        null_can_call=_null_can_call(discoveries, options),
        curve=curve_of_controls(evidence.controls, options),
        chosen_by="" if selection is None else selection.chosen_by,
        second_opinion=None if selection is None else selection.second_opinion,
    )
    return AuditResult(
        options=options,
        thresholds=thresholds,
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        detector=detector.name,
        embedder=detector.identity,
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
        demo=evaluate_demo(options.output_dir / _DEMO_FOLDER, matches) if options.demo else None,
        seconds=stages.seconds,
    )


def _read_sides(options: AuditOptions, stages: Stages) -> list[Side]:
    """List the images that the options name; those of a demo are made first."""
    if options.demo:
        folder = options.output_dir / _DEMO_FOLDER
        with stages("making_demo"):
            say(f"No folder given: making a demo in {folder}")
            training_dir, synthetic_dir = write_copies_demo(folder)
        options = replace(
            options,
            training_dir=training_dir,
            synthetic_dir=synthetic_dir,
            patient_id_pattern=options.patient_id_pattern or _DEMO_PATIENT_PATTERN,
        )
    with stages("listing"):
        return list_sides(options)


def _score_strangers(
    search: TrainingSearch, holdout: EmbeddedSide | None
) -> tuple[DataFrame | None, list[str], NullScores | None]:
    """Pairs of the held-out images, which of them are training images, and the scores of all others, if there are."""
    if holdout is None:
        return None, [], None
    pairs = search.find_pairs(holdout)
    contamination = find_contamination(holdout, search.training, pairs, search.options.verify)
    rows = [row for row, reason in enumerate(contamination) if not reason]
    if not rows:
        return pairs, contamination, None
    scores, patients = pairs.groupby("query")["score"].first(), holdout.patients
    groups = [patients[row] for row in rows]
    null = NullScores(scores[rows].to_numpy(), groups=groups, group_rule=search.options.group_rule)
    return pairs, contamination, null


def _score_of_plain_copy(evidence: Evidence, options: AuditOptions) -> float:
    """What an image scores that is identical to a training image; some detectors have a scale of their own."""
    if options.verify:
        return 1.0
    images = evidence.training.images
    return float(evidence.detector.compare(images, images, np.zeros((1, 2), np.int64))[0])


def _null_can_call(discoveries: Discoveries | None, options: AuditOptions) -> bool | None:
    """Whether copies would be called if there were more than the gate accepts; without a gate, a realistic share."""
    if discoveries is None:
        return None
    accepted = options.max_copy_fraction
    return discoveries.can_call if accepted is None else discoveries.can_call_above(accepted)


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
