"""Shapes of latents: what an autoencoder makes of an image size, and what a U-Net can halve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from monai_deepssim.errors import UnusableInputError

__all__ = ["LatentShapes", "compute_latent_shapes"]


class LatentShapes(NamedTuple):
    """Shapes of the latents of one image, without the batch axis.

    Args:
        autoencoder: ``(C, h, w)`` as the autoencoder encodes and decodes them.
        diffusion: ``(C, h', w')`` as the diffusion model sees them; at least as large.

    Example:
        >>> LatentShapes((3, 34, 28), (3, 36, 28)).padded
        True
    """

    autoencoder: tuple[int, int, int]
    diffusion: tuple[int, int, int]

    @property
    def padded(self) -> bool:
        """Whether the two differ, so that latents are padded for the diffusion model and cropped for the decoder."""
        return self.autoencoder != self.diffusion


def compute_latent_shapes(
    image_size: Sequence[int], latent_channels: int, num_autoencoder_levels: int, num_diffusion_levels: int
) -> LatentShapes:
    r"""Compute the shapes of latents for an image size.

    An autoencoder of L levels halves L - 1 times, and so does a U-Net; its skip connections only fit when each halving
    comes out even. :math:`h = H / 2^{L_a - 1}` and :math:`h' = 2^{L_d - 1} \lceil h / 2^{L_d - 1} \rceil`.

    Args:
        image_size: rows and columns in pixels.
        latent_channels: C.
        num_autoencoder_levels: number of the autoencoder's ``channels``.
        num_diffusion_levels: number of the U-Net's ``channels``.

    Returns:
        The shapes.

    Raises:
        UnusableInputError: the autoencoder would not give images of this size back.

    Example:
        >>> compute_latent_shapes((136, 112), 3, 3, 3)
        LatentShapes(autoencoder=(3, 34, 28), diffusion=(3, 36, 28))
        >>> compute_latent_shapes((128, 128), 3, 3, 3).padded
        False
    """
    factor, multiple = 2 ** (num_autoencoder_levels - 1), 2 ** (num_diffusion_levels - 1)
    sides = [int(side) for side in image_size]
    if len(sides) != 2 or any(side < factor or side % factor for side in sides):
        nearest = [max(factor, round(side / factor) * factor) for side in sides]
        raise UnusableInputError(
            f"image_size is {list(image_size)}, and an autoencoder of {num_autoencoder_levels} levels wants rows and "
            f"columns that {factor} divides. Take {nearest}, or another autoencoder."
        )
    rows, columns = (side // factor for side in sides)
    padded_rows, padded_columns = (-(-side // multiple) * multiple for side in (rows, columns))
    return LatentShapes((latent_channels, rows, columns), (latent_channels, padded_rows, padded_columns))
