"""Conformal p-values: how often real images that were never copied come as close to the training images."""

from __future__ import annotations

import numpy as np

from monai_deepssim.calibration.vectors import Groups, Vector, as_group_codes, as_scores

__all__ = ["conformal_p_values"]

_GROUP_RULES = ("mean", "max")


def conformal_p_values(
    scores: Vector, holdout_scores: Vector, groups: Groups | None = None, group_rule: str = "mean"
) -> np.ndarray:
    r"""Compute for each synthetic image the chance that an image that is not a copy scores as high.

    A score is the highest similarity of an image to any training image. With n held-out images,

    .. math:: p(s) = \frac{1 + \#\{i : h_i \ge s\}}{n + 1}

    so that a tie counts against the suspicion, and no p-value is below 1 / (n + 1). If the synthetic image is not a
    copy and its score is *exchangeable* with the held-out scores (all orders of the n + 1 scores are equally likely),
    then P(p <= a) <= a for every a, whatever the detector and the number of images. This holds on average over draws of
    the held-out images: one particular held-out set can be luckier or less lucky than that.

    **Several held-out images of a patient** resemble each other, so n images are less evidence than n patients.
    With ``groups``, every one of the G patients has one vote, which the images of that patient share:

    .. math:: p(s) = \frac{1}{G + 1} \Big(1 + \sum_g \operatorname{mean}_{i \in g} [h_i \ge s] \Big)

    It is valid when the *patients* are exchangeable and a synthetic image that is not a copy is like one image, taken
    at random, of one more patient. ``group_rule="max"`` lets the highest score of each patient vote instead. It is
    valid whichever image of a patient the synthetic one corresponds to (say, always the slice level that scores
    highest), and finds fewer copies: its p-values are never smaller.

    Bates, Candès, Lei, Romano, Sesia. *Testing for outliers with conformal p-values.* Annals of Statistics 51 (2023),
    arXiv 2104.08279. Lee, Barber, Willett. *Distribution-free inference with hierarchical data.* arXiv 2306.06342
    (2023), for the vote of a group.

    Args:
        scores: ``(N,)``, of the synthetic images; higher is closer to the training images.
        holdout_scores: ``(n,)``, of real images that the generator never saw, of patients that it never saw, scored in
            the same way against the same training images.
        groups: ``(n,)``, the patient of each held-out image; an empty one is unknown and taken for a patient of its
            own. ``None`` takes every image for a patient of its own.
        group_rule: ``"mean"`` or ``"max"``.

    Returns:
        ``(N,)`` float64 p-values in (0, 1].

    Raises:
        ValueError: when there is no held-out score, a score is not finite, or the lengths differ.

    Example:
        >>> conformal_p_values([0.95, 0.70, 0.10], [0.5, 0.6, 0.7, 0.4])
        array([0.2, 0.4, 1. ])
        >>> conformal_p_values([0.95, 0.70, 0.10], [0.5, 0.6, 0.7, 0.4], groups=["a", "b", "b", "c"])
        array([0.25 , 0.375, 1.   ])
    """
    observed = as_scores(scores, "scores")
    null = as_scores(holdout_scores, "holdout_scores")
    if len(null) == 0:
        raise ValueError("got no held-out score, want at least 1; without held-out images see random_halves_null")
    if group_rule not in _GROUP_RULES:
        raise ValueError(f"got group_rule={group_rule!r}, want one of {', '.join(_GROUP_RULES)}")
    codes = np.arange(len(null)) if groups is None else as_group_codes(groups, len(null))
    sizes = np.bincount(codes)
    if group_rule == "max":
        highest = np.full(len(sizes), -np.inf)
        np.maximum.at(highest, codes, null)
        null, votes = highest, np.ones(len(sizes))
    else:
        votes = 1 / sizes[codes]
    order = np.argsort(null)
    # votes_from[k] is the sum of the votes of the k-th smallest score and all above it.
    votes_from = np.append(np.cumsum(votes[order][::-1])[::-1], 0.0)
    votes_at_or_above = votes_from[np.searchsorted(null[order], observed, side="left")]
    return np.minimum((1 + votes_at_or_above) / (len(sizes) + 1), 1.0)
