"""The mean Memorization Index of generated images, while an engine runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_deepssim.handlers.memorization import predictions_only
from monai_deepssim.handlers.uneven_shares import UnevenSharesMetricHandler
from monai_deepssim.metrics import MeanMemorizationIndexMetric

__all__ = ["MemorizationIndexHandler"]


class MemorizationIndexHandler(UnevenSharesMetricHandler):
    """Computes the mean Memorization Index of the images that an engine predicts.

    Whitening and null are fitted to the training images when the engine first runs, on every rank by its share. Used as
    MONAI's ``MeanDice`` is, as a key metric or an additional one, decollated or not. Ranks may have uneven shares of
    training and of synthetic images, or none. As a key metric, a mean index that is smaller is better
    (``metric_cmp_fn=lambda current, best: current < best`` in the engine, ``key_metric_negative_sign=True`` in the
    saver); a mean ONI that is larger is.

    Args:
        embedder: as for :class:`~monai_deepssim.metrics.MemorizationIndexMetric`.
        training_loader: batches of the training images ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an
            ``image``; without random augmentation. ``None`` when ``handler.metric_fn`` is fitted otherwise.
        summary: as for :class:`~monai_deepssim.metrics.MeanMemorizationIndexMetric`: ``"mi"``, ``"oni"`` or
            ``"copy_fraction"``.
        device: where images are represented.
        output_transform: makes ``(y_pred, None)`` of ``engine.state.output``.
        save_details: whether ``engine.state.metric_details`` gets index and nearest training image of every image.
        kwargs: further arguments of :class:`~monai_deepssim.metrics.MemorizationIndexMetric`, such as ``layers``.

    References:
        Deo et al., A Calibrated Memorization Index (MI) for Detecting Training Data Leakage in Generative MRI Models,
        arXiv 2602.13066.

    Example:
        >>> training_images = torch.rand(40, 1, 32, 32)
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 5))
        >>> handler = MemorizationIndexHandler(network, training_images.split(20), summary="oni", layers=["0", "2"])
        >>> engine = Engine(lambda engine, images: {"pred": images})
        >>> handler.attach(engine, "oni")
        >>> engine.run([training_images[:4], training_images[8:9]]).metrics["oni"] < -0.5
        True
    """

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        training_loader: Iterable[Tensor | Mapping[str, Any]] | None,
        summary: str = "mi",
        device: torch.device | str | None = None,
        *,
        output_transform: Callable = predictions_only,
        save_details: bool = True,
        **kwargs: Any,
    ) -> None:
        metric_fn = MeanMemorizationIndexMetric(embedder, summary, device=device, **kwargs)
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=save_details)
        self._training_loader = training_loader

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]
        super().attach(engine, name)
        engine.add_event_handler(Events.STARTED, self._fit_once)

    def _fit_once(self) -> None:
        if self._training_loader is not None:
            self.metric_fn.fit(self._training_loader)  # type: ignore[attr-defined]
            self._training_loader = None
