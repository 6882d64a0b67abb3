"""Freezing of a network's normalisation in the course of a training."""

from __future__ import annotations

from ignite.engine import Events
from monai.engines import Trainer

from monai_deepssim.networks import DeepSSIMEmbedder

__all__ = ["NormFreezing"]


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
