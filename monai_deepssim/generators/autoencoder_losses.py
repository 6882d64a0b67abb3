"""The losses of an autoencoder's adversarial training, in the form in which MONAI's AdversarialTrainer calls them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import PatchAdversarialLoss, PerceptualLoss
from monai.utils import optional_import
from torch import Tensor, nn
from torchvision import models

from monai_deepssim.generators.autoencoder_generator import AutoencoderGenerator

__all__ = [
    "AutoencoderLoss",
    "PatchDiscriminatorLoss",
    "PatchGeneratorLoss",
    "gaussian_kl",
    "perceptual_loss_at_hand",
]

_log = logging.getLogger(__name__)

# The ImageNet weights that the package lpips builds upon, by the name that it gives the network.
_BACKBONES = {
    "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    "alex": models.AlexNet_Weights.IMAGENET1K_V1,
    "vgg": models.VGG16_Weights.IMAGENET1K_V1,
}


def gaussian_kl(mean: Tensor, deviation: Tensor) -> Tensor:
    r"""Compute the divergence of the latents' distribution from the standard normal one.

    .. math:: \frac{1}{B} \sum_b \frac12 \sum_j \left(\mu_{bj}^2 + \sigma_{bj}^2 - \log \sigma_{bj}^2 - 1\right)

    summed over the numbers of a latent and averaged over the batch.

    Args:
        mean: ``(B, C, h, w)``.
        deviation: standard deviations of the same shape, above 0.

    Returns:
        A scalar of at least 0, float32.

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, arXiv 1312.6114, appendix B.

    Example:
        >>> gaussian_kl(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).item()
        0.0
    """
    # In half precision the squares would overflow or vanish.
    mean, deviation = mean.float(), deviation.float()
    return 0.5 * (mean**2 + deviation**2 - 2 * deviation.log() - 1).flatten(1).sum(1).mean()


class AutoencoderLoss(nn.Module):
    """What a reconstruction costs: L1, the divergence of the latents, and a perceptual distance.

    ``L1 + kl_weight * KL + perceptual_weight * perceptual``, with the L1 averaged over pixels and the KL of
    :func:`gaussian_kl`. It is called with reconstruction and target, and takes the latents from the generator, whose
    last call has to have made that reconstruction.

    Args:
        generator: the wrapped autoencoder; the wrapped one itself, not its ``DistributedDataParallel``.
        kl_weight: published: 1e-6.
        perceptual_loss: takes reconstructions and targets ``(B, 1, H, W)``; see :func:`perceptual_loss_at_hand`.
            ``None`` leaves the term out.
        perceptual_weight: published: 0.1.

    Raises:
        RuntimeError: in a call, when the generator has kept no latents of these images.

    References:
        Scardace et al., *A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis*,
        arXiv 2509.16582.

    Example:
        >>> generator = AutoencoderGenerator(nn.Identity())
        >>> generator.latents = (torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4))
        >>> AutoencoderLoss(generator)(torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16)).item()
        1.0
    """

    def __init__(
        self,
        generator: AutoencoderGenerator,
        kl_weight: float = 1e-6,
        perceptual_loss: nn.Module | None = None,
        perceptual_weight: float = 0.1,
    ) -> None:
        super().__init__()
        # In a tuple, so that the generator's weights are none of this module's.
        self._generator = (generator,)
        self.kl_weight = kl_weight
        self.perceptual_loss = perceptual_loss
        self.perceptual_weight = perceptual_weight
        #: The terms of the last call without their weights, for the log: ``l1``, ``kl`` and ``perceptual``.
        self.terms: dict[str, Tensor] = {}

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            reconstruction: ``(B, 1, H, W)``, what the generator returned.
            target: the images, of the same shape.

        Returns:
            A scalar.
        """
        latents = self._generator[0].latents
        if latents is None or len(latents[0]) != len(reconstruction):
            raise RuntimeError(
                "the generator holds no latents of these reconstructions: call it on the batch in training mode first"
            )
        l1 = F.l1_loss(reconstruction.float(), target.float())
        kl = gaussian_kl(*latents)
        loss = l1 + self.kl_weight * kl
        self.terms = {"l1": l1.detach(), "kl": kl.detach(), "perceptual": torch.zeros_like(l1)}
        if self.perceptual_loss is not None:
            perceptual = self.perceptual_loss(reconstruction.float(), target.float())
            loss = loss + self.perceptual_weight * perceptual
            self.terms["perceptual"] = perceptual.detach()
        return loss


