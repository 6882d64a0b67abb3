"""The image encoder of MRI-CORE, a foundation model of magnetic resonance imaging."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.state_dicts import describe_difference, existing_file, read_state_dict, shapes_of

__all__ = ["MRICoreEncoder"]

PATCH_SIZE = 16  # pixels
# Of ImageNet's photographs, red, green and blue; SAM and MRI-CORE normalise with them.
_CHANNEL_MEAN = (0.485, 0.456, 0.406)
_CHANNEL_STD = (0.229, 0.224, 0.225)
# What a DINOv2 training keeps beside the encoder, and this encoder has no use for.
_ONLY_FOR_PRETRAINING = re.compile(r"(cls_token|mask_token)$|(norm|dino_head|ibot_head)\.")


class MRICoreEncoder(nn.Module):
    """The image encoder of MRI-CORE: a ViT-B in the layout of SAM (Segment Anything), from timm's parts.

    12 blocks of 768 channels on patches of 16 x 16 pixels, attention in windows of 14 x 14 tokens except for the blocks
    2, 5, 8 and 11, an absolute position embedding, no relative one, and a neck of two convolutions to 256 channels.
    The names and shapes of its state dict are the published ones.

    Images go in as ``(N, 1, H, W)`` of any size and range. Each is scaled to [0, 1] by its own minimum and maximum (a
    constant image to 0), resized to a square of ``image_size`` pixels (bilinear, antialiased, the aspect not kept),
    repeated to three channels and normalised by ImageNet's mean and standard deviation.

    *Established* from the authors' repository (mazurowski-lab/mri_foundation): the architecture, LayerNorm's epsilon of
    1e-6, these four steps, 1024 pixels by default, and the bilinear interpolation of the position embedding for other
    sizes. The published file is a DINOv2 training's teacher, with a position embedding of 14 x 14 tokens and a class
    token, no relative position and no neck; the repository's issue 5 reports that its own loader drops the position
    embedding (it stays 0). Here it is loaded. *Assumed*: that images were normalised in the pretraining as they are by
    the authors' dataset class for fine-tuning, whose rounding to 8 bits in between is left out. The published code of
    the Memorization Index differs: it gives the encoder images in [0, 1], without the mean and standard deviation,
    by default 240 pixels wide.

    For the features that the Memorization Index is built on, give ``LAYERS`` and ``channel_dim=-1`` to
    :class:`~monai_deepssim.networks.LayerFeatures`: the blocks put out ``(N, H, W, C)``.

    Args:
        image_size: side of the square that images are resized to, in pixels, a multiple of 16. 1024 is published, and
            takes seconds per image on a CPU; 224 is usable there.
        checkpoint: path of a file with the weights, read with ``weights_only=True`` and loaded strictly: the encoder's
            state dict, alone or under ``image_encoder.`` in a whole SAM, or a DINOv2 teacher, in which the neck may be
            missing and ``cls_token``, ``mask_token``, ``norm`` and the heads are not used. The position embedding may
            have any square grid. ``None`` starts from random weights.

    Raises:
        UnusableInputError: when timm is not installed, there is no such file, or its weights do not fit: the message
            names the keys.
        ValueError: when ``image_size`` is no multiple of 16.

    References:
        Dong et al., MRI-CORE: A Foundation Model for Magnetic Resonance Imaging, arXiv 2506.12186.
        Kirillov et al., Segment Anything, ICCV 2023.

    Example:
        >>> encoder = MRICoreEncoder(image_size=32)
        >>> encoder.eval()(torch.rand(2, 1, 136, 112)).shape
        torch.Size([2, 256])
    """

    #: Whose outputs the Memorization Index compares.
    LAYERS: ClassVar[tuple[str, ...]] = ("blocks.3", "blocks.7", "blocks.11")

    def __init__(self, image_size: int = 1024, checkpoint: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        if image_size < PATCH_SIZE or image_size % PATCH_SIZE:
            raise ValueError(f"got image_size={image_size}, want a multiple of {PATCH_SIZE} pixels")
        path = None if checkpoint is None else existing_file(checkpoint, "an MRI-CORE checkpoint")
        self.image_size = image_size
        try:  # only when it is needed: importing it takes a second
            from timm import create_model
        except ImportError as error:
            raise UnusableInputError(
                "MRICoreEncoder needs timm, which is not installed: pip install monai-deepssim[mri_core]"
            ) from error
        # Random weights of 86 million parameters take seconds to draw, only to be written over.
        with torch.device("meta" if checkpoint is not None else "cpu"):
            # The position embedding is made for 1024 pixels whatever image_size is: it is interpolated when used.
            parts: Any = create_model(
                "samvit_base_patch16",
                use_rel_pos=False,
                num_classes=0,
                mlp_layer=_Mlp,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),  # timm's own default is 1e-5, unlike SAM's
            )
        self.pos_embed: nn.Parameter = parts.pos_embed
        self.patch_embed: nn.Module = parts.patch_embed
        self.blocks: nn.Sequential = parts.blocks
        self.neck: nn.Module | None = parts.neck
        if path is not None:
            self._load(path)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images.

        Args:
            x: ``(N, 1, H, W)``, of any size and range.

        Returns:
            Embeddings, the encoder's output averaged over the image: ``(N, 256)``, or ``(N, 768)`` of the last block
            where the checkpoint had no neck.

        Raises:
            ValueError: when the shape is another.
        """
        x = self.patch_embed(self.preprocess(x))
        x = self.blocks(x + self._position_embedding(x.shape[1], x.shape[2]))
        return x.mean((1, 2)) if self.neck is None else self.neck(x.permute(0, 3, 1, 2)).mean((2, 3))

    def preprocess(self, x: Tensor) -> Tensor:
        """Scale, resize and normalise images.

        Args:
            x: ``(N, 1, H, W)``.

        Returns:
            ``(N, 3, image_size, image_size)``.

        Raises:
            ValueError: when the shape is another.
        """
        if x.ndim != 4 or x.shape[1] != 1:
            raise ValueError(f"got images of shape {tuple(x.shape)}, want (N, 1, H, W)")
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        x = (x - low) / torch.where(high > low, high - low, 1.0)
        size = (self.image_size, self.image_size)
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = x.new_tensor(_CHANNEL_MEAN), x.new_tensor(_CHANNEL_STD)
        return (x - mean[:, None, None]) / std[:, None, None]

    def _position_embedding(self, rows: int, columns: int) -> Tensor:
        if self.pos_embed.shape[1:3] == (rows, columns):
            return self.pos_embed
        grid = self.pos_embed.permute(0, 3, 1, 2)
        return F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

    def _load(self, path: Path) -> None:
        found = _name_as_encoder(read_state_dict(path))
        wanted = shapes_of(self)
        if "pos_embed" in found:
            found["pos_embed"] = position = _as_grid(found["pos_embed"])
            if position.ndim == 4 and position.shape[1] == position.shape[2]:
                wanted["pos_embed"] = (1, *position.shape[1:3], wanted["pos_embed"][3])
        if "cls_token" in found and not any(name.startswith("neck.") for name in found):
            self.neck = None
            wanted = {name: shape for name, shape in wanted.items() if not name.startswith("neck.")}
        if "cls_token" in found:
            found = {name: value for name, value in found.items() if not _ONLY_FOR_PRETRAINING.match(name)}
        difference = describe_difference(wanted, shapes_of(found))
        if difference:
            raise UnusableInputError(
                f"{path}: these weights are not those of MRI-CORE's image encoder: {difference}. Give the published "
                "MRI-CORE checkpoint; SAM's own, for one, has relative positions, which this encoder has not."
            )
        self.pos_embed = nn.Parameter(found["pos_embed"])
        self.load_state_dict({name: value.float() for name, value in found.items()}, strict=True, assign=True)


class _Mlp(nn.Module):
    """What timm calls Mlp, with SAM's names for its layers."""

    def __init__(self, in_features: int, hidden_features: int, act_layer: type[nn.Module], **_: Any) -> None:
        super().__init__()
        self.lin1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.lin2 = nn.Linear(hidden_features, in_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


def _name_as_encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring the names of a whole SAM, of a DINOv2 teacher or of timm to those of the encoder."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    for prefix in ("image_encoder.", "backbone."):
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        state = inside or state
    named = {}
    for name, value in state.items():
        name = name.replace(".mlp.fc", ".mlp.lin")
        # DINOv2 trains its blocks in chunks: blocks.<chunk>.<block>
        named[re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)] = value
    return named


def _as_grid(position: Tensor) -> Tensor:
    """The position embedding ``(1, rows, columns, C)`` from one of tokens ``(1, 1 + rows * columns, C)``."""
    if position.ndim != 3:
        return position
    side = int((position.shape[1] - 1) ** 0.5)
    if side**2 != position.shape[1] - 1:
        return position
    return position[:, 1:].reshape(1, side, side, position.shape[2])
