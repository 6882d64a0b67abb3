"""What drawn images are measured by: distance to held-out images, and how much is copied, which may end a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric, MetricsLambda
from monai.engines import Evaluator, Trainer
from monai.utils import CommonKeys, convert_to_tensor
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators.sampling_features import ImageStatistics
from monai_deepssim.metrics import SetScoreMetric
from monai_deepssim.transforms import FitImageSize

__all__ = ["FIDUnlessCopied", "HeldOutFIDMetric", "StopWhenCopying", "fitted_predictions"]


class HeldOutFIDMetric(SetScoreMetric):
    """FID of drawn images to held-out ones, by features of one's choice, as a MONAI metric over batches and ranks.

    The number depends on the features, on the number of drawn images and on the held-out ones: compare it within one
    training, and name the features wherever it is shown. A generator whose images are not finite has infinite FID.

    Args:
        features: maps images ``(B, 1, H, W)`` in [0, 1] to ``(B, D)``; with a ``name``. Those of
            :class:`ImageStatistics`, each in a unit of its own, are taken in standard deviations of the held-out
            images, so that each counts alike.
        held_out_images: batches ``(B, 1, H, W)``, or dictionaries with such an ``image``.
        num_images: how many images will be drawn.
        device: where the features are computed.

    Raises:
        UnusableInputError: there are not more drawn or held-out images than features, so that FID would mean nothing.

    Example:
        >>> from monai_deepssim.generators import ImageStatistics
        >>> real = torch.rand(20, 1, 16, 16)
        >>> metric = HeldOutFIDMetric(ImageStatistics(), [real], num_images=20)
        >>> _ = metric(real)
        >>> bool(metric.aggregate() < 1e-4)
        True
        >>> HeldOutFIDMetric(ImageStatistics(), [real], num_images=8)
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: FID of the 15 features named statistics needs more than 15 images on
        either side, and 8 are drawn and 20 held out. Raise num_samples to 16 or more, choose fid_features of fewer
        dimensions, or switch the sampling validation off with val_interval 0.
    """

    def __init__(
        self,
        features: nn.Module,
        held_out_images: Iterable[Tensor | Mapping[str, Any]],
        num_images: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._features = features
        self._device = device
        rows = [self._represent(batch["image"] if isinstance(batch, Mapping) else batch) for batch in held_out_images]
        held_out = torch.cat(rows) if rows else torch.empty(0, 0)
        size = held_out.shape[1]
        if min(num_images, len(held_out)) <= size:
            repairs = []
            if num_images <= size:
                repairs.append(f"Raise num_samples to {size + 1} or more")
            if len(held_out) <= size:
                repairs.append(f"{'put' if repairs else 'Put'} {size + 1} or more images aside")
            raise UnusableInputError(
                f"FID of the {size} features named {features.name} needs more than {size} images on either side, and "
                f"{num_images} are drawn and {len(held_out)} held out. {', '.join(repairs)}, choose fid_features of "
                "fewer dimensions, or switch the sampling validation off with val_interval 0."
            )
        spread = held_out.std(0) if isinstance(features, ImageStatistics) else torch.ones(size)
        self._scale = 1 / spread.clamp(min=1e-6)
        super().__init__("fid", held_out * self._scale)

    @torch.no_grad()
    def _represent(self, images: Tensor) -> Tensor:
        plain = convert_to_tensor(images, dtype=torch.float32, track_meta=False, device=self._device)
        return self._features(plain).float().cpu()

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super()._compute_tensor(self._represent(y_pred) * self._scale)

    def _compute_list(self, y_pred: Any, y: Any = None) -> Tensor:  # type: ignore[override]
        return self._compute_tensor(torch.stack([convert_to_tensor(image, track_meta=False) for image in y_pred]))

    def aggregate(self) -> Tensor:
        """The FID of all images since ``reset()``, of all ranks.

        Returns:
            A scalar tensor; infinite when a feature, or the distance itself, is not finite, as NaN would never be
            replaced as the best of a training.
        """
        buffer = self.get_buffer()
        if buffer is not None and not buffer.isfinite().all():
            return torch.tensor(torch.inf)
        distance = super().aggregate()
        return distance if distance.isfinite() else torch.tensor(torch.inf)


class FIDUnlessCopied(MetricsLambda):
    """FID, or infinity when too much is copied: the key metric by which a generator is chosen; lower is better.

    FID alone improves when a generator copies its training images.

    Args:
        fid: an ignite metric, such as MONAI's handler over :class:`HeldOutFIDMetric`.
        copy_fraction: an ignite metric, such as :class:`~monai_deepssim.handlers.MemorizationHandler`.
        max_copy_fraction: copy fraction from which on a generator is rejected; ``None`` for no limit.

    Raises:
        UnusableInputError: the limit is not above 0 and up to 1. A limit of 0 would be reached by any generator.

    Example:
        >>> from ignite.metrics import Average
        >>> fid, copy_fraction = Average(), Average()
        >>> metrics = [FIDUnlessCopied(fid, copy_fraction, limit) for limit in (None, 0.5, 0.25)]
        >>> fid.update(3.0), copy_fraction.update(0.25)
        (None, None)
        >>> [metric.compute() for metric in metrics]
        [3.0, 3.0, inf]
    """

    def __init__(self, fid: Metric, copy_fraction: Metric, max_copy_fraction: float | None = None) -> None:
        check_max_copy_fraction(max_copy_fraction)

        def choose(fid: float, copy_fraction: float) -> float:
            too_much = max_copy_fraction is not None and float(copy_fraction) >= max_copy_fraction
            return math.inf if too_much else float(fid)

        super().__init__(choose, fid, copy_fraction)


def check_max_copy_fraction(limit: float | None) -> None:
    """Refuse a limit that every generator reaches, or none can.

    Raises:
        UnusableInputError: it is not above 0 and up to 1.
    """
    if limit is not None and not 0 < limit <= 1:
        raise UnusableInputError(
            f"max_copy_fraction is {limit}, wanted a share above 0 up to 1, such as 0.05; null for no limit. It "
            "is reached already by a generator that copies exactly so much."
        )


def fitted_predictions(image_size: Iterable[int]) -> Callable[[Any], tuple[Tensor, None]]:
    """Make the ``output_transform`` that hands predictions to an embedder in the size that it was trained on.

    Args:
        image_size: rows and columns that the embedder takes.

    Returns:
        A function from an engine's output, a dictionary or when decollated a list of them, to ``(pred, None)``.

    Example:
        >>> images, nothing = fitted_predictions((136, 112))({"pred": torch.rand(2, 1, 80, 64)})
        >>> images.shape, nothing
        (torch.Size([2, 1, 136, 112]), None)
    """
    fit = FitImageSize(list(image_size))

    def transform(output: Any) -> tuple[Tensor, None]:
        images = output[CommonKeys.PRED] if isinstance(output, Mapping) else [x[CommonKeys.PRED] for x in output]
        return torch.stack([fit(image) for image in images]), None

    return transform


class StopWhenCopying:
    """Ignite handler that ends a training when too much is copied in several validations running.

    It has a state, for :class:`~monai_deepssim.engines.ResumableCheckpoint`, so that validations before and after a
    kill count together, and a training that was ended stays ended.

    Args:
        evaluator: the MONAI evaluator of the validation.
        max_copy_fraction: copy fraction from which on too much is copied; ``None`` for no limit.
        patience: number of consecutive validations.
        metric_name: the copy fraction's in ``evaluator.state.metrics``.

    Raises:
        UnusableInputError: the limit is not above 0 and up to 1.

    Example:
        >>> StopWhenCopying(evaluator=None, max_copy_fraction=0.1).state_dict()
        {'num_above': 0}
    """

    def __init__(
        self,
        evaluator: Evaluator | None,
        max_copy_fraction: float | None,
        patience: int = 2,
        metric_name: str = "copy_fraction",
    ) -> None:
        check_max_copy_fraction(max_copy_fraction)
        self.evaluator = evaluator
        self.max_copy_fraction = max_copy_fraction
        self.patience = patience
        self.metric_name = metric_name
        self.num_above = 0
        self._trainer: Trainer | None = None

    def attach(self, engine: Trainer) -> None:
        """Attach to the MONAI trainer that calls the evaluator."""
        if self.evaluator is None or self.max_copy_fraction is None:
            return
        self._trainer = engine
        # After the metrics, which the evaluator computes when its epoch is completed.
        self.evaluator.add_event_handler(Events.COMPLETED, self._after_validation)
        # For a training that was ended and is run again; its state is loaded by then.
        engine.add_event_handler(Events.EPOCH_STARTED, self._stop_if_due)

    def state_dict(self) -> dict[str, Any]:
        """How many validations running were above the limit."""
        return {"num_above": self.num_above}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore it."""
        self.num_above = int(state_dict["num_above"])

    def _after_validation(self, engine: Engine) -> None:
        assert self._trainer is not None
        above = engine.state.metrics[self.metric_name] >= self.max_copy_fraction
        self.num_above = self.num_above + 1 if above else 0
        self._stop_if_due(self._trainer)

    def _stop_if_due(self, engine: Engine) -> None:
        if self.num_above < self.patience:
            return
        engine.logger.warning(
            f"The training ends here: in {self.num_above} validations running, a share of {self.max_copy_fraction:g} "
            "or more of the drawn images were copies of training images."
        )
        engine.terminate()
