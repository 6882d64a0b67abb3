"""The steps of an audit, from options to files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.inferers import Inferer
from pandas import DataFrame, Series

from monai_deepssim.audit.demo import DEMO_PATIENT_PATTERN, DemoSettings, evaluate_demo, write_demo
from monai_deepssim.audit.detector import AuditDetector, load_detector
from monai_deepssim.audit.embedded_sides import embed_sides
from monai_deepssim.audit.error_rates import add_error_rates, choose_null_images, halves_null, keep_strangers
from monai_deepssim.audit.local_candidates import LocalCandidates
from monai_deepssim.audit.memorization_index import add_memorization_index
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import AuditResult, EmbeddedSide, write_summary, write_tables
from monai_deepssim.audit.side_check import check_sides
from monai_deepssim.audit.sources import Side, list_sides
from monai_deepssim.audit.tables import HELD_OUT_COLUMNS
from monai_deepssim.audit.verdict import Shortlist, Thresholds, apply_gate, is_copy, match_images, memorized_images
from monai_deepssim.audit.verification import verify
from monai_deepssim.audit.verification_store import verification_store
from monai_deepssim.calibration import NullScores, percentile_threshold, proportion_interval
from monai_deepssim.data import file_of
from monai_deepssim.files import ensure_writable
from monai_deepssim.progress import say, timed, warn

__all__ = ["Selection", "perform_audit"]

_RESULT_FILES = ["summary.json", "report.html", "matches.csv", "memorized.csv", "holdout.csv"]


@dataclass(frozen=True)
class Selection:
    """What is known of synthetic images that were chosen by their scores: they are no sample of their generator.

    Attributes:
        reason: a sentence that says what they were chosen from.
        rates: p-value and q-value that each image had among all of them, by its path.
    """

    reason: str
    rates: Mapping[str, tuple[float, float]]


def perform_audit(
    options: AuditOptions,
    *,
    sides: Sequence[Side] | None = None,
    result_files: Sequence[str] = (),
    selection: Selection | None = None,
    write: bool = True,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> AuditResult:
    """Do an audit and write its files.

    Args:
        options: checked.
        sides: the training, the synthetic and any held-out side, where they are known already; by default the folders
            that the options name are listed.
        selection: where the synthetic images were chosen by their scores: error rates are then those of the whole set,
            and no interval is given.
        result_files: names of files in the output folder that rest on an earlier audit, and go when it goes.
        write: whether the result goes into files; embeddings and verified pairs do in any case.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found, which is also in the files.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    seconds: dict[str, float] = {}
    ensure_writable(options.output_dir)
    demo_folder = options.output_dir / "demo"
    detector = load_detector(options)
    sources = options
    if options.demo:
        with timed(seconds, "making_demo"):
            say(f"No folder given: making a demo in {demo_folder}")
            training_dir, synthetic_dir = write_demo(demo_folder, DemoSettings())
        sources = replace(
            options,
            training_dir=training_dir,
            synthetic_dir=synthetic_dir,
            patient_id_pattern=options.patient_id_pattern or DEMO_PATIENT_PATTERN,
        )
    if sides is None:
        with timed(seconds, "listing"):
            sides = list_sides(sources)
    embedded = embed_sides(
        sides, detector, options, [*_RESULT_FILES, *result_files], seconds, inferer=inferer, handlers=handlers
    )
    training, synthetic = embedded[:2]
    holdout = embedded[2] if len(embedded) > 2 else None
    if len(training.images.indices) == 1:
        warn("there is one training image: every synthetic image is compared with it alone.")
    detector.fit(training.images, options.device)
    with timed(seconds, "comparing_sides"):
        sides_differ = check_sides(training, synthetic, options.image_size)
    local = None
    if options.verify:
        with timed(seconds, "local_features"):
            local = LocalCandidates(training.side, training.images.indices, options.image_size)
    with timed(seconds, "search"):
        shortlist = _shortlist(synthetic, training, detector, options, local)
    with timed(seconds, "error_rates"):
        null: NullScores | None = None
        if holdout is not None:
            of_holdout = _shortlist(holdout, training, detector, options, local)
            null = NullScores(of_holdout.scores[:, 0], groups=_patients(holdout))
        elif selection is None:
            null = _training_null(training, detector, options, local)
    thresholds = options.thresholds or _rule_of_dar(holdout, training, detector)
    matches = match_images(synthetic.usable_items, shortlist, training.side.items, thresholds, detector.name)
    held_out = None
    if holdout is not None:
        strangers = match_images(holdout.usable_items, of_holdout, training.side.items, thresholds, detector.name)
        held_out = _held_out_table(strangers, holdout)
    if options.memorization_index:
        with timed(seconds, "memorization_index"):
            matches = add_memorization_index(matches, training, synthetic, detector, options)
    if selection is None:
        matches, discoveries = add_error_rates(matches, null, options.fdr)
    else:
        matches, discoveries = _add_known_rates(matches, selection.rates), None
    memorized = memorized_images(matches, shortlist, training.side.items, thresholds)
    copied = set(memorized.index)
    result = AuditResult(
        options=options,
        thresholds=thresholds,
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        detector=detector.name,
        embedder=detector.identity,
        matches=matches,
        shortlist=shortlist,
        memorized=memorized,
        # Slices of one synthetic volume, and images of one patient, are no independent witnesses.
        copy_fraction=proportion_interval(
            is_copy(matches).tolist(),
            groups=[file_of(synthetic.usable_items[row]) for row in matches.index],
        ),
        memorized_fraction=proportion_interval(
            [index in copied for index in training.images.indices.tolist()],
            groups=_patients(training),
        ),
        false_alarms=(
            None
            if holdout is None
            else proportion_interval(is_copy(strangers.sort_index()).tolist(), groups=_patients(holdout))
        ),
        held_out=held_out,
        discoveries=discoveries,
        selection="" if selection is None else selection.reason,
        sides_differ=sides_differ,
        gate=apply_gate(
            options.max_copy_fraction,
            num_copies=int((matches["label"] == "duplicate").sum()),
            num_parts=int((matches["label"] == "part").sum()),
            count_parts=options.count_parts,
            num_synthetic=len(matches),
            skipped_synthetic=len(synthetic.skipped),
            skipped_training=len(training.skipped),
            hidden_by=sides_differ.uncovered[0].description if sides_differ.uncovered else "",
        ),
        demo=evaluate_demo(demo_folder, matches) if options.demo else None,
        seconds=seconds,
    )
    if write:
        with timed(seconds, "report"):
            write_tables(options.output_dir, result)
            result.to_html(options.output_dir / "report.html")
        # Last: where there is a summary, the audit is complete.
        write_summary(options.output_dir / "summary.json", result)
    return result


