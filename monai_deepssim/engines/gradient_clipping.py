"""Gradient clipping for MONAI's trainers, which have no handler for it."""

from __future__ import annotations

import torch
from monai.engines import IterationEvents, SupervisedTrainer

__all__ = ["GradientClipping"]


class GradientClipping:
    """Ignite handler that scales the gradients down when their overall norm exceeds a limit.

    Args:
        network: whose gradients are clipped, between the backward pass and the optimizer's step.
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

    def attach(self, engine: SupervisedTrainer) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        # Under mixed precision the gradients are still multiplied by the loss scale; the limit is meant without it.
        if engine.amp and engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
