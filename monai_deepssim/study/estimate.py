"""How long a study will take on this machine, from a few timed steps of its own networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from monai_deepssim.study.grid import Setting, Training
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.trainings import GENERATOR_BUNDLE, StudyTrainings
from monai_deepssim.study.workflows import parse_config

__all__ = ["estimate_study"]

# The autoencoder's training has a discriminator, a patch loss and validations beside its own step.
_AUTOENCODER_OVERHEAD = 1.6
# To list, load and encode images, to build networks and to write files, in seconds.
_PER_TRAINING, _PER_CELL = 6.0, 3.0
# To embed an image, and to align a pair of images, in seconds.
_PER_EMBEDDING, _PER_ALIGNMENT = 0.015, 0.006
_TIMED_STEPS = 3


def estimate_study(
    options: StudyOptions, trainings: StudyTrainings, missing: Sequence[tuple[Training, list[Setting]]], num_pool: int
) -> str:
    """Time a few steps of each network, and add up.

    Args:
        options: Checked options.
        trainings: Trainings of the study.
        missing: Trainings with those of their cells that are not known yet.
        num_pool: Number of images in the pool.

    Returns:
        A sentence for the terminal; a rough estimate on a machine that is busy.
    """
    image = torch.rand(trainings.batch_size, 1, *options.image_size, device=options.device)
    autoencoder = trainings.build("autoencoder_def").to(options.device)
    encoding = _time(lambda: autoencoder.encode(image))
    parser = parse_config(GENERATOR_BUNDLE, "inference", options.generator_settings, {})
    judging = (options.num_samples + options.num_holdout / 2) * (2 * _PER_EMBEDDING + options.top_k * _PER_ALIGNMENT)
    num_batches = options.num_samples / trainings.batch_size * parser["num_inference_steps"]
    kinds = {(cells[-1].generator, cells[-1].width) for _, cells in missing}
    times = {kind: _time_generator(trainings, *kind, options) for kind in kinds}
    num_steps, training_seconds, measuring_seconds = 0, 0.0, 0.0
    for training, cells in missing:
        step, call = times[cells[-1].generator, cells[-1].width]
        steps_left = trainings.num_steps(cells[-1]) - trainings.steps_done(training, cells[-1])
        num_steps += steps_left
        encodes = cells[-1].augmentation and cells[-1].generator == "diffusion"
        training_seconds += _PER_TRAINING + steps_left * (step + (encoding if encodes else 0))
        measuring_seconds += len(cells) * (_PER_CELL + judging + num_batches * call)
    preparing_seconds = _estimate_preparation(options, trainings, autoencoder, num_pool)
    total = (preparing_seconds + training_seconds + measuring_seconds) / 60
    return (
        f"About {total:.0f} minutes on this machine: {preparing_seconds / 60:.0f} to prepare, "
        f"{training_seconds / 60:.0f} for {len(missing)} trainings ({num_steps:,} steps), "
        f"{measuring_seconds / 60:.0f} to draw and judge samples."
    )


def _estimate_preparation(
    options: StudyOptions, trainings: StudyTrainings, autoencoder: nn.Module, num_pool: int
) -> float:
    seconds = 0.0
    if trainings.needs("autoencoder"):
        settings = parse_config(GENERATOR_BUNDLE, "train_autoencoder", options.generator_settings, {})
        batch_size = settings["autoencoder_batch_size"]
        images = torch.rand(batch_size, 1, *options.image_size, device=options.device)
        steps = settings["autoencoder_epochs"] * math.ceil(num_pool / batch_size)
        step = _time(lambda: autoencoder(images)[0].square().mean().backward())
        seconds += _AUTOENCODER_OVERHEAD * steps * step
    if trainings.needs("copy_detector"):
        parser = parse_config("copy_detector", "train", options.copy_detector_settings, {})
        network = parser.get_parsed_content("network_def").to(options.device)
        batch_size = trainings.copy_detector_batch_size(num_pool)
        images = torch.rand(2 * batch_size, 1, *options.image_size, device=options.device)
        steps = parser["max_epochs"] * max(1, int(num_pool * (1 - parser["validation_fraction"])) // batch_size)
        seconds += steps * _time(lambda: network(images).square().mean().backward())
    return seconds


def _time_generator(
    trainings: StudyTrainings, generator: str, width: int, options: StudyOptions
) -> tuple[float, float]:
    """Seconds of a step of a training, and of one of the calls in which samples are drawn."""
    if generator == "diffusion":
        return _time_unet(trainings, width, options.device)
    network = trainings.build_prior_generator(generator).to(options.device)
    latents = torch.randn(trainings.batch_size, network.latent_size, device=options.device)
    step = _time(lambda: network.decode(latents).square().mean().backward())
    # The other half of the network, an encoder or a discriminator; one call draws, where diffusion needs many.
    return 3 * step, 0.0


def _time_unet(trainings: StudyTrainings, width: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a step of the training, and of a call of the network without gradients."""
    channels = trainings.channels(width)
    network = trainings.build("diffusion_def", diffusion_channels=channels).to(device)
    shape = trainings.build("latent_shapes", diffusion_channels=channels).diffusion
    latents = torch.randn(trainings.batch_size, *shape, device=device)
    timesteps = torch.zeros(trainings.batch_size, dtype=torch.long, device=device)
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
