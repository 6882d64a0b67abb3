"""Gradient clipping for MONAI's trainers, which have no handler for it."""

from __future__ import annotations

import torch
from monai.engines import AdversarialTrainer, IterationEvents, SupervisedTrainer
from monai.utils import AdversarialIterationEvents

__all__ = ["GradientClipping"]


class GradientClipping:
    """Ignite handler that scales the gradients down when their overall norm exceeds a limit.

    Args:
        network: whose gradients are clipped, between the backward pass and the optimizer's step. Of an
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
