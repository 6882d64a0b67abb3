"""What a study trains, each by the bundle that trains it: one autoencoder, one copy detector, and the generators."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_deepssim.data import load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import unwritable, write_text
from monai_deepssim.study.grid import Setting, Training
from monai_deepssim.study.images import StudyImages, TrainingSet
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.workflows import parse_config, run_config

__all__ = ["StudyTrainings", "checkpoint_interval"]

_GENERATOR = "brain_mri_ldm"
_STATE, _MARKER = "diffusion_training.pt", "training.json"
# A training is saved at least so often, in steps, and takes up from there.
_LONGEST_INTERVAL = 100
# Seeds of the noise of two replicates are so far apart that no image is drawn twice.
_SAMPLING_SEEDS = 1_000_000


def checkpoint_interval(steps: list[int]) -> int:
    """How many steps lie between two checkpoints: all the steps at which a training is measured are multiples of it.

    Example:
        >>> checkpoint_interval([200, 600, 2400]), checkpoint_interval([7, 14])
        (100, 7)
    """
    common = math.gcd(*steps)
    return max(length for length in range(1, min(common, _LONGEST_INTERVAL) + 1) if common % length == 0)


class StudyTrainings:
    """Trains and draws in the study's folder; what is there already is not done again.

    Args:
        options: of the study.
        images: of the study; ``None`` before they are made, for what needs none.
    """

    def __init__(self, options: StudyOptions, images: StudyImages | None = None) -> None:
        self.options = options
        self._images = images
        self.settings = parse_config(_GENERATOR, "train_diffusion", options.generator_settings, {})

    @property
    def batch_size(self) -> int:
        """Images a step of a generator's training."""
        return int(self.settings["diffusion_batch_size"])

    @property
    def images(self) -> StudyImages:
        """Of the study."""
        assert self._images is not None, "the images are made before anything is trained"
        return self._images

    def num_steps(self, cell: Setting) -> int:
        """Optimisation steps at which a cell is measured."""
        return cell.num_steps(self.options.base, self.batch_size, self.options.equal)

    def channels(self, width: int) -> list[int]:
        """Channels of the U-Net: those of the settings, in proportion to its first level's.

        Raises:
            UnusableInputError: if they are no whole numbers, or the U-Net cannot normalise them in groups.
        """
        published, groups = self.settings["diffusion_channels"], self.settings["diffusion_norm_num_groups"]
        wanted = [channels * width / published[0] for channels in published]
        if any(channels % groups for channels in wanted):
            raise UnusableInputError(
                f"a width of {width} gives a U-Net of {', '.join(f'{channels:g}' for channels in wanted)} channels, "
                f"and multiples of {groups} are wanted (diffusion_norm_num_groups). Choose another width, or settings "
                "with fewer groups."
            )
        return [int(channels) for channels in wanted]

    def train_autoencoder(self) -> Path:
        """Train the autoencoder that all generators share, on the whole pool.

        Returns:
            Its checkpoint.
        """
        if self.options.autoencoder_checkpoint is not None:
            return self.options.autoencoder_checkpoint
        folder = self.options.output_dir / "autoencoder"
        if not (folder / "finished").is_file():
            overrides = {**self._common(), "dataset_dir": str(self.images.pool_csv), "output_dir": str(folder)}
            overrides["seed"] = self.options.seed
            run_config(_GENERATOR, "train_autoencoder", self.options.generator_settings, overrides)
            write_text(folder / "finished", "")
        return folder / "autoencoder.pt"

    def train_copy_detector(self) -> Path:
        """Train the contrastive copy detector, on the whole pool.

        Returns:
            Its checkpoint.
        """
        if self.options.copy_detector_checkpoint is not None:
            return self.options.copy_detector_checkpoint
        folder = self.options.output_dir / "copy_detector"
        if not (folder / "finished").is_file():
            settings = parse_config("copy_detector", "train", self.options.copy_detector_settings, {})
            overrides = {
                "dataset_dir": str(self.images.pool_csv),
                # Batches that are not full are dropped, and of a small pool none would be left.
                "images_per_batch": min(settings["images_per_batch"], max(2, len(self.images.pool) // 2)),
                "output_dir": str(folder),
                "image_size": list(self.options.image_size),
                "device": self._device,
                "seed": self.options.seed,
            }
            run_config("copy_detector", "train", self.options.copy_detector_settings, overrides)
            write_text(folder / "finished", "")
        return folder / "model.pt"

    def train_generator(self, training: Training, cell: Setting, images: TrainingSet, autoencoder: Path) -> Path:
        """Train a generator up to a cell, from where its training stands.

        Args:
            training: to which the cell belongs.
            cell: whose epochs are to be reached.
            images: of the training.
            autoencoder: its checkpoint.

        Returns:
            The generator's checkpoint, of averaged weights.
        """
        folder = self._folder(training)
        interval = checkpoint_interval([self.num_steps(one) for one in training.cells])
        wanted, done = self.num_steps(cell), self._steps_done(folder, interval)
        if done > wanted:
            # It cannot go back. Nor can one that was saved at other steps be taken up.
            shutil.rmtree(folder)
            done = 0
        if done == wanted:
            return folder / "diffusion.pt"
        write_text(self._made(folder) / _MARKER, json.dumps({"steps_between_checkpoints": interval}) + "\n")
        overrides = {
            **self._generator_overrides(cell, autoencoder),
            "dataset_dir": str(images.csv),
            "duplication": str(images.csv),
            "output_dir": str(folder),
            # A training that goes on must not see the noise of its first steps again.
            "seed": self.options.seed + 1_000_003 * (training.replicate + 1) + done,
            "augmentation": cell.augmentation,
            "diffusion_iterations_per_epoch": interval,
            "diffusion_epochs": wanted // interval,
            "val_interval": 0,
        }
        run_config(_GENERATOR, "train_diffusion", self.options.generator_settings, overrides)
        return folder / "diffusion.pt"

    def draw(self, training: Training, cell: Setting, generator: Path, autoencoder: Path) -> Tensor:
        """Draw a cell's samples; in all cells of a replicate, sample i comes of the same noise.

        Args:
            training: to which the cell belongs.
            cell: of the grid.
            generator: its checkpoint.
            autoencoder: its checkpoint.

        Returns:
            ``(N, 1, H, W)`` in [0, 1], of 8 bits.
        """
        folder = self.samples_folder(training, cell)
        if _generator_of(folder) not in ("", hashlib.sha256(generator.read_bytes()).hexdigest()):
            shutil.rmtree(folder)  # of a training that was begun anew
        overrides = {
            **self._generator_overrides(cell, autoencoder),
            "output_dir": str(self._folder(training)),
            "samples_dir": str(folder),
            "diffusion_checkpoint": str(generator),
            "num_images": self.options.num_samples,
            "sampling_seed": _SAMPLING_SEEDS * (training.replicate + 1),
        }
        run_config(_GENERATOR, "inference", self.options.generator_settings, overrides)
        files = [folder / f"{index:06d}.png" for index in range(self.options.num_samples)]
        return torch.stack([load_slice({"image": str(file)}) for file in files])

    def samples_folder(self, training: Training, cell: Setting) -> Path:
        """Where a cell's samples are."""
        return self.options.output_dir / "cells" / cell.name / f"seed{training.replicate}_samples"

    def finish(self, training: Training) -> None:
        """Remove what only going on with a training would need: four times the size of its generator."""
        for name in (_STATE, "diffusion_last.pt"):
            (self._folder(training) / name).unlink(missing_ok=True)

    def build(self, part: str, overrides: dict[str, Any]) -> Any:
        """Build a part of the generator's training, such as ``diffusion_def``, without images."""
        parser = parse_config(
            _GENERATOR, "train_diffusion", self.options.generator_settings, {"context_size": None, **overrides}
        )
        return parser.get_parsed_content(part)

    @property
    def _device(self) -> str:
        return f"$torch.device('{self.options.device}')"

    def _common(self) -> dict[str, Any]:
        return {
            "phantom": None,
            "validation_dir": str(self.images.holdout_csv),
            "duplication": "none",
            "conditioning": "none",
            "image_size": list(self.options.image_size),
            "device": self._device,
        }

    def _generator_overrides(self, cell: Setting, autoencoder: Path) -> dict[str, Any]:
        return {
            **self._common(),
            "autoencoder_checkpoint": str(autoencoder),
            "diffusion_channels": self.channels(cell.width),
        }

    def _folder(self, training: Training) -> Path:
        return self.options.output_dir / "trainings" / training.name

    def _made(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder

    def steps_done(self, training: Training) -> int:
        """Steps that a training has behind it and can go on from."""
        interval = checkpoint_interval([self.num_steps(one) for one in training.cells])
        done = self._steps_done(self._folder(training), interval)
        return int(done) if done < math.inf else 0

    def _steps_done(self, folder: Path, interval: int) -> float:
        """Steps behind a training, infinitely many where it cannot go on from what is there."""
        marker, state = folder / _MARKER, folder / _STATE
        if not state.is_file():
            return math.inf if (folder / "diffusion.pt").is_file() else 0
        if not marker.is_file() or json.loads(marker.read_text()) != {"steps_between_checkpoints": interval}:
            return math.inf
        return int(torch.load(state, map_location="cpu", weights_only=True)["trainer"]["iteration"])


def _generator_of(folder: Path) -> str:
    """Hash of the generator that drew a folder's samples; empty where there are none."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return ""
    with manifest.open(newline="", encoding="utf-8") as file:
        return next((row["generator_sha256"] or "cut short" for row in csv.DictReader(file)), "")
