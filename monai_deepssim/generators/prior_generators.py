"""Generators that are no diffusion models, for comparison: a variational autoencoder and a GAN, drawn from their prior.

Both are MONAI's networks, trained by MONAI's ``SupervisedTrainer`` and ``GanTrainer``; here is what these need beside.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from monai.networks.nets import Discriminator, Generator, VarAutoEncoder
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file
from monai_deepssim.generators.autoencoder_losses import gaussian_kl
from monai_deepssim.networks import read_checkpoint

__all__ = [
    "GanDiscriminatorLoss",
    "GanGeneratorLoss",
    "PriorGAN",
    "PriorVAE",
    "VariationalLoss",
    "build_discriminator",
    "draw_from_prior",
    "save_prior_generator",
]


def _smallest_size(image_size: Sequence[int], num_levels: int) -> tuple[int, int]:
    """Rows and columns behind so many halvings.

    Raises:
        UnusableInputError: when a side cannot be halved as often.
    """
    factor = 2**num_levels
    if any(side % factor for side in image_size):
        raise UnusableInputError(
            f"image_size is {' x '.join(map(str, image_size))}, wanted multiples of {factor} for a generator of "
            f"{num_levels} levels."
        )
    return image_size[0] // factor, image_size[1] // factor


class PriorVAE(nn.Module):
    """MONAI's ``VarAutoEncoder`` as a network that returns one tensor, and as a generator of latents from the prior.

    In training mode a call keeps the distribution of the latents for :class:`VariationalLoss`.

    Args:
        image_size: rows and columns, multiples of 2 to the number of levels.
        channels: channels of the levels.
        latent_size: numbers of a latent.

    References:
        Kingma and Welling, Auto-encoding variational Bayes, arXiv 1312.6114.

    Example:
        >>> network = PriorVAE((16, 16), channels=(4, 8), latent_size=6).eval()
        >>> network(torch.rand(2, 1, 16, 16)).shape, network.decode(torch.zeros(3, 6)).shape
        (torch.Size([2, 1, 16, 16]), torch.Size([3, 1, 16, 16]))
    """

    def __init__(
        self, image_size: Sequence[int], channels: Sequence[int] = (16, 32, 64), latent_size: int = 64
    ) -> None:
        super().__init__()
        _smallest_size(image_size, len(channels))
        self.latent_size = latent_size
        self.network = VarAutoEncoder(
            spatial_dims=2,
            in_shape=(1, *image_size),
            out_channels=1,
            latent_size=latent_size,
            channels=channels,
            strides=[2] * len(channels),
        )
        #: Mean and standard deviation of the latents of the last training batch, with their gradients.
        self.latents: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images ``(B, 1, H, W)`` in [0, 1]."""
        reconstruction, mean, log_variance, _ = self.network(images)
        self.latents = (mean, (log_variance / 2).exp()) if self.training else None
        return reconstruction

    def decode(self, latents: Tensor) -> Tensor:
        """Make images ``(B, 1, H, W)`` in [0, 1] of latents ``(B, latent_size)``."""
        return self.network.decode_forward(latents, use_sigmoid=True)


