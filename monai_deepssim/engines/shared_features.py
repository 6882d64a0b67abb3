"""The local features of images, found by all ranks of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from monai_deepssim.ranks import current_ranks, pack_arrays, unpack_arrays
from monai_deepssim.similarity import LocalFeatures, map_in_threads

__all__ = ["share_features"]

# Images that a rank takes at once, and all ranks in one round: 40 kB of each are in the store until the round is over.
_IMAGES_AT_ONCE, _IMAGES_OF_ROUND = 32, 4096


def share_features(count: int, extract: Callable[[int], LocalFeatures]) -> list[LocalFeatures]:
    """Find the local features of images, those of each on one of the ranks, and give all to each.

    Args:
        count: number of images.
        extract: finds those of image 0 to ``count - 1``; called in several threads.

    Returns:
        The features by image.

    Example:
        >>> features = LocalFeatures(np.zeros((1, 2), np.float32), np.zeros((1, 128), np.uint8), 64.0)
        >>> len(share_features(3, lambda row: features))
        3
    """
    ranks = current_ranks()
    if ranks.size == 1:
        return map_in_threads(extract, count)
    found: list[LocalFeatures] = []
    for first in range(0, count, _IMAGES_OF_ROUND):
        rows = range(first, min(first + _IMAGES_OF_ROUND, count))
        at_once = min(_IMAGES_AT_ONCE, max(1, len(rows) // (4 * ranks.size)))
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]

        def work(unit: int, parts: list[range] = parts) -> bytes:
            part = parts[unit]
            features = map_in_threads(lambda number: extract(part[number]), len(part))
            return pack_arrays([np.asarray(field) for entry in features for field in entry])

        for content in ranks.share(len(parts), work):
            arrays = unpack_arrays(content)
            for place in range(0, len(arrays), 3):
                points, descriptors, side = arrays[place : place + 3]
                found.append(LocalFeatures(points, descriptors, side.item()))
    return found
