"""Handlers that MONAI's trainers lack: gradients are clipped, and a head's normalisation is frozen."""

from __future__ import annotations

import torch
from ignite.engine import Events
from monai.engines import AdversarialTrainer, IterationEvents, SupervisedTrainer, Trainer
from monai.utils import AdversarialIterationEvents

from monai_deepssim.networks import DeepSSIMEmbedder

__all__ = ["GradientClipping", "NormFreezing"]


class GradientClipping:
    """Ignite handler that scales the gradients down when their overall norm exceeds a limit.

    Args:
        network: network whose gradients are clipped, between the backward pass and the optimizer's step. Of an
            ``AdversarialTrainer`` this is the generator; between the backward pass and the step of the discriminator
            MONAI fires no event.
        max_norm: the limit of the Euclidean norm over all parameters; DeepSSIM was trained with 1.0.

    Raises:
        ValueError: when the limit is not positive.

    Example:
        >>> clipping = GradientClipping(torch.nn.Linear(2, 1), max_norm=1.0)
        >>> clipping.max_norm
        1.0
    """

    def __init__(self, network: torch.nn.Module, max_norm: float = 1.0) -> None:
        if not max_norm > 0:
            raise ValueError(f"got max_norm={max_norm}, want a positive number")
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: SupervisedTrainer | AdversarialTrainer) -> None:
        """Attach to a MONAI trainer."""
        if isinstance(engine, AdversarialTrainer):
            # It accepts handlers of BACKWARD_COMPLETED and never calls them, and it registers its own events only after
            # it has attached its handlers.
            engine.register_events(*AdversarialIterationEvents)
            engine.add_event_handler(AdversarialIterationEvents.GENERATOR_BACKWARD_COMPLETED, self)
        else:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer | AdversarialTrainer) -> None:
        if isinstance(engine, AdversarialTrainer):
            scaler, optimizer = engine.state.g_scaler, engine.state.g_optimizer
        else:
            scaler, optimizer = engine.scaler, engine.optimizer
        # Under mixed precision the gradients are still multiplied by the loss scale; the limit is meant without it.
        if engine.amp and scaler is not None:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class NormFreezing:
    """Ignite handler that freezes the normalisation of an embedder's head from an epoch on.

    See :meth:`~monai_deepssim.networks.DeepSSIMEmbedder.freeze_norm` for why. A training that is taken up later than
    that epoch goes on frozen.

    Args:
        network: the embedder.
        epoch: the first epoch, counted from 1, that is trained with the norm frozen; ``None`` for none, as in the
            published training.

    Raises:
        ValueError: when the epoch is below 1.

    Example:
        >>> NormFreezing(DeepSSIMEmbedder(backbone="convnext_atto"), epoch=6).epoch
        6
    """

    def __init__(self, network: DeepSSIMEmbedder, epoch: int | None) -> None:
        if epoch is not None and epoch < 1:
            raise ValueError(f"got epoch={epoch}, want the number of an epoch, from 1 on, or None")
        self.network = network
        self.epoch = epoch

    def attach(self, engine: Trainer) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Trainer) -> None:
        if self.epoch is not None and engine.state.epoch >= self.epoch:
            self.network.freeze_norm()
