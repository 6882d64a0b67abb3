"""Dar et al.'s self-supervised copy detector."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.copy_fractions import CopyFractions, compute_copy_fractions
from monai_deepssim.networks import load_copy_detector
from monai_deepssim.search import NearestNeighbors

__all__ = ["ContrastiveCopyDetector"]


class ContrastiveCopyDetector(CopyDetectionMetric):
    """Pearson correlation of embeddings that were trained by contrast, with a threshold from held-out images.

    Volumes want an embedder in 3-D, such as the bundle ``copy_detector`` trains with ``volumes.json``.

    Args:
        embedder: takes ``(N, 1, H, W)`` in [0, 1], or ``(N, 1, H, W, D)``, and gives ``(N, D)``; or the path of a
            checkpoint that :func:`~monai_deepssim.networks.load_copy_detector` takes.
        threshold: correlation above which an image is a copy; ``None`` until :meth:`fit_threshold` has found it.
        device: where images are embedded.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> training, holdout = torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8)
        >>> detector = ContrastiveCopyDetector(nn.Flatten()).fit([training])
        >>> round(detector.fit_threshold([holdout]), 2)
        0.34
        >>> detector(torch.cat([training[:2], torch.rand(2, 1, 8, 8)]))[:2, 1]
        tensor([0., 1.])
        >>> detector.aggregate()
        tensor(0.5000)
    """

    title: ClassVar[str] = "Copy detection"
    needs: ClassVar[str] = "nothing: weights for slices ship; of volumes its checkpoint"
    shipped_weights: ClassVar[str | None] = "copy_detector/models/model.pt"
    spatial_dims: ClassVar[tuple[int, ...]] = (2, 3)
    threshold_source: ClassVar[str] = (
        "95th percentile of the training images' highest correlation to a held-out image, arXiv 2402.01054"
    )

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        threshold: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(threshold, device)
        self.embedder = self.prepare_embedder(embedder, load_copy_detector)

    def represent(self, images: Tensor) -> Tensor:
        """Embed images as ``(B, D)``, less each embedding's mean, so that the cosine is Pearson's correlation."""
        embeddings = self.embedder(images)
        return embeddings - embeddings.mean(1, keepdim=True)

    def fit_threshold(self, holdout_images: Iterable[Tensor | Mapping[str, Any]], percentile: float = 95.0) -> float:
        """Take the threshold from real images that the generator has not seen, by the published rule.

        Each training image has a highest correlation to a held-out image; the threshold is the given percentile of
        these. So about 5 % of the training images have as near a neighbour that is not a copy.

        Args:
            holdout_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``.
            percentile: 0 to 100.

        Returns:
            The threshold, which is ``self.threshold`` from now on.

        Raises:
            ValueError: when there are no images, or the percentile is out of its range.
            RuntimeError: before :meth:`fit`.
        """
        if not 0 <= percentile <= 100:
            raise ValueError(f"got percentile={percentile}, want 0 to 100")
        training = self.training_representations
        holdout = self.represent_all(holdout_images)
        highest, _ = NearestNeighbors().fit(holdout).kneighbors(training, 1)
        self.threshold = float(torch.quantile(highest[:, 0].double(), percentile / 100))
        return self.threshold

    def compute_fractions(self, synthetic_images: Iterable[Tensor | Mapping[str, Any]]) -> CopyFractions:
        """Count the copies among synthetic images, and the training images that they are copies of.

        Args:
            synthetic_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``.

        Returns:
            The copy fraction, the memorized fraction, and the images they count.

        Raises:
            ValueError: when there are no images or no threshold.
            RuntimeError: before :meth:`fit`.
        """
        if self.threshold is None:
            raise ValueError("there is no threshold: call fit_threshold(holdout_loader) first, or give one")
        return compute_copy_fractions(
            self.represent_all(synthetic_images), self.training_representations, self.threshold
        )
