"""All set-level scores of copying in one call, FID and MMD beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.metrics.metric import CumulativeIterationMetric
from torch import Tensor

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.auth_pct import compute_auth_pct
from monai_deepssim.metrics.ct_score import compute_ct_score
from monai_deepssim.metrics.fld import compute_fld_gap
from monai_deepssim.metrics.frechet import FID_WARNING, compute_fid, compute_linear_mmd, compute_mifid
from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares

__all__ = ["SUPPORTED_SET_SCORES", "SetScoreMetric", "SetScores", "compute_set_scores"]

#: Set-level scores by name: the function, and whether it needs held-out images.
SUPPORTED_SET_SCORES: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "auth_pct": (compute_auth_pct, False),
    "ct_score": (compute_ct_score, True),
    "fld_gap": (compute_fld_gap, True),
    "mifid": (compute_mifid, False),
    "fid": (compute_fid, False),
    "mmd": (compute_linear_mmd, False),
}


@dataclass(frozen=True)
class SetScores:
    """What :func:`compute_set_scores` gives; a score that could not be computed is ``None``.

    Example:
        >>> SetScores(auth_pct=48.0, not_computed={"fid": "32 synthetic images are too few"}).fid is None
        True
    """

    #: Authenticity in percent; about 50 without copying, low with it.
    auth_pct: float | None = None
    #: C_T in standard deviations; about 0 without copying, far below 0 with it.
    ct_score: float | None = None
    #: FLD's generalisation gap; about 0 without copying, far below 0 with it.
    fld_gap: float | None = None
    #: Memorization-informed FID; rises with copying.
    mifid: float | None = None
    #: FID against the training images; falls with copying.
    fid: float | None = None
    #: MMD with a linear kernel against the training images; falls with copying.
    mmd: float | None = None
    #: Why a score is missing, in words, by its name.
    not_computed: dict[str, str] = field(default_factory=dict)
    #: To be shown beside FID and MMD.
    warning: str = FID_WARNING


def compute_set_scores(
    synthetic_features: Tensor, training_features: Tensor, holdout_features: Tensor | None = None
) -> SetScores:
    """Compute what a synthetic set as a whole says of copying: AuthPct, C_T, FLD's gap, MiFID, and FID and MMD.

    All depend on the network that the features are of, so compare them only between generators and with one network.
    FID and MMD get *better* when a generator copies; they are here because they will be asked for, and come with
    :data:`~monai_deepssim.metrics.FID_WARNING`.

    Args:
        synthetic_features: ``(N, D)``.
        training_features: ``(M, D)``.
        holdout_features: ``(H, D)`` of real images that the generator has not seen; C_T and FLD's gap need them.

    Returns:
        The scores, and the reason for each that could not be computed from these images.

    Raises:
        ValueError: when the features are not ``(N, D)`` with one D.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> training, other = torch.randn(2, 100, 8, generator=generator).unbind()
        >>> honest, copying = compute_set_scores(other, training), compute_set_scores(training + 0.01, training)
        >>> honest.auth_pct > 30, copying.auth_pct, copying.fid < honest.fid
        (True, 0.0, True)
        >>> honest.not_computed["ct_score"]
        'needs held-out images'
    """
    scores: dict[str, Any] = {}
    not_computed = {}
    for name, (compute, needs_holdout) in SUPPORTED_SET_SCORES.items():
        sets = [synthetic_features, training_features]
        if needs_holdout:
            if holdout_features is None:
                not_computed[name] = "needs held-out images"
                continue
            sets.append(holdout_features)
        try:
            scores[name] = float(compute(*sets))
        except UnusableInputError as error:
            not_computed[name] = str(error)
    return SetScores(**scores, not_computed=not_computed)


class SetScoreMetric(SyncsUnevenShares, CumulativeIterationMetric):
    """One set-level score as a MONAI metric, which gathers the synthetic features batch by batch and over ranks.

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

    def _compute_list(self, y_pred: Any, y: Any = None) -> Tensor:  # type: ignore[override]
        return self._compute_tensor(torch.stack([torch.as_tensor(features) for features in y_pred]))

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