class VariationalLoss(nn.Module):
    """Squared error of the reconstruction, summed over an image, plus the divergence of the latents from the prior.

    Args:
        network: whose latents are taken; its last call has to have made the reconstruction.
        kl_weight: weight of the divergence; a small one reconstructs well and draws badly.

    Example:
        >>> network = PriorVAE((16, 16), channels=(4, 8), latent_size=6)
        >>> images = torch.rand(2, 1, 16, 16)
        >>> bool(VariationalLoss(network)(network(images), images) > 0)
        True
    """

    def __init__(self, network: PriorVAE, kl_weight: float = 1.0) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple, so that its weights are none of this module's
        self.kl_weight = kl_weight

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch, a scalar."""
        latents = self._network[0].latents
        if latents is None:
            raise RuntimeError("the network holds no latents: call it on the batch in training mode first")
        squared = F.mse_loss(reconstruction, target, reduction="none").flatten(1).sum(1).mean()
        return squared + self.kl_weight * gaussian_kl(*latents)


class PriorGAN(nn.Module):
    """MONAI's ``Generator``, with images in [0, 1].

    Args:
        image_size: rows and columns, multiples of 2 to the number of levels.
        channels: channels of the levels, from the smallest image on.
        latent_size: numbers of a latent.

    References:
        Goodfellow et al., Generative adversarial nets, arXiv 1406.2661.

    Example:
        >>> PriorGAN((16, 16), channels=(8, 4), latent_size=6)(torch.zeros(3, 6)).shape
        torch.Size([3, 1, 16, 16])
    """

    def __init__(
        self, image_size: Sequence[int], channels: Sequence[int] = (64, 32, 16), latent_size: int = 64
    ) -> None:
        super().__init__()
        rows, columns = _smallest_size(image_size, len(channels))
        self.latent_size = latent_size
        self.network = Generator(
            latent_shape=latent_size,  # type: ignore[arg-type]
            start_shape=(channels[0], rows, columns),
            channels=[*channels[1:], 1],
            strides=[2] * len(channels),
            num_res_units=0,
            norm="BATCH",
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Make images ``(B, 1, H, W)`` in [0, 1] of latents ``(B, latent_size)``."""
        return torch.sigmoid(self.network(latents))

    decode = forward


def build_discriminator(image_size: Sequence[int], channels: Sequence[int] = (16, 32, 64)) -> Discriminator:
    """Build the network that tells images of a :class:`PriorGAN` from real ones: MONAI's, which returns logits.

    Args:
        image_size: rows and columns.
        channels: channels of the levels.

    Example:
        >>> build_discriminator((16, 16), (4, 8))(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1])
    """
    return Discriminator(
        in_shape=(1, *image_size),
        channels=channels,
        strides=[2] * len(channels),
        num_res_units=0,
        last_act=None,  # type: ignore[arg-type]
    )


class GanGeneratorLoss:
    """What the generator pays where the discriminator tells its images apart, as ``GanTrainer`` calls it.

    Args:
        discriminator: returns logits.

    Example:
        >>> round(GanGeneratorLoss(nn.Flatten())(torch.zeros(2, 1, 1, 1)).item(), 4)
        0.6931
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    def __call__(self, images: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(images)).mean()


class GanDiscriminatorLoss:
    """What the discriminator pays for wrong verdicts, as ``GanTrainer`` calls it.

    Args:
        discriminator: returns logits.

    Example:
        >>> zeros = torch.zeros(2, 1, 1, 1)
        >>> round(GanDiscriminatorLoss(nn.Flatten())(zeros, zeros).item(), 4)
        0.6931
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        losses = F.softplus(self.discriminator(made.detach())), F.softplus(-self.discriminator(real))
        return (losses[0].mean() + losses[1].mean()) / 2


def save_prior_generator(network: PriorVAE | PriorGAN, path: str | os.PathLike[str]) -> None:
    """Save the state dict of a generator: the whole file or none, whenever the process is killed.

    Args:
        network: the generator.
        path: path of the file.
    """
    with atomic_file(path) as file:
        torch.save({name: weights.cpu() for name, weights in network.state_dict().items()}, file)


@torch.no_grad()
def draw_from_prior(network: PriorVAE | PriorGAN, path: Path, seeds: Sequence[int]) -> Tensor:
    """Draw images, each from the latent of its own seed.

    Args:
        network: of the architecture of the weights.
        path: path of its state dict.
        seeds: a seed per image, N of them.

    Returns:
        ``(N, 1, H, W)`` in [0, 1].

    Raises:
        UnusableInputError: when the file holds no such weights.
    """
    try:
        network.load_state_dict(read_checkpoint(path))
    except RuntimeError as error:
        raise UnusableInputError(f"{path}: holds the weights of another generator ({error}).") from error
    latents = [torch.randn(network.latent_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    device = next(network.parameters()).device
    return network.eval().decode(torch.stack(latents).to(device)).clamp(0, 1).cpu()
