"""The candidates of several searches, united."""

from __future__ import annotations

from collections.abc import Sequence

from monai_deepssim.similarity import LocalMatch

__all__ = ["is_proven", "unite_candidates"]

# Inliers far above what images of other patients reach: nothing else needs to be compared.
_PROVEN = 60
# Matches with fewer inliers are chance; more candidates than these only cost.
_LEAST_INLIERS, _MOST_LOCAL = 5, 4
# Inliers that are rarely chance, and the share of them that another candidate may explain, of a source of its own.
_SOURCE, _LARGEST_OVERLAP = 12, 0.5


def is_proven(found: Sequence[tuple[int, LocalMatch]]) -> bool:
    """Whether local features alone show that an image is a copy of a training image.

    Args:
        found: what :meth:`LocalFeatureSearch.query` returned for the image.

    Example:
        >>> is_proven([])
        False
    """
    return bool(found) and found[0][1].num_inliers >= _PROVEN


def unite_candidates(
    found: Sequence[tuple[int, LocalMatch]], proposed: Sequence[int], num_candidates: int
) -> list[int]:
    """Choose the training images that are compared with an image on the pixels.

    Searches that fail for different reasons lose less together: up to four training images that share local features
    come first, then those of the other search. Of these, training images that share other keypoints with the image than
    the ones before them, such as the second source of an average, come before repeats. Where local features prove a
    copy, only such sources are compared, what shares half as many keypoints, and the first of the other search.

    Args:
        found: what :meth:`LocalFeatureSearch.query` returned for the image.
        proposed: training images that another search proposes, the best first.
        num_candidates: number of candidates chosen at most.

    Returns:
        Training images, each once.

    Example:
        >>> unite_candidates([], [4, 2, 7], 2)
        [4, 2]
    """
    sources, others = _split_sources([entry for entry in found if entry[1].num_inliers >= _LEAST_INLIERS])
    if is_proven(found):
        local = [*sources, *(entry for entry in others if entry[1].num_inliers >= _PROVEN / 2)]
        proposed = proposed[:1]
    else:
        local = [*sources, *others][: max(_MOST_LOCAL, len(sources))]
    return list(dict.fromkeys([*(image for image, _ in local), *proposed]))[:num_candidates]


def _split_sources(
    found: Sequence[tuple[int, LocalMatch]],
) -> tuple[list[tuple[int, LocalMatch]], list[tuple[int, LocalMatch]]]:
    """Candidates that explain keypoints of their own, as the two sources of an average do, and all others."""
    sources: list[tuple[int, LocalMatch]] = []
    others: list[tuple[int, LocalMatch]] = []
    explained: set[tuple[float, ...]] = set()
    for entry in found:
        points = {tuple(point) for point in entry[1].points.tolist()}
        is_source = entry[1].num_inliers >= _SOURCE and len(points & explained) < _LARGEST_OVERLAP * len(points)
        (sources if is_source else others).append(entry)
        explained |= points
    return sources, others
