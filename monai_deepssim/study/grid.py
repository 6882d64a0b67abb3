"""The grid of a study: its factors, its cells, and the trainings that reach them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = [
    "FACTORS",
    "GENERATORS",
    "REPETITIONS",
    "Factor",
    "Setting",
    "Training",
    "curve",
    "full_product",
    "one_at_a_time",
]


@dataclass(frozen=True)
class Factor:
    """What a study varies.

    Attributes:
        name: name of the option, and of the attribute of :class:`Setting`.
        title: label on the axis of its curve.
        expected: 1 when more of it is expected to raise the copy fraction, -1 to lower it.
        expectation: what the curve is expected to show, in words.
    """

    name: str
    title: str
    expected: int
    expectation: str

    @property
    def heading(self) -> str:
        """The title with a capital letter."""
        return self.title[0].upper() + self.title[1:]


#: Repetitions of a training image, the names of :data:`~monai_deepssim.generators.DUPLICATION_RANGES`, from the rarest.
REPETITIONS = ("none", "low", "high")

#: Kinds of generators, from the one that is expected to copy least.
GENERATORS = ("vae", "gan", "diffusion")

#: In the order of the report; directions after Dar et al., and for repetitions Scardace et al.
FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("training_images", "training images", -1, "more training images: fewer copies"),
        Factor("repetitions", "repetitions of a training image", 1, "more repetitions: more copies"),
        Factor("augmentation", "augmentation", -1, "augmentation: fewer copies"),
        Factor("width", "channels of the U-Net's first level", 1, "a larger network: more copies"),
        Factor("epochs", "epochs", 1, "more epochs: more copies"),
        Factor("generator", "kind of generator", 1, "latent diffusion: more copies than a VAE or a GAN"),
    )
}


@dataclass(frozen=True)
class Setting:
    """A cell of the grid: how a generator is trained.

    Attributes:
        training_images: number of training images.
        repetitions: ``none``, ``low`` or ``high``, see :func:`~monai_deepssim.generators.repetition_counts`.
        augmentation: whether training images are flipped and rotated at random.
        width: channels of the U-Net's first level; those of the others in proportion.
        epochs: passes over the training images; see :meth:`num_steps`.
        generator: ``diffusion``, ``vae`` or ``gan``; the width is the U-Net's alone.
    """

    training_images: int
    repetitions: str
    augmentation: bool
    width: int
    epochs: int
    generator: str = "diffusion"

    @property
    def name(self) -> str:
        """Of the cell's folder."""
        augmented = "augmented" if self.augmentation else "plain"
        kind = "" if self.generator == "diffusion" else f"{self.generator}-"
        return (
            f"{kind}images{self.training_images:04d}-repeated_{self.repetitions}-{augmented}-width{self.width:03d}"
            f"-epochs{self.epochs:05d}"
        )

    def file(self, replicate: int) -> str:
        """Name of the cell's files in a replicate, relative to the folder of all cells."""
        return f"{self.name}/seed{replicate}"

    def num_steps(self, base: Setting, batch_size: int, equal: str) -> int:
        """Optimisation steps.

        Args:
            base: the study's base cell.
            batch_size: images per step.
            equal: ``"steps"``: every size of the training set gets as many steps as the base cell's in so many epochs;
                ``"epochs"``: every size gets as many passes over its own images.

        Example:
            >>> base = Setting(32, "none", False, 32, 100)
            >>> large = replace(base, training_images=128)
            >>> [large.num_steps(base, 16, equal) for equal in ("steps", "epochs")]
            [200, 800]
        """
        images = base.training_images if equal == "steps" else self.training_images
        return self.epochs * math.ceil(images / batch_size)


@dataclass(frozen=True)
class Training:
    """A training of a generator: all cells that differ in nothing but their epochs are measured along one.

    Attributes:
        cells: cells by ascending epochs.
        replicate: number of the repetition of the whole grid, from 0: other training images, weights and noise.
    """

    cells: tuple[Setting, ...]
    replicate: int

    @property
    def name(self) -> str:
        """Of the training's folder."""
        return f"{self.cells[0].name.rpartition('-')[0]}-seed{self.replicate}"

    @staticmethod
    def of_cells(cells: Sequence[Setting], num_seeds: int) -> list[Training]:
        """Group cells by the training that reaches them.

        Example:
            >>> base = Setting(32, "none", False, 32, 100)
            >>> cells = [base, replace(base, epochs=50), replace(base, width=16)]
            >>> [[cell.epochs for cell in training.cells] for training in Training.of_cells(cells, num_seeds=2)]
            [[50, 100], [100], [50, 100], [100]]
        """
        groups: dict[Setting, list[Setting]] = {}
        for cell in cells:
            groups.setdefault(replace(cell, epochs=0), []).append(cell)
        # By replicate first, so that a study that is stopped has whole grids.
        return [
            Training(tuple(sorted(group, key=lambda cell: cell.epochs)), replicate)
            for replicate in range(num_seeds)
            for group in groups.values()
        ]


def one_at_a_time(base: Setting, levels: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """The base cell, and those that differ from it in one factor.

    Args:
        base: the base cell.
        levels: values by factor.

    Example:
        >>> base = Setting(32, "none", False, 32, 100)
        >>> len(one_at_a_time(base, {"width": [16, 32, 64], "augmentation": [False, True]}))
        4
    """
    cells = [base] + [replace(base, **{name: value}) for name, values in levels.items() for value in values]
    return list(dict.fromkeys(cells))


def full_product(base: Setting, levels: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """All combinations of all levels; a factor without levels has the base cell's.

    Example:
        >>> base = Setting(32, "none", False, 32, 100)
        >>> len(full_product(base, {"width": [16, 32, 64], "augmentation": [False, True]}))
        6
    """
    values = [list(levels.get(field.name, [getattr(base, field.name)])) for field in fields(Setting)]
    cells = [Setting(*combination) for combination in itertools.product(*values)]
    return list(dict.fromkeys([base, *cells]))


def curve(cells: Sequence[Setting], base: Setting, factor: str) -> list[Setting]:
    """The cells that differ from the base cell in one factor at most, by ascending level.

    Example:
        >>> base = Setting(32, "none", False, 32, 100)
        >>> cells = one_at_a_time(base, {"repetitions": ["high", "low"], "width": [16]})
        >>> [cell.repetitions for cell in curve(cells, base, "repetitions")]
        ['none', 'low', 'high']
    """
    members = [cell for cell in cells if replace(cell, **{factor: getattr(base, factor)}) == base]

    def level(cell: Setting) -> Any:
        order = {"repetitions": REPETITIONS, "generator": GENERATORS}.get(factor)
        return getattr(cell, factor) if order is None else order.index(getattr(cell, factor))

    return sorted(members, key=level)
