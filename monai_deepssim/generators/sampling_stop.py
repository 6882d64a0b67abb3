"""The end of a training whose generator has begun to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator, Trainer

from monai_deepssim.generators.sampling_metrics import check_max_copy_fraction

__all__ = ["StopWhenCopying"]


class StopWhenCopying:
    """Ignite handler that ends a training when too much is copied in several validations running.

    It has a state, for :class:`~monai_deepssim.engines.ResumableCheckpoint`, so that validations before and after a
    kill count together, and a training that was ended stays ended.

    Args:
        evaluator: the MONAI evaluator of the validation.
        max_copy_fraction: from which copy fraction on too much is copied; ``None`` for no limit.
        patience: how many validations running.
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
