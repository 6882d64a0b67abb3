"""The second stage of an audit: the shortlist of each image is looked at on the pixels, after alignment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import Shortlist
from monai_deepssim.audit.verification_store import VerificationStore, VerifiedPairs
from monai_deepssim.data import ImageDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.similarity import aligned_ssim, pose, posed_ssim

__all__ = ["verify"]

_PAIRS_A_STEP = 256
# So many are lost at most when an audit is killed: ten seconds of work or so.
_PAIRS_A_FILE = 2048
# 136 x 112 float32 are 60 KB: a quarter of a GB at most. Training images come up again and again.
_IMAGES_KEPT = 4096
_SCORE_DIGITS = 6


def verify(
    side: Side,
    indices: np.ndarray,
    training: Side,
    candidates: np.ndarray,
    detector_scores: np.ndarray,
    *,
    keep: int,
    image_size: Sequence[int],
    deformation_cost: float | None,
    description: str,
    store: VerificationStore | None = None,
) -> Shortlist:
    """Align the best candidates of each image with it, and sort them by the SSIM that this reaches.

    The best are those of the highest :func:`~monai_deepssim.similarity.posed_ssim`.

    Args:
        side: of the images that are looked up.
        indices: ``(N,)``, their positions in ``side.items``.
        training: the training side.
        candidates: ``(N, k)``, positions in ``training.items``.
        detector_scores: ``(N, k)``, by which they were chosen.
        keep: how many candidates of each image are aligned.
        image_size: rows and columns that images are brought to.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        description: what the progress bar calls this.
        store: where verified pairs are kept; those that it has are not aligned again. By default nothing is kept.

    Returns:
        ``(N, min(k, keep))`` candidates, the highest aligned SSIM first; equal ones in the order of their posed SSIM.

    Raises:
        UnusableInputError: when a file that was readable before no longer is, or the store cannot be used.
    """
    interval = 0.1 if sys.stderr.isatty() else 10.0
    queries, targets = _Images(side, image_size), _Images(training, image_size)
    if candidates.shape[1] > keep:
        best = _screen(indices, candidates, queries, targets, keep, description, interval)
        candidates = np.take_along_axis(candidates, best, axis=1)
        detector_scores = np.take_along_axis(detector_scores, best, axis=1)
    pairs = np.stack([np.repeat(indices, candidates.shape[1]), candidates.ravel()], axis=1).astype(np.int64)
    wanted = np.unique(pairs, axis=0)
    known = store.load() if store is not None else VerifiedPairs()
    missing = wanted[known.rows_of(wanted) < 0]
    parts = [known.records]
    with tqdm(
        total=len(wanted),
        initial=len(wanted) - len(missing),
        desc=description,
        unit=" pairs",
        mininterval=interval,
        disable=not len(missing),
    ) as bar:
        for start in range(0, len(missing), _PAIRS_A_FILE):
            part = _align(missing[start : start + _PAIRS_A_FILE], queries, targets, deformation_cost, bar)
            if store is not None:
                store.write(part)
            parts.append(part)
    verified = VerifiedPairs(np.concatenate(parts))
    rows = verified.rows_of(pairs).reshape(candidates.shape)
    order = np.argsort(-verified.ssim[rows], axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    return Shortlist(
        scores=verified.ssim[rows],
        indices=np.take_along_axis(candidates, order, axis=1),
        detector_scores=np.take_along_axis(detector_scores, order, axis=1),
        alignments=[[verified.alignment(row) for row in line] for line in rows.tolist()],
    )


def _screen(
    indices: np.ndarray,
    candidates: np.ndarray,
    queries: _Images,
    targets: _Images,
    keep: int,
    description: str,
    interval: float,
) -> np.ndarray:
    """Columns of the candidates with the highest posed SSIM, ``(N, keep)``; equal ones in the order of the detector."""
    chosen = []
    for index, row in tqdm(
        zip(indices.tolist(), candidates.tolist(), strict=True),
        total=len(indices),
        desc=description.replace("verifying", "screening"),
        unit=" images",
        mininterval=interval,
    ):
        ssim = posed_ssim(queries.posed(index)[None], torch.stack([targets.posed(target) for target in row]))[0]
        chosen.append(ssim.argsort(descending=True, stable=True)[:keep].numpy())
    return np.stack(chosen)


def _align(
    pairs: np.ndarray, queries: _Images, targets: _Images, deformation_cost: float | None, bar: tqdm
) -> np.ndarray:
    """The records of some pairs."""
    parts = []
    for start in range(0, len(pairs), _PAIRS_A_STEP):
        step = pairs[start : start + _PAIRS_A_STEP]
        x = torch.stack([queries.plain(query) for query in step[:, 0].tolist()])
        y = torch.stack([targets.plain(index) for index in step[:, 1].tolist()])
        found = aligned_ssim(x, y, deformation_cost=deformation_cost)
        parts.append(VerifiedPairs.pack(step, found.ssim.double().numpy().round(_SCORE_DIGITS), found.alignments))
        bar.update(len(step))
    return np.concatenate(parts)


class _Images:
    """The images of a side, the latest of them kept in memory, as they are and posed."""

    def __init__(self, side: Side, image_size: Sequence[int]) -> None:
        self.side = side
        self.dataset = ImageDataset(side.items, image_size=image_size)
        self.plain = lru_cache(_IMAGES_KEPT)(self._load)
        self.posed = lru_cache(_IMAGES_KEPT)(self._pose)

    def _load(self, index: int) -> Tensor:
        item = self.dataset[index]
        if item["problem"]:
            raise UnusableInputError(
                f"{self.side.items[index]['path']}: was readable when it was embedded and is not any more "
                f"({item['problem']}). Leave the {self.side.name} images alone while they are audited, and start again."
            )
        return torch.as_tensor(item["image"])

    def _pose(self, index: int) -> Tensor:
        return pose(self.plain(index)[None])[0]
