"""The options of a training of the embedder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monai_deepssim.audit.search_options import IMAGE_SOURCE, IMAGES, OUTPUT, RUNNING, ImageOptions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import number, one_of, path, share, torch_device, whole
from monai_deepssim.options import option

if TYPE_CHECKING:
    import torch

__all__ = ["EmbedderTrainingOptions"]

_TRAINING = "Training"


@dataclass(frozen=True)
class EmbedderTrainingOptions(ImageOptions):
    """The options of a training of the embedder, most of them ids of the bundle that trains it."""

    training_dir: Path | None = option(
        None, IMAGE_SOURCE, "Images to train on: a folder, a pattern, a CSV or a data list, as in an audit.", IMAGES
    )
    validation_fraction: float = option(
        0.1, share(0.1), "Share of the patients whose images are put aside to validate on.", IMAGES
    )
    start: str = option(
        "shipped",
        one_of(("shipped", "random", "published")),
        "What is trained: the shipped network from its weights, or from random ones, or the published network from "
        "torchvision's ImageNet weights, which are downloaded.",
        _TRAINING,
    )
    checkpoint: Path | None = option(
        None, path("file", missing="the weights of an embedder"), "Weights to start from, for the shipped.", _TRAINING
    )
    max_epochs: int = option(40, whole(1), "Times that all images are seen.", _TRAINING)
    learning_rate: float | None = option(
        None,
        number(0, "a rate above 0, such as 0.0004, or none", or_none=True),
        "Largest learning rate; by default 0.0004 for weights that ship and 0.001 for others.",
        _TRAINING,
    )
    items_per_batch: int = option(11, whole(2), "Images of a step, of each of which variants are made.", _TRAINING)
    seed: int = option(0, whole(0), "Seed of the split, of the initial weights and of the order.", _TRAINING)
    output_dir: Path = option(
        Path("deepssim_training"), path("folder"), "Folder of the results; a training there goes on.", OUTPUT
    )
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", RUNNING)
    num_workers: int = option(0, whole(0), "Processes that read images; 0 reads in this one.", RUNNING)

    def __post_init__(self) -> None:
        if self.training_dir is None:
            raise UnusableInputError("--training_dir: was not given. Name the folder or list of your images.")
        if self.checkpoint is not None and self.start != "shipped":
            raise UnusableInputError(
                f"--checkpoint: was given with --start {self.start}, which starts from other weights. Leave one out."
            )
