"""The files of a trained generator: its autoencoder, and its diffusion model with what sampling needs to know."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer
from torch import nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, make_folder
from monai_deepssim.generators.conditioning import VariableScaling
from monai_deepssim.generators.generative_checkpoints import load_generator_network
from monai_deepssim.generators.latent_inferer import FrozenAutoencoderInferer, state_dict_sha256
from monai_deepssim.networks import read_checkpoint, read_state_dict

__all__ = ["GeneratorCheckpoint", "TrainedGenerator", "load_autoencoder", "load_generator"]


class GeneratorCheckpoint:
    """Ignite handler that writes the generator, whole or not at all: averaged weights, scale factor, conditioning.

    Without an evaluator it writes after every epoch. With one it writes after the validations whose key metric is the
    best so far, unless that is infinite: a generator that copies too much is not written. Where no validation took
    place it writes at the end. To be named after the ValidationHandler. In a distributed training rank 0 writes.

    Args:
        path: path of the file to write: a dictionary with ``network``, ``scale_factor``, ``context_size``, ``scaling``
            (``None`` or ``columns``, ``minimum`` and ``maximum``), ``autoencoder_sha256`` and ``epoch``, which loads
            with ``weights_only=True``.
        network: network whose weights are written: the ``ema_model``.
        inferer: holds the scale factor.
        context_size: numbers in the context of an image, 0 for an unconditional generator.
        scaling: how variables were brought to [0, 1].
        evaluator: the MONAI evaluator of the validation.
        last_path: path of a file for the generator at the end of the training, whatever the validations said; ``None``
            for none.

    Example:
        >>> GeneratorCheckpoint("training/diffusion.pt", nn.Linear(2, 1), inferer=None).path.name
        'diffusion.pt'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        inferer: FrozenAutoencoderInferer,
        context_size: int = 0,
        scaling: VariableScaling | None = None,
        evaluator: Evaluator | None = None,
        last_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.last_path = None if last_path is None else Path(last_path)
        self.network = network
        self.inferer = inferer
        self.context_size = context_size
        self.scaling = scaling
        self.evaluator = evaluator

    def attach(self, engine: Trainer) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._at_the_end)

    def _after_epoch(self, engine: Engine) -> None:
        if self.evaluator is not None:
            best = self.evaluator.state
            if best.best_metric_epoch != engine.state.epoch or not math.isfinite(best.best_metric):
                return
        self._write(engine, self.path)

    def _at_the_end(self, engine: Engine) -> None:
        if self.last_path is not None:
            self._write(engine, self.last_path)
        if self.evaluator is None:
            return
        best = self.evaluator.state
        if best.best_metric_epoch < 1:
            self._write(engine, self.path)
        elif not math.isfinite(best.best_metric):
            engine.logger.warning(
                f"{self.path} was not written, since in no validation the key metric was finite: too many of the "
                "images were copies, or they had no finite pixels. More training images, augmentation or a smaller "
                "network lower the share of copies, and a higher max_copy_fraction accepts it; a lower learning rate "
                "keeps a training from diverging."
            )

    def _write(self, engine: Engine, path: Path) -> None:
        if idist.get_rank() > 0:
            return
        content = {
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "scale_factor": float(self.inferer.scale_factor),
            "context_size": self.context_size,
            "scaling": None if self.scaling is None else asdict(self.scaling),
            "autoencoder_sha256": self.inferer.autoencoder_sha256,
            "epoch": engine.state.epoch,
        }
        make_folder(path.parent)
        with atomic_file(path) as file:
            torch.save(content, file)


@dataclass(frozen=True)
class TrainedGenerator:
    """What :func:`load_generator` reads, but for the weights.

    Args:
        path: path of the checkpoint.
        scale_factor: scale factor of the latents.
        context_size: numbers in the context of an image, 0 for an unconditional generator.
        scaling: how variables were brought to [0, 1]; ``None`` unless it is conditioned on variables.
        autoencoder_sha256: hash of the autoencoder that it was trained with; empty where that is not known.
        sha256: hash of the file.

    Example:
        >>> TrainedGenerator("diffusion.pt", 0.5, 0, None, "", "").context_size
        0
    """

    path: str
    scale_factor: float
    context_size: int
    scaling: VariableScaling | None
    autoencoder_sha256: str
    sha256: str


