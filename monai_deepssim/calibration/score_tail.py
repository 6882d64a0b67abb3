"""How rare a score above all null scores is: p-values from a fitted tail, where counting null scores cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from monai_deepssim.calibration.generalized_pareto import (
    fit_generalized_pareto,
    generalized_pareto_fit_p_value,
    generalized_pareto_survival,
)
from monai_deepssim.calibration.score_scale import stretch_scores
from monai_deepssim.calibration.vectors import Groups, Vector, as_group_codes, as_scores

__all__ = ["TAIL_ASSUMPTION", "ScoreTail", "fit_score_tail"]

TAIL_ASSUMPTION = (
    "The p-values below the smallest that counting can give rest on an assumption: the highest fifth (of many scores, "
    "the highest 100) of the scores of images that are not copies follow a generalised Pareto distribution, also "
    "beyond the largest of them, where no sample can show it. The fit is tested on the scores there are, its error is "
    "part of the p-values, and a tail that looks lighter than an exponential one is taken for exponential, because "
    "scores are bounded and the end of their range cannot be estimated safely. A subpopulation of images that are much "
    "closer to the training images, and so rare that none of them was compared, would break the assumption."
)

# Extreme-value theory wants a small share of many scores. Among 2,000 the highest 100 and the highest 200 give the same
# sizes, and so do the highest 20 and 40 of 199 (benchmarks/null_power.py); larger shares meet the body sooner.
_SHARE, _MOST_EXCESSES = 0.2, 100
# With fewer, a rare subpopulation goes unseen: at 15 of 50 scores, p-values of a mixture were half of what they claim.
FEWEST_PATIENTS, _FEWEST_CLUSTERS = 100, 15
_NUM_RESAMPLES = 1000
# Votes are fractions, whose sum may miss a whole number.
_ROUNDING = 1e-9
# Below this goodness of fit the tail is not used. One null in twenty is lost where it is true.
_LEAST_FIT = 0.05


@dataclass(frozen=True)
class ScoreTail:
    """The upper tail of null scores, fitted.

    Attributes:
        threshold: score above which the tail was fitted.
        num_excesses: scores above it.
        num_clusters: independent clusters of such scores: patients, and two that are each other's nearest are one.
        shape: fitted shape; below 0 for a tail that ends.
        scale: fitted scale, in units of the score.
        fit_p_value: goodness of fit, see :func:`generalized_pareto_fit_p_value`; NaN where there was nothing to fit.
        reason: why the tail must not be used, in a sentence; empty where it may be.
        shares: ``(B,)``, share of the scores above the threshold in each resampling.
        shapes: ``(B,)``, at least 0.
        scales: ``(B,)``.
        smallest_p_value: smallest p-value that counting can give.
        is_stretched: whether threshold, scale and excesses are of scores on the scale of :func:`stretch_scores`.
    """

    threshold: float
    num_excesses: int
    num_clusters: int
    shape: float
    scale: float
    fit_p_value: float
    reason: str
    shares: np.ndarray
    shapes: np.ndarray
    scales: np.ndarray
    smallest_p_value: float
    is_stretched: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether p-values may be taken from this tail."""
        return not self.reason

    def p_values(self, scores: Vector) -> np.ndarray:
        r"""Compute the probability that an image that is not a copy scores as high, the error of the fit included.

        .. math:: p(s) = \frac{1}{B + 1} \Big( p_{\min} + \sum_b \zeta_b \, S_b(s - u) \Big)

        over B resamplings of the patients, each with the share of scores above the threshold, zeta, and the fit of that
        resampling. The average is of probabilities, not of parameters: the few resamplings with a heavy tail decide far
        out, as they should. The original sample counts as one more, with the smallest p-value that counting can give,
        so none is 0.

        Args:
            scores: ``(N,)``; those at or below the threshold are given a bound, 1.

        Returns:
            ``(N,)`` in (0, 1]; all 1 where the tail must not be used.
        """
        observed = as_scores(scores, "scores")
        if self.is_stretched:
            observed = stretch_scores(observed, observed[:0])
        p_values = np.ones(len(observed))
        if self.is_usable:
            is_above = observed > self.threshold
            distinct, inverse = np.unique(observed[is_above], return_inverse=True)
            total = np.array(
                [
                    (self.shares * generalized_pareto_survival(excess, self.shapes, self.scales)).sum()
                    for excess in distinct - self.threshold
                ]
            )
            averages = (self.smallest_p_value + total) / (len(self.shares) + 1)
            p_values[is_above] = np.minimum(averages, 1.0)[inverse] if len(distinct) else 1.0
        return p_values

    def as_json(self) -> dict[str, Any]:
        """The entry of ``summary.json``."""
        return {
            "is_used": self.is_usable,
            "reason": self.reason or None,
            "threshold": _number(self.threshold),
            "num_excesses": self.num_excesses,
            "num_clusters": self.num_clusters,
            "shape": _number(self.shape),
            "scale": _number(self.scale),
            "fit_p_value": _number(self.fit_p_value),
            "fit_test": "Cramér-von Mises, parametric bootstrap",
            "assumption": TAIL_ASSUMPTION,
        }


