"""Candidates of several searches compared with each image on the pixels: one table, with one row per pair."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from pandas import DataFrame, MultiIndex, Series, concat
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.metrics.compared_images import ComparedImages
from monai_deepssim.metrics.rounds import compare_in_rounds
from monai_deepssim.progress import progress_bar
from monai_deepssim.search import LocalFeatureSearch, is_proven, unite_candidates
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    LocalFeatures,
    LocalMatch,
    copied_area,
    copy_score,
    extract_rest,
    map_in_threads,
    match_coarsely,
    posed_ssim,
    screen,
)

__all__ = [
    "NUM_SCREENED",
    "Matches",
    "find_local_matches",
    "tabulate_candidates",
    "tabulate_neighbors",
    "verify_candidates",
]

#: Training images that a detector proposes for each image, of which posed SSIM chooses those that are aligned.
NUM_SCREENED = 64
#: By query its local matches by training row, most inliers first.
Matches = Mapping[int, Mapping[int, LocalMatch]]

# Of images of so many pixels; of volumes fewer, so that a step takes no more memory and no more time.
_PAIRS_PER_STEP, _PIXELS = 256, 136 * 112
# So many are lost at most when an audit is killed: ten seconds of work or so.
_PAIRS_PER_FILE = 2048
# Fewer would leave cores without work.
_FEWEST_PAIRS = 16
# As many as the files of an audit have.
_SCORE_DIGITS = 6
# Below this score nobody asks which part of an image was copied.
_LEAST_SCORE_WITH_AREA = 0.5
# Inliers from which a match says where the copied part lies.
_LEAST_INLIERS_WITH_AREA = 12
# Correlation of the coarse structure above which an image is not a copy of a part, however few keypoints it has.
_WHOLE_CORRELATION = 0.7
_PAIR = ["query", "training"]


def tabulate_candidates(training: np.ndarray, scores: np.ndarray, queries: np.ndarray | None = None) -> DataFrame:
    """Make a table of what a search has found.

    Args:
        training: ``(N, K)``, rows of training images, the best first.
        scores: ``(N, K)``, by which they were found.
        queries: ``(N,)``, rows of the images that were looked up; counted from 0 by default.

    Returns:
        The columns ``query``, ``training`` and ``detector_score``.

    Example:
        >>> tabulate_candidates(np.array([[4, 2]]), np.array([[0.9, 0.5]])).values.tolist()
        [[0.0, 4.0, 0.9], [0.0, 2.0, 0.5]]
    """
    queries = np.arange(len(training)) if queries is None else queries
    return DataFrame(
        {
            "query": np.repeat(queries, training.shape[1]),
            "training": training.ravel(),
            "detector_score": scores.ravel(),
        }
    )


def tabulate_neighbors(pairs: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Turn a table of pairs into two matrices with one row per query.

    Args:
        pairs: pairs that :func:`verify_candidates` returns.

    Returns:
        Scores and rows of training images, ``(N, K)`` each, the highest score first. Of a query with fewer pairs than
        another the last is repeated.

    Example:
        >>> scores, training = tabulate_neighbors(
        ...     DataFrame({"query": [0, 0, 1], "training": [4, 2, 3], "score": [0.9, 0.5, 0.7]})
        ... )
        >>> training
        array([[4, 2],
               [3, 3]])
    """
    placed = pairs.assign(place=pairs.groupby("query").cumcount())
    scores, training = (
        placed.pivot(index="query", columns="place", values=name).ffill(axis=1).to_numpy(copy=True)
        for name in ("score", "training")
    )
    return scores, training.astype(np.int64)


def find_local_matches(
    queries: ComparedImages,
    rows: np.ndarray,
    training: ComparedImages,
    search: LocalFeatureSearch,
    *,
    exclude: Callable[[int], Collection[int]] = lambda _: (),
    only_source: Callable[[int], int | None] = lambda _: None,
    description: str = "",
) -> Matches:
    """Find the training images that share local features with each image.

    In an image of another side than the training side a second source is looked for, too: what its first source does
    not explain (:func:`~monai_deepssim.similarity.extract_rest`) is looked up again.

    Args:
        queries: images that are looked up, with their features.
        rows: ``(N,)``, which of them.
        training: the training images.
        search: fitted to their features.
        exclude: for each row of the queries, the rows of training images that are not candidates.
        only_source: for each row of the queries, the row of the one training image that it is known to be made of, or
            ``None``. Where that one is found, no other is looked for.
        description: what the progress bar calls the queries; empty for no bar.

    Returns:
        The matches of each of these rows.
    """
    find_features = queries.features
    assert find_features is not None, "images without local features cannot be matched"
    with progress_bar(total=len(rows), desc=f"matching {description}", unit=" images", disable=not description) as bar:

        def match(place: int) -> dict[int, LocalMatch]:
            row = int(rows[place])

            def find_rest(source: int, found: LocalMatch) -> LocalFeatures | None:
                if source == only_source(row):
                    return None
                return extract_rest(queries.image(row), training.image(source), found)

            matches = search.query(find_features(row), exclude(row), None if queries is training else find_rest)
            bar.update()
            return dict(matches)

        return dict(zip(rows.tolist(), map_in_threads(match, len(rows)), strict=True))


