"""Checkpoints to networks: ours, the published state dict and the published TorchScript file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks.backbones import SUPPORTED_BACKBONES, VOLUME_BACKBONES
from monai_deepssim.networks.deepssim_embedder import DeepSSIMEmbedder
from monai_deepssim.networks.state_dicts import existing_file, is_torchscript, load_fitting, read_state_dict

__all__ = ["TorchScriptEmbedder", "load_deepssim"]


def load_deepssim(
    path: str | os.PathLike[str], backbone: str | None = None, dropout: float = 0.33, *, allow_torchscript: bool = False
) -> nn.Module:
    """Load a DeepSSIM embedder from a checkpoint, ready to embed (in eval mode, on the CPU).

    Takes the state dicts that our bundle writes, its whole training checkpoint, the published state dict
    (ConvNeXt-Base; names ``feature_extractor.*`` and ``fc.*``) and the published TorchScript file. State dicts are
    read with ``weights_only=True``; a TorchScript file is a program, and is loaded only with ``allow_torchscript``.

    Args:
        path: path of the weights file.
        backbone: name of the backbone; ``None`` finds it by the names and shapes of the weights.
        dropout: probability of dropout in the head, when it is trained on; embedding uses none. Weights do not remember
            it. A head that was trained without should be trained on without: with dropout the cosines of the whole
            head, without it, come out too high. A TorchScript file stays as it is.
        allow_torchscript: whether the file may be TorchScript, which can run code of its own, such as reading and
            writing files; only from a source that you trust.

    Returns:
        A module that maps standardised images ``(N, 1, H, W)`` to embeddings of length 1, ``(N, D)``; volumes
        ``(N, 1, X, Y, Z)`` where the weights are those of an embedder of volumes.

    Raises:
        UnusableInputError: when there is no such file, it is no checkpoint, it is TorchScript without permission, or
            its weights fit no embedder: the message names the missing and the unexpected keys.

    Example:
        >>> import tempfile
        >>> embedder = DeepSSIMEmbedder(backbone="convnext_atto", embedding_dim=64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.pt"
        ...     torch.save(embedder.state_dict(), path)
        ...     load_deepssim(path).backbone
        'convnext_atto'
    """
    path = existing_file(path, "a DeepSSIM checkpoint")
    if is_torchscript(path):
        if not allow_torchscript:
            raise UnusableInputError(
                f"{path}: a TorchScript file, a program that can read and write files when it is loaded. Give a state "
                "dict; or, only where you trust its source, allow_torchscript (--allow_torchscript true)."
            )
        return TorchScriptEmbedder(path)
    state = read_state_dict(path)
    head = state.get("fc.6.weight")
    hidden_dim, embedding_dim = (head.shape[1], head.shape[0]) if head is not None and head.ndim == 2 else (512, 256)
    first = state.get("feature_extractor.0.weight")
    spatial_dims = 3 if first is not None and first.ndim == 5 else 2
    build = partial(
        DeepSSIMEmbedder,
        spatial_dims=spatial_dims,
        embedding_dim=embedding_dim,
        hidden_dim=hidden_dim,
        dropout=dropout,
        fold_flips="flips_are_folded" in state,
        canonical_size=_remembered_size(state, "canonical_size", spatial_dims),
        pooled_size=_remembered_size(state, "pooled_size", spatial_dims),
    )
    names = [backbone] if backbone else VOLUME_BACKBONES if spatial_dims == 3 else SUPPORTED_BACKBONES
    embedder, nearest, difference = load_fitting(state, {name: partial(build, name) for name in names})
    if embedder is None:
        known = backbone or f"that is known here; the nearest is {nearest}"
        raise UnusableInputError(
            f"{path}: these weights are not those of a DeepSSIM embedder {known}: {difference}. Give a checkpoint of "
            "the deepssim_brain_mri bundle or the published one, or name its backbone."
        )
    return embedder


class TorchScriptEmbedder(nn.Module):
    """A TorchScript embedder behind the same call as :class:`DeepSSIMEmbedder`.

    Whether the program repeats a grey image to the three channels of its backbone itself is tried once, here.

    Args:
        path: path of the TorchScript file.
        image_size: rows and columns of the images that it is tried on; some programs take only one size.

    Raises:
        UnusableInputError: when the file cannot be loaded or embeds neither 1-channel nor 3-channel images.

    Example:
        >>> import tempfile
        >>> program = torch.jit.trace(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), torch.rand(1, 3, 64, 64))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     program.save(f"{folder}/model.pt")
        ...     TorchScriptEmbedder(Path(folder) / "model.pt")(torch.rand(2, 1, 64, 64)).shape[0]
        2
    """

    def __init__(self, path: str | os.PathLike[str], image_size: Sequence[int] = (136, 112)) -> None:
        super().__init__()
        path = existing_file(path, "a TorchScript file")
        try:
            self.program = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UnusableInputError(f"{path}: not a TorchScript file that this torch can load: {reason}") from error
        self.channels = self._find_channels(path, image_size)

    def _find_channels(self, path: Path, image_size: Sequence[int]) -> int:
        problems = []
        # One first: a program that repeats by itself might take three as well, and embed something else.
        for channels in (1, 3):
            try:
                with torch.no_grad():
                    output = self.program(torch.zeros(2, channels, *image_size))
            except RuntimeError as error:
                problems.append(str(error).strip().splitlines()[-1])
                continue
            if isinstance(output, Tensor) and output.ndim == 2 and len(output) == 2:
                return channels
            problems.append(f"{channels} channels gave {getattr(output, 'shape', type(output))} for 2 images")
        raise UnusableInputError(
            f"{path}: want a program that maps (N, 1 or 3, H, W) to (N, D), got: {'; '.join(problems)}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed images ``(N, 1, H, W)``, or with as many channels as the program takes, as ``(N, D)`` of length 1."""
        return F.normalize(self.program(x.expand(-1, self.channels, -1, -1)).float(), dim=1)


def _remembered_size(state: Mapping[str, Tensor], name: str, num_sides: int) -> list[int] | None:
    """The size that the weights remember under this name, if they do."""
    size = state.get(f"{name}_pixels")
    return size.tolist() if size is not None and size.shape == (num_sides,) else None
