"""The candidates of several searches, united."""

from __future__ import annotations

from collections.abc import Sequence

from monai_deepssim.similarity import LocalMatch

__all__ = ["is_proven", "unite_candidates"]

# Inliers far above what images of other patients reach: nothing else needs to be compared.
_PROVEN = 60
# Matches with fewer inliers are chance; more candidates than these only cost.
_LEAST_INLIERS, _MOST_LOCAL = 5, 4


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
    come first, then those of the other search. Where local features prove a copy, only what shares half as many is
    compared, and the first of the other search.

    Args:
        found: what :meth:`LocalFeatureSearch.query` returned for the image.
        proposed: training images that another search proposes, the best first.
        num_candidates: how many are chosen at most.

    Returns:
        Training images, each once.

    Example:
        >>> unite_candidates([], [4, 2, 7], 2)
        [4, 2]
    """
    local = [image for image, match in found if match.num_inliers >= _LEAST_INLIERS][:_MOST_LOCAL]
    others = list(proposed)
    if is_proven(found):
        local = [image for image, match in found if match.num_inliers >= _PROVEN / 2]
        others = others[:1]
    return list(dict.fromkeys([*local, *others]))[:num_candidates]