def _shortlist(
    side: EmbeddedSide,
    training: EmbeddedSide,
    detector: AuditDetector,
    options: AuditOptions,
    local: LocalCandidates | None,
) -> Shortlist:
    scores, rows = detector.search(side.images, options.num_proposed)
    candidates = training.images.indices[rows]
    if not options.verify:
        return Shortlist(scores=scores, indices=candidates, detector_scores=scores)
    return verify(
        side.side,
        side.images.indices,
        training.side,
        candidates,
        scores,
        keep=options.top_k,
        image_size=options.image_size,
        deformation_cost=options.deformation_cost,
        description=f"verifying {side.side.name} images",
        store=verification_store(side, training, options),
        local=local,
        compare=lambda pairs: detector.compare(side.images, training.images, pairs),
    )


def _patients(part: EmbeddedSide) -> list[str]:
    return [item["patient_id"] for item in part.usable_items]


def _held_out_table(strangers: DataFrame, holdout: EmbeddedSide) -> DataFrame:
    patients = Series([item["patient_id"] for item in holdout.usable_items])
    renamed = strangers.rename(columns={"synthetic_path": "holdout_path", "patient_id": "training_patient_id"})
    return renamed.assign(patient_id=patients)[HELD_OUT_COLUMNS]


def _add_known_rates(matches: DataFrame, rates: Mapping[str, tuple[float, float]]) -> DataFrame:
    known = [rates.get(path, (None, None)) for path in matches["synthetic_path"]]
    p_values, q_values = zip(*known, strict=True)
    return matches.assign(p_value=p_values, q_value=q_values)


def _training_null(
    training: EmbeddedSide, detector: AuditDetector, options: AuditOptions, local: LocalCandidates | None
) -> NullScores | None:
    patients = _patients(training)
    if len({patient or f"image {row}" for row, patient in enumerate(patients)}) < 2:
        return None
    rows = choose_null_images(len(patients))
    largest = max(Counter(patient for patient in patients if patient).values(), default=1)
    # In half of the training set an image's nearest are among so many of the whole set, but for chance.
    keep = 2 * options.num_proposed
    scores, neighbors = detector.search(training.images.subset(rows), min(len(patients), keep + largest))
    neighbors, scores = keep_strangers(rows, neighbors, scores, patients, keep)
    if not neighbors.shape[1]:
        return None
    if options.verify:
        indices = training.images.indices
        members: dict[str, list[int]] = {}
        for row, patient in enumerate(patients):
            members.setdefault(patient, []).append(int(indices[row]))

        def own_patient(index: int) -> Collection[int]:
            patient = training.side.items[index]["patient_id"]
            return members[patient] if patient else [index]

        found = verify(
            training.side,
            indices[rows],
            training.side,
            indices[neighbors],
            scores,
            keep=2 * options.top_k,
            image_size=options.image_size,
            deformation_cost=options.deformation_cost,
            description="verifying training images",
            store=verification_store(training, training, options),
            local=local,
            exclude=own_patient,
            compare=lambda pairs: detector.compare(training.images, training.images, pairs),
        )
        # From positions in the list of files back to rows.
        neighbors, scores = np.searchsorted(indices, found.indices), found.scores
    return halves_null(rows, neighbors, scores, patients)


def _rule_of_dar(holdout: EmbeddedSide | None, training: EmbeddedSide, detector: AuditDetector) -> Thresholds:
    """The copy detector's own threshold, from the training images' highest correlation to a held-out image."""
    assert holdout is not None, "the options ask for held-out images where there is no threshold"
    searched = replace(detector)
    searched.fit(holdout.images, detector.metric.device)
    scores, _ = searched.search(training.images, 1)
    source = detector.metric.threshold_source
    return Thresholds(None, float(percentile_threshold(scores[:, 0])), detector.name, source)
