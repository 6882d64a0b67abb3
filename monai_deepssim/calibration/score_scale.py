"""The scale on which gaps and tails of similarities are measured: wide where a similarity comes close to its limit."""

from __future__ import annotations

import numpy as np

__all__ = ["stretch_scores"]

# Scores of copies differ from 1 by how they were stored and resampled, which says nothing about how rare they are.
_FLOOR = 0.01


def stretch_scores(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Take similarities that are at most 1 to a scale without a limit.

    .. math:: x = -\log(1 - s + 0.01)

    Near its limit of 1 the tail of a similarity is squeezed: from 0.87 to 1 is little more than from 0.81 to 0.87, and
    yet strangers reach the one and nothing but a copy the other. Where the density of a score near 1 falls as a power
    of its distance from 1, as it does for every generalised Pareto tail that ends there, x has an exponential tail. A
    tail that ends before 1 is lighter on this scale, and far from 1 the scale is straight.

    Args:
        scores: ``(N,)``.
        reference: scores that say whether 1 is the limit of this kind of score: those that are not copies.

    Returns:
        ``(N,)``; the scores themselves where a reference score is above 1.

    Example:
        >>> stretch_scores(np.array([0.5, 0.81, 0.87, 1.0]), np.array([0.5])).round(2).tolist()
        [0.67, 1.61, 1.97, 4.61]
    """
    if len(reference) and reference.max() > 1:
        return scores
    return -np.log(np.maximum(1 - scores, 0) + _FLOOR)
