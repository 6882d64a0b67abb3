"""Networks without their heads, by name: torchvision's image classifiers, a small ConvNeXt, and MONAI's for volumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.state_dicts import existing_file, load_weights, read_state_dict

__all__ = [
    "SUPPORTED_BACKBONES",
    "VOLUME_BACKBONES",
    "build_backbone",
    "build_classifier",
    "build_volume_backbone",
    "children_of_stages",
]


def _convnext_atto() -> ConvNeXt:
    """ConvNeXt-Atto (3.7 M parameters with its head), which torchvision has the parts for but not the name."""
    widths = (40, 80, 160, 320, None)
    depths = (2, 2, 6, 2)
    return ConvNeXt([CNBlockConfig(width, widths[i + 1], depths[i]) for i, width in enumerate(widths[:-1]) if width])


# How many children of the features make the first n stages: a stem or a downsampling layer, then the stage;
# convolution, normalisation, activation and pooling, then the stages; or the stem, then the stages.
_CHILDREN_OF_STAGES: dict[str, Callable[[int], int]] = {
    "convnext": lambda stages: 2 * stages,
    "resnet": lambda stages: 4 + stages,
    "efficientnet": lambda stages: 1 + stages,
    "mobilenet": lambda stages: 1 + stages,
}

#: Names of backbones; all but the first are torchvision's.
SUPPORTED_BACKBONES = (
    *("convnext_atto", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_v2_s"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
)
# Blocks and channels of each stage. The first is a quarter as wide as usual: 0.9 M parameters, for a CPU.
_VOLUME_RESNETS = {"resnet10_3d": ((1, 1, 1, 1), (16, 32, 64, 128)), "resnet18_3d": ((2, 2, 2, 2), (64, 128, 256, 512))}
#: Names of backbones for volumes: MONAI's ResNet, with a first convolution of 3 voxels and stride 2 and no pooling.
VOLUME_BACKBONES = tuple(_VOLUME_RESNETS)


def children_of_stages(name: str, stages: int) -> int:
    """Count the children of a backbone's features that make its first stages.

    Args:
        name: one of :data:`SUPPORTED_BACKBONES` or :data:`VOLUME_BACKBONES`.
        stages: number of stages, stem included.

    Example:
        >>> children_of_stages("resnet18", 2)
        6
    """
    return _CHILDREN_OF_STAGES[re.split(r"[_\d]", name)[0]](stages)


def build_classifier(name: str, pretrained: bool | str | Path = False) -> nn.Module:
    """Build a classifier, with its head.

    Args:
        name: one of :data:`SUPPORTED_BACKBONES`.
        pretrained: ``True`` downloads torchvision's default ImageNet weights; a path loads a state dict of the whole
            classifier from there; ``False`` starts from random weights.

    Returns:
        The classifier.

    Raises:
        UnusableInputError: when there are no such weights, or they do not fit.

    Example:
        >>> build_classifier("resnet18").fc.out_features
        1000
    """
    if name == "convnext_atto":
        if pretrained is True:
            raise UnusableInputError(
                "torchvision has no ImageNet weights for convnext_atto: set pretrained to false or to the path of some"
            )
        classifier: nn.Module = _convnext_atto()
    else:
        classifier = torchvision.models.get_model(name, weights="DEFAULT" if pretrained is True else None)
    if pretrained and pretrained is not True:
        path = existing_file(pretrained, f"a torchvision {name} state dict")
        remedy = "Give a state dict that torchvision publishes."
        load_weights(classifier, read_state_dict(path), path, f"torchvision's {name}", remedy)
    return classifier


def build_backbone(name: str, pretrained: bool | str | Path = False, in_channels: int = 3) -> tuple[nn.Sequential, int]:
    """Build the feature layers of a torchvision classifier.

    Args:
        name: one of :data:`SUPPORTED_BACKBONES`.
        pretrained: as for :func:`build_classifier`.
        in_channels: channels of the images. With another number than 3, each gets the mean of a pretrained first
            convolution's three kernels, scaled so that equal channels give what they give the original.

    Returns:
        The features, a Sequential that maps ``(N, in_channels, H, W)`` to ``(N, channels, h, w)``, and the number of
        channels.

    Raises:
        UnusableInputError: when the name is unknown or the weights do not fit.

    Example:
        >>> features, channels = build_backbone("convnext_atto")
        >>> channels
        320
    """
    if name not in SUPPORTED_BACKBONES:
        raise UnusableInputError(f"unknown backbone {name!r}: choose one of {', '.join(SUPPORTED_BACKBONES)}")
    classifier = build_classifier(name, pretrained)
    features = getattr(classifier, "features", None)
    if features is None:  # a ResNet names its layers one by one
        features = nn.Sequential(*list(classifier.children())[:-2])
    if in_channels != 3:
        _widen_input(features, in_channels, bool(pretrained))
    return features, _count_channels(features, in_channels)


def build_volume_backbone(name: str) -> tuple[nn.Sequential, int]:
    """Build the feature layers of a network for volumes, with random weights.

    Args:
        name: one of :data:`VOLUME_BACKBONES`.

    Returns:
        The features, a Sequential that maps ``(N, 1, X, Y, Z)`` to ``(N, channels, x, y, z)`` of a sixteenth of the
        sides, and the number of channels.

    Raises:
        UnusableInputError: when the name is unknown.

    Example:
        >>> features, channels = build_volume_backbone("resnet10_3d")
        >>> features(torch.rand(2, 1, 32, 32, 32)).shape
        torch.Size([2, 128, 2, 2, 2])
    """
    if name not in VOLUME_BACKBONES:
        raise UnusableInputError(f"unknown backbone of volumes {name!r}: choose one of {', '.join(VOLUME_BACKBONES)}")
    layers, widths = _VOLUME_RESNETS[name]
    resnet = ResNet("basic", list(layers), list(widths), n_input_channels=1, conv1_t_size=3, conv1_t_stride=2)
    children = {child: nn.Identity() if child == "maxpool" else module for child, module in resnet.named_children()}
    return nn.Sequential(*list(children.values())[:-2]), widths[-1]


def _widen_input(features: nn.Sequential, in_channels: int, pretrained: bool) -> None:
    """Give the first convolution another number of input channels."""
    first = next(module for module in features.modules() if isinstance(module, nn.Conv2d))
    kernels = first.weight.detach()
    wide = (kernels.mean(dim=1, keepdim=True) * 3 / in_channels).repeat(1, in_channels, 1, 1)
    # Random kernels are drawn anew, as spread as before: equal ones would not tell the channels apart.
    first.weight = nn.Parameter(wide if pretrained else torch.randn_like(wide) * kernels.std())
    first.in_channels = in_channels


def _count_channels(features: nn.Sequential, in_channels: int) -> int:
    """Channels of the features' output, found by running them: families order their layers differently."""
    training = features.training
    device = next(features.parameters()).device
    probe: Tensor = torch.zeros(1, in_channels, 64, 64, device=device)
    with torch.no_grad():
        channels = features.eval()(probe).shape[1]
    features.train(training)
    return int(channels)
