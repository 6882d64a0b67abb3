"""The set-level scores of copying by name, FID and MMD beside them, as one MONAI metric."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.metrics.metric import CumulativeIterationMetric
from torch import Tensor

from monai_deepssim.metrics.auth_pct import compute_auth_pct
from monai_deepssim.metrics.ct_score import compute_ct_score
from monai_deepssim.metrics.fld import compute_fld_gap
from monai_deepssim.metrics.frechet import compute_fid, compute_linear_mmd, compute_mifid
from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares

__all__ = ["SUPPORTED_SET_SCORES", "SetScoreMetric"]

#: Set-level scores by name: the function, and whether it needs held-out images.
SUPPORTED_SET_SCORES: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "auth_pct": (compute_auth_pct, False),
    "ct_score": (compute_ct_score, True),
    "fld_gap": (compute_fld_gap, True),
    "mifid": (compute_mifid, False),
    "fid": (compute_fid, False),
    "mmd": (compute_linear_mmd, False),
}


class SetScoreMetric(SyncsUnevenShares, CumulativeIterationMetric):
    """One set-level score as a MONAI metric, which gathers the synthetic features batch by batch and over ranks.

    All scores depend on the network that the features are of, so compare them only between generators and with one
    network. FID and MMD get *better* when a generator copies, see :data:`~monai_deepssim.metrics.FID_WARNING`.

    Args:
        score: one of :data:`SUPPORTED_SET_SCORES`.
        training_features: ``(M, D)``.
        holdout_features: ``(H, D)``; C_T and FLD's gap need them.

    Raises:
        ValueError: when the score is unknown, or its held-out features are missing.

    Example:
        >>> training = torch.tensor([[0.0], [1.0], [5.0]])
        >>> metric = SetScoreMetric("auth_pct", training)
        >>> for batch in (torch.tensor([[0.1]]), torch.tensor([[2.5]])):
        ...     _ = metric(batch)
        >>> metric.aggregate()
        tensor(50., dtype=torch.float64)
    """

    def __init__(self, score: str, training_features: Tensor, holdout_features: Tensor | None = None) -> None:
        super().__init__()
        if score not in SUPPORTED_SET_SCORES:
            raise ValueError(f"unknown score {score!r}: choose one of {', '.join(SUPPORTED_SET_SCORES)}")
        self._compute, needs_holdout = SUPPORTED_SET_SCORES[score]
        if needs_holdout and holdout_features is None:
            raise ValueError(f"{score} compares with real images that the generator has not seen: give their features")
        self._real = [training_features, *([holdout_features] if needs_holdout else [])]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if y_pred.ndim != 2:
            raise ValueError(f"got features {tuple(y_pred.shape)}, want (B, D)")
        return y_pred.float()

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """The score of all features since ``reset()``.

        Returns:
            A scalar tensor; NaN when there were none.

        Raises:
            UnusableInputError: when they are too few for this score.
        """
        buffer = self.get_buffer()
        if buffer is None or len(buffer) == 0:
            return torch.tensor(torch.nan)
        return self._compute(buffer, *self._real)
