"""The copy fraction of generated images, while an engine runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor, nn

from monai_deepssim.handlers.uneven_shares import UnevenSharesMetricHandler
from monai_deepssim.metrics import ALIGNED_SSIM_THRESHOLDS, MemorizationMetric

__all__ = ["MemorizationHandler", "predictions_only"]


def predictions_only(output: Any) -> tuple[Any, None]:
    """Take the predictions out of a MONAI engine's output, for metrics that have no label to compare with.

    ``from_engine(["pred"])`` gives one item where MONAI's metric handlers want two: it fails, except for a decollated
    batch of two images, of which the first is then silently compared with the second.

    Args:
        output: the engine's output: a dictionary with ``pred``, or a list of such dictionaries when decollated.

    Returns:
        ``(pred, None)``; ``pred`` is a batch, or a list of images.

    Example:
        >>> predictions_only([{"pred": torch.zeros(1)}, {"pred": torch.ones(1)}])
        ([tensor([0.]), tensor([1.])], None)
    """
    if isinstance(output, Mapping):
        return output[CommonKeys.PRED], None
    return [item[CommonKeys.PRED] for item in output], None


class MemorizationHandler(UnevenSharesMetricHandler):
    """Computes the copy fraction of the images that an engine predicts.

    The training images are embedded when the engine first runs, on every rank its share. Used as MONAI's ``MeanDice``
    is, as a key metric or an additional one, decollated or not. Ranks may have uneven shares of training and of
    synthetic images, or none. As a key metric it needs ``metric_cmp_fn=lambda current, best: current < best`` in the
    engine and ``key_metric_negative_sign=True`` in the saver, as smaller is better. A generator that makes no brains
    copies none either: look at a measure of fidelity beside it.

    Args:
        embedder: as for :class:`~monai_deepssim.metrics.MemorizationMetric`.
        training_loader: batches of the training images ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an
            ``image``; without random augmentation. ``None`` when ``handler.metric_fn`` is fitted otherwise.
        threshold: as for :class:`~monai_deepssim.metrics.MemorizationMetric`.
        verify: the same.
        device: the same.
        top_k: the same.
        verify_threshold: the same.
        allow_torchscript: the same.
        cache_path: as for :meth:`~monai_deepssim.metrics.MemorizationMetric.fit`.
        output_transform: makes ``(y_pred, None)`` of ``engine.state.output``.
        save_details: whether ``engine.state.metric_details`` gets the score of every image.

    Example:
        >>> training_images = torch.rand(4, 1, 32, 32)
        >>> embedder = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 64))
        >>> handler = MemorizationHandler(embedder, training_loader=training_images.split(2))
        >>> engine = Engine(lambda engine, images: {"pred": images})
        >>> handler.attach(engine, "copy_fraction")
        >>> engine.run([torch.rand(3, 1, 32, 32), training_images[:1]]).metrics["copy_fraction"]
        0.25
    """

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        training_loader: Iterable[Tensor | Mapping[str, Any]] | None,
        threshold: float = 0.85,
        verify: bool = False,
        device: torch.device | str | None = None,
        *,
        top_k: int = 10,
        verify_threshold: float = ALIGNED_SSIM_THRESHOLDS[1],
        allow_torchscript: bool = False,
        cache_path: str | os.PathLike[str] | None = None,
        output_transform: Callable = predictions_only,
        save_details: bool = True,
    ) -> None:
        metric_fn = MemorizationMetric(
            embedder,
            threshold,
            verify,
            device,
            top_k=top_k,
            verify_threshold=verify_threshold,
            allow_torchscript=allow_torchscript,
        )
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=save_details)
        self._training_loader = training_loader
        self._cache_path = cache_path

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]
        super().attach(engine, name)
        engine.add_event_handler(Events.STARTED, self._fit_once)

    def _fit_once(self) -> None:
        if self._training_loader is not None:
            self.metric_fn.fit(self._training_loader, cache_path=self._cache_path)  # type: ignore[attr-defined]
            self._training_loader = None
