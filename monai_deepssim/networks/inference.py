"""An embedder in the form that embeds fastest: the same embeddings, to rounding."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from monai_deepssim.networks.deepssim_embedder import DeepSSIMEmbedder

__all__ = ["prepare_for_inference"]


def prepare_for_inference(network: nn.Module) -> nn.Module:
    """Copy an embedder into a form that is faster and embeds alike, to rounding.

    Three equal channels through a convolution are one channel through the sum of its kernels, so the first convolution
    of an embedder of grey images takes one. A normalisation by batch statistics that follows a convolution becomes part
    of it. The weights lie channels last, in which the blocks of a ConvNeXt work: their permutations then copy nothing.

    Args:
        network: an embedder; what is no :class:`~monai_deepssim.networks.DeepSSIMEmbedder` of images is returned as it
            is.

    Returns:
        The copy, in eval mode and not to be trained. The network itself is not changed.

    Example:
        >>> embedder = DeepSSIMEmbedder(backbone="convnext_atto").eval()
        >>> images = torch.randn(2, 1, 64, 64)
        >>> with torch.inference_mode():
        ...     torch.allclose(prepare_for_inference(embedder)(images), embedder(images), atol=1e-5)
        True
    """
    if type(network) is not DeepSSIMEmbedder or network.spatial_dims != 2:
        return network
    embedder = copy.deepcopy(network).eval().requires_grad_(False)
    features = embedder.feature_extractor
    if embedder.in_channels == 1 and not embedder.fold_flips:
        _sum_first_kernels(features)
        embedder.repeats_channel = False
    if any(isinstance(module, nn.BatchNorm2d) for module in features.modules()):
        embedder.feature_extractor = cast(nn.Sequential, fuse(features, inplace=True))
    return embedder.to(memory_format=torch.channels_last)


def _sum_first_kernels(features: nn.Module) -> None:
    """Let the first convolution take one channel in the place of three equal ones."""
    first = next(module for module in features.modules() if isinstance(module, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.sum(dim=1, keepdim=True), requires_grad=False)
    first.in_channels = 1