def fit_score_tail(
    scores: Vector,
    smallest_p_value: float,
    groups: Groups | None = None,
    group_rule: str = "mean",
    partners: np.ndarray | None = None,
    seed: int = 0,
) -> ScoreTail:
    """Fit the upper tail of null scores, with its error.

    Why no lighter than exponential: a score is at most 1, so the true tail ends, and a fitted one often ends just above
    the highest null score, where every p-value would be 0 by the luck of this sample. Taken for the truth, such a fit
    to 199 scores makes p-values of 1 in 10,000 several times to thirty times too common; averaged over resamplings and
    no lighter than exponential, they are rarer than stated for every bounded score that was tried
    (``benchmarks/null_power.py --tables tail``), and as rare for exponential ones. A tail heavier than exponential is
    followed, at the price of larger p-values; truly heavy ones, which bounded scores do not have, would still come up
    three to nine times too often. Exponential is meant on the scale of :func:`stretch_scores`, on which scores near
    their limit of 1 are apart: on their own scale no tail told copies from strangers that score up to 0.87.

    Args:
        scores: ``(n,)``, of images that are not copies.
        smallest_p_value: smallest p-value that counting these can give.
        groups: ``(n,)``, the patient of each, as for :func:`conformal_p_values`.
        group_rule: ``"mean"`` or ``"max"``, as there.
        partners: ``(n,)``, position of the null image which this one's score was measured with and which has the same
            score for the same reason; -1 for none.
        seed: seed of the resampling.

    Returns:
        The tail; not usable where there are too few patients or where it does not fit.

    Example:
        >>> null = 0.5 + 0.05 * np.random.default_rng(0).standard_normal(300)
        >>> tail = fit_score_tail(null, smallest_p_value=1 / 301)
        >>> tail.is_usable, bool(tail.p_values([0.95])[0] < 1e-4)
        (True, True)
        >>> fit_score_tail(null[:50], smallest_p_value=1 / 51).reason
        'it takes 100 patients to fit the tail of the scores, and there are 50.'
    """
    null = as_scores(scores, "scores")
    is_stretched = bool(len(null)) and null.max() <= 1
    null = stretch_scores(null, null)
    codes = np.arange(len(null)) if groups is None else as_group_codes(groups, len(null))
    pairs = np.full(len(null), -1) if partners is None else np.asarray(partners)
    if group_rule == "max":
        null, codes, pairs = _highest_of_each(null, codes, pairs)
    num_patients = int(codes.max(initial=-1)) + 1
    if num_patients < FEWEST_PATIENTS:
        reason = f"it takes {FEWEST_PATIENTS} patients to fit the tail of the scores, and there are {num_patients}."
        return _unusable(reason, smallest_p_value)
    votes = 1 / np.bincount(codes)[codes]
    threshold = _threshold(null, votes)
    is_above = null > threshold
    clusters = _clusters(codes, pairs, is_above)
    excesses = null[is_above] - threshold
    num_clusters = len(np.unique(clusters[is_above]))
    if num_clusters < _FEWEST_CLUSTERS:
        reason = (
            f"the highest scores are of {num_clusters} independent patients or pairs of patients, and it takes "
            f"{_FEWEST_CLUSTERS} to fit their tail."
        )
        return _unusable(reason, smallest_p_value)
    shape, scale = fit_generalized_pareto(excesses, votes[None, is_above])
    fit_p_value = generalized_pareto_fit_p_value(excesses, num_clusters, seed=seed)
    counts, shares = _resample(clusters, votes, is_above, seed)
    shapes, scales = fit_generalized_pareto(excesses, counts * votes[is_above])
    means, shapes = scales / (1 - shapes), np.maximum(shapes, 0.0)
    return ScoreTail(
        threshold=threshold,
        num_excesses=int(is_above.sum()),
        num_clusters=num_clusters,
        shape=float(shape[0]),
        scale=float(scale[0]),
        fit_p_value=fit_p_value,
        reason=""
        if fit_p_value >= _LEAST_FIT
        else f"the highest scores are not as a generalised Pareto distribution has them (p = {fit_p_value:.2g}).",
        shares=shares,
        shapes=shapes,
        scales=means * (1 - shapes),
        smallest_p_value=smallest_p_value,
        is_stretched=is_stretched,
    )


