"""MONAI's metric handler, for metrics whose network wants a whole batch and for ranks without data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor

__all__ = ["UnevenSharesMetricHandler"]


class UnevenSharesMetricHandler(IgniteMetricHandler):
    """Attaches a cumulative metric to a MONAI engine, in two points other than MONAI's own handler does.

    A decollated batch reaches the metric as one batch again: ignite would call the metric, and so its network, once an
    image. Images of different sizes still come one by one.

    A rank whose data loader is empty takes part in the sync: MONAI skips the run of an engine with an empty loader, and
    the other ranks would wait for it. Here its engine runs an epoch without batches. That helps where the metric can
    sync without items, as those of this package can.

    Args:
        metric_fn: the metric.
        output_transform: makes ``(y_pred, y)`` of ``engine.state.output``; each is a batch, a list of images, or
            ``None``.
        save_details: whether ``engine.state.metric_details`` gets the score of every image.

    Example:
        >>> from monai.handlers import from_engine
        >>> from monai_deepssim.metrics import SSIMMatchingMetric
        >>> transform = from_engine(["pred", "label"])
        >>> handler = UnevenSharesMetricHandler(SSIMMatchingMetric(), output_transform=transform, save_details=False)
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handler.attach(engine, "ssim_matching")
        >>> pair = [{"pred": torch.ones(8), "label": torch.rand(1, 16, 16)} for _ in range(2)]
        >>> bool(engine.run([pair]).metrics["ssim_matching"] > 0)
        True
    """

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        output_transform: Callable = lambda x: x,
        save_details: bool = True,
    ) -> None:
        super().__init__(
            metric_fn=metric_fn, output_transform=partial(_in_one_batch, output_transform), save_details=save_details
        )

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]
        """Attach the metric to an engine.

        Args:
            engine: MONAI's trainer or evaluator, or any engine of ignite.
            name: name of the metric in ``engine.state.metrics``.
        """
        super().attach(engine, name)
        if engine.state.epoch_length == 0 and idist.get_world_size() > 1:
            _run_without_batches(engine)


class _NoBatches:
    """Has no length, as ignite refuses data of length 0."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _run_without_batches(engine: Engine) -> None:
    if isinstance(engine.data_loader, _NoBatches):  # type: ignore[attr-defined]
        return  # another handler of this engine saw to it
    engine.data_loader = _NoBatches()  # type: ignore[attr-defined]

    def forget_epoch_length(engine: Engine) -> None:
        # After an epoch ignite has counted 0 batches, upon which MONAI would skip the next run.
        engine.state.epoch_length = None

    forget_epoch_length(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, forget_epoch_length)


def _in_one_batch(output_transform: Callable, output: Any) -> Any:
    transformed = output_transform(output)
    return tuple(map(_stack, transformed)) if isinstance(transformed, (list, tuple)) else transformed


def _stack(images: Any) -> Any:
    """A batch of a list of tensors of one shape; anything else stays as it is."""
    if not isinstance(images, Sequence) or not images or not all(isinstance(image, torch.Tensor) for image in images):
        return images
    if len({image.shape for image in images}) > 1:
        return images
    return torch.stack([convert_to_tensor(image, track_meta=False) for image in images])
