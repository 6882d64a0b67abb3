"""Noise to draw images from, a seed for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators.sampling_conditions import Conditions

__all__ = ["SamplingDataset"]


class SamplingDataset(Dataset):
    """The images that are to be drawn: for each its initial noise, and its context where the generator is conditioned.

    Image number i has the seed ``seed + i``: its noise comes from a generator of its own, on the CPU, so that it can be
    drawn again alone, in a batch of any size and on any device. Seeds of two runs that are nearer to each other than
    the number of images give the same images again.

    Args:
        noise_shape: ``(C, h', w')`` of the diffusion model's latents.
        num_images: how many; ``None`` for ``images_per_condition`` of each condition.
        seed: of image 0.
        conditions: contexts; image i gets number ``i // images_per_condition``, and after the last one the first again.
        images_per_condition: 1 or more.
        indices: the numbers of the images that are wanted, in place of all of ``num_images``.

    Returns:
        Items with ``image``, the noise, which is where MONAI's engines look for a network's input; ``index`` and
        ``seed``; and where conditioned ``context``, ``(T, D)``, and ``condition``, its description.

    Raises:
        UnusableInputError: there are no images, or the numbers are negative or beyond the last.

    Example:
        >>> images = SamplingDataset((3, 36, 28), num_images=8, seed=100)
        >>> alone = SamplingDataset((3, 36, 28), num_images=8, seed=100, indices=[7])
        >>> len(alone), alone[0]["seed"], torch.equal(alone[0]["image"], images[7]["image"])
        (1, 107, True)
    """

    def __init__(
        self,
        noise_shape: Sequence[int],
        num_images: int | None = None,
        seed: int = 0,
        conditions: Conditions | None = None,
        images_per_condition: int = 1,
        indices: Sequence[int] | None = None,
    ) -> None:
        if num_images is None:
            if conditions is None:
                raise UnusableInputError("num_images is not given: say how many images are wanted.")
            num_images = images_per_condition * len(conditions)
        if num_images < 1 or images_per_condition < 1 or seed < 0:
            raise UnusableInputError(
                f"num_images is {num_images}, images_per_condition {images_per_condition} and seed {seed}. At least 1 "
                "image, 1 for each condition, and a seed of 0 or more are wanted."
            )
        wanted = range(num_images) if indices is None else indices
        beyond = [index for index in wanted if not 0 <= index < num_images]
        if beyond:
            raise UnusableInputError(
                f"indices names image {beyond[0]}, and there are images 0 to {num_images - 1}. Correct it, or raise "
                "num_images."
            )
        self.noise_shape = tuple(noise_shape)
        self.num_images = num_images
        self.seed = seed
        self.conditions = conditions
        self.images_per_condition = images_per_condition
        self.indices = list(wanted)

    def __len__(self) -> int:
        """Return how many images are to be drawn."""
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return what one image is drawn from."""
        index = self.indices[position]
        generator = torch.Generator().manual_seed(self.seed + index)
        item: dict[str, Any] = {
            "image": torch.randn(self.noise_shape, generator=generator),
            "index": index,
            "seed": self.seed + index,
        }
        if self.conditions is not None:
            context, description = self.conditions.of_image(index, self.images_per_condition)
            item |= {"context": context, "condition": description}
        return item
