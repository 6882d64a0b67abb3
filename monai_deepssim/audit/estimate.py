"""How long an audit will take on this machine, from a few of its own images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_sides import EMBEDDINGS_FOLDER
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.sources import Side
from monai_deepssim.calibration import num_null_images
from monai_deepssim.data import ImageDataset, load_slice
from monai_deepssim.memory import BYTES_PER_PIXEL, check_memory
from monai_deepssim.metrics import ComparedImages, tabulate_candidates, verify_candidates
from monai_deepssim.progress import Stages, is_quiet, say
from monai_deepssim.ranks import current_ranks
from monai_deepssim.similarity import compile_kernels, extract_local_features, map_in_threads

__all__ = ["duration_words", "estimate_seconds", "say_estimate"]

# Two rows and a score.
_BYTES_PER_CANDIDATE = 24
# Below so many images, what follows would take as long as the audit itself.
_NUM_IMAGES, _NUM_VOLUMES, _SMALL_SET = 8, 3, 100
# Local features prove most of the controls, of which fewer pairs are compared then: 1,195 of the 420 of 400 phantoms.
_PAIRS_OF_CONTROL = 3


@dataclass(frozen=True)
class _Speed:
    """Seconds that an image or a pair takes."""

    image: float = 0.0
    features: float = 0.0
    pair: float = 0.0


def say_estimate(
    sides: Sequence[Side], detector: AuditDetector, options: SearchOptions, stages: Stages, num_controls: int = 0
) -> None:
    """Say how many images there are and how long they will take, once everything is compiled.

    Args:
        sides: as for :func:`estimate_seconds`.
        detector: as for :func:`estimate_seconds`.
        options: as for :func:`estimate_seconds`.
        stages: stages of the workflow; includes ``compiling`` where kernels have to be compiled.
        num_controls: as for :func:`estimate_seconds`.

    Raises:
        UnusableInputError: when the candidates of all images cannot fit into the memory of this machine.
    """
    _check_memory(sides, options)
    if "compiling" in stages.titles:
        with stages("compiling"):
            compile_kernels()
    if is_quiet():
        return
    counts = " and ".join(f"{len(side.items)} {side.name.replace('holdout', 'held-out')}" for side in sides)
    seconds, seconds_of_controls = estimate_seconds(sides, detector, options, num_controls)
    words = duration_words(seconds)
    is_bound = (options.output_dir / EMBEDDINGS_FOLDER).exists() and not words.startswith("less")
    controls = ""
    if num_controls:
        controls = (
            f", of which {duration_words(seconds_of_controls)} for {num_controls} controls (copies of training images "
            "that show how many would be found; --controls none leaves them out)"
        )
    say(f"{counts} images: {'at most ' if is_bound else ''}{words}{controls}")


def _check_memory(sides: Sequence[Side], options: SearchOptions) -> None:
    num_images = min(options.batch_size, max(len(side.items) for side in sides))
    batch = f"--batch_size: {num_images:,} images of {' x '.join(map(str, options.image_size))}"
    num_bytes = BYTES_PER_PIXEL * num_images * math.prod(options.image_size)
    check_memory(num_bytes, batch, "Give a smaller --batch_size or --image_size.")
    num_candidates = sum(len(side.items) for side in sides) * min(options.num_proposed, len(sides[0].items))
    candidates = f"--top_k: a list of {num_candidates:,} candidates, {options.num_proposed:,} of each image,"
    check_memory(_BYTES_PER_CANDIDATE * num_candidates, candidates, "Give a smaller one.")


def estimate_seconds(
    sides: Sequence[Side], detector: AuditDetector, options: SearchOptions, num_controls: int = 0
) -> tuple[float, float]:
    """Estimate how long embedding and comparing will take, by doing both with a few images of the training side.

    Args:
        sides: the training side, the synthetic side and any held-out side; of a deduplication the training side alone.
        detector: the audit's detector.
        options: the audit's options.
        num_controls: copies of training images that will be planted.

    Returns:
        Seconds, and how many of them are for the controls; 0 for small sets, and where none of these images can be
        read. What an earlier run has done is not taken off.
    """
    items, num_images = sides[0].items, sum(len(side.items) for side in sides)
    if num_images + num_controls < _SMALL_SET:
        return 0.0, 0.0
    speed = _measure(items, detector, options)
    # The images of all sides are looked up among the training images; without held-out images, some of these are, too.
    looked_up = num_images - len(items) if len(sides) > 1 else len(items)
    pairs = looked_up * options.top_k
    if len(sides) == 2:
        pairs += options.top_k * num_null_images(len(items), len(sides[1].items))
    pairs_of_control = options.top_k if options.volumes != "none" else min(options.top_k, _PAIRS_OF_CONTROL)
    controls = num_controls * (speed.image + 2 * speed.features + pairs_of_control * speed.pair)
    seconds = num_images * speed.image + (num_images + looked_up) * speed.features + pairs * speed.pair
    # Ranks share all of it, and each of them measures with its part of the cores.
    shares = current_ranks().size
    return (seconds + controls) / shares, controls / shares


def _measure(items: Sequence[Mapping[str, Any]], detector: AuditDetector, options: SearchOptions) -> _Speed:
    number = _NUM_IMAGES if options.volumes == "none" else _NUM_VOLUMES
    chosen = np.unique(np.linspace(0, len(items) - 1, number).astype(int)).tolist()
    start = time.perf_counter()
    dataset = ImageDataset([items[index] for index in chosen], image_size=options.image_size)
    loaded = [sample for sample in (dataset[number] for number in range(len(dataset))) if not sample["problem"]]
    if not loaded:
        return _Speed()
    images = [torch.as_tensor(sample["image"]) for sample in loaded]
    detector.metric.represent_batch(torch.stack(images))
    embedding = (time.perf_counter() - start) / len(images)
    if not options.verify or len(images) < 2:
        return _Speed(embedding)
    start = time.perf_counter()
    features = 0.0
    if options.volumes == "none":  # volumes have no local features
        slices = [load_slice(dataset.items[sample["index"]]) for sample in loaded]
        map_in_threads(lambda number: extract_local_features(slices[number]), len(slices))
        features = (time.perf_counter() - start) / len(images)
    start = time.perf_counter()
    compared, others = ComparedImages(images.__getitem__, device=options.device), len(images) - 1
    neighbors = np.array([np.delete(np.arange(len(images)), row) for row in range(len(images))])
    verify_candidates(
        tabulate_candidates(neighbors, np.zeros(neighbors.shape)),
        compared,
        compared,
        keep=others,
        deformation_cost=options.deformation_cost,
    )
    return _Speed(embedding, features, (time.perf_counter() - start) / neighbors.size)


def duration_words(seconds: float) -> str:
    """Say a duration as one says it.

    Example:
        >>> [duration_words(seconds) for seconds in (20, 100, 7300)]
        ['less than a minute', 'about 2 minutes', 'about 2.0 hours']
    """
    if seconds < 50:
        return "less than a minute"
    if seconds < 90:
        return "about a minute"
    return f"about {round(seconds / 60)} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
