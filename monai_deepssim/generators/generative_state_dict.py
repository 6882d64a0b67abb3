"""Weights of monai-generative's networks under the names of MONAI core's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.state_dicts import describe_difference, shapes_of

__all__ = ["convert_generative_state_dict", "is_generative_state_dict"]

# From MONAI's names to those of monai-generative 0.2.3. Its spatial attention has its projections beside its norm;
# MONAI's has them in a block of their own.
_RENAMED = (
    (re.compile(r"\.attn\.(to_[qkv])\."), r".\1."),
    (re.compile(r"(\.transformer_blocks\.\d+\.attn[12])\.out_proj\."), r"\1.to_out.0."),
    (re.compile(r"\.postconv\."), ".conv."),
)
# The projection of a spatial attention: MONAI applies it, monai-generative has one and never does.
_PROJECTION = re.compile(r"\.attn\.out_proj\.(weight|bias)$")
_NEVER_APPLIED = re.compile(r"\.proj_attn\.(weight|bias)$")


def convert_generative_state_dict(state_dict: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Convert the weights of a network of monai-generative to those of the same network in MONAI core.

    monai-generative 0.2.3 defines a projection ``proj_attn`` in every spatial attention and never applies it; MONAI
    applies its own. So each of MONAI's becomes the identity with bias 0, whatever ``proj_attn`` holds, and the
    converted network computes what the trained one did. The projections inside of transformer blocks (conditioned
    U-Nets) are applied by both, and kept.

    MONAI's ``load_old_state_dict`` gives the same weights when ``proj_attn`` is made the identity before. It is not
    used, as it leaves random weights where the file has none, drops what it has no place for (with
    ``include_fc=False`` the projections of a conditioned U-Net) and prints; here either is an error.

    Args:
        state_dict: of ``generative.networks.nets.AutoencoderKL`` or ``DiffusionModelUNet``.
        network: MONAI core's, with the configuration that the weights were trained with. Only its names and shapes are
            read.

    Returns:
        A state dict that ``network`` loads strictly; tensors are shared with ``state_dict`` except for the projections.

    Raises:
        UnusableInputError: when weights are missing, left over or of another shape: the message names them.

    Example:
        >>> from monai.networks.blocks import SpatialAttentionBlock
        >>> attention = nn.Sequential(SpatialAttentionBlock(2, num_channels=4, norm_num_groups=2))
        >>> weights = {"0.norm.weight": torch.ones(4), "0.norm.bias": torch.zeros(4)}
        >>> for name in ("to_q", "to_k", "to_v", "proj_attn"):
        ...     weights |= {f"0.{name}.weight": torch.rand(4, 4), f"0.{name}.bias": torch.rand(4)}
        >>> converted = convert_generative_state_dict(weights, attention)
        >>> attention.load_state_dict(converted)
        <All keys matched successfully>
        >>> converted["0.attn.out_proj.weight"].equal(torch.eye(4))
        True
    """
    own = network.state_dict()
    applied = {name: value for name, value in state_dict.items() if not _NEVER_APPLIED.search(name)}
    wanted = {_generative_name(name): shape for name, shape in shapes_of(own).items() if not _PROJECTION.search(name)}
    difference = describe_difference(wanted, shapes_of(applied))
    if difference:
        raise UnusableInputError(
            f"these weights of monai-generative are not those of the given {type(network).__name__}: {difference}. "
            "Give the network the configuration that it was trained with; of MONAI's own options, include_fc must be "
            "true, use_combined_linear false and use_convtranspose false."
        )
    converted = {}
    for name, value in own.items():
        if not _PROJECTION.search(name):
            converted[name] = applied[_generative_name(name)]
        elif name.endswith("weight"):
            converted[name] = torch.eye(*value.shape, dtype=value.dtype, device=value.device)
        else:
            converted[name] = torch.zeros_like(value)
    return converted


def is_generative_state_dict(names: Iterable[str], network: nn.Module) -> bool:
    """Tell by its names whether a state dict is monai-generative's or MONAI core's.

    Only names that one of the two gives to weights of this network, and the other does not, are counted. Without
    attention and upsampling there are none: both name the weights alike, and there is nothing to convert.

    Args:
        names: of the state dict.
        network: MONAI core's.

    Returns:
        Whether more of monai-generative's names are found than of MONAI's.

    Example:
        >>> from monai.networks.blocks import SpatialAttentionBlock
        >>> attention = nn.Sequential(SpatialAttentionBlock(2, num_channels=4, norm_num_groups=2))
        >>> is_generative_state_dict(["0.norm.weight", "0.to_q.weight"], attention)
        True
        >>> is_generative_state_dict(attention.state_dict(), attention)
        False
    """
    found, core = set(names), set(network.state_dict())
    generative = {_generative_name(name) for name in core}
    return len(found & (generative - core)) > len(found & (core - generative))


def _generative_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
