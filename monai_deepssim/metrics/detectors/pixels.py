"""What the detectors that compare pixels have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.search import search_by_similarity

__all__ = ["PixelDetector"]

# Rows of a block of the search: of 136 x 112 pixels in double precision, 31 MB on each side.
_BLOCK_SIZE = 256


class PixelDetector(CopyDetectionMetric):
    """Represents an image by its pixels: 4 bytes each are kept a training image, 60 kB at 136 x 112.

    All images have to have one size.

    Args:
        threshold: score above which an image is a copy.
        device: where images are prepared.

    Example:
        >>> import torch
        >>> class SumOfAbsoluteDifferences(PixelDetector):
        ...     def compare(self, queries, training):
        ...         return -torch.cdist(queries, training, p=1)
        >>> images = torch.rand(3, 1, 8, 8)
        >>> SumOfAbsoluteDifferences().fit([images])(images)[:, 1]
        tensor([0., 1., 2.])
    """

    wants_one_size: ClassVar[bool] = True
    spatial_dims: ClassVar[tuple[int, ...]] = (2, 3)

    def represent(self, images: Tensor) -> Tensor:
        """Flatten the prepared images."""
        return self.prepare(images).flatten(1)

    def prepare(self, images: Tensor) -> Tensor:
        """Do what the comparison does to each image alone; nothing unless a subclass says so.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            The same shape.
        """
        return images

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar, in blocks that fit the size of pixels."""
        return search_by_similarity(
            representations, self.training_representations, self.compare, num_neighbors, block_size=_BLOCK_SIZE
        )
