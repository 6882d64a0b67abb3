"""The local features of many images, in one array or in several, which may be mapped from files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from monai_deepssim.similarity import LocalFeatures

__all__ = ["KEYPOINT", "FeatureTable", "tabulate_features"]

#: A keypoint of a table: column and row in pixels of its image, and its descriptor.
KEYPOINT = np.dtype([("point", "<f4", 2), ("descriptor", "u1", 128)])


class FeatureTable(Sequence[LocalFeatures]):
    """The local features of images, whose keypoints are numbered from the first image's first to the last one's last.

    Args:
        blocks: arrays of :data:`KEYPOINT`; of files that are mapped, nothing is read before it is needed.
        starts: int64 ``(N,)``, for each image, where in all blocks together its keypoints begin.
        counts: int64 ``(N,)``, how many it has, all in one block.
        sides: float64 ``(N,)``, its longer side in pixels.
        is_kept: bool ``(number of keypoints,)``, those that the images have; by default all.

    Example:
        >>> image = LocalFeatures(np.ones((2, 2), np.float32), np.full((2, 128), 7, np.uint8), 64.0)
        >>> table = FeatureTable.of([image, image])
        >>> len(table), table[1].points.shape, table.images_of(np.array([0, 1, 2])).tolist()
        (2, (2, 2), [0, 0, 1])
        >>> len(table.without(np.array([False, False, True, False]))[1].points)
        1
    """

    def __init__(
        self,
        blocks: Sequence[np.ndarray],
        starts: np.ndarray,
        counts: np.ndarray,
        sides: np.ndarray,
        is_kept: np.ndarray | None = None,
    ) -> None:
        self._blocks = blocks
        self._block_starts = np.cumsum([0, *map(len, blocks)])
        self._starts, self._counts, self._sides = starts, counts, sides
        self._firsts = np.cumsum([0, *counts])
        self._is_kept = is_kept

    @classmethod
    def of(cls, features: Iterable[LocalFeatures]) -> FeatureTable:
        """Make a table of the features of images, which are copied.

        Args:
            features: of each image; their descriptors uint8.

        Raises:
            ValueError: when descriptors are of another type.
        """
        if isinstance(features, FeatureTable):
            return features
        block, counts, sides = tabulate_features(features)
        return cls([block], np.cumsum([0, *counts])[:-1], counts, sides)

    def __len__(self) -> int:
        return len(self._counts)

    @overload
    def __getitem__(self, image: int) -> LocalFeatures: ...

    @overload
    def __getitem__(self, image: slice) -> list[LocalFeatures]: ...

    def __getitem__(self, image: int | slice) -> LocalFeatures | list[LocalFeatures]:
        if isinstance(image, slice):
            return [self[one] for one in range(*image.indices(len(self)))]
        image = range(len(self))[image]
        start, count = int(self._starts[image]), int(self._counts[image])
        block = min(int(np.searchsorted(self._block_starts, start, "right")), len(self._blocks)) - 1
        first = start - int(self._block_starts[block])
        rows = self._blocks[block][first : first + count]
        if self._is_kept is not None:
            rows = rows[self._is_kept[self._firsts[image] : self._firsts[image + 1]]]
        return LocalFeatures(rows["point"], rows["descriptor"], float(self._sides[image]))

    @property
    def num_keypoints(self) -> int:
        """How many keypoints are numbered, kept or not."""
        return int(self._firsts[-1])

    @property
    def numbers(self) -> np.ndarray:
        """int64, the numbers of the keypoints that are kept."""
        return np.arange(self.num_keypoints) if self._is_kept is None else np.flatnonzero(self._is_kept)

    def without(self, is_common: np.ndarray) -> FeatureTable:
        """The same images without some of their keypoints.

        Args:
            is_common: bool ``(number of keypoints,)``, which.
        """
        if not is_common.any():
            return self
        is_kept = ~is_common if self._is_kept is None else self._is_kept & ~is_common
        return FeatureTable(self._blocks, self._starts, self._counts, self._sides, is_kept)

    def images_of(self, numbers: np.ndarray) -> np.ndarray:
        """The image of each of some keypoints.

        Args:
            numbers: int64 ``(n,)``.
        """
        return np.searchsorted(self._firsts, numbers, "right") - 1

    def descriptors_of(self, numbers: np.ndarray) -> np.ndarray:
        """The descriptors of some keypoints.

        Args:
            numbers: int64 ``(n,)``.

        Returns:
            uint8 ``(n, 128)``.
        """
        images = self.images_of(numbers)
        rows = self._starts[images] + (numbers - self._firsts[images])
        found = np.empty((len(rows), 128), np.uint8)
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order], self._block_starts)
        for block in np.flatnonzero(np.diff(ends)).tolist():
            wanted = order[ends[block] : ends[block + 1]]
            found[wanted] = self._blocks[block]["descriptor"][rows[wanted] - self._block_starts[block]]
        return found


def tabulate_features(features: Iterable[LocalFeatures]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put the local features of images into one array.

    Args:
        features: of each image.

    Returns:
        The keypoints of all (:data:`KEYPOINT`), and of each image their number and its longer side.

    Raises:
        ValueError: when descriptors are not of type uint8.

    Example:
        >>> image = LocalFeatures(np.ones((2, 2), np.float32), np.full((2, 128), 7, np.uint8), 64.0)
        >>> block, counts, sides = tabulate_features([image, image])
        >>> len(block), counts.tolist(), sides.tolist()
        (4, [2, 2], [64.0, 64.0])
    """
    features = list(features)
    for entry in features:
        if len(entry.descriptors) and entry.descriptors.dtype != np.uint8:
            raise ValueError(f"got descriptors of type {entry.descriptors.dtype}, want uint8 (RootSIFT times 512)")
    counts = np.array([len(entry.points) for entry in features], np.int64)
    block = np.empty(int(counts.sum()), KEYPOINT)
    for field, arrays in (
        ("point", [entry.points for entry in features]),
        ("descriptor", [entry.descriptors for entry in features]),
    ):
        np.concatenate([np.empty_like(block[field][:0]), *arrays], out=block[field])
    return block, counts, np.array([entry.side for entry in features], np.float64)
