"""What the detectors that compare pixels have in common."""

from __future__ import annotations

import torch
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
        >>> class SumOfAbsoluteDifferences(PixelDetector):
        ...     def compare(self, queries, training):
        ...         return -torch.cdist(queries, training, p=1)
        >>> images = torch.rand(3, 1, 8, 8)
        >>> SumOfAbsoluteDifferences().fit([images])(images)[:, 1]
        tensor([0., 1., 2.])
    """

    def __init__(self, threshold: float | None = None, device: torch.device | str | None = None) -> None:
        super().__init__(threshold, device)
        self._image_shape: torch.Size | None = None

    def represent(self, images: Tensor) -> Tensor:
        """Flatten the prepared images, and remember their shape."""
        if self._image_shape is not None and images.shape[1:] != self._image_shape:
            raise ValueError(
                f"got images of {tuple(images.shape[2:])} pixels after others of {tuple(self._image_shape[1:])}: bring "
                "all to one size, such as with FitImageSize"
            )
        self._image_shape = images.shape[1:]
        return self.prepare(images).flatten(1)

    def prepare(self, images: Tensor) -> Tensor:
        """Do what the comparison does to each image alone; nothing unless a subclass says so.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            The same shape.
        """
        return images

    @property
    def image_shape(self) -> torch.Size:
        """Of the images that were represented, ``(1, H, W)``.

        Raises:
            RuntimeError: before any was.
        """
        if self._image_shape is None:
            raise RuntimeError(f"{type(self).__name__} has represented no image yet, so it knows no image size")
        return self._image_shape

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar, in blocks that fit the size of pixels."""
        return search_by_similarity(
            representations, self.training_representations, self.compare, num_neighbors, block_size=_BLOCK_SIZE
        )
