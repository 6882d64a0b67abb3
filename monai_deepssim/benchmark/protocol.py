"""The detectors of DeepSSIM's paper: how each sees an image, how a pair is scored, and at which thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.transforms import ScaleIntensity
from torch import Tensor, nn

from monai_deepssim.metrics import (
    DEEPSSIM_THRESHOLDS,
    ContrastiveCopyDetector,
    OpenCLIPDetector,
    TorchScriptDetector,
)
from monai_deepssim.networks import load_deepssim
from monai_deepssim.similarity import pairwise_ssim, standardize

__all__ = ["PROTOCOL", "ProtocolDetector", "ProtocolEntry", "cosines", "ssims"]

# Rows and columns that SSCD sees, whatever the aspect of an image is.
_SSCD_SIZE = (288, 288)
# The published code divides by the means once more where ImageNet's standard deviations are meant; its thresholds
# belong to descriptors that were made so.
_SSCD_NORMALIZATION = ((0.485, 0.456, 0.406), (0.485, 0.456, 0.406))


@dataclass(frozen=True)
class ProtocolDetector:
    """A detector that is ready to score.

    Attributes:
        prepare: what is done to an image ``(1, 1, H, W)`` in [0, 1] before it is augmented.
        represent: images ``(B, 1, H, W)``, prepared and augmented, to ``(B, D)`` or to images that are compared.
        compare: rows of real and of synthetic images, ``(n, ...)`` and ``(m, ...)``, to ``(n, m)`` scores.
    """

    prepare: Callable[[Tensor], Tensor]
    represent: Callable[[Tensor], Tensor]
    compare: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ProtocolEntry:
    """A detector of the paper, as it is given by options.

    Attributes:
        name: name of its score matrix among the published files.
        title: name in the paper's tables.
        thresholds: the lower and the upper one; equal where the detector knows no similar images.
        weights: option that gives its weights; empty where it has none.
        make: makes the detector of the path of its weights, the options and a device.
        inclusive: whether a score that equals a threshold is in the class above it.
    """

    name: str
    title: str
    thresholds: tuple[float, float]
    weights: str
    make: Callable[[Path, Any], ProtocolDetector]
    inclusive: bool = False


def cosines(real: Tensor, synthetic: Tensor) -> Tensor:
    """Cosines of all real with all synthetic embeddings: ``(n, m)``.

    Example:
        >>> cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0], [-3.0, -4.0]])).round(decimals=4)
        tensor([[ 0.8000, -1.0000]])
    """
    return nn.functional.normalize(real, dim=1) @ nn.functional.normalize(synthetic, dim=1).T


def ssims(real: Tensor, synthetic: Tensor) -> Tensor:
    """SSIM of all real with all synthetic images, with the range of the real one: ``(n, m)``.

    Example:
        >>> images = torch.rand(2, 1, 16, 16)
        >>> ssims(images, images).diagonal()
        tensor([1., 1.])
    """
    return pairwise_ssim(real, synthetic)


def _deepssim(weights: Path, options: Any) -> ProtocolDetector:
    embedder = load_deepssim(weights, allow_torchscript=options.allow_torchscript).to(options.device).eval()
    # The published network was trained on images that are standardised before they are augmented and not again after
    # it. One that measures the pose of an image first, as the shipped one does, takes standardised images.
    again = standardize if getattr(embedder, "canonical_size", None) else nn.Identity()
    return ProtocolDetector(standardize, lambda images: embedder(again(images.to(options.device))).cpu(), cosines)


def _sscd(weights: Path, options: Any) -> ProtocolDetector:
    detector = TorchScriptDetector(weights, _SSCD_SIZE, _SSCD_NORMALIZATION, device=options.device)
    resize = partial(nn.functional.interpolate, size=_SSCD_SIZE, mode="area")
    return ProtocolDetector(resize, detector.represent_batch, cosines)


def _copy_detector(weights: Path, options: Any) -> ProtocolDetector:
    detector = ContrastiveCopyDetector(weights, device=options.device)
    # Its representations are less their mean, so that their cosine is Pearson's correlation.
    scale = ScaleIntensity()
    return ProtocolDetector(lambda image: torch.as_tensor(scale(image)), detector.represent_batch, cosines)


def _open_clip(weights: Path, options: Any) -> ProtocolDetector:
    detector = OpenCLIPDetector(weights, options.open_clip_model, device=options.device)
    return ProtocolDetector(lambda image: image, detector.represent_batch, cosines)


def _ssim(weights: Path, options: Any) -> ProtocolDetector:
    return ProtocolDetector(standardize, lambda images: images, ssims)


#: The detectors in the order of the paper's table, DeepSSIM last; thresholds are those of its public code.
PROTOCOL: dict[str, ProtocolEntry] = {
    entry.name: entry
    for entry in (
        ProtocolEntry("ssim", "SSIM", DEEPSSIM_THRESHOLDS, "", _ssim),
        ProtocolEntry("chen", "Chen (SSCD)", (0.4, 0.6), "sscd_file", _sscd),
        ProtocolEntry("dar", "Dar", (0.8030425, 0.8030425), "copy_detector_checkpoint", _copy_detector),
        ProtocolEntry("semdedup", "SemDeDup", (0.97, 0.99905), "open_clip_weights", _open_clip, inclusive=True),
        ProtocolEntry("deepssim", "DeepSSIM", DEEPSSIM_THRESHOLDS, "checkpoint", _deepssim),
    )
}
