"""The sides of an audit with their embeddings, made now or taken from an earlier run of the same audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.inferers import Inferer

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.sources import Side
from monai_deepssim.engines import EmbeddingStore, embed_images, identify_inferer, share_hashing
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import remove_files
from monai_deepssim.progress import Stages, say
from monai_deepssim.ranks import current_ranks

__all__ = ["EMBEDDINGS_FOLDER", "embed_controls", "embed_sides"]

#: Where the embeddings are, inside of the output folder: one folder per side.
EMBEDDINGS_FOLDER = "embeddings"


def embed_sides(
    sides: Sequence[Side],
    detector: AuditDetector,
    options: SearchOptions,
    result_files: Sequence[str],
    stages: Stages,
    *,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> list[EmbeddedSide]:
    """Embed the images of each side, continuing in the output folder what was done there.

    Args:
        sides: the files.
        detector: what embeds them.
        options: their ``output_dir``, ``overwrite``, ``image_size`` and those of the loader are used.
        result_files: names of the files that an audit in the output folder has written: they are removed first, so that
            a result never outlives its audit.
        stages: stages of the computation.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        The sides in the same order.

    Raises:
        UnusableInputError: if the output folder holds an audit of something else, no image of a side can be used, or
            held-out images are synthetic ones.
    """
    with stages("fingerprints"):
        embedder_id = _embedder_id(detector, inferer)
        sides = [replace(side, items=share_hashing(side.items, f"--{side.name}_dir")) for side in sides]
        opened = [_count_once(side, _store(side, options, embedder_id), options) for side in sides]
        sides, stores = [side for side, _ in opened], [store for _, store in opened]
        _check_held_out({side.name: store for side, store in zip(sides, stores, strict=True)})
        _open_stores(stores, options, [options.output_dir / name for name in result_files])
    embedded = []
    for side, store in zip(sides, stores, strict=True):
        with stages(f"embedding_{side.name}"):
            embedded.append(_embed(side, store, detector, options, inferer, handlers))
    return embedded


def _embedder_id(detector: AuditDetector, inferer: Inferer | None) -> str:
    """What tells the embedder from another one, the same on all ranks."""
    ranks, weights = current_ranks(), detector.identity.sha256
    ranks.check_agreement(f"SHA-256 {weights[:16]}", "--checkpoint: the weights")
    return weights + str(ranks.of_first(identify_inferer(inferer)))


def embed_controls(
    side: Side,
    detector: AuditDetector,
    options: SearchOptions,
    *,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> EmbeddedSide:
    """Embed planted images as those of a side are; other ones that were planted in an earlier run are replaced.

    Args:
        side: the planted images.
        detector: what embeds them.
        options: as for :func:`embed_sides`.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.
    """
    store = _store(side, options, _embedder_id(detector, inferer))
    store.open(overwrite=True)
    return _embed(side, store, detector, options, inferer, handlers)


def _embed(
    side: Side,
    store: EmbeddingStore,
    detector: AuditDetector,
    options: SearchOptions,
    inferer: Inferer | None,
    handlers: Sequence[Any],
) -> EmbeddedSide:
    continued = store.num_known > 0
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
            f"{side.items[index]['path']}: {reason.removeprefix(side.items[index]['path'] + ': ')}"
        )
    side = replace(side, items=store.hashed_items)
    return EmbeddedSide(side, images, store.fingerprint, store.contents, continued, store.file_hashes)


def _count_once(side: Side, store: EmbeddingStore, options: SearchOptions) -> tuple[Side, EmbeddingStore]:
    """Of synthetic images of the same content the first is embedded, unless each of them counts."""
    if side.name != "synthetic" or options.count_repeats:
        return side, store
    hashed = replace(side, items=store.hashed_items)
    once = hashed.of_contents(store.contents)
    return (side, store) if once is hashed else (once, _store(once, options, store.embedder_id, store.file_hashes))


def _check_held_out(stores: Mapping[str, EmbeddingStore]) -> None:
    """Refuse held-out images that are synthetic ones: they are no strangers, and some may be copies.

    What is a training image besides is left out later, as contamination.
    """
    if "holdout" not in stores:
        return
    training, synthetic, holdout = (stores[name] for name in ("training", "synthetic", "holdout"))
    only_synthetic = set(synthetic.contents) - set(training.contents)
    shared = [
        item["path"]
        for item, content in zip(holdout.items, holdout.contents, strict=True)
        if content in only_synthetic and not content.startswith("unreadable")
    ]
    if shared:
        raise UnusableInputError(
            f"--holdout_dir: {len(shared)} of its {len(holdout.items)} images are synthetic images by their content, "
            f"such as {shared[0]}. Held-out images are real and show how close strangers come: take these out."
        )


def _store(
    side: Side, options: SearchOptions, embedder_id: str, file_hashes: Mapping[str, str] | None = None
) -> EmbeddingStore:
    return EmbeddingStore(
        options.output_dir / EMBEDDINGS_FOLDER / side.name,
        side.items,
        image_size=options.image_size,
        embedder_id=embedder_id,
        precision=options.embedding_precision,
        file_hashes=file_hashes,
    )


def _open_stores(stores: Sequence[EmbeddingStore], options: SearchOptions, result_files: Sequence[Path]) -> None:
    """Continue the audit in the output folder if it is this one, refuse another, and take away its old result."""
    output_dir = options.output_dir
    results = [path for path in result_files if path.exists()]
    # Held-out images may be given to an audit that was made without them.
    is_continued = all(store.exists() for store in stores if store.directory.name != "holdout")
    for store in stores if not options.overwrite else []:
        if store.holds_other_images():
            raise UnusableInputError(
                f"--output_dir: {output_dir} holds an audit of other {store.directory.name} images: no file there has "
                "the content or the name of one of these. Give another --output_dir, or --overwrite true to replace it."
            )
    if results and not options.overwrite and not is_continued:
        raise UnusableInputError(
            f"--output_dir: {output_dir} holds {results[0].name}, but not the embeddings of an audit that could be "
            "continued. Give another --output_dir, or --overwrite true to replace it."
        )
    for store in stores:
        store.open(overwrite=options.overwrite)
        reuse = store.describe_reuse()
        if reuse:
            say(f"{store.directory.name} images: {reuse}.")
    if current_ranks().is_first:
        # A result must not outlive its audit: if this one fails, nothing is left that says that all was well.
        remove_files(result_files)
