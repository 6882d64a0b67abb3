"""The options of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.image_option_checks import image_sides
from monai_deepssim.option_checks import (
    anything,
    one_of,
    path,
    paths,
    text,
    torch_device,
    unusable_option,
    whole,
    yes_or_no,
)
from monai_deepssim.options import option
from monai_deepssim.study.grid import GENERATORS, REPETITIONS, Setting, full_product, one_at_a_time

if TYPE_CHECKING:
    import torch

__all__ = ["MIN_SAMPLES", "StudyOptions"]

#: FID of 15 features needs more images than that.
MIN_SAMPLES = 16

_GRID, _IMAGES, _MODELS, _OUTPUT = "Grid", "Images", "Models", "Output"
_CHECKPOINT, _SETTINGS = path("file", "the path of a checkpoint"), paths("the path of a JSON file with settings")

# What a level of each factor is.
_LEVELS = {
    "training_images": whole(1),
    "repetitions": one_of(REPETITIONS),
    "augmentation": yes_or_no,
    "width": whole(1),
    "epochs": whole(1),
    "generator": one_of(GENERATORS),
}


@dataclass(frozen=True)
class StudyOptions:
    """The options of a study."""

    factors: Any = option(
        None,
        anything("lists by factor"),
        "Values by factor: training_images, repetitions (none, low, high), augmentation, width (channels of the "
        "U-Net's first level), epochs and generator (vae, gan, diffusion).",
        _GRID,
    )
    base: Any = option(None, anything("values by factor"), "Value of each factor where another one is varied.", _GRID)
    design: str = option(
        "one_factor",
        one_of(("one_factor", "product")),
        "One factor at a time around the base, or all combinations.",
        _GRID,
    )
    equal: str = option(
        "steps",
        one_of(("steps", "epochs")),
        "What training sets of different sizes have in common: steps of the optimisation, or passes over their own "
        "images.",
        _GRID,
    )
    num_seeds: int = option(2, whole(1), "Trainings per cell, each on images of its own draw.", _GRID)
    num_samples: int = option(64, whole(MIN_SAMPLES), "Images drawn from each.", _GRID)
    dataset_dir: Path | None = option(
        None, path("folder, pattern, CSV or data list"), "Images of your own; by default phantoms.", _IMAGES
    )
    patient_id_pattern: str | None = option(
        None, text, "Regular expression whose group finds the patient in an image's path.", _IMAGES
    )
    slices: Any = option(
        None, anything("index, indices, range or all"), "Slices of a volume; by default the middle one.", _IMAGES
    )
    slice_axis: int = option(2, whole(0, 2), "Axis of the slices of a volume: 0 sagittal, 1 coronal, 2 axial.", _IMAGES)
    phantom: Any = option(
        None,
        anything("arguments by name"),
        "Arguments of PhantomBrainDataset, for the pool that training sets are drawn from.",
        _IMAGES,
    )
    num_holdout: int = option(
        128,
        whole(2 * MIN_SAMPLES),
        "Phantom subjects or patients that are put aside: half for thresholds, half to check these.",
        _IMAGES,
    )
    image_size: tuple[int, int] = option((80, 64), image_sides(32), "Rows and columns of all images.", _IMAGES)
    generator_settings: tuple[Path, ...] = option(
        (), _SETTINGS, "Files of settings over those of the bundle brain_mri_ldm.", _MODELS
    )
    autoencoder_checkpoint: Path | None = option(
        None, _CHECKPOINT, "Autoencoder that was trained with these settings; by default one is trained.", _MODELS
    )
    checkpoint: Path = option(None, _CHECKPOINT, "Weights of the DeepSSIM embedder.", _MODELS)
    allow_torchscript: bool = option(
        False,
        yes_or_no,
        "Whether that checkpoint may be TorchScript, which can run code of its own; only from a source that you trust.",
        _MODELS,
    )
    deepssim_image_size: tuple[int, int] = option(
        (136, 112), image_sides(32), "Rows and columns that the embedder was trained on.", _MODELS
    )
    top_k: int = option(10, whole(1), "Training images that are verified for each sample.", _MODELS)
    copy_detector_settings: tuple[Path, ...] = option(
        (), _SETTINGS, "Files of settings over those of the bundle copy_detector.", _MODELS
    )
    copy_detector_checkpoint: Path | None = option(
        None, _CHECKPOINT, "Copy detector; by default one is trained.", _MODELS
    )
    seed: int = option(0, whole(0), "Seed of the study.", _GRID)
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", _MODELS)
    report_images: bool = option(
        True, yes_or_no, "Whether sheets of samples beside training images are made and shown.", _OUTPUT
    )
    estimate_only: bool = option(False, yes_or_no, "Whether to say how long it would take, and stop.", _OUTPUT)
    output_dir: Path = option(Path("memorization_study"), path("folder"), "Folder of the results.", _OUTPUT)
    #: The settings that are trained.
    cells: tuple[Setting, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.output_dir is None:
            object.__setattr__(self, "output_dir", type(self).output_dir)
        base, levels = _setting("base", self.base), _levels(self.factors)
        make_cells = one_at_a_time if self.design == "one_factor" else full_product
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "cells", tuple(make_cells(base, levels)))
        object.__setattr__(self, "phantom", _mapping("phantom", self.phantom))
        if self.checkpoint is None:
            raise unusable_option("checkpoint", None, "the weights of a DeepSSIM embedder")

    @property
    def largest(self) -> int:
        """Images of the largest training set."""
        return max(cell.training_images for cell in self.cells)


def _mapping(option: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise unusable_option(option, value, "names with their values, such as \"{'seed': 7}\"")
    return {str(name): entry for name, entry in value.items()}


def _setting(option: str, value: Any) -> Setting:
    levels = {"generator": "diffusion", **_mapping(option, value)}
    if sorted(levels) != sorted(_LEVELS):
        raise unusable_option(
            option, value, f"a value for each of {', '.join(_LEVELS)}; --{option}#width 48 changes one alone"
        )
    return Setting(**{name: check.read(f"{option}#{name}", levels[name]) for name, check in _LEVELS.items()})


def _levels(value: Any) -> dict[str, list[Any]]:
    levels = _mapping("factors", value)
    for name, values in levels.items():
        if name not in _LEVELS:
            raise UnusableInputError(f"--factors: {name!r} is unknown. The factors are: {', '.join(_LEVELS)}.")
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise unusable_option(f"factors#{name}", values, "a list of values")
    return {
        name: [check.read(f"factors#{name}", level) for level in levels[name]]
        for name, check in _LEVELS.items()
        if levels.get(name)
    }