def verify_candidates(
    candidates: DataFrame,
    queries: ComparedImages,
    training: ComparedImages,
    *,
    keep: int,
    matches: Matches | None = None,
    deformation_cost: float | None = DEFORMATION_COST,
    least: float | None = None,
    known: DataFrame | None = None,
    write: Callable[[DataFrame], None] | None = None,
    description: str = "",
) -> DataFrame:
    """Compare the best candidates of each image with it on the pixels, and sort them by their copy score.

    The best are those that share local features, and those of the detector that
    :func:`~monai_deepssim.similarity.screen` keeps (:func:`~monai_deepssim.similarity.match_coarsely` for volumes);
    where local features prove a copy, the first of the detector alone
    (:func:`~monai_deepssim.search.unite_candidates`).

    Args:
        candidates: what a detector proposes, the columns of :func:`tabulate_candidates`, the best of each query first.
        queries: images that are looked up.
        training: the training images.
        keep: number of candidates of each image that are compared.
        matches: matches that :func:`find_local_matches` returns; by default local features are not used.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        least: score above which every pair of an image is wanted. Below it the highest is, and others are given up as
            soon as they cannot be that (``least_score`` of :func:`~monai_deepssim.similarity.copy_score`). By default
            all pairs are wanted.
        known: pairs that were compared before, which are not compared again.
        write: keeps pairs that were compared now, called with some at a time.
        description: what the progress bars call the queries; empty for no bars.

    Returns:
        One row per pair that was compared, by query, the highest score first, equal ones in the order of the search:
        ``query`` and ``training`` (rows), ``found_by`` (``detector``, ``local features`` or ``both``), ``score`` (the
        copy score), ``aligned_ssim``, ``coarse_correlation``, ``inliers`` (NaN of volumes, which have no local
        features), ``copied_area`` (NaN where it was not measured), ``alignment`` (how the training image is changed to
        fit) and ``detector_score`` (NaN where only local features found the pair).

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> side = ComparedImages(images.__getitem__)
        >>> candidates = tabulate_candidates(np.array([[0, 1, 2]]), np.zeros((1, 3)), queries=np.array([1]))
        >>> pairs = verify_candidates(candidates, side, side, keep=3)
        >>> pairs[["query", "training", "score"]].values[0].round(2).tolist()
        [1.0, 1.0, 1.0]
    """
    pairs = _choose_pairs(candidates, queries, training, keep, matches or {}, description)
    stored = DataFrame(columns=_PAIR, dtype=np.int64) if known is None or known.empty else known
    is_stored = MultiIndex.from_frame(pairs[_PAIR]).isin(MultiIndex.from_frame(stored[_PAIR]))
    with progress_bar(
        total=len(pairs),
        initial=int(is_stored.sum()),
        desc=f"verifying {description}",
        unit=" pairs",
        disable=not description or bool(is_stored.all()),
    ) as bar:

        def compare(part: DataFrame) -> DataFrame:
            parts = [part[_PAIR].merge(stored, on=_PAIR)]
            missing = part[~MultiIndex.from_frame(part[_PAIR]).isin(MultiIndex.from_frame(stored[_PAIR]))]
            missing = missing.sort_values(_PAIR)
            per_file, per_step = _pairs_at_once(queries, missing)
            for start in range(0, len(missing), per_file):
                file = missing.iloc[start : start + per_file]
                steps = (file.iloc[first : first + per_step] for first in range(0, len(file), per_step))
                parts.append(
                    concat([_compare(step, queries, training, matches or {}, deformation_cost, bar) for step in steps])
                )
                if write is not None and len(parts[-1]):
                    write(parts[-1])
            return concat([table for table in parts if len(table)] or parts[:1])

        scored = compare_in_rounds(pairs[_PAIR], compare, least)
    pairs = pairs.merge(scored, on=_PAIR).merge(candidates, how="left", on=_PAIR)
    return pairs.sort_values(["query", "score"], ascending=[True, False], ignore_index=True)


