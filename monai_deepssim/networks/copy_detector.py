"""The self-supervised embedder of Dar et al., whose embeddings of a copy and of its original correlate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai.networks import nets
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.backbones import build_classifier
from monai_deepssim.networks.state_dicts import existing_file, load_fitting, read_state_dict, shapes_of
from monai_deepssim.networks.volume_copy_detector import VolumeCopyDetector

__all__ = ["CopyDetector", "load_copy_detector"]

_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet18_narrow")
_NARROW = [32, 64, 128, 256]  # channels of the stages: half of a ResNet-18's
# Along each axis, by the number of blocks: of knee MR (MRNet) and of coronary CT.
_PUBLISHED_DOWNSAMPLING = {6: (8, 64, 64), 4: (16, 16, 16)}
_MIN_SIDE = 32  # pixels: a ResNet halves an image five times


class CopyDetector(nn.Module):
    """Map an image in [0, 1] to an embedding that correlates with those of its copies.

    A ResNet whose first convolution takes one channel and whose last layer gives ``embedding_dim`` numbers. It is
    trained by contrast: an image and its rotated and flipped self attract each other, all other images of the batch
    repel (NT-Xent; the bundle ``copy_detector``). With the defaults this is the published 2-D network, torchvision's
    ResNet-50, and its parameters have the published names, ``fc_end`` included, a layer that no score uses.

    In 3-D it is the same with MONAI's 3-D ResNet, whose parameters have the same names. What the authors' repository
    trains in 3-D is another network, :class:`VolumeCopyDetector`.

    Args:
        spatial_dims: 2 or 3.
        backbone: ``resnet18``, ``resnet34`` or ``resnet50``; or ``resnet18_narrow``, a ResNet-18 of half the channels
            (2.8 M parameters in 2-D), of which the shipped weights are.
        embedding_dim: length of an embedding.
        pretrained: ``True`` for torchvision's ImageNet weights (downloaded), or the path of such a state dict; the
            first and the last layer are random all the same. Only in 2-D.

    Raises:
        ValueError: when ``spatial_dims`` is neither 2 nor 3.
        UnusableInputError: when the backbone is unknown, or the weights do not fit.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> import torch
        >>> detector = CopyDetector(backbone="resnet18").eval()
        >>> detector(torch.rand(2, 1, 136, 112)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        backbone: str = "resnet50",
        embedding_dim: int = 128,
        pretrained: bool | str | Path = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"got spatial_dims={spatial_dims}, want 2 or 3")
        if backbone not in _BACKBONES:
            raise UnusableInputError(f"unknown backbone {backbone!r}: choose one of {', '.join(_BACKBONES)}")
        self.spatial_dims = spatial_dims
        self.backbone = backbone
        build = _build_2d if spatial_dims == 2 and backbone != "resnet18_narrow" else _build_of_monai
        self.model = build(spatial_dims, backbone, embedding_dim, pretrained)
        # Not trained, so that a distributed training does not wait for its gradient.
        self.fc_end = nn.Linear(embedding_dim, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Args:
            x: ``(N, 1, H, W)``, or ``(N, 1, H, W, D)`` in 3-D, in [0, 1], each side at least 32 pixels.

        Returns:
            ``(N, embedding_dim)`` of any length; compare by Pearson correlation.

        Raises:
            ValueError: when the shape is another.
        """
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != 1 or min(x.shape[2:]) < _MIN_SIDE:
            wanted = "(N, 1, H, W)" if self.spatial_dims == 2 else "(N, 1, H, W, D)"
            raise ValueError(
                f"got images of shape {tuple(x.shape)}, want {wanted} with sides of at least {_MIN_SIDE} pixels: "
                "resize them, or build the detector with another spatial_dims"
            )
        return self.model(x)


def load_copy_detector(
    path: str | os.PathLike[str], downsampling: Sequence[int] | None = None
) -> CopyDetector | VolumeCopyDetector:
    """Load a copy detector from a checkpoint, ready to embed (in eval mode, on the CPU).

    Takes the published 2-D state dict (names ``model.*`` and ``fc_end.*``) and the published 3-D one (``encoder.*``,
    ``conv3D.*``, ``dense.*`` and ``sup_layer.*``), what the bundle ``copy_detector`` writes, in 2-D or 3-D, and a whole
    training checkpoint that holds any of them. Dimensions, backbone and length of the embedding are read off the
    shapes; the weights have to fit exactly, and are read with ``weights_only=True``.

    Args:
        path: path of the weights file.
        downsampling: of published 3-D weights, how many times smaller the volume becomes along each axis, which
            weights do not remember. ``None`` takes what was published: 8, 64, 64 with six blocks (knee MR) and 16, 16,
            16 with four (coronary CT).

    Returns:
        The network; ``spatial_dims`` says what it takes.

    Raises:
        UnusableInputError: when there is no such file, it is no checkpoint, or its weights are of something else: the
            message names the missing and the unexpected keys.

    Example:
        >>> import tempfile
        >>> import torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.pt"
        ...     torch.save(CopyDetector(backbone="resnet18", embedding_dim=16).state_dict(), path)
        ...     load_copy_detector(path).backbone
        'resnet18'
    """
    path = existing_file(path, "a copy detector's checkpoint")
    state = read_state_dict(path)
    shapes = shapes_of(state)
    if "encoder.conv_first.conv.weight" in shapes:
        return _load_volume_copy_detector(path, state, downsampling)
    spatial_dims = 3 if len(shapes.get("model.conv1.weight", ())) == 5 else 2
    head = shapes.get("model.fc.weight", ())
    embedding_dim = head[0] if len(head) == 2 else 128
    builders = {name: partial(CopyDetector, spatial_dims, name, embedding_dim) for name in _BACKBONES}
    detector, nearest, difference = load_fitting(state, builders)
    if detector is None:
        raise UnusableInputError(
            f"{path}: these weights are not those of a copy detector; the nearest is a {spatial_dims}-D {nearest}: "
            f"{difference}. Give a checkpoint of the copy_detector bundle, or the published 2-D or 3-D one."
        )
    return detector


def _load_volume_copy_detector(
    path: Path, state: Mapping[str, Tensor], downsampling: Sequence[int] | None
) -> VolumeCopyDetector:
    """Load the published 3-D weights; what their shapes do not say is taken from what was published."""
    shapes = shapes_of(state)
    num_blocks = len({name.split(".")[2] for name in shapes if name.startswith("encoder.conv_blocks.")})
    downsampling = downsampling or _PUBLISHED_DOWNSAMPLING.get(num_blocks)
    if downsampling is None:
        raise UnusableInputError(
            f"{path}: an encoder of {num_blocks} blocks, and which axes each block halves is not in its weights. Give "
            f"load_copy_detector the downsampling along each axis, up to {2**num_blocks}; known are 8, 64, 64 with six "
            "blocks and 16, 16, 16 with four."
        )
    if not {"conv3D.conv.weight", "dense.1.weight", "dense.4.weight"} <= shapes.keys():
        raise UnusableInputError(
            f"{path}: the weights of an encoder alone, as of a VQ-GAN: conv3D.*, dense.* and sup_layer.* are missing, "
            "which make an embedding of its features and come from contrastive training. Give the 3-D checkpoint of "
            "that training."
        )
    build = partial(
        VolumeCopyDetector,
        downsampling,
        channels=shapes["encoder.conv_first.conv.weight"][0],
        feature_channels=shapes["conv3D.conv.weight"][0],
        embedding_dim=shapes["dense.4.weight"][0],
    )
    detector, _, difference = load_fitting(state, {"published 3-D": build})
    if detector is None:
        raise UnusableInputError(
            f"{path}: these weights are not those of the published 3-D copy detector: {difference}. Give a checkpoint "
            "of the authors' 3-D training, or of the copy_detector bundle."
        )
    return detector


def _build_2d(spatial_dims: int, backbone: str, embedding_dim: int, pretrained: bool | str | Path) -> nn.Module:
    classifier: Any = build_classifier(backbone, pretrained)
    classifier.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    classifier.fc = nn.Linear(classifier.fc.in_features, embedding_dim)
    return classifier


def _build_of_monai(spatial_dims: int, backbone: str, embedding_dim: int, pretrained: bool | str | Path) -> nn.Module:
    """MONAI's ResNet, where torchvision has none: in 3-D, and narrow."""
    if pretrained:
        raise UnusableInputError(
            f"there are no ImageNet weights of a {spatial_dims}-D {backbone}: set pretrained to false"
        )
    build = partial(nets.ResNet, "basic", [2, 2, 2, 2], _NARROW) if backbone == "resnet18_narrow" else None
    # The stride and the missing biases are those of torchvision's 2-D ResNet.
    return (build or getattr(nets, backbone))(
        spatial_dims=spatial_dims,
        n_input_channels=1,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=embedding_dim,
    )