class PatchGeneratorLoss(nn.Module):
    """What the generator pays where the discriminator tells its images apart: ``weight * mean((D(fake) - 1)^2)``.

    On the last output of MONAI's ``PatchDiscriminator`` alone. That network returns the activations of all of its
    layers, and ``PatchAdversarialLoss`` would average over them, as if features were verdicts; it also takes two more
    arguments than ``AdversarialTrainer`` has for it.

    Args:
        weight: published: 0.125.

    References:
        Mao et al., *Least Squares Generative Adversarial Networks*, arXiv 1611.04076.

    Example:
        >>> loss = PatchGeneratorLoss(weight=0.125)
        >>> loss([torch.full((2, 8, 4, 4), 99.0), torch.zeros(2, 1, 4, 4)]).item()
        0.125
    """

    def __init__(self, weight: float = 0.125) -> None:
        super().__init__()
        self.weight = weight
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, fake_outputs: Sequence[Tensor]) -> Tensor:
        """Compute the loss from the discriminator's outputs for reconstructions, the verdict last."""
        return self.weight * self.adversarial(fake_outputs[-1].float(), target_is_real=True, for_discriminator=False)


class PatchDiscriminatorLoss(nn.Module):
    """What the discriminator pays for wrong verdicts: ``weight * mean(D(fake)^2 + (D(real) - 1)^2) / 2``.

    On the last output alone, as :class:`PatchGeneratorLoss`.

    Args:
        weight: published: 0.125.

    Example:
        >>> loss = PatchDiscriminatorLoss(weight=1.0)
        >>> right, wrong = [torch.ones(2, 1, 4, 4)], [torch.zeros(2, 1, 4, 4)]
        >>> loss(right, wrong).item(), loss(wrong, right).item()
        (0.0, 1.0)
    """

    def __init__(self, weight: float = 0.125) -> None:
        super().__init__()
        self.weight = weight
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")

    def forward(self, real_outputs: Sequence[Tensor], fake_outputs: Sequence[Tensor]) -> Tensor:
        """Compute the loss from the discriminator's outputs for images and for reconstructions, the verdict last."""
        fake = self.adversarial(fake_outputs[-1].float(), target_is_real=False, for_discriminator=True)
        real = self.adversarial(real_outputs[-1].float(), target_is_real=True, for_discriminator=True)
        return self.weight * 0.5 * (fake + real)


def perceptual_loss_at_hand(network_type: str = "squeeze", device: str | torch.device = "cpu") -> PerceptualLoss | None:
    """Return MONAI's perceptual loss when its weights are on this machine; nothing is ever downloaded.

    It needs the package ``lpips``, and the ImageNet weights of its backbone where torchvision keeps its downloads
    (``$TORCH_HOME/hub/checkpoints``). Where either is missing, the log says what and how to get it.

    Args:
        network_type: ``"squeeze"`` (published), ``"alex"`` or ``"vgg"``; ``"none"`` for no perceptual loss.
        device: where the network goes.

    Returns:
        The loss, with its weights frozen, or ``None``.

    Raises:
        ValueError: there is no such network.

    References:
        Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, arXiv 1801.03924.

    Example:
        >>> perceptual_loss_at_hand("none") is None
        True
    """
    if network_type == "none":
        return None
    if network_type not in _BACKBONES:
        raise ValueError(f"got network_type={network_type!r}, want squeeze, alex, vgg or none")
    weights = Path(torch.hub.get_dir(), "checkpoints", Path(_BACKBONES[network_type].url).name)
    missing = []
    if not optional_import("lpips")[1]:
        missing.append("the package lpips is not installed (pip install 'monai-deepssim[perceptual]')")
    if not weights.is_file():
        missing.append(f"{weights} is not there (download {_BACKBONES[network_type].url} to it)")
    if missing:
        _log.warning("The perceptual loss is left out of this training: %s.", " and ".join(missing))
        return None
    loss = PerceptualLoss(spatial_dims=2, network_type=network_type).to(device).eval()
    return loss.requires_grad_(False)
