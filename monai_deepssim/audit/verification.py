"""The second stage of an audit: the candidates of each image are compared with it on the pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.audit.local_candidates import LocalCandidates
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import Shortlist
from monai_deepssim.audit.verification_store import VerificationStore, VerifiedPairs
from monai_deepssim.data import ImageDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import progress_bar
from monai_deepssim.search import is_proven, unite_candidates
from monai_deepssim.similarity import (
    LocalFeatures,
    LocalMatch,
    coarse_structure,
    copied_area,
    copy_score,
    extract_rest,
    map_in_threads,
    pose,
    posed_ssim,
    screen,
)

__all__ = ["verify"]

_PAIRS_A_STEP = 256
# So many are lost at most when an audit is killed: ten seconds of work or so.
_PAIRS_A_FILE = 2048
# 136 x 112 float32 are 60 KB: a quarter of a GB at most. Training images come up again and again.
_IMAGES_KEPT = 4096
# Below this score nobody asks which part of an image was copied.
_LEAST_SCORE_WITH_AREA = 0.5
# Inliers from which a match says where the copied part lies.
_LEAST_WITH_AREA = 12
# Correlation of the coarse structure above which an image is not a copy of a part, however few keypoints it has.
_WHOLE_CORRELATION = 0.7


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
    local: LocalCandidates | None = None,
    exclude: Callable[[int], Collection[int]] = lambda _: (),
    compare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Shortlist:
    """Compare the best candidates of each image with it on the pixels, and sort them by their copy score.

    The best are those that share local features, and those that
    :func:`~monai_deepssim.similarity.screen` keeps; where local features prove a copy, the first of the detector alone.

    Args:
        side: of the images that are looked up.
        indices: ``(N,)``, their positions in ``side.items``.
        training: the training side.
        candidates: ``(N, k)``, positions in ``training.items``.
        detector_scores: ``(N, k)``, by which they were chosen.
        keep: how many candidates of each image are compared.
        image_size: rows and columns that images are brought to.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        description: what the progress bar calls this.
        store: where verified pairs are kept; those that it has are not compared again. By default nothing is kept.
        local: proposes candidates by local features; by default the detector alone does.
        exclude: for a position in ``side.items``, positions in ``training.items`` that ``local`` must not propose.
        compare: the detector's scores of pairs ``(P, 2)`` of positions; wanted with ``local``.

    Returns:
        ``(N, keep or fewer)`` candidates, the highest copy score first; equal ones in the order of the search. Where
        fewer were compared, the last is repeated.

    Raises:
        UnusableInputError: when a file that was readable before no longer is, or the store cannot be used.
    """
    queries, targets = _Images(side, image_size), _Images(training, image_size)
    found: list[list[tuple[int, LocalMatch]]] = [[] for _ in indices]
    if local is not None:
        search = local
        with progress_bar(total=len(indices), desc=description.replace("verifying", "matching"), unit=" images") as bar:

            def match(row: int) -> list[tuple[int, LocalMatch]]:
                index = int(indices[row])
                rest = None if side is training else partial(_extract_rest, queries, targets, index)
                matches = search.query(side, index, exclude(index), rest)
                bar.update()
                return matches

            found = map_in_threads(match, len(indices))
    chosen = [line.tolist() for line in candidates]
    if candidates.shape[1] > keep:
        rows = [row for row in range(len(indices)) if not is_proven(found[row])]
        if rows:  # where every image is a proven copy there is nothing to screen
            best = _screen(indices[rows], candidates[rows], queries, targets, keep, description)
            for row, columns in zip(rows, best, strict=True):
                chosen[row] = candidates[row][columns].tolist()
    shortlists = [unite_candidates(matches, line, keep) for matches, line in zip(found, chosen, strict=True)]
    pairs = np.array(
        [(index, other) for index, line in zip(indices.tolist(), shortlists, strict=True) for other in line], np.int64
    )
    matched = {
        (index, other): match
        for index, matches in zip(indices.tolist(), found, strict=True)
        for other, match in matches
    }
    wanted = np.unique(pairs, axis=0)
    known = store.load() if store is not None else VerifiedPairs()
    missing = wanted[known.rows_of(wanted) < 0]
    parts = [known.records]
    with progress_bar(
        total=len(wanted),
        initial=len(wanted) - len(missing),
        desc=description,
        unit=" pairs",
        disable=not len(missing),
    ) as bar:
        for start in range(0, len(missing), _PAIRS_A_FILE):
            part = _align(missing[start : start + _PAIRS_A_FILE], matched, queries, targets, deformation_cost, bar)
            if store is not None:
                store.write(part)
            parts.append(part)
    verified = VerifiedPairs(np.concatenate(parts))
    cosines = {
        (index, other): score
        for index, line, scores in zip(indices.tolist(), candidates.tolist(), detector_scores.tolist(), strict=True)
        for other, score in zip(line, scores, strict=True)
    }
    unknown = np.array([pair for pair in wanted.tolist() if tuple(pair) not in cosines], np.int64).reshape(-1, 2)
    if len(unknown):
        assert compare is not None, "candidates of another search need the detector's scores"
        cosines |= {(a, b): score for (a, b), score in zip(unknown.tolist(), compare(unknown).tolist(), strict=True)}
    length = max(len(line) for line in shortlists)
    ordered = np.empty((len(indices), length), np.int64)
    rows_of_pairs = np.split(verified.rows_of(pairs), np.cumsum([len(line) for line in shortlists])[:-1])
    for row, places in enumerate(rows_of_pairs):
        order = np.argsort(-verified.score[places], kind="stable")
        ordered[row] = np.pad(places[order], (0, length - len(places)), mode="edge")
    records = verified.records[ordered]
    return Shortlist(
        scores=records["score"],
        indices=records["training"],
        detector_scores=np.vectorize(lambda a, b: cosines[a, b], otypes=[np.float64])(
            records["query"], records["training"]
        ),
        alignments=[[verified.alignment(row) for row in line] for line in ordered.tolist()],
        measures={
            "aligned_ssim": records["ssim"],
            "inliers": records["inliers"],
            "copied_area": records["copied_area"],
            "coarse_correlation": records["coarse_correlation"],
        },
    )


def _extract_rest(
    queries: _Images, targets: _Images, query: int, source: int, match: LocalMatch
) -> LocalFeatures | None:
    return extract_rest(queries.plain(query), targets.plain(source), match)


def _screen(
    indices: np.ndarray,
    candidates: np.ndarray,
    queries: _Images,
    targets: _Images,
    keep: int,
    description: str,
) -> np.ndarray:
    """Columns of the candidates that are worth an alignment, ``(N, keep)``."""
    name = description.replace("verifying", "screening")
    with progress_bar(total=len(indices), desc=name, unit=" images") as bar:

        def choose(row: int) -> np.ndarray:
            index, others = int(indices[row]), candidates[row].tolist()
            ssim = posed_ssim(queries.posed(index)[None], torch.stack([targets.posed(other) for other in others]))[0]
            coarse = torch.stack([targets.coarse(other) for other in others]) @ queries.coarse(index)
            bar.update()
            return screen(ssim, coarse, keep).numpy()

        return np.stack(map_in_threads(choose, len(indices)))


def _align(
    pairs: np.ndarray,
    matched: Mapping[tuple[int, int], LocalMatch],
    queries: _Images,
    targets: _Images,
    deformation_cost: float | None,
    bar: tqdm,
) -> np.ndarray:
    """The records of some pairs."""
    parts = []
    for start in range(0, len(pairs), _PAIRS_A_STEP):
        step = pairs[start : start + _PAIRS_A_STEP]
        x = torch.stack([queries.plain(query) for query in step[:, 0].tolist()])
        y = torch.stack([targets.plain(index) for index in step[:, 1].tolist()])
        matches = [matched.get((query, index)) for query, index in step.tolist()]
        found = copy_score(x, y, matches, deformation_cost=deformation_cost)
        areas = np.full(len(step), np.nan)
        for row in (found.score > _LEAST_SCORE_WITH_AREA).nonzero().flatten().tolist():
            match = matches[row]
            is_whole = found.coarse_correlation[row] > _WHOLE_CORRELATION
            says_where = match is not None and match.num_inliers >= _LEAST_WITH_AREA and not is_whole
            points = match.points if match is not None and says_where else None
            areas[row], _ = copied_area(x[row], y[row], found.alignments[row], points)
        parts.append(VerifiedPairs.pack(step, found, areas))
        bar.update(len(step))
    return np.concatenate(parts)


class _Images:
    """The images of a side, the latest of them kept in memory, as they are and posed."""

    def __init__(self, side: Side, image_size: Sequence[int]) -> None:
        self.side = side
        self.dataset = ImageDataset(side.items, image_size=image_size)
        self.plain = lru_cache(_IMAGES_KEPT)(self._load)
        self.posed = lru_cache(_IMAGES_KEPT)(self._pose)
        self.coarse = lru_cache(_IMAGES_KEPT)(self._find_coarse_structure)

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

    def _find_coarse_structure(self, index: int) -> Tensor:
        return coarse_structure(self.plain(index)[None])[0]
