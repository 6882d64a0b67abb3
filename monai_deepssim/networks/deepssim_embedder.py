"""The embedder whose cosine is SSIM."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.backbones import build_backbone, build_volume_backbone, children_of_stages
from monai_deepssim.networks.flip_folding import FOLDED_CHANNELS, fold_flips
from monai_deepssim.networks.state_dicts import read_state_dict
from monai_deepssim.similarity import canonicalize_pose, canonicalize_volumes

__all__ = ["DeepSSIMEmbedder"]

_BACKBONE = "feature_extractor."
MIN_SIDE = 64  # pixels: ConvNeXt halves an image five times and needs two pixels to be left
MIN_VOLUME_SIDE = 32  # voxels: the backbones of volumes halve four times
_POOLING = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class DeepSSIMEmbedder(nn.Module):
    """Map an image to a unit vector such that the cosine of two vectors is the SSIM of the two images.

    A torchvision backbone's feature layers, then average pooling, BatchNorm, Linear to 512, GELU, dropout and Linear to
    ``embedding_dim``. With the defaults this is the published model, and its parameters have the published names.
    Volumes go the same way through a backbone of MONAI's (``spatial_dims=3``).

    Args:
        backbone: name of a backbone, see :data:`~monai_deepssim.networks.SUPPORTED_BACKBONES`, and of volumes
            :data:`~monai_deepssim.networks.VOLUME_BACKBONES`.
        in_channels: channels of the images: 1, repeated to the 3 that the backbones take, or 3.
        embedding_dim: length of an embedding.
        dropout: probability of dropout in the head.
        pretrained: ``True`` for torchvision's ImageNet weights (downloaded), or the path of such a state dict; or of a
            DeepSSIM checkpoint, whose backbone and statistics of the features are taken, and a new head is trained.
        frozen_stages: number of stages of a pretrained backbone are not trained, stem included; random weights are
            never frozen.
        frozen_parameters: regular expression: parameters of the backbone in whose names it is found are not trained,
            whatever the weights are, and their layers stay in training mode. The published code has ``[01]``, which is
            not what the paper says of two stages.
        hidden_dim: width of the head's hidden layer.
        fold_flips: whether images are folded (:func:`~monai_deepssim.networks.fold_flips`) before the backbone, which
            then takes seven channels of a quarter of the area: a flip of the image changes nothing at all (in a
            canonical pose: nothing but rounding), and the backbone need not learn to ignore flips. Takes images of one
            channel. Remembered in a buffer, which the published weights do not have.
        canonical_size: rows and columns to which each image is brought in a canonical pose first
            (:func:`~monai_deepssim.similarity.canonicalize_pose`): rotations, shifts and zooms are then undone before
            the backbone sees the image, and it need not learn to ignore them. ``None``: images stay as they are. Takes
            images of one channel. Remembered in a buffer.
        pooled_size: rows and columns that the features are averaged to. More than the published 1 x 1 keeps *where*
            something is, which pays in a canonical pose. Remembered in a buffer.
        spatial_dims: 2 for images, 3 for volumes. Of volumes sizes have three sides, the canonical pose is that of
            :func:`~monai_deepssim.similarity.canonicalize_volumes`, flips are not folded, and no pretrained weights but
            those of a DeepSSIM checkpoint are known.

    Raises:
        ValueError: when ``in_channels`` is neither 1 nor 3, or is 3 with ``canonical_size`` or ``fold_flips``, or
            when the canonical image is too small to be folded, or volumes have other than one channel, are folded
            or have sizes of two sides.
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
        frozen_parameters: str | None = None,
        hidden_dim: int = 512,
        fold_flips: bool = False,
        canonical_size: Sequence[int] | None = None,
        pooled_size: Sequence[int] | None = None,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        _check_arguments(spatial_dims, in_channels, fold_flips, canonical_size, pooled_size)
        self.backbone = backbone
        self._norm_is_frozen = False
        self.fold_flips = fold_flips
        if fold_flips:
            self.register_buffer("flips_are_folded", torch.tensor(True))
        self.canonical_size = self._remember("canonical_size", canonical_size)
        single = (1,) * spatial_dims
        several = pooled_size is not None and tuple(pooled_size) != single
        self.pooled_size = self._remember("pooled_size", pooled_size if several else None) or single
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        #: Whether the backbone takes a grey image three times: not after ``prepare_for_inference``.
        self.repeats_channel = True
        own = _read_own_checkpoint(pretrained)
        if spatial_dims == 3:
            self.feature_extractor, channels = build_volume_backbone(backbone)
        else:
            self.feature_extractor, channels = build_backbone(
                backbone, False if own else pretrained, FOLDED_CHANNELS if fold_flips else 3
            )
        features = channels * math.prod(self.pooled_size)
        self.fc = nn.Sequential(
            _POOLING[spatial_dims](self.pooled_size),
            nn.Flatten(),
            nn.BatchNorm1d(features),
            nn.Linear(features, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, embedding_dim),
        )
        if own:
            self._take_features(own, pretrained)
        self._frozen = children_of_stages(backbone, frozen_stages) if pretrained and frozen_stages else 0
        self._freeze_features(frozen_parameters)

    def _freeze_features(self, names: str | None) -> None:
        """Freeze the first stages, and the parameters whose names have what a regular expression finds."""
        self.feature_extractor[: self._frozen].requires_grad_(False)
        for name, parameter in self.feature_extractor.named_parameters():
            if names is not None and re.search(names, name):
                parameter.requires_grad_(False)

    def _take_features(self, state: Mapping[str, Tensor], path: bool | str | Path) -> None:
        """Take backbone and norm of a DeepSSIM checkpoint: the norm belongs to the features, where they are as many."""
        norm = _part(state, "fc.2.")
        try:
            self.feature_extractor.load_state_dict(_part(state, _BACKBONE))
            if norm["weight"].shape == self.fc[2].weight.shape:
                self.fc[2].load_state_dict(norm)
        except (RuntimeError, KeyError) as error:
            raise UnusableInputError(f"{path}: the backbone of this checkpoint is another one: {error}") from error

    def _remember(self, name: str, size: Sequence[int] | None) -> tuple[int, ...] | None:
        """The size as a tuple, kept with the weights where there is one."""
        if size is None:
            return None
        sides = tuple(int(side) for side in size)
        self.register_buffer(f"{name}_pixels", torch.tensor(sides))
        return sides

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
            x: standardised images ``(N, in_channels, H, W)``, at least 64 x 64 pixels; to be folded without a canonical
                size, 128 x 128. Or volumes ``(N, 1, X, Y, Z)``, at least 32 x 32 x 32 voxels.

        Returns:
            Embeddings ``(N, embedding_dim)`` of length 1, float32.

        Raises:
            ValueError: when the shape is another.
        """
        min_side = 2 * MIN_SIDE if self.fold_flips and self.canonical_size is None else MIN_SIDE
        min_side = MIN_VOLUME_SIDE if self.spatial_dims == 3 else min_side
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels or min(x.shape[2:]) < min_side:
            axes = "X, Y, Z" if self.spatial_dims == 3 else "H, W"
            raise ValueError(
                f"got images of shape {tuple(x.shape)}, want (N, {self.in_channels}, {axes}) with sides of at least "
                f"{min_side} pixels: resize them or set in_channels"
            )
        if self.canonical_size is not None or self.fold_flips:
            x = self._prepare(x)
        if x.shape[1] == 1 and self.spatial_dims == 2 and self.repeats_channel:
            x = x.expand(-1, 3, -1, -1)
        return F.normalize(self.fc(self.feature_extractor(x)).float(), dim=1)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` takes in place of this module, as MONAI's ``ckpt_export`` does: its trace.

        TorchScript does not know how poses are measured. The trace is of the eval mode and fits images of any number
        and size.
        """
        size = (64, 64, 64) if self.spatial_dims == 3 else (136, 112)
        shape = (2, self.in_channels, *size)
        example = torch.linspace(-1, 1, math.prod(shape)).reshape(shape)
        training = self.training
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of the checks of shapes
            traced = torch.jit.trace(self.eval(), example.to(next(self.parameters()).device))
        self.train(training)
        return nn.Sequential(traced)

    def _prepare(self, x: Tensor) -> Tensor:
        """Images without what an embedding must not depend on: their pose, and which way round they are."""
        # Positions, and the cancelling out of flips, are too fine for the half precision that the backbone may run in.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.spatial_dims == 3:
                return canonicalize_volumes(x, self.canonical_size or x.shape[2:])
            if self.canonical_size is not None:
                x = canonicalize_pose(x, self.canonical_size)
            return fold_flips(x) if self.fold_flips else x


