"""SSCD, or any other TorchScript descriptor, as a copy detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.networks import TorchScriptEmbedder
from monai_deepssim.similarity import standardize

__all__ = ["TorchScriptDetector"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class TorchScriptDetector(CopyDetectionMetric):
    """Cosine of the descriptors of a TorchScript program, by default prepared as SSCD wants its images.

    The shorter side is scaled to 288 pixels, the grey image repeated to three channels, and each channel normalised
    with ImageNet's mean and standard deviation. For images in 2-D.

    Args:
        embedder: path of the TorchScript file, such as SSCD's ``sscd_disc_mixup.torchscript.pt``; a program runs when
            it is loaded, so name only files that you trust. Or a module that takes what is prepared here.
        resize: number of pixels of the shorter side, the aspect kept; or rows and columns; or ``None`` for neither.
        normalization: ``imagenet``, ``standardize`` (each image to mean 0 and standard deviation 1) or ``none``.
        threshold: cosine above which an image is a copy; SSCD's authors gave none for medical images.
        device: where images are embedded.

    Raises:
        ValueError: when the normalization is unknown.
        UnusableInputError: when the file is no descriptor, or takes one channel, which ImageNet's numbers do not fit.

    References:
        Pizzi et al., A self-supervised descriptor for image copy detection, CVPR 2022, arXiv 2202.10261.

    Example:
        >>> descriptor = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
        >>> images = torch.rand(3, 1, 32, 32)
        >>> TorchScriptDetector(descriptor, resize=64).fit([images])(images[1:])[:, 1]
        tensor([1., 2.])
    """

    title: ClassVar[str] = "TorchScript descriptor"
    needs: ClassVar[str] = "the file"

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        resize: int | Sequence[int] | None = 288,
        normalization: str = "imagenet",
        threshold: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(threshold, device)
        if normalization not in ("imagenet", "standardize", "none"):
            raise ValueError(f"got normalization={normalization!r}, want imagenet, standardize or none")
        self.resize = resize
        self.normalization = normalization
        self.embedder = self.prepare_embedder(embedder, self._load)

    def _load(self, path: str | os.PathLike[str]) -> TorchScriptEmbedder:
        fixed = None if self.resize is None or isinstance(self.resize, int) else tuple(self.resize)
        embedder = TorchScriptEmbedder(path) if fixed is None else TorchScriptEmbedder(path, fixed)
        if embedder.channels == 1 and self.normalization == "imagenet":
            raise UnusableInputError(
                f"{path}: this program takes one channel, and ImageNet's normalization has three. Set normalization to "
                "standardize or none, whichever it was trained with."
            )
        return embedder

    def represent(self, images: Tensor) -> Tensor:
        """Embed images ``(B, 1, H, W)`` as ``(B, D)``."""
        return self.embedder(self._normalize(self._scale(images)))

    def _scale(self, images: Tensor) -> Tensor:
        rows, columns = images.shape[2:]
        if self.resize is None:
            size = (rows, columns)
        elif isinstance(self.resize, int):
            factor = self.resize / min(rows, columns)
            size = (round(rows * factor), round(columns * factor))
        else:
            size = (self.resize[0], self.resize[1])
        if size == (rows, columns):
            return images
        return nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)

    def _normalize(self, images: Tensor) -> Tensor:
        if self.normalization == "imagenet":
            mean, std = images.new_tensor(_IMAGENET_MEAN), images.new_tensor(_IMAGENET_STD)
            return (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        return standardize(images) if self.normalization == "standardize" else images
