"""An autoencoder as the generator of MONAI's AdversarialTrainer, which takes networks that return one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError

__all__ = ["AutoencoderGenerator", "prepare_reconstruction_batch"]


class AutoencoderGenerator(nn.Module):
    """Returns an autoencoder's reconstruction, and keeps the distribution of the latents for the loss.

    MONAI's ``AutoencoderKL`` returns a tuple of reconstruction, mean and deviation. ``AdversarialTrainer`` needs the
    reconstruction alone, and hands nothing else to the loss, so that the KL term would be out of its reach:
    :class:`AutoencoderLoss` takes it from here. In training mode latents are drawn, ``z = mean + deviation * noise``;
    in eval mode the mean is decoded, so that a validation repeats itself.

    Args:
        autoencoder: what is trained; save its state dict, not the one of this wrapper.

    Raises:
        UnusableInputError: in a call, when the sides of the images cannot be halved as often as the autoencoder does.

    Example:
        >>> autoencoder = AutoencoderKL(
        ...     spatial_dims=2, channels=(8, 8), latent_channels=3, num_res_blocks=1, norm_num_groups=4,
        ...     attention_levels=(False, False), with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False)
        >>> generator = AutoencoderGenerator(autoencoder)
        >>> generator(torch.rand(2, 1, 16, 16)).shape, generator.latents[0].shape
        (torch.Size([2, 1, 16, 16]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        #: Mean and standard deviation of the latents of the last training batch, with their gradients.
        self.latents: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            Reconstructions of the same shape.
        """
        if self.training:
            reconstruction, mean, deviation = self.autoencoder(images)
            self.latents = (mean, deviation)
        else:
            reconstruction = self.autoencoder.reconstruct(images)
            self.latents = None
        if reconstruction.shape != images.shape:
            size, got = (" x ".join(str(side) for side in x.shape[2:]) for x in (images, reconstruction))
            raise UnusableInputError(
                f"image_size is {size}, and the autoencoder gives {got} back, as it halves each side once for every "
                "level below its first. Choose multiples of 4 for three levels, of 8 for four."
            )
        return reconstruction


def prepare_reconstruction_batch(
    batchdata: Mapping[str, Any],
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Return the images of a batch twice, as input and as target.

    MONAI's own ``prepare_batch`` makes the target ``None`` where a batch has no ``label``.

    Args:
        batchdata: batch with ``image``, ``(B, 1, H, W)``.
        device: device that the images are moved to.
        non_blocking: as in :meth:`torch.Tensor.to`.
        kwargs: further arguments of :meth:`torch.Tensor.to`.

    Returns:
        The images, and the images.

    Example:
        >>> image, target = prepare_reconstruction_batch({"image": torch.rand(2, 1, 8, 8)})
        >>> image is target
        True
    """
    images = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
    return images, images
