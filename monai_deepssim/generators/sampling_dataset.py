"""What a generator draws from: noise, with a seed for each image, and what a conditioned one is told of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from monai_deepssim.data import read_table
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators.conditioning import VariableScaling, read_vectors, variable_values
from monai_deepssim.generators.generator_images import GeneratorImages
from monai_deepssim.generators.latent_checkpoint import TrainedGenerator

__all__ = ["Conditions", "SamplingDataset", "conditions_of_images", "read_conditions", "select_conditions"]


@dataclass(frozen=True)
class Conditions:
    """Contexts, and words for each.

    Args:
        contexts: ``(N, T, D)``, N contexts of T tokens.
        descriptions: one description per condition, for the manifest.

    Example:
        >>> len(Conditions(torch.rand(2, 1, 6), ["age=20", "age=70"]))
        2
    """

    contexts: Tensor
    descriptions: Sequence[str]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.contexts)

    def of_image(self, index: int, images_per_condition: int) -> tuple[Tensor, str]:
        """Context and description of an image: number ``index // images_per_condition``, then the first again.

        Example:
            >>> Conditions(torch.rand(2, 1, 6), ["age=20", "age=70"]).of_image(4, images_per_condition=3)[1]
            'age=70'
        """
        number = (index // images_per_condition) % len(self)
        return self.contexts[number], self.descriptions[number]


def conditions_of_images(images: GeneratorImages | None) -> Conditions | None:
    """Take the contexts of training images, each image once.

    Args:
        images: the training images.

    Returns:
        Their contexts, described by the variables, or by the path of the image where it is a text's embedding;
        ``None`` where there are none.

    Example:
        >>> images = GeneratorImages(phantom={"num_subjects": 2, "seed": 7}, image_size=(80, 64), progress=False,
        ...     conditioning="variables", conditioning_columns=["skull"])
        >>> conditions_of_images(images).descriptions
        ['skull=0', 'skull=0']
    """
    if images is None or images.contexts is None:
        return None
    contexts = images.contexts
    if images.scaling is None:
        return Conditions(contexts, [str(item["path"]) for item in images.data])
    return Conditions(contexts, [_describe(images.scaling, context) for context in contexts])


def read_conditions(path: str | os.PathLike[str], scaling: VariableScaling | None, context_size: int) -> Conditions:
    """Read contexts from a file.

    Args:
        path: path of the conditions: for variables a CSV with the columns that the generator was trained on, one row
            per context, in their own units; else vectors, see :func:`~monai_deepssim.generators.read_vectors`.
        scaling: scaling of the variables, as the generator's checkpoint holds it; ``None`` for vectors.
        context_size: numbers that the generator takes.

    Returns:
        The contexts, in the order of the file.

    Raises:
        UnusableInputError: the file cannot be read, lacks a column, or has contexts of another size.

    Example:
        >>> import tempfile
        >>> scaling = VariableScaling.of(("age", "sex"), [[20.0, 0.0], [70.0, 1.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "wanted.csv").write_text("age,sex\\n45,1\\n20,0\\n")
        ...     conditions = read_conditions(f"{folder}/wanted.csv", scaling, 2)
        >>> conditions.contexts.tolist(), conditions.descriptions
        ([[[0.5, 1.0]], [[0.0, 0.0]]], ['age=45 sex=1', 'age=20 sex=0'])
    """
    if context_size == 0:
        raise UnusableInputError(
            f"{path}: conditions are given, and the generator was trained without. Leave conditions_file out."
        )
    if scaling is None:
        vectors = read_vectors(path)
        contexts = torch.stack(list(vectors.values()))
        if contexts.shape[-1] != context_size:
            raise UnusableInputError(
                f"{path}: the vectors have {contexts.shape[-1]} numbers, and the generator was trained on "
                f"{context_size}. Give embeddings of the same text encoder."
            )
        return Conditions(contexts, list(vectors))
    table = read_table(Path(path))
    items = [{"path": f"line {line}", **cells} for line, cells in table]
    contexts = torch.stack([scaling.context(values) for values in variable_values(items, scaling.columns, path)])
    return Conditions(contexts, [_describe(scaling, context) for context in contexts])


def select_conditions(
    generator: TrainedGenerator, path: str | os.PathLike[str] | None, images: GeneratorImages | None
) -> Conditions | None:
    """Choose what a generator is told: what a file says, or else what was said of its training images.

    Args:
        generator: as :func:`~monai_deepssim.generators.load_generator` reads it.
        path: path of a file for :func:`read_conditions`; ``None`` for none.
        images: the training images; ``None`` for none.

    Returns:
        The conditions, ``None`` for an unconditional generator.

    Raises:
        UnusableInputError: the generator is conditioned and there are no conditions, or the other way round, or they
            are of another size.

    Example:
        >>> from monai_deepssim.generators import TrainedGenerator
        >>> select_conditions(TrainedGenerator("a.pt", 1.0, 6, None, "", ""), None, None)
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: a.pt: the generator is conditioned on 6 numbers, and none are given.
        Name a conditions_file, or the training's conditioning and images.
    """
    if path is not None:
        return read_conditions(path, generator.scaling, generator.context_size)
    conditions = conditions_of_images(images)
    given = 0 if conditions is None else conditions.contexts.shape[-1]
    if given != generator.context_size:
        raise UnusableInputError(
            f"{generator.path}: the generator is conditioned on {generator.context_size or 'no'} numbers, and "
            f"{given or 'none'} are given. Name a conditions_file, or the training's conditioning and images."
        )
    return conditions


def _describe(scaling: VariableScaling, context: Tensor) -> str:
    ranges = zip(scaling.columns, context[0].tolist(), scaling.minimum, scaling.maximum, strict=True)
    return " ".join(f"{column}={low + value * (high - low):.6g}" for column, value, low, high in ranges)


class SamplingDataset(Dataset):
    """The images that are to be drawn: for each its initial noise, and its context where the generator is conditioned.

    Image number i has the seed ``seed + i``: its noise comes from a generator of its own, on the CPU, so that it can be
    drawn again alone, in a batch of any size and on any device. Seeds of two runs that are nearer to each other than
    the number of images give the same images again.

    Args:
        noise_shape: ``(C, h', w')`` of the diffusion model's latents.
        num_images: number of images; ``None`` for ``images_per_condition`` of each condition.
        seed: seed of image 0.
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
                raise UnusableInputError("num_images was not given. Give the number of images to draw.")
            num_images = images_per_condition * len(conditions)
        if num_images < 1 or images_per_condition < 1 or seed < 0:
            raise UnusableInputError(
                f"num_images is {num_images}, images_per_condition {images_per_condition} and seed {seed}, wanted at "
                "least 1 image, 1 per condition and a seed of 0 or more."
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
