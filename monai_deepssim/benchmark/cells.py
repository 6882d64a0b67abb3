"""One cell of a benchmark: the scores of one detector under one perturbation, kept on disk once they are known."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

import monai_deepssim
from monai_deepssim.benchmark.pairs import PairSet
from monai_deepssim.benchmark.queries import QuerySet
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import AlignedDetector, CopyDetectionMetric, MemorizationIndexMetric, SearchStages
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION
from monai_deepssim.stores import ArrayStore

__all__ = ["NOT_FOUND", "NOT_VERIFIED", "CellScores", "cell_key", "load_cell", "score_cell"]

_NUM_NEIGHBORS = 10
#: Rank of a source that is not among the ten nearest, or not in a shortlist.
NOT_FOUND = 0
#: Score of a pair that a detector in two stages never looked at: the lowest that SSIM has.
NOT_VERIFIED = -1.0


@dataclass(frozen=True)
class CellScores:
    """What a detector reported on the queries, and on labelled pairs where there are some.

    Attributes:
        pair_scores: ``(N,)``, of each labelled pair; empty where there are none.
        nearest_scores: ``(S,)``, of each synthetic image with the nearest image of the gallery.
        ranks: ``(S,)``, rank of a copy's source among the gallery, from 1; :data:`NOT_FOUND` if it is not among the ten
            nearest, and for images that are not copies.
        is_proposed: ``(S,)``, whether a copy's source is among the candidates of the searches.
        is_kept: ``(S,)``, whether it is among the candidates that are compared on the pixels.
        source_scores: ``(S,)``, of each copy with its source, or one of the source's repeats, where that is among the
            ten nearest, and :data:`NOT_VERIFIED` if it is not; of two sources the lower. ``NOT_VERIFIED`` for images
            that are not copies.
        milliseconds: Time to represent a synthetic image and to search the gallery for it.
    """

    pair_scores: np.ndarray
    nearest_scores: np.ndarray
    ranks: np.ndarray
    is_proposed: np.ndarray
    is_kept: np.ndarray
    source_scores: np.ndarray
    milliseconds: float


@torch.no_grad()
def score_cell(detector: CopyDetectionMetric, queries: QuerySet, images: Tensor, batch_size: int) -> CellScores:
    """Let a detector search the gallery, and score the labelled pairs where there are some.

    A pair's score is that of its two images. A detector in two stages looks only at pairs in a shortlist of the
    gallery, as in an audit; all others have the lowest score, :data:`NOT_VERIFIED`.

    Args:
        detector: Detector that is fitted to the gallery.
        queries: What is searched for, or the labelled pairs.
        images: Synthetic images, changed, ``(S, 1, H, W)``.
        batch_size: Images per step.

    Returns:
        The scores.

    Raises:
        UnusableInputError: A score is not finite.
    """
    length = max(_NUM_NEIGHBORS, detector.top_k) if isinstance(detector, AlignedDetector) else _NUM_NEIGHBORS
    start = time.perf_counter()
    representations = detector.represent_all(images.split(batch_size))
    stages = detector.search_stages(representations, min(length, len(queries.gallery)))
    nearest = stages.scores[:, 0]
    if isinstance(detector, MemorizationIndexMetric):
        nearest = detector.compute_index(representations).mi  # the published score of an image, not of a pair
    seconds = time.perf_counter() - start

    pair_scores = torch.empty(0)
    if isinstance(queries, PairSet):
        pair_scores = _score_pairs(detector, queries, representations, stages)
    for values in (pair_scores, nearest):
        if not values.isfinite().all():
            raise UnusableInputError(
                f"{type(detector).__name__}: {int((~values.isfinite()).sum())} of {len(values)} scores are not finite. "
                "Check its weights, or leave it out with --only."
            )
    return CellScores(
        pair_scores=pair_scores.double().numpy(),
        nearest_scores=nearest.double().numpy(),
        ranks=_rank_sources(stages.indices[:, :_NUM_NEIGHBORS].numpy(), queries),
        is_proposed=_rank_sources(stages.proposed.numpy(), queries) != NOT_FOUND,
        is_kept=_rank_sources(stages.kept.numpy(), queries) != NOT_FOUND,
        source_scores=_score_sources(stages, queries),
        milliseconds=1000 * seconds / len(images),
    )


def _score_pairs(
    detector: CopyDetectionMetric, pairs: PairSet, representations: Tensor, stages: SearchStages
) -> Tensor:
    synthetic, real = torch.as_tensor(pairs.synthetic_index), torch.as_tensor(pairs.real_index)
    if isinstance(detector, AlignedDetector):
        is_real = stages.indices[synthetic] == real[:, None]
        return torch.where(is_real, stages.scores[synthetic], NOT_VERIFIED).amax(1)
    return detector.compare_pairs(representations[synthetic], detector.training_representations[real])


def _rank_sources(neighbors: np.ndarray, queries: QuerySet) -> np.ndarray:
    """Rank of the first source of each synthetic image among its neighbors, from 1, or :data:`NOT_FOUND`."""
    seconds = queries.second_sources or [np.array([], dtype=np.int64)] * len(queries.sources)
    ranks = np.full(len(neighbors), NOT_FOUND)
    for row, sources in enumerate(zip(queries.sources, seconds, strict=True)):
        places = np.flatnonzero(np.isin(neighbors[row], np.concatenate(sources)))
        if len(places):
            ranks[row] = places[0] + 1
    return ranks


def _score_sources(stages: SearchStages, queries: QuerySet) -> np.ndarray:
    """The score of each copy with its source; of two sources the lower."""
    nearest, scores = stages.indices[:, :_NUM_NEIGHBORS].numpy(), stages.scores[:, :_NUM_NEIGHBORS].double().numpy()
    lowest = np.full(len(nearest), np.inf)
    for sources in (queries.sources, queries.second_sources):
        for row, repeats in enumerate(sources):
            if len(repeats):
                of_repeats = scores[row][np.isin(nearest[row], repeats)]
                lowest[row] = min(lowest[row], of_repeats.max(initial=NOT_VERIFIED))
    return np.where(np.isfinite(lowest), lowest, NOT_VERIFIED)


def cell_key(detector_fingerprint: str, queries: QuerySet, images: Tensor) -> str:
    """What identifies a cell: detector, weights, images, versions of this package and of the scores on pixels.

    Args:
        detector_fingerprint: SHA-256 of what the detector is made of.
        queries: What is searched for.
        images: Synthetic images, changed, ``(S, 1, H, W)``.

    Returns:
        A SHA-256.
    """
    versions = [monai_deepssim.__version__, str(ALIGNED_SSIM_VERSION), str(COPY_SCORE_VERSION)]
    digest = hashlib.sha256("\n".join([*versions, detector_fingerprint, queries.fingerprint]).encode())
    digest.update(images.numpy().tobytes())
    return digest.hexdigest()


def load_cell(store: ArrayStore, name: str, key: str) -> CellScores | None:
    """Read a cell; ``None`` if there is none of this key with these fields.

    Args:
        store: Store that holds ``vars()`` of the cells.
        name: Name of the cell.
        key: Key of the cell.
    """
    arrays: Any = store.load(name, key)
    if arrays is None or arrays.keys() != {field.name for field in fields(CellScores)}:
        return None
    return CellScores(**{**arrays, "milliseconds": float(arrays["milliseconds"])})
