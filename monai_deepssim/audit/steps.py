"""The steps of an audit, from options to files."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer

from monai_deepssim.audit.bundles import find_bundle
from monai_deepssim.audit.demo import DEMO_PATIENT_PATTERN, DemoSettings, evaluate_demo, write_demo
from monai_deepssim.audit.files import ensure_writable, printable, unwritable
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.report import write_report
from monai_deepssim.audit.result import AuditResult, EmbeddedSide, EmbedderIdentity, write_summary
from monai_deepssim.audit.sources import Side, list_sides
from monai_deepssim.audit.tables import write_matches, write_memorized
from monai_deepssim.audit.verdict import Match, Shortlist, Thresholds, apply_gate, memorized_images, proportion
from monai_deepssim.engines.embedding import embed_images
from monai_deepssim.engines.embedding_store import EmbeddingStore
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CLASS_NAMES, classify_scores
from monai_deepssim.networks import load_deepssim
from monai_deepssim.search import NearestNeighbors

__all__ = ["load_embedder", "perform_audit"]

_RESULT_FILES = ["summary.json", "report.html", "matches.csv", "memorized.csv"]
# As many digits as matches.csv shows, so that the verdict can be reproduced from the file.
_SCORE_DIGITS = 6


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
    network, embedder = load_embedder(options)
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
        stores = [_store(side, options, embedder) for side in sides]
        _open_stores(stores, options)
    embedded = []
    for side, store in zip(sides, stores, strict=True):
        with _timed(seconds, f"embedding_{side.name}"):
            continued = len(store.missing_shards()) < store.num_shards
            images = embed_images(
                network,
                store,
                batch_size=options.batch_size,
                num_workers=options.num_workers,
                device=options.device,
                inferer=inferer,
                handlers=handlers,
                description=f"{side.name} images",
            )
        if not images.embeddings:
            index, reason = min(images.problems.items())
            raise UnusableInputError(
                f"--{side.name}_dir {side.source}: none of its {len(side.items)} images can be used. The first, "
                f"{side.items[index]['path']}: {reason}"
            )
        embedded.append(EmbeddedSide(side, images, store.fingerprint, continued))
    training, synthetic = embedded
    if len(training.images.indices) == 1:
        _warn("there is one training image: every synthetic image is compared with it alone.")
    with _timed(seconds, "search"):
        shortlist = _shortlist(training, synthetic, options)
        matches = _matches(training.side, synthetic, shortlist, options.thresholds)
    memorized = memorized_images(matches)
    num_copies = sum(match.is_copy for match in matches)
    result = AuditResult(
        options=options,
        training=training,
        synthetic=synthetic,
        embedder=embedder,
        matches=matches,
        shortlist=shortlist,
        memorized=memorized,
        copy_fraction=proportion(num_copies, len(matches)),
        memorized_fraction=proportion(len(memorized), len(training.images.indices)),
        gate=apply_gate(
            options.max_copy_fraction,
            num_copies=num_copies,
            num_synthetic=len(matches),
            skipped_synthetic=len(synthetic.skipped),
            skipped_training=len(training.skipped),
        ),
        demo=evaluate_demo(demo_folder, matches) if options.demo else None,
        seconds=seconds,
    )
    with _timed(seconds, "report"):
        write_matches(options.output_dir / "matches.csv", matches)
        write_memorized(options.output_dir / "memorized.csv", memorized)
        write_report(options.output_dir / "report.html", result)
    # Last: where there is a summary, the audit is complete.
    write_summary(options.output_dir / "summary.json", result)
    return result


def load_embedder(options: AuditOptions) -> tuple[torch.nn.Module, EmbedderIdentity]:
    """Load the embedder that the options name.

    Args:
        options: their ``checkpoint`` and ``device`` are used.

    Returns:
        The network in eval mode, on the device, and what identifies it.

    Raises:
        UnusableInputError: if the checkpoint is missing, damaged or of another network.
    """
    path = options.checkpoint
    if path is None:
        path = find_bundle("deepssim_brain_mri") / "models" / "model.pt"
    if not path.is_file():
        raise UnusableInputError(f"--checkpoint: {path} is no file. Give the weights of a DeepSSIM embedder.")
    network = load_deepssim(path).to(options.device).eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    try:
        with torch.inference_mode():
            probe = network(torch.zeros(1, 1, *options.image_size, device=options.device))
    except RuntimeError as error:
        raise UnusableInputError(
            f"--checkpoint: {path} does not take images of {options.image_size[0]} x {options.image_size[1]} with one "
            f"channel ({str(error).strip().splitlines()[-1]}). Give the weights of a DeepSSIM embedder."
        ) from error
    identity = EmbedderIdentity(
        name=f"{getattr(network, 'original_name', type(network).__name__)}, {parameters / 1e6:.1f} M parameters",
        checkpoint=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        embedding_dim=int(probe.shape[1]),
    )
    return network, identity


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


def _shortlist(training: EmbeddedSide, synthetic: EmbeddedSide, options: AuditOptions) -> Shortlist:
    search = NearestNeighbors(options.top_k, device=options.device)
    search.fit(training.images.embeddings)
    scores, rows = search.query(synthetic.images.embeddings)
    return Shortlist(
        scores=np.round(scores.cpu().numpy().astype(np.float64), _SCORE_DIGITS),
        indices=training.images.indices[rows.cpu().numpy()],
    )


def _matches(training: Side, synthetic: EmbeddedSide, shortlist: Shortlist, thresholds: Thresholds) -> list[Match]:
    """Each synthetic image with its nearest training image, the highest score first."""
    classes = classify_scores(shortlist.scores[:, 0], (thresholds.similar, thresholds.duplicate))
    matches = []
    for row, index in enumerate(synthetic.images.indices.tolist()):
        nearest = int(shortlist.indices[row, 0])
        matches.append(
            Match(
                synthetic_path=synthetic.side.items[index]["path"],
                training_path=training.items[nearest]["path"],
                patient_id=training.items[nearest]["patient_id"],
                score=float(shortlist.scores[row, 0]),
                label=CLASS_NAMES[classes[row]],
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