def load_generator(
    path: str | os.PathLike[str], scale_factor: float | None = None, context_size: int | None = None
) -> TrainedGenerator:
    """Read what sampling needs to know of a trained diffusion model, with ``weights_only=True``.

    Args:
        path: path of a file that :class:`GeneratorCheckpoint` wrote, or of a state dict alone, which needs
            ``scale_factor``.
        scale_factor: scale factor in place of the file's.
        context_size: numbers in the context of an image, in place of the file's; of a state dict alone it is 0, an
            unconditional generator, unless it is given.

    Returns:
        The generator.

    Raises:
        UnusableInputError: there is no such file, it is no checkpoint, or its scale factor is not known.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"network": nn.Linear(2, 1).state_dict(), "scale_factor": 0.5}, f"{folder}/diffusion.pt")
        ...     load_generator(f"{folder}/diffusion.pt").scale_factor
        0.5
    """
    _check_trained(path, "diffusion model", "diffusion_checkpoint")
    read_state_dict(Path(path))  # says what is wrong with a file that holds no network
    content: Any = read_checkpoint(path)
    try:
        return _trained_generator(path, content, scale_factor, context_size)
    except (TypeError, ValueError, AttributeError) as error:
        raise UnusableInputError(
            f"{path}: what this file says of its generator cannot be read ({error}). Give a file of the training of a "
            "diffusion model."
        ) from error


def _trained_generator(
    path: str | os.PathLike[str], content: Any, scale_factor: float | None, context_size: int | None
) -> TrainedGenerator:
    known = scale_factor if scale_factor is not None else content.get("scale_factor")
    if known is None or not 0 < float(known) < math.inf:
        raise UnusableInputError(
            f"{path}: the file does not say by what the latents are scaled. Give scale_factor: one over the standard "
            "deviation of the latents that the model was trained on."
        )
    scaling = content.get("scaling")
    return TrainedGenerator(
        path=str(path),
        scale_factor=float(known),
        context_size=int(content.get("context_size", 0) if context_size is None else context_size),
        scaling=None if scaling is None else VariableScaling(**{key: tuple(value) for key, value in scaling.items()}),
        autoencoder_sha256=str(content.get("autoencoder_sha256", "")),
        sha256=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    )


def load_autoencoder(
    network: nn.Module,
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    generator: TrainedGenerator | None = None,
) -> nn.Module:
    """Load the weights of a trained autoencoder.

    Args:
        network: a network of the architecture that was trained, MONAI core's or monai-generative's: see
            :func:`~monai_deepssim.generators.load_generator_network`.
        path: path of its state dict.
        device: where it is to run.
        generator: the diffusion model that it is used with.

    Returns:
        The network, in eval mode.

    Raises:
        UnusableInputError: there is no such file, its weights are of another architecture, or the diffusion model was
            trained with another autoencoder.

    Example:
        >>> load_autoencoder(nn.Linear(2, 1), "missing.pt")
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: missing.pt: the file does not exist. Train the autoencoder first, or
        name its file as autoencoder_checkpoint.
    """
    _check_trained(path, "autoencoder", "autoencoder_checkpoint")
    filled = load_generator_network(network, path)
    if generator is not None and generator.autoencoder_sha256 not in ("", state_dict_sha256(filled)):
        raise UnusableInputError(
            f"{generator.path}: the diffusion model was trained with another autoencoder than {path}. Give the one "
            "that it was trained with, as autoencoder_checkpoint."
        )
    return filled.to(device)


def _check_trained(path: str | os.PathLike[str], network: str, option: str) -> None:
    if not Path(path).is_file():
        raise UnusableInputError(
            f"{path}: the file does not exist. Train the {network} first, or name its file as {option}."
        )
