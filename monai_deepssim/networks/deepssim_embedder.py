"""The embedder whose cosine is SSIM."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .backbones import SUPPORTED_BACKBONES, build_backbone

__all__ = ["DeepSSIMEmbedder"]

MIN_SIDE = 64  # pixels: ConvNeXt halves an image five times and needs two pixels to be left


class DeepSSIMEmbedder(nn.Module):
    """Map an image to a unit vector such that the cosine of two vectors is the SSIM of the two images.

    A torchvision backbone's feature layers, then average pooling, BatchNorm, Linear to 512, GELU, dropout and Linear to
    ``embedding_dim``. With the defaults this is the published model, and its parameters have the published names.

    Args:
        backbone: name of a backbone, see :data:`~monai_deepssim.networks.SUPPORTED_BACKBONES`.
        in_channels: channels of the images: 1, repeated to the 3 that the backbones take, or 3.
        embedding_dim: length of an embedding.
        dropout: probability of dropout in the head.
        pretrained: ``True`` for torchvision's ImageNet weights (downloaded), or the path of such a state dict.
        frozen_stages: how many stages of a pretrained backbone are not trained, stem included; random weights are
            never frozen.
        hidden_dim: width of the head's hidden layer.
        average_flips: whether an image's embedding is the mean over its four flips (in eval mode; training flips images
            anyway). Then a flip of the image changes nothing at all, at four times the cost. The weights remember it
            in a buffer of this name, which the published ones do not have.

    Raises:
        ValueError: when ``in_channels`` is neither 1 nor 3.
        UnusableInputError: when the backbone is unknown or its weights do not fit.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> import torch
        >>> embedder = DeepSSIMEmbedder(backbone="convnext_atto").eval()
        >>> embedder(torch.randn(2, 1, 136, 112)).shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        backbone: str = "convnext_base",
        in_channels: int = 1,
        embedding_dim: int = 256,
        dropout: float = 0.33,
        pretrained: bool | str | Path = False,
        frozen_stages: int = 2,
        *,
        hidden_dim: int = 512,
        average_flips: bool = False,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(
                f"got in_channels={in_channels}, want 1 (repeated to 3) or 3, which is what backbones take"
            )
        self.backbone = backbone
        self._norm_is_frozen = False
        if average_flips:
            self.register_buffer("average_flips", torch.tensor(True))
        self.in_channels = in_channels
        self.feature_extractor, channels = build_backbone(backbone, pretrained)
        self.fc = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.BatchNorm1d(channels),
            nn.Linear(channels, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, embedding_dim),
        )
        _, children_of = SUPPORTED_BACKBONES[backbone]
        self._frozen = children_of(frozen_stages) if pretrained and frozen_stages else 0
        self.feature_extractor[: self._frozen].requires_grad_(False)

    def train(self, mode: bool = True) -> DeepSSIMEmbedder:
        """Set the mode; what is frozen stays in eval mode, so that its normalisation stays as it is."""
        super().train(mode)
        self.feature_extractor[: self._frozen].eval()
        if self._norm_is_frozen:
            self.fc[2].eval()
        return self

    def freeze_norm(self) -> None:
        """Normalise by the running statistics from now on, in training too; they are not updated any more.

        While the head normalises by each batch, it subtracts what the images of the batch have in common. Afterwards it
        subtracts what the training images have in common on average, and of slices that resemble each other more than
        these do, the cosines come out too high. Training on with the statistics frozen corrects that.
        """
        self._norm_is_frozen = True
        self.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Args:
            x: standardised images ``(N, in_channels, H, W)``, at least 64 x 64 pixels.

        Returns:
            Embeddings ``(N, embedding_dim)`` of length 1, float32.

        Raises:
            ValueError: when the shape is another.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < MIN_SIDE:
            raise ValueError(
                f"got images of shape {tuple(x.shape)}, want (N, {self.in_channels}, H, W) with H and W of at least "
                f"{MIN_SIDE} pixels: resize them or set in_channels"
            )
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if self.training or "average_flips" not in self._buffers:
            return self._embed(x)
        # Added two by two: in any other order a flip would change the last digit of the sum.
        rows = [self._embed(view) + self._embed(view.flip(3)) for view in (x, x.flip(2))]
        return F.normalize(rows[0] + rows[1], dim=1)

    def _embed(self, x: Tensor) -> Tensor:
        return F.normalize(self.fc(self.feature_extractor(x)).float(), dim=1)
