"""Networks of monai-generative and their weights as MONAI core's, and which of its classes can be imported."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pydoc import locate
from typing import Any

import monai
import monai.config
import torch
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import describe_difference, shapes_of

__all__ = ["as_monai_network", "check_generative_target", "convert_generative_state_dict", "is_generative_state_dict"]

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
        state_dict: state dict of ``generative.networks.nets.AutoencoderKL`` or ``DiffusionModelUNet``.
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
        names: keys of the state dict.
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


# The releases whose monai.config has the IgniteInfo that monai-generative 0.2.3 imports for its schedulers.
# 1.3.0 is the oldest that it supports; tried with 1.3.0, 1.3.2, 1.4.0, 1.5.0, 1.5.2 and 1.6.0, which import, and 1.6.1.
_VERSIONS_WITH_IGNITE_INFO = "1.3.0 to 1.6.0"


def as_monai_network(network: nn.Module) -> nn.Module:
    """Turn a network of monai-generative into MONAI core's with the same configuration, weights and outputs.

    The configuration is read off the network's parts, the weights go through :func:`convert_generative_state_dict`;
    the outputs are equal to rounding. An autoencoder with ``use_convtranspose`` stays what it is, as its transposed
    convolutions (kernel 3) are not MONAI's (kernel 2); it can be called as MONAI's. ``use_flash_attention`` is kept
    where there is no dropout, as MONAI's flash attention applies that at inference, too.

    Args:
        network: an ``AutoencoderKL`` or ``DiffusionModelUNet`` of ``generative.networks.nets``, or a network that is
            not monai-generative's.

    Returns:
        A new network of ``monai.networks.nets`` on the same device, of the same precision and in the same mode; what
        is not monai-generative's is returned as it is.

    Raises:
        UnusableInputError: when it is another of monai-generative's networks.

    Example:
        >>> from generative.networks.nets import AutoencoderKL as GenerativeAutoencoderKL
        >>> archived = GenerativeAutoencoderKL(
        ...     2, num_channels=(4, 8), attention_levels=(False, True), num_res_blocks=1, norm_num_groups=4
        ... )
        >>> type(as_monai_network(archived)).__module__
        'monai.networks.nets.autoencoderkl'
    """
    if type(network).__module__.split(".")[0] != "generative":
        return network
    name = type(network).__name__
    if name not in ("AutoencoderKL", "DiffusionModelUNet"):
        raise UnusableInputError(
            f"{type(network).__module__}.{name}: of monai-generative's networks, AutoencoderKL and DiffusionModelUNet "
            f"are taken.{_say_counterpart(f'generative.networks.nets.{name}')}"
        )
    converted: nn.Module
    if name == "DiffusionModelUNet":
        converted = DiffusionModelUNet(**_read_unet(network))
    elif any(getattr(part, "use_convtranspose", False) for part in network.modules()):
        return network
    else:
        converted = AutoencoderKL(**_read_autoencoder(network))
    converted.load_state_dict(convert_generative_state_dict(network.state_dict(), converted))
    weight = next(network.parameters())
    return converted.to(weight.device, weight.dtype).train(network.training)


def check_generative_target(target: str) -> None:
    """Check that a class can be imported which a config names, where it is one of monai-generative's.

    monai-generative 0.2.3 imports ``IgniteInfo`` from ``monai.config`` for its schedulers and trainers, which MONAI
    1.6.1 no longer has there; its networks and inferers import beside it. A bundle checks before its parts are built,
    in its ``initialize``: ``$monai_deepssim.generators.check_generative_target(@scheduler#_target_)``.

    Args:
        target: a ``_target_``, such as ``generative.networks.schedulers.DDIMScheduler``. Others than monai-generative's
            are let through.

    Raises:
        UnusableInputError: when it cannot be imported: the message says which releases of MONAI it can be imported
            with, and the class of that name in MONAI core.

    Example:
        >>> check_generative_target("monai.networks.schedulers.DDIMScheduler")
        >>> check_generative_target("generative.networks.nets.AutoencoderKL")
    """
    if target.split(".")[0] != "generative":
        return
    module_name, _, name = target.rpartition(".")
    if importlib.util.find_spec("generative") is None:
        raise UnusableInputError(
            f"{target}: monai-generative is not installed. Install it with: pip install monai-deepssim[generative]."
            f"{_say_counterpart(target)}"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        wanted = ""
        if not hasattr(monai.config, "IgniteInfo"):
            wanted = (
                f" monai-generative's schedulers and trainers need MONAI {_VERSIONS_WITH_IGNITE_INFO}; installed is "
                f"{monai.__version__}."
            )
        raise UnusableInputError(f"{target} cannot be imported: {error}.{wanted}{_say_counterpart(target)}") from error
    if not hasattr(module, name):
        raise UnusableInputError(f"{target}: {module_name} has no {name}.{_say_counterpart(target)}")


def _say_counterpart(target: str) -> str:
    counterpart = "monai" + target.removeprefix("generative")
    if locate(counterpart) is None:
        return ""
    steps = " (the same noise in other steps: docs/monai_generative.md)" if ".schedulers." in target else ""
    return f" MONAI itself has {counterpart}{steps}: name that one."


def _read_autoencoder(network: Any) -> dict[str, Any]:
    """The arguments that make MONAI's AutoencoderKL the same."""
    encoder, decoder = network.encoder, network.decoder
    attentions_of_levels = sum(
        number for number, attends in zip(encoder.num_res_blocks, encoder.attention_levels, strict=True) if attends
    )
    return {
        "spatial_dims": encoder.spatial_dims,
        "in_channels": encoder.in_channels,
        "out_channels": decoder.out_channels,
        "num_res_blocks": encoder.num_res_blocks,
        "channels": encoder.num_channels,
        "attention_levels": encoder.attention_levels,
        "latent_channels": network.latent_channels,
        "norm_num_groups": encoder.norm_num_groups,
        "norm_eps": encoder.norm_eps,
        "with_encoder_nonlocal_attn": len(_find_attentions(encoder)) > attentions_of_levels,
        "with_decoder_nonlocal_attn": len(_find_attentions(decoder)) > attentions_of_levels,
        "use_checkpoint": network.use_checkpointing,
        "use_flash_attention": any(attention.use_flash_attention for attention in _find_attentions(network)),
    }


def _read_unet(network: Any) -> dict[str, Any]:
    """The arguments that make MONAI's DiffusionModelUNet the same."""
    norm = network.out[0]
    flash = any(attention.use_flash_attention for attention in _find_attentions(network))
    arguments = {
        "spatial_dims": network.conv_in.conv.weight.ndim - 2,
        "in_channels": network.in_channels,
        "out_channels": network.out_channels,
        "num_res_blocks": network.num_res_blocks,
        "channels": network.block_out_channels,
        "attention_levels": network.attention_levels,
        "norm_num_groups": norm.num_groups,
        "norm_eps": norm.eps,
        "resblock_updown": network.down_blocks[0].resblock_updown,
        "num_head_channels": network.num_head_channels,
        "with_conditioning": network.with_conditioning,
        "num_class_embeds": network.num_class_embeds,
        "use_flash_attention": flash,
    }
    if not network.with_conditioning:
        return arguments
    blocks = network.middle_block.attention.transformer_blocks
    cross_attention = blocks[0].attn2
    dropout = cross_attention.to_out[1].p
    return arguments | {
        "transformer_num_layers": len(blocks),
        "cross_attention_dim": cross_attention.to_k.in_features,
        "upcast_attention": cross_attention.upcast_attention,
        "dropout_cattn": dropout,
        "use_flash_attention": flash and dropout == 0,
    }


def _find_attentions(network: nn.Module) -> list[Any]:
    return [part for part in network.modules() if hasattr(part, "use_flash_attention")]
