"""The published 3-D copy detector of Dar et al.: an encoder as of a VQ-GAN, with a small head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["VolumeCopyDetector"]

_NUM_GROUPS = 32  # of each normalisation, as the authors' notebook prints their network
_FEATURE_SIDE = 4  # voxels: every volume ends as 4 x 4 x 4 positions
_HIDDEN_DIM = 128


class VolumeCopyDetector(nn.Module):
    """Map a volume in [0, 1] to an embedding that correlates with those of its copies: the published 3-D network.

    A convolution, then blocks that halve the volume, double the channels and refine them (two normalised convolutions
    and a shortcut), down to 4 x 4 x 4 positions; a 1 x 1 x 1 convolution to ``feature_channels``; and two dense layers.
    Edges are padded with their own values. Its parameters have the published names, ``sup_layer`` included, a layer
    that no score uses. It is larger than :class:`CopyDetector` in 3-D (120 M parameters for knees) and takes volumes of
    one size; take it for published weights, and train anew with the bundle ``copy_detector``, which uses that one.

    Args:
        downsampling: how many times smaller the volume becomes along each axis, powers of two: 8, 64, 64 as published
            for knee MR volumes of 32 x 256 x 256 voxels, and 16, 16, 16 for coronary CT volumes of 64 x 64 x 64.
        channels: number of channels of the first convolution, a multiple of 16.
        feature_channels: number of channels before the dense layers.
        embedding_dim: length of an embedding.

    Raises:
        ValueError: when a factor is no power of two, or all of them are 1.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> import torch
        >>> detector = VolumeCopyDetector(downsampling=(4, 8, 8)).eval()
        >>> detector.image_size
        (16, 32, 32)
        >>> detector(torch.rand(2, 1, 16, 32, 32)).shape
        torch.Size([2, 32])
    """

    spatial_dims = 3

    def __init__(
        self,
        downsampling: Sequence[int] = (8, 64, 64),
        channels: int = 16,
        feature_channels: int = 8,
        embedding_dim: int = 32,
    ) -> None:
        super().__init__()
        halvings = [int(factor).bit_length() - 1 for factor in downsampling]
        if len(halvings) != 3 or [2**count for count in halvings] != list(downsampling) or max(halvings) < 1:
            raise ValueError(f"got downsampling={tuple(downsampling)}, want three powers of two, not all of them 1")
        #: Voxels of the volumes that it takes.
        self.image_size = tuple(_FEATURE_SIDE * factor for factor in downsampling)
        blocks = [
            _halving_block(channels * 2**level, [2 if count > level else 1 for count in halvings])
            for level in range(max(halvings))
        ]
        widest = channels * 2 ** max(halvings)
        self.encoder = nn.Sequential(
            OrderedDict(
                conv_first=_padded_convolution(1, channels, 3),
                conv_blocks=nn.Sequential(*blocks),
                final_block=nn.Sequential(_norm(widest), nn.SiLU()),
            )
        )
        self.conv3D = _padded_convolution(widest, feature_channels, 1)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(feature_channels * _FEATURE_SIDE**3, _HIDDEN_DIM),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(_HIDDEN_DIM, embedding_dim),
        )
        # Not trained, so that a distributed training does not wait for its gradient.
        self.sup_layer = nn.Sequential(nn.ReLU(), nn.Linear(embedding_dim, 1)).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed volumes.

        Args:
            x: ``(N, 1, *image_size)``, of any finite range: each volume is scaled to [-1, 1] by its own extremes, as
                published. Axes as in the files that the weights were trained on; MRNet's are sagittal slices, rows,
                columns.

        Returns:
            ``(N, embedding_dim)`` of any length; compare by Pearson correlation.

        Raises:
            ValueError: when the shape is another.
        """
        if x.shape[1:] != (1, *self.image_size):
            size = " x ".join(map(str, self.image_size))
            raise ValueError(f"got volumes of shape {tuple(x.shape)}, want (N, 1, ...) of {size} voxels: resize them")
        low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
        scaled = 2 * (x - low) / (high - low + 1e-4) - 1  # the published 1e-4 keeps a constant volume finite
        return self.dense(self.conv3D(self.encoder(scaled)))


class _Residual(nn.Sequential):
    """Layers whose output is added to their input."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that torch gives it)
        return input + super().forward(input)


def _halving_block(channels: int, stride: Sequence[int]) -> nn.Sequential:
    """Halve the volume where the stride is 2, double the channels, and refine them."""
    doubled = 2 * channels
    refine = _Residual(
        OrderedDict(
            norm1=_norm(doubled),
            activation1=nn.SiLU(),
            conv1=_padded_convolution(doubled, doubled, 3),
            norm2=_norm(doubled),
            activation2=nn.SiLU(),
            conv2=_padded_convolution(doubled, doubled, 3),
        )
    )
    return nn.Sequential(OrderedDict(down=_padded_convolution(channels, doubled, 4, stride), res=refine))


def _padded_convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: Sequence[int] = (1, 1, 1)
) -> nn.Sequential:
    """A convolution whose output has the input's size over the stride; an odd voxel of padding comes first."""
    # Padding is told of the last axis first, in front and behind.
    padding: Any = [
        pad for step in reversed(stride) for pad in (-(-(kernel_size - step) // 2), (kernel_size - step) // 2)
    ]
    strides: Any = tuple(stride)
    convolution = nn.Conv3d(in_channels, out_channels, kernel_size, stride=strides)
    return nn.Sequential(OrderedDict(pad=nn.ReplicationPad3d(tuple(padding)), conv=convolution))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_NUM_GROUPS, channels, eps=1e-6)