def _check_arguments(
    spatial_dims: int,
    in_channels: int,
    fold_flips: bool,
    canonical_size: Sequence[int] | None,
    pooled_size: Sequence[int] | None,
) -> None:
    sizes = [size for size in (canonical_size, pooled_size) if size is not None]
    if spatial_dims not in _POOLING or any(len(size) != spatial_dims for size in sizes):
        raise ValueError(f"got {spatial_dims=} with sizes {sizes}, want 2 or 3, and sizes of as many sides")
    if spatial_dims == 3 and (in_channels != 1 or fold_flips):
        raise ValueError(f"got {in_channels=} and {fold_flips=} for volumes, want one channel, not folded")
    if in_channels not in (1, 3):
        raise ValueError(f"got in_channels={in_channels}, want 1 (repeated to 3) or 3, which is what backbones take")
    if (canonical_size is not None or fold_flips) and in_channels != 1:
        raise ValueError(f"got {in_channels=} with a canonical_size or fold_flips, want in_channels=1")
    if canonical_size is not None and fold_flips and min(canonical_size) < 2 * MIN_SIDE:
        raise ValueError(f"got canonical_size={tuple(canonical_size)}, want {2 * MIN_SIDE} pixels with fold_flips")


def _read_own_checkpoint(pretrained: bool | str | Path) -> dict[str, Tensor]:
    """The state dict where the file is a DeepSSIM checkpoint; empty where it is torchvision's, or none."""
    if isinstance(pretrained, bool) or not Path(pretrained).is_file():
        return {}
    try:
        state = read_state_dict(Path(pretrained))
    except UnusableInputError:  # what is wrong with it is said by who reads it as torchvision's
        return {}
    return state if _part(state, _BACKBONE) else {}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
