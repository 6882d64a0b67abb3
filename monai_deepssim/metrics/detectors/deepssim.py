"""DeepSSIM as a copy detector."""

from __future__ import annotations

import os
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.labelled_pairs import DEEPSSIM_THRESHOLDS
from monai_deepssim.networks import load_deepssim
from monai_deepssim.similarity import standardize

__all__ = ["DeepSSIMDetector"]


class DeepSSIMDetector(CopyDetectionMetric):
    """Cosine of DeepSSIM embeddings; a copy is above 0.85, the published threshold.

    Args:
        embedder: takes standardised ``(N, 1, H, W)`` and gives ``(N, D)``; or the path of a checkpoint that
            :func:`~monai_deepssim.networks.load_deepssim` takes.
        threshold: score above which an image is a copy.
        device: where images are embedded.
        allow_torchscript: whether the checkpoint may be TorchScript, a program that can run code of its own.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> images = torch.rand(3, 1, 64, 64)
        >>> detector = DeepSSIMDetector(nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 8))).fit([images])
        >>> detector(images[1:])[:, 1]
        tensor([1., 2.])
        >>> detector.aggregate()
        tensor(1.)
    """

    title: ClassVar[str] = "DeepSSIM"
    needs: ClassVar[str] = "nothing: its weights ship"
    shipped_weights: ClassVar[str | None] = "deepssim_brain_mri/models/model.pt"
    default_threshold: ClassVar[float | None] = DEEPSSIM_THRESHOLDS[1]
    threshold_source: ClassVar[str] = "arXiv 2509.16582"

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        threshold: float | None = None,
        device: torch.device | str | None = None,
        *,
        allow_torchscript: bool = False,
    ) -> None:
        super().__init__(threshold, device)
        load = partial(load_deepssim, allow_torchscript=allow_torchscript)
        self.embedder = self.prepare_embedder(embedder, load)

    def represent(self, images: Tensor) -> Tensor:
        return self.embedder(standardize(images))
