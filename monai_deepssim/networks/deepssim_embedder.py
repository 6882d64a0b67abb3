"""The embedder whose cosine is SSIM."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .backbones import SUPPORTED_BACKBONES, build_backbone

__all__ = ["DeepSSIMEmbedder"]

_NORM_MOMENTUM = 0.05  # of the running statistics: they follow over some twenty batches
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
        running_norm: whether the head normalises by running statistics in training too, as it does afterwards. The
            published model normalises by each batch, which subtracts what the images of the batch have in common; an
            audit embeds other mixtures of images, and their cosines then come out too high.

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
        running_norm: bool = False,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(
                f"got in_channels={in_channels}, want 1 (repeated to 3) or 3, which is what backbones take"
            )
        self.backbone = backbone
        self.running_norm = running_norm
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
        """Set the mode; frozen stages and a running norm stay in eval mode, to use the statistics they hold."""
        super().train(mode)
        self.feature_extractor[: self._frozen].eval()
        if self.running_norm:
            self._norm.eval()
        return self

    @property
    def _norm(self) -> nn.BatchNorm1d:
        return cast(nn.BatchNorm1d, self.fc[2])

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
        features = self.feature_extractor(x)
        if self.training and self.running_norm:
            self._update_norm(features)
        return F.normalize(self.fc(features).float(), dim=1)

    @torch.no_grad()
    def _update_norm(self, features: Tensor) -> None:
        """Move the running statistics towards those of this batch; the first batch sets them."""
        pooled = self.fc[:2](features).float()
        norm = self._norm
        step = _NORM_MOMENTUM if norm.num_batches_tracked else 1.0
        # New tensors, not the old ones changed: a backward pass may still need those of an earlier forward pass.
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.running_mean = torch.lerp(norm.running_mean, pooled.mean(0), step)
        norm.running_var = torch.lerp(norm.running_var, pooled.var(0), step)
        norm.num_batches_tracked = torch.add(norm.num_batches_tracked, 1)
