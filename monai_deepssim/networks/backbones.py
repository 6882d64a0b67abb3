"""Torchvision's image classifiers without their heads, by name, plus a ConvNeXt small enough for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from monai_deepssim.errors import UnusableInputError

__all__ = ["SUPPORTED_BACKBONES", "build_backbone", "load_classifier"]


def _convnext_atto(weights: Any = None) -> ConvNeXt:
    """ConvNeXt-Atto (3.7 M parameters with its head), which torchvision has the parts for but not the name."""
    if weights is not None:
        raise UnusableInputError(
            "torchvision has no ImageNet weights for convnext_atto: set pretrained to false or to the path of some"
        )
    widths = (40, 80, 160, 320, None)
    depths = (2, 2, 6, 2)
    blocks = [CNBlockConfig(width, widths[i + 1], depths[i]) for i, width in enumerate(widths[:-1]) if width]
    return ConvNeXt(blocks)


def _children_to_freeze_convnext(stages: int) -> int:
    return 2 * stages  # a stem or a downsampling layer, then the stage


def _children_to_freeze_resnet(stages: int) -> int:
    return 4 + stages  # convolution, normalisation, activation and pooling, then the stages


def _children_to_freeze_other(stages: int) -> int:
    return 1 + stages  # the stem, then the stages


def _torchvision_model(name: str, weights: Any = None) -> nn.Module:
    return torchvision.models.get_model(name, weights=weights)


#: Backbones by name: how to build the classifier, and how many children of its features make the first n stages.
SUPPORTED_BACKBONES: dict[str, tuple[Callable[..., nn.Module], Callable[[int], int]]] = {
    "convnext_atto": (_convnext_atto, _children_to_freeze_convnext),
    **{
        name: (partial(_torchvision_model, name), _children_to_freeze_convnext)
        for name in ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
    },
    **{
        name: (partial(_torchvision_model, name), _children_to_freeze_resnet)
        for name in ("resnet18", "resnet34", "resnet50")
    },
    **{
        name: (partial(_torchvision_model, name), _children_to_freeze_other)
        for name in ("efficientnet_b0", "efficientnet_v2_s", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
    },
}


def build_backbone(name: str, pretrained: bool | str | Path = False, in_channels: int = 3) -> tuple[nn.Sequential, int]:
    """Build the feature layers of a torchvision classifier.

    Args:
        name: one of :data:`SUPPORTED_BACKBONES`.
        pretrained: ``True`` downloads torchvision's default ImageNet weights; a path loads a state dict of the whole
            torchvision classifier from there; ``False`` starts from random weights.
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
    build, _ = SUPPORTED_BACKBONES[name]
    classifier = build(weights="DEFAULT" if pretrained is True else None)
    if pretrained and pretrained is not True:
        load_classifier(classifier, Path(pretrained), name)
    features = getattr(classifier, "features", None)
    if features is None:  # a ResNet names its layers one by one
        features = nn.Sequential(*list(classifier.children())[:-2])
    if in_channels != 3:
        _widen_input(features, in_channels, bool(pretrained))
    return features, _count_channels(features, in_channels)


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


def load_classifier(classifier: nn.Module, path: Path, name: str) -> None:
    """Load a torchvision classifier's state dict into it.

    Args:
        classifier: with its head.
        path: of the state dict.
        name: of the backbone, for the messages.

    Raises:
        UnusableInputError: when there is no such file or its weights do not fit.

    Example:
        >>> import tempfile
        >>> classifier = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(classifier.state_dict(), f"{folder}/model.pt")
        ...     load_classifier(classifier, Path(folder) / "model.pt", "resnet18")
    """
    if not path.is_file():
        raise UnusableInputError(f"{path}: no such file; give the path of a torchvision {name} state dict")
    try:
        classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise UnusableInputError(f"{path}: not a torchvision state dict of {name}: {error}") from error
