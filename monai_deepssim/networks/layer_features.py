"""Features from inside a network: what named layers put out, averaged over space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.deepssim_embedder import MIN_SIDE, DeepSSIMEmbedder
from monai_deepssim.networks.flip_folding import FOLDED_CHANNELS

__all__ = ["LayerFeatures", "find_stages"]

_NAMES_SHOWN = 5
_NUM_STAGES = 4  # a ConvNeXt or a ResNet has four


class LayerFeatures(nn.Module):
    r"""Runs any network and returns what its named layers put out, averaged over all axes but batch and channel.

    .. math:: f_{nc} = \frac{1}{P} \sum_p x_{ncp}

    over the P positions (pixels, voxels or tokens) of a layer's output x. The network itself stays as it is: hooks are
    set for the time of one call. It is run as it comes, in train or in eval mode, with or without gradients.

    A compiled network is run uncompiled, since compiled code passes hooks by; a ``DataParallel`` or
    ``DistributedDataParallel`` as the module in it, on that module's device.

    Args:
        network: any module.
        layers: names of layers, as ``network.named_modules()`` gives them, for example ``"blocks.3"``. A layer that is
            called several times in one pass counts by its last call, one that puts out a tuple by its first item.
        channel_dim: which axis of the layers' outputs holds the channels: 1 for convolutional networks,
            ``(N, C, H, W)``; -1 for transformers that give ``(N, H, W, C)`` or ``(N, T, C)``. The wrong one goes
            unnoticed: it averages over channels and keeps a spatial axis.

    Raises:
        UnusableInputError: when there is no layer of a name: the message offers the nearest names.
        ValueError: when no layer is named, or one is named twice.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
        >>> features = LayerFeatures(network, ["0", "2"])(torch.rand(2, 1, 16, 16))
        >>> {name: tuple(feature.shape) for name, feature in features.items()}
        {'0': (2, 4), '2': (2, 6)}
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], channel_dim: int = 1) -> None:
        super().__init__()
        self.network = _unwrap(network)
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        self.channel_dim = channel_dim
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"got layers {list(self.layers)}, want at least one name, and each of them once")
        names = [name for name, _ in self.network.named_modules() if name]
        unknown = [layer for layer in self.layers if layer not in names]
        if unknown:
            raise UnusableInputError(_unknown_layers(type(self.network).__name__, unknown, names))

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Run the network.

        Args:
            *args: what the network takes.
            **kwargs: what the network takes.

        Returns:
            Features ``(N, C)`` by layer, in the order of ``layers``; C is each layer's own.

        Raises:
            UnusableInputError: when a layer took no part in the pass, or puts out no tensor.
            ValueError: when a layer's output has no axis ``channel_dim`` beside the batch.
        """
        outputs: dict[str, Any] = {}

        def keep(layer: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
                # The first call: an embedder that averages over flips sees the image as it is first.
                outputs.setdefault(layer, output)

            return hook

        with ExitStack() as hooks:
            for layer in self.layers:
                handle = self.network.get_submodule(layer).register_forward_hook(keep(layer))
                hooks.callback(handle.remove)  # also when the network fails
            self.network(*args, **kwargs)
        idle = [layer for layer in self.layers if layer not in outputs]
        if idle:
            raise UnusableInputError(
                f"{type(self.network).__name__}: the layers {', '.join(idle)} took no part in the forward pass. Name "
                "layers that it calls; those inside a TorchScript program cannot be reached: give a state dict of it."
            )
        return {layer: self._reduce(layer, outputs[layer]) for layer in self.layers}

    def _reduce(self, layer: str, output: Any) -> Tensor:
        if isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise UnusableInputError(
                f"{type(self.network).__name__}: layer {layer} puts out {type(output).__name__}, want a tensor "
                "(N, C, ...) or a tuple that starts with one. Name a layer below or after it."
            )
        channel = self.channel_dim + output.ndim if self.channel_dim < 0 else self.channel_dim
        if not 0 < channel < output.ndim:
            raise ValueError(
                f"layer {layer} puts out a tensor of shape {tuple(output.shape)}, which has no axis "
                f"{self.channel_dim} beside the batch: set channel_dim to the axis of the channels"
            )
        positions = [axis for axis in range(1, output.ndim) if axis != channel]
        output = output if output.dtype == torch.float64 else output.float()
        return output.mean(positions) if positions else output


def find_stages(embedder: DeepSSIMEmbedder) -> tuple[str, ...]:
    """Name the stages of a DeepSSIM embedder's backbone: the last layer before each halving of the resolution.

    Args:
        embedder: embedder with any of the supported backbones.

    Returns:
        The names of the four deepest, for :class:`LayerFeatures`.

    Example:
        >>> find_stages(DeepSSIMEmbedder(backbone="convnext_atto"))
        ('feature_extractor.1', 'feature_extractor.3', 'feature_extractor.5', 'feature_extractor.7')
    """
    last: dict[tuple[int, ...], str] = {}
    training = embedder.training
    embedder.eval()
    with torch.no_grad():
        channels = FOLDED_CHANNELS if embedder.fold_flips else 3
        x = torch.zeros(1, channels, MIN_SIDE, MIN_SIDE, device=next(embedder.parameters()).device)
        for name, layer in embedder.feature_extractor.named_children():
            x = layer(x)
            last[tuple(x.shape[2:])] = f"feature_extractor.{name}"
    embedder.train(training)
    return tuple(last.values())[-_NUM_STAGES:]


def _unwrap(network: nn.Module) -> nn.Module:
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(compiled := getattr(network, "_orig_mod", None), nn.Module):  # of torch.compile
            network = compiled
        else:
            return network


def _unknown_layers(network: str, unknown: list[str], names: list[str]) -> str:
    offers = []
    for layer in unknown:
        # Most often a prefix is missing, or there is one too many.
        near = [name for name in names if name.endswith(f".{layer}") or layer.endswith(f".{name}")]
        near = sorted(near, key=len, reverse=True)
        near += [name for name in get_close_matches(layer, names, n=_NAMES_SHOWN) if name not in near]
        offers.append(f"{layer!r} (did you mean {', '.join(near[:_NAMES_SHOWN])}?)" if near else repr(layer))
    first = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return f"{network} has no layer {' nor '.join(offers)}. Its layers are {first or 'none'}: see named_modules()."
