"""How long a study will take on this machine, from a few timed steps of its own networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from monai_deepssim.study.grid import Setting, Training
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.trainings import StudyTrainings
from monai_deepssim.study.workflows import parse_config

__all__ = ["Estimate", "estimate_study"]

# The autoencoder's training has a discriminator, a patch loss and validations beside its own step.
_AUTOENCODER_OVERHEAD = 1.6
# To list, load and encode images, to build networks and to write files, in seconds.
_PER_TRAINING, _PER_CELL = 6.0, 3.0
# To embed an image, and to align a pair of images, in seconds.
_PER_EMBEDDING, _PER_ALIGNMENT = 0.015, 0.006
_TIMED_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """Seconds of what is left to do.

    Attributes:
        preparation: the autoencoder and the copy detector.
        training: of the generators.
        measuring: drawing and judging samples.
        num_trainings: that are left.
        num_steps: of these.
    """

    preparation: float
    training: float
    measuring: float
    num_trainings: int
    num_steps: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.preparation + self.training + self.measuring

    def in_words(self) -> str:
        """A line for the terminal.

        Example:
            >>> print(Estimate(200.0, 3000.0, 400.0, 24, 48000).in_words())
            About 60 minutes on this machine: 3 to prepare, 50 for 24 trainings (48,000 steps), 7 to draw and judge
            samples.
        """
        minutes = [seconds / 60 for seconds in (self.seconds, self.preparation, self.training, self.measuring)]
        return (
            f"About {minutes[0]:.0f} minutes on this machine: {minutes[1]:.0f} to prepare, {minutes[2]:.0f} for "
            f"{self.num_trainings} trainings ({self.num_steps:,} steps), {minutes[3]:.0f} to draw and judge samples."
        )


def estimate_study(
    options: StudyOptions, trainings: StudyTrainings, missing: list[tuple[Training, list[Setting]]], num_pool: int
) -> Estimate:
    """Time a few steps of each network, and add up.

    Args:
        options: of the study.
        trainings: of the study.
        missing: trainings with those of their cells that are not known yet.
        num_pool: images of the pool.

    Returns:
        The estimate; a rough one on a machine that is busy.
    """
    image = torch.rand(trainings.batch_size, 1, *options.image_size, device=options.device)
    autoencoder = trainings.build("autoencoder_def", {}).to(options.device)
    encoding = _time(lambda: autoencoder.encode(image))
    steps_left = {
        training: max(0, trainings.num_steps(cells[-1]) - trainings.steps_done(training)) for training, cells in missing
    }
    step, drawing = {}, {}
    for width in {cells[-1].width for _, cells in missing}:
        step[width], drawing[width] = _time_unet(options, trainings, width)
    training_seconds = sum(
        left * (step[training.cells[0].width] + (encoding if training.cells[0].augmentation else 0)) + _PER_TRAINING
        for training, left in steps_left.items()
    )
    inference_steps = parse_config("brain_mri_ldm", "inference", options.generator_settings, {})["num_inference_steps"]
    judging = (options.num_samples + options.num_holdout / 2) * (2 * _PER_EMBEDDING + options.top_k * _PER_ALIGNMENT)
    measuring = sum(
        _PER_CELL + judging + options.num_samples / trainings.batch_size * inference_steps * drawing[cell.width]
        for _, cells in missing
        for cell in cells
    )
    return Estimate(
        preparation=_estimate_preparation(options, trainings, autoencoder, num_pool),
        training=training_seconds,
        measuring=measuring,
        num_trainings=len(missing),
        num_steps=sum(steps_left.values()),
    )


def _estimate_preparation(
    options: StudyOptions, trainings: StudyTrainings, autoencoder: nn.Module, num_pool: int
) -> float:
    seconds = 0.0
    folder = options.output_dir
    if options.autoencoder_checkpoint is None and not (folder / "autoencoder" / "finished").is_file():
        settings = parse_config("brain_mri_ldm", "train_autoencoder", options.generator_settings, {})
        batch_size = settings["autoencoder_batch_size"]
        images = torch.rand(batch_size, 1, *options.image_size, device=options.device)
        steps = settings["autoencoder_epochs"] * math.ceil(num_pool / batch_size)
        step = _time(lambda: autoencoder(images)[0].square().mean().backward())
        seconds += _AUTOENCODER_OVERHEAD * steps * step
    if options.copy_detector_checkpoint is None and not (folder / "copy_detector" / "finished").is_file():
        parser = parse_config("copy_detector", "train", options.copy_detector_settings, {})
        batch_size, network = (
            min(parser["images_per_batch"], max(2, num_pool // 2)),
            parser.get_parsed_content("network_def").to(options.device),
        )
        images = torch.rand(2 * batch_size, 1, *options.image_size, device=options.device)
        steps = parser["max_epochs"] * max(1, int(num_pool * (1 - parser["validation_fraction"])) // batch_size)
        seconds += steps * _time(lambda: network(images).square().mean().backward())
    return seconds


def _time_unet(options: StudyOptions, trainings: StudyTrainings, width: int) -> tuple[float, float]:
    """Seconds of a step of the training, and of a call of the network without gradients."""
    overrides = {"diffusion_channels": trainings.channels(width), "image_size": list(options.image_size)}
    network = trainings.build("diffusion_def", overrides).to(options.device)
    shape = trainings.build("latent_shapes", overrides).diffusion
    latents = torch.randn(trainings.batch_size, *shape, device=options.device)
    timesteps = torch.zeros(trainings.batch_size, dtype=torch.long, device=options.device)
    optimizer = torch.optim.AdamW(network.parameters())

    def train() -> None:
        optimizer.zero_grad()
        network(latents, timesteps).square().mean().backward()
        optimizer.step()

    @torch.no_grad()
    def call() -> None:
        network(latents, timesteps)

    return _time(train), _time(call)


def _time(work: Callable[[], object]) -> float:
    """The shortest of a few runs, after one that warms up."""

    def work_to_the_end() -> None:
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # a GPU has only been told what to do

    work_to_the_end()
    seconds = []
    for _ in range(_TIMED_STEPS):
        start = time.perf_counter()
        work_to_the_end()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
