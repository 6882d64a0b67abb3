"""Weights of a generator's autoencoder and U-Net from files of MONAI core or of monai-generative."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent
from torch import nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators.generative_networks import (
    as_monai_network,
    check_generative_target,
    convert_generative_state_dict,
    is_generative_state_dict,
)
from monai_deepssim.networks import load_weights, read_state_dict

__all__ = ["load_generator_network"]


def load_generator_network(network: nn.Module | Mapping[str, Any], path: str | os.PathLike[str]) -> nn.Module:
    """Load an autoencoder or a diffusion U-Net for MONAI's inferers, be it MONAI core's or monai-generative's.

    Either kind of network takes either kind of weights: the network becomes MONAI core's by :func:`as_monai_network`,
    the weights by :func:`convert_generative_state_dict`, told apart by their names.

    Args:
        network: a network of ``monai.networks.nets`` or ``generative.networks.nets``; or its definition as in a
            bundle's config, with ``_target_`` and its arguments. MONAI core's is loaded in place.
        path: path of a state dict, or of a training checkpoint that holds one as ``network``, ``model``, ``state_dict``
            or ``model_state_dict``. Read with ``weights_only=True``, loaded strictly.

    Returns:
        The network with the weights in eval mode, on the device where it was: MONAI core's, except for an autoencoder
        of monai-generative with ``use_convtranspose``, which stays what it is.

    Raises:
        UnusableInputError: when there is no such file, it is no state dict, or its weights are not the network's: the
            message names the missing and the unexpected keys.

    Example:
        >>> import tempfile, torch
        >>> from monai.networks.nets import AutoencoderKL
        >>> definition = {"_target_": "generative.networks.nets.AutoencoderKL", "spatial_dims": 2, "num_channels": [4]}
        >>> definition |= {"num_res_blocks": 1, "attention_levels": [False], "norm_num_groups": 4}
        >>> trained = AutoencoderKL(2, channels=(4,), num_res_blocks=1, attention_levels=(False,), norm_num_groups=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(trained.state_dict(), f"{folder}/autoencoder.pt")
        ...     network = load_generator_network(definition, f"{folder}/autoencoder.pt")
        >>> image = torch.rand(1, 1, 8, 8)
        >>> torch.equal(network.reconstruct(image), trained.eval().reconstruct(image))
        True
    """
    path = Path(path)
    built: object = network
    if isinstance(network, Mapping):
        check_generative_target(str(network.get("_target_")))
        built = ConfigComponent(config=dict(network)).instantiate()
    if not isinstance(built, nn.Module):
        raise TypeError(f"got a network of type {type(built).__name__}, want a torch.nn.Module or its definition")
    if not path.is_file():
        raise UnusableInputError(f"{path}: no such file; give the path of the weights of the {type(built).__name__}")
    network = as_monai_network(built)
    state = read_state_dict(path)
    if is_generative_state_dict(state, network):
        try:
            state = convert_generative_state_dict(state, network)
        except UnusableInputError as error:
            raise UnusableInputError(f"{path}: {error}") from None
    remedy = "Give the network the configuration that it was trained with, or the weights of this network."
    load_weights(network, state, path, f"the given {type(network).__name__}", remedy)
    return network.eval()
