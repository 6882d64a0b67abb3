"""The steps of an audit, from options to files."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from monai.inferers import Inferer

from monai_deepssim.audit.demo import DEMO_PATIENT_PATTERN, DemoSettings, evaluate_demo, write_demo
from monai_deepssim.audit.detector import AuditDetector, load_detector
from monai_deepssim.audit.error_rates import add_error_rates, choose_null_images, halves_null, keep_strangers
from monai_deepssim.audit.files import ensure_writable, printable, unwritable
from monai_deepssim.audit.memorization_index import add_memorization_index
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.report import write_report
from monai_deepssim.audit.result import AuditResult, EmbeddedSide, EmbedderIdentity, write_summary
from monai_deepssim.audit.sources import Side, list_sides
from monai_deepssim.audit.tables import write_matches, write_memorized
from monai_deepssim.audit.verdict import Match, Shortlist, Thresholds, apply_gate, memorized_images
from monai_deepssim.audit.verification import verify
from monai_deepssim.calibration import NullScores, percentile_threshold, proportion_interval
from monai_deepssim.engines.embedding import embed_images
from monai_deepssim.engines.embedding_store import EmbeddingStore
from monai_deepssim.errors import UnusableInputError

__all__ = ["perform_audit"]

_RESULT_FILES = ["summary.json", "report.html", "matches.csv", "memorized.csv"]


def perform_audit(
    options: AuditOptions, *, inferer: Inferer | None = None, handlers: Sequence[Any] = ()
) -> AuditResult:
    """Do an audit and write its files.

    Args:
        options: checked.
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
        with _timed(seconds, "making_demo"):
            print(f"No folder given: making a demo in {demo_folder}", flush=True)
            training_dir, synthetic_dir = write_demo(demo_folder, DemoSettings())
        sources = replace(
            options,
            training_dir=training_dir,
            synthetic_dir=synthetic_dir,
            patient_id_pattern=options.patient_id_pattern or DEMO_PATIENT_PATTERN,
        )
    with _timed(seconds, "listing"):
        sides = list_sides(sources)
        stores = [_store(side, options, detector.identity) for side in sides]
        _open_stores(stores, options)
    embedded = []
    for side, store in zip(sides, stores, strict=True):
        with _timed(seconds, f"embedding_{side.name}"):
            embedded.append(_embed(side, store, detector, options, inferer, handlers))
    training, synthetic = embedded[:2]
    holdout = embedded[2] if len(embedded) > 2 else None
    if len(training.images.indices) == 1:
        _warn("there is one training image: every synthetic image is compared with it alone.")
    detector.fit(training.images, options.device)
    with _timed(seconds, "search"):
        shortlist = _shortlist(synthetic, training, detector, options)
    with _timed(seconds, "error_rates"):
        if holdout is not None:
            null: NullScores | None = _holdout_null(holdout, training, detector, options)
        else:
            null = _training_null(training, detector, options)
    thresholds = options.thresholds or _rule_of_dar(holdout, training, detector)
    matches = _matches(training.side, synthetic, shortlist, thresholds)
    if options.memorization_index:
        with _timed(seconds, "memorization_index"):
            matches = add_memorization_index(matches, training, synthetic, detector, options)
    matches, discoveries = add_error_rates(matches, null, options.fdr)
    memorized = memorized_images(matches)
    copied = {match.training_index for match in matches if match.is_copy}
    audited = [training.side.items[index] for index in training.images.indices.tolist()]
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
            [match.is_copy for match in matches],
            groups=[str(synthetic.side.items[match.synthetic_index]["image"]) for match in matches],
        ),
        memorized_fraction=proportion_interval(
            [index in copied for index in training.images.indices.tolist()],
            groups=[item["patient_id"] for item in audited],
        ),
        discoveries=discoveries,
        gate=apply_gate(
            options.max_copy_fraction,
            num_copies=sum(match.is_copy for match in matches),
            num_synthetic=len(matches),
            skipped_synthetic=len(synthetic.skipped),
            skipped_training=len(training.skipped),
        ),
        demo=evaluate_demo(demo_folder, matches) if options.demo else None,
        seconds=seconds,
    )
    with _timed(seconds, "report"):
        write_matches(options.output_dir / "matches.csv", matches, detector.name)
        write_memorized(options.output_dir / "memorized.csv", memorized)
        write_report(options.output_dir / "report.html", result)
    # Last: where there is a summary, the audit is complete.
    write_summary(options.output_dir / "summary.json", result)
    return result


