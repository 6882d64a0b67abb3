"""The embeddings of a list of images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["NOTICED", "EmbeddedImages"]

#: What else is noticed about an image, by the names of :class:`~monai_deepssim.data.ImageDataset`.
NOTICED = ("resampled", "padded", "clipped", "lost_in_grey", "is_sheet")


@dataclass(frozen=True)
class EmbeddedImages:
    """The embeddings of a list of images, and what was noticed on the way.

    Attributes:
        embeddings: one memory-mapped float32 or float16 array ``(n, D)`` per shard that holds any usable image.
        indices: int64 ``(N,)``, the image (its position in the list) of each row over all shards.
        problems: why an image has no embedding, by its position in the list.
        converted: positions of images whose real colour was converted to grey.
        sizes: ``(N, 2)``, rows and columns of each embedded image as it was in its file; ``(N, 3)`` of volumes.
        resampled: positions of images whose pixels were not square and were made so.
        padded: positions of images whose padding was replaced.
        clipped: positions of images whose stray pixels, such as hot ones, were replaced.
        lost_in_grey: positions of images in colours that their luma does not tell apart.
        is_sheet: positions of images that show several images in rows and columns.
    """

    embeddings: list[np.ndarray]
    indices: np.ndarray
    problems: dict[int, str]
    converted: list[int]
    sizes: np.ndarray
    resampled: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    clipped: list[int] = field(default_factory=list)
    lost_in_grey: list[int] = field(default_factory=list)
    is_sheet: list[int] = field(default_factory=list)

    def subset(self, rows: np.ndarray) -> EmbeddedImages:
        """Some of the images, in memory.

        Args:
            rows: int64 ``(n,)``, over all shards.

        Returns:
            Those images, in this order.
        """
        starts = np.cumsum([0, *map(len, self.embeddings)])
        shards = np.searchsorted(starts, rows, side="right") - 1
        pairs = zip(shards.tolist(), rows.tolist(), strict=True)
        embeddings = np.stack([self.embeddings[shard][row - starts[shard]] for shard, row in pairs])
        return EmbeddedImages([embeddings], self.indices[rows], {}, [], self.sizes[rows])