def _pairs_at_once(queries: ComparedImages, pairs: DataFrame) -> tuple[int, int]:
    """How many pairs are kept at a time, and how many are compared in one step: fewer, the larger the images are."""
    pixels = queries.image(int(pairs["query"].iloc[0])).numel() if len(pairs) else _PIXELS
    at_most = (_PAIRS_PER_FILE, _PAIRS_PER_STEP)
    per_file, per_step = (max(min(_FEWEST_PAIRS, most), min(most, most * _PIXELS // pixels)) for most in at_most)
    return per_file, per_step


def _choose_pairs(
    candidates: DataFrame,
    queries: ComparedImages,
    training: ComparedImages,
    keep: int,
    matches: Matches,
    description: str,
) -> DataFrame:
    """The pairs that are worth an alignment, with the search that found them."""
    proposed = {int(query): group.to_numpy() for query, group in candidates.groupby("query")["training"]}
    rows = list(proposed)
    local = {row: list(matches.get(row, {}).items()) for row in rows}
    with progress_bar(total=len(rows), desc=f"screening {description}", unit=" images", disable=not description) as bar:

        def choose(place: int) -> list[int]:
            row = rows[place]
            others = proposed[row]
            if len(others) > keep and not is_proven(local[row]):
                others = others[_screen(row, others.tolist(), queries, training, keep).cpu().numpy()]
            bar.update()
            return unite_candidates(local[row], others.tolist(), keep)

        chosen = map_in_threads(choose, len(rows))
    found_by = {(False, True): "detector", (True, False): "local features", (True, True): "both"}
    return DataFrame(
        [
            (row, other, found_by[other in matches.get(row, {}), other in proposed[row]])
            for row, others in zip(rows, chosen, strict=True)
            for other in others
        ],
        columns=[*_PAIR, "found_by"],
    )


def _screen(row: int, others: list[int], queries: ComparedImages, training: ComparedImages, keep: int) -> Tensor:
    """Places of the candidates that look most like an image in one pose.

    An embedding says which training images are near; which of the nearest is the source of a copy that was deformed a
    little, the pixels say better, and posed SSIM searches nothing, as an alignment has to. Volumes are compared at a
    quarter of their size.
    """
    if queries.image(row).ndim != 3:
        fits = match_coarsely(queries.coarse(row), torch.stack([training.coarse(other) for other in others]))
        return fits.argsort(descending=True, stable=True)[:keep]
    ssim = posed_ssim(queries.posed(row)[None], torch.stack([training.posed(other) for other in others]))[0]
    coarse = torch.stack([training.coarse(other) for other in others]) @ queries.coarse(row)
    return screen(ssim, coarse, keep)


def _compare(
    pairs: DataFrame,
    queries: ComparedImages,
    training: ComparedImages,
    matches: Matches,
    deformation_cost: float | None,
    bar: tqdm,
) -> DataFrame:
    """Score some pairs."""
    numbers = list(zip(pairs["query"].tolist(), pairs["training"].tolist(), strict=True))
    x = torch.stack([queries.image(row) for row, _ in numbers])
    y = torch.stack([training.image(other) for _, other in numbers])
    found = [matches.get(row, {}).get(other) for row, other in numbers]
    least = None if pairs["least_score"].isna().any() else torch.tensor(pairs["least_score"].to_numpy())
    scores = copy_score(x, y, found, deformation_cost=deformation_cost, least_score=least)
    areas = np.full(len(numbers), np.nan)
    measured = (scores.score > _LEAST_SCORE_WITH_AREA).nonzero().flatten().tolist() if x.ndim == 4 else []

    def measure_area(number: int) -> float:
        place = measured[number]
        match = found[place]
        is_whole = scores.coarse_correlation[place] > _WHOLE_CORRELATION
        says_where = match is not None and match.num_inliers >= _LEAST_INLIERS_WITH_AREA and not is_whole
        points = match.points if match is not None and says_where else None
        return copied_area(x[place], y[place], scores.alignments[place], points)[0]

    areas[measured] = map_in_threads(measure_area, len(measured))
    bar.update(len(numbers))
    table = DataFrame(
        {
            "query": pairs["query"].to_numpy(),
            "training": pairs["training"].to_numpy(),
            **{
                column: values.double().cpu().numpy().round(_SCORE_DIGITS)
                for column, values in (
                    ("score", scores.score),
                    ("aligned_ssim", scores.ssim),
                    ("coarse_correlation", scores.coarse_correlation),
                )
            },
            "inliers": scores.inliers.cpu().numpy() if x.ndim == 4 else np.nan,
            "copied_area": areas,
            "alignment": Series(scores.alignments, dtype=object),
        }
    )
    return table[~scores.stopped.cpu().numpy()]