def _embed(
    side: Side,
    store: EmbeddingStore,
    detector: AuditDetector,
    options: AuditOptions,
    inferer: Inferer | None,
    handlers: Sequence[Any],
) -> EmbeddedSide:
    continued = len(store.missing_shards()) < store.num_shards
    images = embed_images(
        detector.network,
        store,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        device=options.device,
        inferer=inferer,
        handlers=handlers,
        prepare_batch=detector.prepare_batch,
        description=f"{side.name} images",
    )
    if not images.embeddings:
        index, reason = min(images.problems.items())
        raise UnusableInputError(
            f"--{side.name}_dir {side.source}: none of its {len(side.items)} images can be used. The first, "
            f"{side.items[index]['path']}: {reason}"
        )
    return EmbeddedSide(side, images, store.fingerprint, continued)


def _store(side: Side, options: AuditOptions, embedder: EmbedderIdentity) -> EmbeddingStore:
    return EmbeddingStore(
        options.output_dir / "embeddings" / side.name,
        side.items,
        image_size=options.image_size,
        embedder_id=embedder.sha256,
    )


def _open_stores(stores: Sequence[EmbeddingStore], options: AuditOptions) -> None:
    """Continue the audit in the output folder if it is this one, refuse another, and take away its old result."""
    output_dir = options.output_dir
    results = [output_dir / name for name in _RESULT_FILES if (output_dir / name).exists()]
    if not options.overwrite:
        for store in stores:
            differences = store.differences()
            if differences:
                raise UnusableInputError(
                    f"--output_dir: {output_dir} holds an audit that differs from this one in its "
                    f"{store.directory.name} {', '.join(differences)}. Give another --output_dir, or --overwrite true "
                    "to replace it."
                )
        if results and not all(store.exists() for store in stores):
            raise UnusableInputError(
                f"--output_dir: {output_dir} holds {results[0].name}, but not the embeddings of an audit that could be "
                "continued. Give another --output_dir, or --overwrite true to replace it."
            )
    for store in stores:
        store.open(overwrite=options.overwrite)
    # A result must not outlive its audit: if this one fails, nothing is left that says that all was well.
    for path in results:
        try:
            path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error


def _shortlist(side: EmbeddedSide, training: EmbeddedSide, detector: AuditDetector, options: AuditOptions) -> Shortlist:
    scores, rows = detector.search(side.images, options.top_k)
    candidates = training.images.indices[rows]
    if not options.verify:
        return Shortlist(scores=scores, indices=candidates, detector_scores=scores)
    return verify(
        side.side,
        side.images.indices,
        training.side,
        candidates,
        scores,
        image_size=options.image_size,
        description=f"verifying {side.side.name} images",
    )


def _holdout_null(
    holdout: EmbeddedSide, training: EmbeddedSide, detector: AuditDetector, options: AuditOptions
) -> NullScores:
    found = _shortlist(holdout, training, detector, options)
    patients = [holdout.side.items[index]["patient_id"] for index in holdout.images.indices.tolist()]
    return NullScores(found.scores[:, 0], groups=patients)


def _training_null(training: EmbeddedSide, detector: AuditDetector, options: AuditOptions) -> NullScores | None:
    patients = [training.side.items[index]["patient_id"] for index in training.images.indices.tolist()]
    if len({patient or f"image {row}" for row, patient in enumerate(patients)}) < 2:
        return None
    rows = choose_null_images(len(patients))
    largest = max(Counter(patient for patient in patients if patient).values(), default=1)
    # In half of the training set an image's top_k nearest are among so many of the whole set, but for chance.
    keep = 2 * options.top_k
    scores, neighbors = detector.search(training.images.subset(rows), min(len(patients), keep + largest))
    neighbors, scores = keep_strangers(rows, neighbors, scores, patients, keep)
    if not neighbors.shape[1]:
        return None
    if options.verify:
        indices = training.images.indices
        found = verify(
            training.side,
            indices[rows],
            training.side,
            indices[neighbors],
            scores,
            image_size=options.image_size,
            description="verifying training images",
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


def _matches(training: Side, synthetic: EmbeddedSide, shortlist: Shortlist, thresholds: Thresholds) -> list[Match]:
    """Each synthetic image with its nearest training image, the highest score first."""
    matches = []
    for row, index in enumerate(synthetic.images.indices.tolist()):
        nearest = int(shortlist.indices[row, 0])
        score = float(shortlist.scores[row, 0])
        matches.append(
            Match(
                synthetic_path=synthetic.side.items[index]["path"],
                training_path=training.items[nearest]["path"],
                patient_id=training.items[nearest]["patient_id"],
                score=score,
                detector_score=float(shortlist.detector_scores[row, 0]),
                alignment=shortlist.alignments[row][0] if shortlist.alignments is not None else None,
                label=thresholds.classify(score),
                synthetic_index=index,
                training_index=nearest,
                row=row,
            )
        )
    return sorted(matches, key=lambda match: (-match.score, match.synthetic_path))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _warn(message: str) -> None:
    print(printable(f"memorization_audit: warning: {message}"), file=sys.stderr, flush=True)