def _threshold(scores: np.ndarray, votes: np.ndarray) -> float:
    """The score above which the highest fifth of the patients' votes lies, or 100 of them if that is less."""
    order = np.argsort(scores)[::-1]
    most = min(_MOST_EXCESSES, _SHARE * votes.sum())
    position = np.searchsorted(np.cumsum(votes[order]), most + _ROUNDING, side="right")
    return float(scores[order][min(int(position), len(scores) - 1)])


def _clusters(codes: np.ndarray, partners: np.ndarray, is_above: np.ndarray) -> np.ndarray:
    """Unite the patients of two scores above the threshold that are one measurement."""
    first = np.flatnonzero(is_above & (partners >= 0))
    first = first[is_above[partners[first]]]
    size = int(codes.max()) + 1
    edges = coo_array((np.ones(len(first)), (codes[first], codes[partners[first]])), shape=(size, size))
    return connected_components(edges, directed=False)[1][codes]


def _resample(
    clusters: np.ndarray, votes: np.ndarray, is_above: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw clusters with replacement.

    Only those with a score above the threshold are told apart: the others are one patient each, and what a resampling
    needs of them is their number.

    Returns:
        How often each excess is in each resampling, ``(B, k)``, and the share of all votes that they have, ``(B,)``.
    """
    names, column = np.unique(clusters[is_above], return_inverse=True)
    num_clusters, num_above = len(np.unique(clusters)), len(names)
    chances = np.append(np.full(num_above, 1.0), num_clusters - num_above) / num_clusters
    drawn = np.random.default_rng(seed).multinomial(num_clusters, chances, size=_NUM_RESAMPLES)
    all_votes = np.append(np.bincount(clusters, votes)[names], 1.0)
    counts = drawn[:, column]
    return counts, (counts * votes[is_above]).sum(axis=1) / (drawn * all_votes).sum(axis=1)


def _highest_of_each(
    scores: np.ndarray, codes: np.ndarray, partners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep the highest score of each patient; a partner that is not kept is none."""
    order = np.lexsort((-scores, codes))
    kept = order[np.unique(codes[order], return_index=True)[1]]
    position = np.full(len(scores), -1)
    position[kept] = np.arange(len(kept))
    partner = np.where(partners[kept] >= 0, position[partners[kept]], -1)
    return scores[kept], codes[kept], partner


def _unusable(reason: str, smallest_p_value: float) -> ScoreTail:
    nan, empty = float("nan"), np.empty(0)
    return ScoreTail(nan, 0, 0, nan, nan, nan, reason, empty, empty, empty, smallest_p_value)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
