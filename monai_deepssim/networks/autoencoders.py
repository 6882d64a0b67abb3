"""A generator's own autoencoder, from its weights alone, as something that maps images to what is left of them."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import AEKLDownsample
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.state_dicts import existing_file, load_weights, read_state_dict

__all__ = ["AutoencoderWeights", "ImageAutoencoder"]

# Ranges of intensities that generators are trained with: MONAI's own, and that of Stable Diffusion.
_RANGES = ((0.0, 1.0), (-1.0, 1.0))
_REMEDY = (
    "Give a state dict of monai.networks.nets.AutoencoderKL; weights of monai-generative become one by "
    "monai_deepssim.generators.load_generator_network, whose result's state_dict() can be saved."
)


class ImageAutoencoder(nn.Module):
    """Passes grey images through an autoencoder, whatever their size and the range that it was trained with.

    Args:
        network: MONAI's ``AutoencoderKL`` of one channel.
        intensities: range that 0 and 1 are mapped to.

    Example:
        >>> network = AutoencoderKL(2, channels=(4, 4), num_res_blocks=1, attention_levels=(False, False),
        ...     norm_num_groups=4, with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False)
        >>> ImageAutoencoder(network)(torch.rand(2, 1, 15, 12)).shape
        torch.Size([2, 1, 15, 12])
    """

    def __init__(self, network: AutoencoderKL, intensities: tuple[float, float] = _RANGES[0]) -> None:
        super().__init__()
        self.network = network
        self.intensities = intensities
        self.multiple = 2 ** sum(isinstance(part, AEKLDownsample) for part in network.modules())

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images, and decode the mean of their latents.

        Args:
            images: ``(N, 1, H, W)`` in [0, 1]. Sides that cannot be halved often enough are padded for the time.

        Returns:
            The same shape, in [0, 1].
        """
        low, high = self.intensities
        multiple = self.multiple
        rows, columns = images.shape[2:]
        padded = F.pad(images, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
        decoded = self.network.reconstruct(padded * (high - low) + low)
        return ((decoded[:, :, :rows, :columns] - low) / (high - low)).clamp(0, 1)


class AutoencoderWeights:
    """The weights of a generator's autoencoder, of which the architecture is read off.

    What weights do not tell, the groups of the normalisation and the range of the intensities, is found by trying on
    images that it was trained with (:meth:`fit`).

    Args:
        path: path of a state dict of MONAI's ``AutoencoderKL`` for slices of one channel, or of a checkpoint that holds
            one as :func:`~monai_deepssim.networks.read_state_dict` finds it, such as the ``autoencoder.pt`` of the
            bundle ``brain_mri_ldm``. Read with ``weights_only=True``.

    Attributes:
        arguments: arguments of the ``AutoencoderKL``, but for ``norm_num_groups``.

    Raises:
        UnusableInputError: there is no such file, it is no checkpoint, or its weights are those of something else.

    Example:
        >>> import tempfile
        >>> network = AutoencoderKL(2, channels=(4, 8), num_res_blocks=1, attention_levels=(False, True),
        ...     norm_num_groups=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(network.state_dict(), f"{folder}/autoencoder.pt")
        ...     weights = AutoencoderWeights(f"{folder}/autoencoder.pt")
        >>> weights.arguments["channels"], weights.arguments["attention_levels"]
        ((4, 8), (False, True))
        >>> weights.fit(torch.rand(2, 1, 16, 16)).intensities in ((0.0, 1.0), (-1.0, 1.0))
        True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing_file(path, "the weights of the generator's autoencoder")
        self.state = read_state_dict(self.path)
        self.arguments = self._read_arguments()
        self._load(math.gcd(*self.arguments["channels"]))

    def fit(self, images: Tensor) -> ImageAutoencoder:
        """Load the weights with the groups and the range that give these images back best.

        Args:
            images: images that it was trained with, ``(N, 1, H, W)`` in [0, 1].

        Returns:
            The autoencoder in eval mode, on the device of the images.
        """
        common = math.gcd(*self.arguments["channels"])
        network = self._load(common).to(images.device)
        groups = [number for number in range(1, common + 1) if common % number == 0]

        def build(number: int, intensities: tuple[float, float]) -> ImageAutoencoder:
            for part in network.modules():
                if isinstance(part, nn.GroupNorm):
                    part.num_groups = number
            return ImageAutoencoder(network, intensities)

        return build(*min(product(groups, _RANGES), key=lambda tried: _error(build(*tried), images)))

    def _read_arguments(self) -> dict[str, Any]:
        try:
            arguments = _arguments_of(self.state)
        except (KeyError, IndexError, ValueError) as error:
            raise UnusableInputError(
                f"{self.path}: these weights do not tell the architecture of an AutoencoderKL ({error}). {_REMEDY}"
            ) from error
        shape = [arguments[name] for name in ("spatial_dims", "in_channels", "out_channels")]
        if shape != [2, 1, 1]:
            raise UnusableInputError(
                f"{self.path}: got an autoencoder in {shape[0]}D from {shape[1]} to {shape[2]} channels, want one of "
                "grey slices: in 2D, from 1 to 1. An audit compares slices. Leave the autoencoder out."
            )
        return arguments

    def _load(self, norm_num_groups: int) -> AutoencoderKL:
        network = AutoencoderKL(**self.arguments, norm_num_groups=norm_num_groups)
        load_weights(network, self.state, self.path, "the AutoencoderKL that they are like", _REMEDY)
        return network.eval()


def _error(autoencoder: ImageAutoencoder, images: Tensor) -> float:
    error = float((autoencoder(images) - images).square().mean())
    return math.inf if math.isnan(error) else error


def _arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of ``AutoencoderKL`` that the names and shapes of its weights tell."""
    encoder, decoder = (_blocks_of(state, part) for part in ("encoder", "decoder"))
    levels: list[list[str]] = [[]]
    channels = [0]
    for number, kind in sorted(encoder.items()):
        if kind == "down":
            levels.append([])
            channels.append(0)
        elif kind in ("residual", "attention"):
            levels[-1].append(kind)
        if kind == "residual":
            channels[-1] = len(state[f"encoder.blocks.{number}.norm2.weight"])
    # Only a non-local block has a residual block behind an attention at the end.
    has_nonlocal = levels[-1][-2:] == ["attention", "residual"]
    if has_nonlocal:
        levels[-1] = levels[-1][:-3]
    num_res_blocks = tuple(level.count("residual") for level in levels)
    first, last = state["encoder.blocks.0.conv.weight"], state[f"decoder.blocks.{max(decoder)}.conv.weight"]
    return {
        "spatial_dims": first.ndim - 2,
        "in_channels": first.shape[1],
        "out_channels": len(last),
        "num_res_blocks": num_res_blocks,
        "channels": tuple(channels),
        "attention_levels": tuple("attention" in level for level in levels),
        "latent_channels": len(state["quant_conv_mu.conv.weight"]),
        "with_encoder_nonlocal_attn": has_nonlocal,
        "with_decoder_nonlocal_attn": list(decoder.values()).count("residual") > sum(num_res_blocks),
        "use_convtranspose": any(".deconv." in name for name in state),
        "include_fc": any(".attn.out_proj." in name for name in state) or not any(".attn." in name for name in state),
        "use_combined_linear": any(".attn.qkv." in name for name in state),
    }


def _blocks_of(state: Mapping[str, Tensor], part: str) -> dict[int, str]:
    """The kind of each block of the encoder or the decoder, by its number."""
    names = defaultdict(set)
    for name in state:
        pieces = name.split(".")
        if pieces[:2] == [part, "blocks"]:
            names[int(pieces[2])].add(".".join(pieces[3:]))
    if not names:
        raise ValueError(f"they have no {part}.blocks")
    kinds = {"norm1.weight": "residual", "norm.weight": "attention", "conv.conv.weight": "down"}
    return {
        number: next((kind for name, kind in kinds.items() if name in block), "other")
        for number, block in sorted(names.items())
    }
