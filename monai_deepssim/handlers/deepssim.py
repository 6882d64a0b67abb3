"""DeepSSIM of predictions and labels, while an engine runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.utils import MetricReduction
from torch import nn

from monai_deepssim.handlers.uneven_shares import UnevenSharesMetricHandler
from monai_deepssim.metrics import DeepSSIMMetric

__all__ = ["DeepSSIMHandler"]


class DeepSSIMHandler(UnevenSharesMetricHandler):
    """Computes DeepSSIM between predicted images and their labels, such as reconstructions and originals.

    Used as MONAI's ``MeanDice`` is, as a key metric or an additional one, decollated or not. Ranks may have uneven
    shares, or none.

    Args:
        embedder: takes standardised ``(N, 1, H, W)`` images and returns ``(N, D)`` embeddings.
        reduction: as for :class:`~monai_deepssim.metrics.DeepSSIMMetric`.
        device: where the embedder is moved to; it stays where it is by default.
        output_transform: makes ``(y_pred, y)`` of ``engine.state.output``: batches ``(B, 1, H, W)`` in [0, 1], or lists
            of ``(1, H, W)``. For MONAI's evaluators it is ``from_engine(["pred", "label"])``.
        save_details: whether ``engine.state.metric_details`` gets the score of every pair.

    Example:
        >>> from ignite.engine import Engine
        >>> from monai.handlers import from_engine
        >>> embedder = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 8))
        >>> handler = DeepSSIMHandler(embedder, output_transform=from_engine(["pred", "label"]))
        >>> engine = Engine(lambda engine, images: {"pred": images, "label": images})
        >>> handler.attach(engine, "deepssim")
        >>> round(engine.run([torch.rand(2, 1, 32, 32)]).metrics["deepssim"], 4)
        1.0
    """

    def __init__(
        self,
        embedder: nn.Module,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        device: torch.device | str | None = None,
        output_transform: Callable = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric_fn = DeepSSIMMetric(embedder, reduction=reduction, device=device)
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=save_details)
