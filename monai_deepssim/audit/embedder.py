"""The embedder whose weights ship with the package, and DeepSSIM by it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_deepssim.data import list_in_memory
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import compute_deepssim
from monai_deepssim.networks import load_deepssim
from monai_deepssim.option_checks import torch_device
from monai_deepssim.transforms import FitImageSize
from monai_deepssim.workflow.bundles import find_bundle

__all__ = ["deepssim", "load_embedder", "shipped_weights"]

_IMAGE_SIZE = (136, 112)


def load_embedder(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str | None = None,
    allow_torchscript: bool = False,
) -> nn.Module:
    """Load a DeepSSIM embedder.

    Args:
        checkpoint: file of its weights, a state dictionary or TorchScript; by default those that ship, which were
            trained on phantoms at 136 x 112.
        device: where it runs; by default a GPU, if there is one.
        allow_torchscript: whether the file may be TorchScript, a program that can run code of its own.

    Returns:
        The network in eval mode: images ``(N, 1, H, W)``, standardised with
        :func:`~monai_deepssim.similarity.standardize`, to embeddings ``(N, D)`` of which the cosine approximates SSIM.

    Raises:
        UnusableInputError: if there is no such file, or no weights of an embedder in it.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis, WACV
        2026, arXiv 2509.16582.

    Example:
        >>> load_embedder(device="cpu")(torch.randn(2, 1, 136, 112)).shape
        torch.Size([2, 1024])
    """
    path = shipped_weights() if checkpoint is None else Path(checkpoint).expanduser()
    if not path.is_file():
        raise UnusableInputError(
            f"--checkpoint: {path} is not a file. Give the path of the weights of a DeepSSIM embedder."
        )
    return load_deepssim(path, allow_torchscript=allow_torchscript).to(torch_device.read("device", device)).eval()


def deepssim(x: Any, y: Any, *, embedder: nn.Module | None = None) -> Tensor:
    """Compute the DeepSSIM of pairs of images: the SSIM that they would have once flipped, turned and re-contrasted.

    Images are brought to 136 x 112 pixels with their aspect kept, as an audit does; the two sides may have other sizes.

    Args:
        x: images ``(N, 1, H, W)``, a tensor or an array in [0, 1].
        y: their partners.
        embedder: as :func:`load_embedder` loads it; by default the one that ships.

    Returns:
        Cosines ``(N,)`` in [-1, 1], float32. As published, above 0.60 two images are similar, above 0.85 duplicates.

    Raises:
        UnusableInputError: if the images have another shape or range, or there are not as many in ``y`` as in ``x``.

    References:
        Scardace et al., arXiv 2509.16582.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> phantoms = PhantomBrainDataset(2, seed=5, progress=False)
        >>> images = torch.stack([phantom["image"].as_tensor() for phantom in phantoms])
        >>> same, other = deepssim(images.flip(3), images), deepssim(images, images.flip(0))
        >>> bool((same > 0.85).all()), bool((other < 0.6).all())
        (True, True)
    """
    fit = FitImageSize(_IMAGE_SIZE)
    first, second = (
        torch.stack([torch.as_tensor(fit(item["image"])) for item in list_in_memory(images, name)])
        for images, name in ((x, "x"), (y, "y"))
    )
    for images, name in ((first, "x"), (second, "y")):
        if not images.isfinite().all():
            raise UnusableInputError(f"{name}: holds NaN or infinite values, want intensities in [0, 1].")
    if len(first) != len(second):
        raise UnusableInputError(f"y: got {len(second)} images, want {len(first)}, one for each image of x.")
    return compute_deepssim(_shipped_embedder() if embedder is None else embedder, first, second)[:, 0]


def shipped_weights(file: str = "deepssim_brain_mri/models/model.pt") -> Path:
    """Find weights that ship with the package, by their file below the bundles' folder; by default the embedder's."""
    bundle, _, path = file.partition("/")
    return find_bundle(bundle) / path


@cache
def _shipped_embedder() -> nn.Module:
    return load_embedder()
