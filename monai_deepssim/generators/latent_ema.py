"""The moving average of a network's weights, with a warm-up that survives a kill."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

__all__ = ["WarmUpEMAHandler"]


class WarmUpEMAHandler(EMAHandler):
    r"""Ignite's EMAHandler, whose momentum comes down from near 1 with the number of iterations.

    .. math:: \lambda_t = \max\left(\lambda, \frac{9}{10 + t}\right)

    at iteration t, counted from 0, so that the average forgets the weights that the training started from, however
    short it is: at a constant momentum of 0.001, a third of them would be left after 1,000 iterations. The momentum
    depends on the trainer's iteration alone; ignite's own warm-up starts anew in a training that is taken up.

    Args:
        model: the network that is trained; of a DistributedDataParallel the module in it.
        momentum: share of the current weights in the average at each iteration, after the warm-up.

    Attributes:
        ema_model: the network with the averaged weights, in eval mode, on the device of ``model``.

    References:
        The same warm-up as of TensorFlow's ``ExponentialMovingAverage(num_updates=...)``.

    Example:
        >>> import torch
        >>> handler = WarmUpEMAHandler(torch.nn.Linear(2, 1), momentum=0.001)
        >>> handler.momentum_at(0), handler.momentum_at(90), handler.momentum_at(100_000)
        (0.9, 0.09, 0.001)
    """

    def __init__(self, model: Any, momentum: float = 0.001) -> None:
        super().__init__(model, momentum)
        # ignite copies the module as it is, with the gradients' switches on.
        self.ema_model.requires_grad_(False)

    def momentum_at(self, iteration: int) -> float:
        """Compute the momentum of an iteration, counted from 0."""
        return max(self.momentum, 9 / (10 + iteration))

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Attach to a trainer."""
        super().attach(engine, *args, **kwargs)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_momentum)

    def _set_momentum(self, engine: Engine) -> None:
        engine.state.ema_momentum = self.momentum_at(engine.state.iteration - 1)  # type: ignore[attr-defined]
