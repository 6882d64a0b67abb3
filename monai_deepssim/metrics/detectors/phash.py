"""The perceptual hash as a copy detector."""

from __future__ import annotations

from typing import ClassVar

import imagehash
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric

__all__ = ["PHashDetector"]


class PHashDetector(CopyDetectionMetric):
    """Share of equal bits of two perceptual hashes, ``1 - Hamming distance / number of bits``.

    The hash (imagehash's ``phash``) scales an image to 32 x 32 and says of each of its 64 lowest frequencies whether it
    is above the median. It is kept as 64 numbers of +1 or -1, whose cosine orders images alike. For images in 2-D.

    Args:
        hash_size: the hash has ``hash_size`` x ``hash_size`` bits.
        threshold: share of equal bits above which an image is a copy; nobody published one for medical images.
        device: taken for the sake of the interface; hashes are computed on the CPU.

    Raises:
        ValueError: when the hash would be smaller than 2 x 2.

    Example:
        >>> images = torch.rand(3, 1, 64, 64)
        >>> PHashDetector().fit([images])(images[1:])
        tensor([[1., 1.],
                [1., 2.]])
    """

    title: ClassVar[str] = "pHash"

    def __init__(
        self, hash_size: int = 8, threshold: float | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__(threshold, device)
        if hash_size < 2:
            raise ValueError(f"got hash_size={hash_size}, want 2 or more")
        self.hash_size = hash_size

    def represent(self, images: Tensor) -> Tensor:
        """Hash images ``(B, 1, H, W)`` as ``(B, hash_size²)`` numbers of +1 or -1."""
        grey = (images[:, 0].clamp(0, 1) * 255).round().byte().cpu().numpy()
        hashes = [imagehash.phash(Image.fromarray(image), hash_size=self.hash_size).hash for image in grey]
        return torch.from_numpy(np.stack(hashes)).flatten(1).float() * 2 - 1

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` shares of equal bits, in [0, 1]."""
        return (1 + queries @ training.T / queries.shape[1]) / 2
