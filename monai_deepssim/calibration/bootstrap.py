"""Bootstrap intervals of numbers that are no shares, also where several pairs are of one patient."""

from __future__ import annotations

import numpy as np

from monai_deepssim.calibration.vectors import Groups, as_group_codes

__all__ = ["bootstrap_weights", "percentile_interval"]


def bootstrap_weights(
    num_rows: int, num_resamples: int = 1000, seed: int = 0, groups: Groups | None = None
) -> np.ndarray:
    """Draw resamplings with replacement: how often each row is in each of them.

    Rows of one group, such as the pairs of one patient, are drawn together, for they do not vary independently.

    Args:
        num_rows: N, at least 1.
        num_resamples: B, at least 1.
        seed: seed of the draw.
        groups: ``(N,)``; an empty one is unknown and taken for a group of its own.

    Returns:
        ``(B, N)`` int64.

    Raises:
        ValueError: when a number is below 1, or the lengths differ.

    Example:
        >>> weights = bootstrap_weights(4, num_resamples=2, seed=1, groups=["a", "a", "b", "c"])
        >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
        ((2, 4), True)
    """
    if num_rows < 1 or num_resamples < 1:
        raise ValueError(f"got {num_rows} rows and {num_resamples} resamplings, want 1 or more")
    codes = np.arange(num_rows) if groups is None else as_group_codes(groups, num_rows)
    num_groups = int(codes.max()) + 1
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)
    return counts[:, codes]


def percentile_interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Give the percentile interval of a resampled number.

    Args:
        resampled: ``(B,)``; NaN where a resampling does not define it, which is left out.
        confidence: 0.95 for the 2.5th and the 97.5th percentile.

    Returns:
        Its ends, NaN when there is no number. Where all pairs of the sample are told apart the interval has no width:
        no resampling of them can be worse. It is then no bound of the error on other pairs.

    Raises:
        ValueError: when the confidence is not between 0 and 1.

    Example:
        >>> percentile_interval(np.arange(101.0), confidence=0.5)
        (25.0, 75.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence={confidence}, want a share between 0 and 1, such as 0.95")
    known = np.asarray(resampled)[~np.isnan(resampled)]
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
