"""Features by which drawn images are compared with real ones, none of them of the embedder that judges copying."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import LayerFeatures, TorchScriptEmbedder, is_torchscript, load_weights, read_state_dict

__all__ = ["AutoencoderFeatures", "ImageStatistics", "load_sampling_features"]


class ImageStatistics(nn.Module):
    r"""Fifteen numbers of an image that need no network: its brightness, its sharpness and its spectrum.

    Mean and standard deviation; the quantiles 0.5, 0.75, 0.9 and 0.99; the mean absolute difference of neighbouring
    pixels; and in eight bands of equal width from 0 to the Nyquist frequency the decimal logarithm of the mean power,
    :math:`\log_{10}(10^{-8} + \overline{|X|^2} / (H W)^2)` of the windowless Fourier transform X. An empty, blurred,
    noisy or too dark image differs from brains in them. They are the same for every generator, so that its distances
    can be compared between trainings that share their held-out images.

    Example:
        >>> ImageStatistics()(torch.rand(2, 1, 80, 64)).shape
        torch.Size([2, 15])
    """

    name = "statistics"
    _quantiles = (0.5, 0.75, 0.9, 0.99)
    _num_bands = 8

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(B, 15)`` of images ``(B, 1, H, W)`` in [0, 1]."""
        images = images.float()
        pixels = images.flatten(1)
        quantiles = torch.quantile(pixels, torch.tensor(self._quantiles, device=images.device), dim=1).T
        steps = [images.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (2, 3)]
        rows, columns = images.shape[2:]
        power = torch.fft.fft2(images[:, 0]).abs().square() / (rows * columns) ** 2
        frequency = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.fftfreq(columns)[None]) / 0.5
        band = (frequency * self._num_bands).long().to(images.device)  # the corners, beyond 1, are left out
        bands = [power[:, band == number].mean(1) for number in range(self._num_bands)]
        spectrum = torch.log10(torch.stack(bands, dim=1) + 1e-8)
        moments = [pixels.mean(1), pixels.std(1), (steps[0] + steps[1]) / 2]
        return torch.cat([torch.stack(moments, dim=1), quantiles, spectrum], dim=1)


class AutoencoderFeatures(nn.Module):
    """What the last block of the frozen autoencoder's encoder puts out, averaged over space.

    As many features as the autoencoder has channels at its deepest level. They know what the training images look like,
    and belong to one autoencoder: compare distances only between trainings with the same.

    Args:
        autoencoder: MONAI's ``AutoencoderKL``.

    Example:
        >>> from monai.networks.nets import AutoencoderKL
        >>> autoencoder = AutoencoderKL(2, channels=(4, 8), num_res_blocks=1, norm_num_groups=2,
        ...     attention_levels=(False, False))
        >>> AutoencoderFeatures(autoencoder)(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 8])
    """

    name = "autoencoder"

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        encoder = autoencoder.encoder
        # The last two layers bring these channels to those of the latents.
        self._layer = f"blocks.{len(encoder.blocks) - 3}"  # type: ignore[arg-type, union-attr]
        self._features = (LayerFeatures(encoder, [self._layer]),)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(B, D)`` of images ``(B, 1, H, W)`` in [0, 1]."""
        return self._features[0](images)[self._layer]


class InceptionFeatures(nn.Module):
    """The 2,048 features of torchvision's InceptionV3, on which FID is published; weights from a file.

    Args:
        path: path of the state dict that torchvision publishes as ``inception_v3_google``.

    Raises:
        UnusableInputError: the file holds other weights.
    """

    name = "inception_v3"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        from torchvision.models import inception_v3

        super().__init__()
        self.network = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=False)
        remedy = "Give those, or a TorchScript file of your own network."
        load_weights(self.network, read_state_dict(Path(path)), path, "torchvision's InceptionV3", remedy)
        self.network.fc = nn.Identity()  # type: ignore[assignment]
        self.network.eval()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(B, 2048)`` of images ``(B, 1, H, W)`` in [0, 1]."""
        colour = images.expand(-1, 3, -1, -1)
        large = nn.functional.interpolate(colour, size=(299, 299), mode="bilinear", antialias=True)
        return self.network((large - self.mean) / self.std)  # type: ignore[operator]


class TorchScriptFeatures(TorchScriptEmbedder):
    """The output of a user's TorchScript program, ``(B, D)`` for images ``(B, 1 or 3, H, W)`` in [0, 1]."""

    def __init__(self, path: Path, image_size: Sequence[int]) -> None:
        super().__init__(path, image_size)
        self.name = path.stem

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features ``(B, D)`` of images ``(B, 1, H, W)`` in [0, 1]."""
        return self.program(images.expand(-1, self.channels, -1, -1))


def load_sampling_features(
    features: str,
    autoencoder: nn.Module,
    image_size: Sequence[int],
    judge: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    *,
    allow_torchscript: bool = False,
) -> nn.Module:
    """Make the features that a sampling validation compares drawn with held-out images by.

    Args:
        features: ``"statistics"``, 15 numbers without a network; ``"autoencoder"``, of the autoencoder's encoder; or
            the path of InceptionV3's weights, or of a TorchScript program.
        autoencoder: the frozen one.
        image_size: rows and columns of the images.
        judge: the checkpoint of the embedder that judges copying, which cannot judge quality too.
        device: where they are computed.
        allow_torchscript: whether the file may be TorchScript, a program that can run code of its own.

    Returns:
        A module with a ``name`` that maps images ``(B, 1, H, W)`` in [0, 1] to ``(B, D)``.

    Raises:
        UnusableInputError: the name or the file is not one of these, or is that of the judge.

    Example:
        >>> load_sampling_features("statistics", nn.Identity(), (80, 64)).name
        'statistics'
    """
    if features == ImageStatistics.name:
        return ImageStatistics()
    if features == AutoencoderFeatures.name:
        return AutoencoderFeatures(autoencoder)
    path = Path(features)
    if not path.is_file():
        raise UnusableInputError(
            f"fid_features is {features!r}, wanted statistics, autoencoder or the path of a file: InceptionV3's "
            "weights or a TorchScript program."
        )
    if judge is not None and Path(judge).is_file() and path.samefile(judge):
        raise UnusableInputError(
            f"{path}: this embedder judges which images are copies. Give other features for FID: a generator that is "
            "chosen by both would be chosen for what this one network overlooks."
        )
    if not is_torchscript(path):
        return InceptionFeatures(path).to(device).eval()
    if not allow_torchscript:
        raise UnusableInputError(
            f"{path}: a TorchScript file, a program that can read and write files when it is loaded. Give "
            "InceptionV3's weights; or, only where you trust its source, allow_torchscript (--allow_torchscript true)."
        )
    return TorchScriptFeatures(path, image_size).to(device).eval()
