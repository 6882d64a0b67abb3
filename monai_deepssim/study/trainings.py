"""What a study trains, each by the bundle that trains it: one autoencoder, one copy detector, and the generators."""

from __future__ import annotations

import csv
import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_deepssim.data import load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ensure_writable, write_text
from monai_deepssim.generators import SampleFolder, draw_from_prior
from monai_deepssim.networks import read_checkpoint
from monai_deepssim.stores import read_sealed, write_sealed
from monai_deepssim.study.grid import Setting, Training
from monai_deepssim.study.images import HOLDOUT_CSV, POOL_CSV, TrainingSet
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.workflows import parse_config, run_config
from monai_deepssim.workflow.config_steps import as_literal

__all__ = ["GENERATOR_BUNDLE", "StudyTrainings", "checkpoint_interval"]

#: The bundle that trains generators.
GENERATOR_BUNDLE = "brain_mri_ldm"
#: The bundle that trains those that are no diffusion models.
STUDY_BUNDLE = "memorization_study"
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
        options: Checked options.
    """

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self.settings = parse_config(GENERATOR_BUNDLE, "train_diffusion", options.generator_settings, {})
        #: Images per step of a generator's training.
        self.batch_size = int(self.settings["diffusion_batch_size"])

    def num_steps(self, cell: Setting) -> int:
        """Optimisation steps at which a cell is measured."""
        return cell.num_steps(self.options.base, self.batch_size, self.options.equal)

    def channels(self, width: int) -> list[int]:
        """Channels of the U-Net: those of the settings, in proportion to its first level's.

        Raises:
            UnusableInputError: If they are not whole numbers, or the U-Net cannot normalise them in groups.
        """
        published, groups = self.settings["diffusion_channels"], self.settings["diffusion_norm_num_groups"]
        wanted = [channels * width / published[0] for channels in published]
        if any(channels % groups for channels in wanted):
            raise UnusableInputError(
                f"a width of {width} gives a U-Net of {', '.join(f'{channels:g}' for channels in wanted)} channels, "
                f"wanted multiples of {groups} (diffusion_norm_num_groups). Choose another width, or settings "
                "with fewer groups."
            )
        return [int(channels) for channels in wanted]

    def needs(self, network: str) -> bool:
        """Whether the ``autoencoder`` or the ``copy_detector`` has yet to be trained."""
        is_given = getattr(self.options, f"{network}_checkpoint") is not None
        return not is_given and not (self.options.output_dir / network / "finished").is_file()

    def train_autoencoder(self) -> Path:
        """Train the autoencoder that all generators share, on the whole pool, and return its checkpoint."""
        settings, overrides = self.options.generator_settings, self._generator_overrides()
        self._train("autoencoder", GENERATOR_BUNDLE, "train_autoencoder", settings, overrides)
        return self.options.autoencoder_checkpoint or self.options.output_dir / "autoencoder" / "autoencoder.pt"

    def train_copy_detector(self, num_pool: int) -> Path:
        """Train the contrastive copy detector on the whole pool of so many images, and return its checkpoint."""
        settings = self.options.copy_detector_settings
        overrides = {
            "images_per_batch": self.copy_detector_batch_size(num_pool),
            "image_size": list(self.options.image_size),
            "device": f"$torch.device('{self.options.device}')",
        }
        self._train("copy_detector", "copy_detector", "train", settings, overrides)
        return self.options.copy_detector_checkpoint or self.options.output_dir / "copy_detector" / "model.pt"

    def copy_detector_batch_size(self, num_pool: int) -> int:
        """Images per step: batches that are not full are dropped, and of a small pool none would be left."""
        settings = parse_config("copy_detector", "train", self.options.copy_detector_settings, {})
        return int(min(settings["images_per_batch"], max(2, num_pool // 2)))

    def _train(
        self, network: str, bundle: str, config: str, settings: Sequence[Path], overrides: dict[str, Any]
    ) -> None:
        if not self.needs(network):
            return
        folder = self.options.output_dir / network
        shared = {"dataset_dir": as_literal(self.options.output_dir / POOL_CSV), "output_dir": as_literal(folder)}
        run_config(bundle, config, settings, {**overrides, **shared, "seed": self.options.seed})
        write_text(folder / "finished", "")

    def steps_done(self, training: Training, cell: Setting) -> int:
        """Steps up to a cell that a training has behind it; 0 where it cannot go on from what is there."""
        state, marker = self._folder(training) / _STATE, self._folder(training) / _MARKER
        # One that was saved at other steps cannot be taken up.
        if not state.is_file() or read_sealed(marker) != self._marker(training):
            return 0
        done = int(read_checkpoint(state)["trainer"]["iteration"])
        return done if done <= self.num_steps(cell) else 0

    def train_generator(self, training: Training, cell: Setting, images: TrainingSet, autoencoder: Path) -> Path:
        """Train a generator up to a cell, from where its training stands.

        Args:
            training: The training to which the cell belongs.
            cell: The cell whose epochs are to be reached.
            images: Images of the training.
            autoencoder: Checkpoint of the autoencoder.

        Returns:
            The generator's checkpoint, of averaged weights.
        """
        if cell.generator != "diffusion":
            return self._train_prior_generator(training, cell, images)
        folder, done, wanted = self._folder(training), self.steps_done(training, cell), self.num_steps(cell)
        if done == wanted:
            return folder / "diffusion.pt"
        if done == 0:
            shutil.rmtree(folder, ignore_errors=True)
        ensure_writable(folder)
        write_sealed(folder / _MARKER, self._marker(training))
        interval = self._marker(training)["steps_between_checkpoints"]
        overrides = {
            **self._generator_overrides(cell, autoencoder),
            "dataset_dir": as_literal(images.csv),
            "duplication": as_literal(images.csv),
            "output_dir": as_literal(folder),
            # A training that goes on must not see the noise of its first steps again.
            "seed": self.options.seed + 1_000_003 * (training.replicate + 1) + done,
            "augmentation": cell.augmentation,
            "diffusion_iterations_per_epoch": interval,
            "diffusion_epochs": wanted // interval,
            "val_interval": 0,
        }
        run_config(GENERATOR_BUNDLE, "train_diffusion", self.options.generator_settings, overrides)
        return folder / "diffusion.pt"

    def draw(self, training: Training, cell: Setting, generator: Path, autoencoder: Path) -> Tensor:
        """Draw a cell's samples; in all cells of a replicate, sample i comes of the same noise.

        Args:
            training: The training to which the cell belongs.
            cell: Cell of the grid.
            generator: Checkpoint of the generator.
            autoencoder: Checkpoint of the autoencoder.

        Returns:
            ``(N, 1, H, W)`` in [0, 1], of 8 bits.
        """
        folder = self.options.output_dir / "cells" / f"{cell.file(training.replicate)}_samples"
        if _generator_of(folder) not in ("", hashlib.sha256(generator.read_bytes()).hexdigest()):
            shutil.rmtree(folder)  # of a training that was begun anew
        if cell.generator != "diffusion":
            return self._draw_from_prior(training, cell, generator, folder)
        overrides = {
            **self._generator_overrides(cell, autoencoder),
            "output_dir": as_literal(self._folder(training)),
            "samples_dir": as_literal(folder),
            "diffusion_checkpoint": as_literal(generator),
            "num_images": self.options.num_samples,
            "sampling_seed": _SAMPLING_SEEDS * (training.replicate + 1),
        }
        run_config(GENERATOR_BUNDLE, "inference", self.options.generator_settings, overrides)
        return self._read_samples(folder)

    def _read_samples(self, folder: Path) -> Tensor:
        files = [folder / f"{index:06d}.png" for index in range(self.options.num_samples)]
        return torch.stack([load_slice({"image": str(file)}) for file in files])

    def _train_prior_generator(self, training: Training, cell: Setting, images: TrainingSet) -> Path:
        """Train a VAE or a GAN from its first step to a cell: it takes minutes, and is not taken up."""
        wanted = self.num_steps(cell)
        folder, interval = self._folder(training) / f"steps{wanted:06d}", checkpoint_interval([wanted])
        path = folder / "generator.pt"
        if path.is_file():
            return path
        ensure_writable(folder)
        overrides = {
            **self._prior_overrides(),
            "dataset_dir": as_literal(images.csv),
            "duplication": as_literal(images.csv),
            "validation_dir": as_literal(self.options.output_dir / HOLDOUT_CSV),
            "output_dir": as_literal(folder),
            "seed": self.options.seed + 1_000_003 * (training.replicate + 1),
            "augmentation": cell.augmentation,
            "batch_size": self.batch_size,
            "steps_per_epoch": interval,
            "max_epochs": wanted // interval,
        }
        run_config(STUDY_BUNDLE, f"train_{cell.generator}", (), overrides)
        return path

    def _draw_from_prior(self, training: Training, cell: Setting, generator: Path, folder: Path) -> Tensor:
        """Draw a cell's samples, each from the latent of its own seed."""
        network = self.build_prior_generator(cell.generator).to(self.options.device)
        first = _SAMPLING_SEEDS * (training.replicate + 1)
        digest = hashlib.sha256(generator.read_bytes()).hexdigest()
        samples = SampleFolder(folder, digest, num_inference_steps=1, seed=first)
        missing = samples.missing(range(self.options.num_samples))
        if missing:
            drawn = draw_from_prior(network, generator, [first + index for index in missing])
            for index, image in zip(missing, drawn, strict=True):
                samples.write(image, index)
        return self._read_samples(folder)

    def build_prior_generator(self, generator: str) -> Any:
        """Build the network of a ``vae`` or a ``gan``, with random weights."""
        parser = parse_config(STUDY_BUNDLE, f"train_{generator}", (), self._prior_overrides())
        return parser.get_parsed_content("network_def")

    def _prior_overrides(self) -> dict[str, Any]:
        return {
            "image_size": list(self.options.image_size),
            "device": f"$torch.device('{self.options.device}')",
        }

    def finish(self, training: Training) -> None:
        """Remove what only going on with a training would need: four times the size of its generator."""
        for name in (_STATE, "diffusion_last.pt"):
            (self._folder(training) / name).unlink(missing_ok=True)

    def build(self, part: str, **overrides: Any) -> Any:
        """Build a part of the generator's training, such as ``diffusion_def``, without images."""
        overrides = {"context_size": None, "image_size": list(self.options.image_size), **overrides}
        parser = parse_config(GENERATOR_BUNDLE, "train_diffusion", self.options.generator_settings, overrides)
        return parser.get_parsed_content(part)

    def _generator_overrides(self, cell: Setting | None = None, autoencoder: Path | None = None) -> dict[str, Any]:
        overrides = {
            "phantom": None,
            "validation_dir": as_literal(self.options.output_dir / HOLDOUT_CSV),
            "duplication": "none",
            "conditioning": "none",
            "image_size": list(self.options.image_size),
            "device": f"$torch.device('{self.options.device}')",
        }
        if cell is None:
            return overrides
        return {
            **overrides,
            "autoencoder_checkpoint": as_literal(autoencoder),
            "diffusion_channels": self.channels(cell.width),
        }

    def _folder(self, training: Training) -> Path:
        return self.options.output_dir / "trainings" / training.name

    def _marker(self, training: Training) -> dict[str, int]:
        return {"steps_between_checkpoints": checkpoint_interval([self.num_steps(cell) for cell in training.cells])}


def _generator_of(folder: Path) -> str:
    """Hash of the generator that drew a folder's samples; empty where there are none."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return ""
    with manifest.open(newline="", encoding="utf-8") as file:
        return next((row["generator_sha256"] or "cut short" for row in csv.DictReader(file)), "")
