"""Upper limits of a share, and how many images it takes to bring one below what is accepted."""

from __future__ import annotations

from scipy.stats import binom

from monai_deepssim.calibration.proportions import proportion_interval
from monai_deepssim.calibration.vectors import Groups, Vector

__all__ = ["images_needed", "upper_limit"]


def upper_limit(flags: Vector, groups: Groups | None = None, confidence: float = 0.95) -> float:
    """Compute the one-sided upper limit of a share: with this confidence it is not larger among many more images.

    It is the upper end of :func:`proportion_interval` at the confidence 2c - 1, which has the same chance to be too
    low: Clopper and Pearson's limit for independent images, Korn and Graubard's where they are clustered.

    Args:
        flags: ``(N,)``, whether each image is one, such as a copy; at least 1 image.
        groups: ``(N,)``, what the images cluster in, such as the volume of a slice; an empty one is unknown and taken
            for a cluster of its own.
        confidence: 0.95 for a limit that holds in 95 % of the sets.

    Returns:
        The limit, 0 to 1.

    Raises:
        ValueError: when there is no image, the lengths differ, or the confidence is not above 0.5 and below 1.

    Example:
        >>> round(upper_limit([False] * 299), 5), round(upper_limit([False] * 298), 5)
        (0.00997, 0.01)
        >>> round(upper_limit([False] * 299, groups=[i // 13 for i in range(299)]), 4)
        0.1221
    """
    _check_confidence(confidence)
    return proportion_interval(flags, groups, confidence=2 * confidence - 1).high


def images_needed(max_fraction: float, count: int = 0, confidence: float = 0.95) -> int | None:
    r"""Compute how many independent images bring the upper limit of a share down to what is accepted.

    The smallest n at which so few would be a surprise if the share were as high as that,

    .. math:: P(X \le k) \le 1 - c, \qquad X \sim \operatorname{Binomial}(n, p_{\max}),

    which is where Clopper and Pearson's limit is at most :math:`p_{\max}`. For k = 0 it is
    :math:`\lceil \log(1 - c) / \log(1 - p_{\max}) \rceil`, the rule of three.

    Args:
        max_fraction: share that is accepted, 0 to 1.
        count: suspicious images among them, k.
        confidence: confidence of the limit, c.

    Returns:
        The number of images; ``None`` where no number would do, which is at 0.

    Raises:
        ValueError: when the share is outside [0, 1], the count negative, or the confidence not above 0.5 and below 1.

    Example:
        >>> images_needed(0.01), images_needed(0.01, count=3), images_needed(0)
        (299, 773, None)
    """
    _check_confidence(confidence)
    if not 0 <= max_fraction <= 1 or count < 0:
        raise ValueError(f"got max_fraction={max_fraction} and count={count}, want a share and a count of 0 or more")
    if max_fraction == 0:
        return None
    if max_fraction == 1:
        return max(1, count)
    too_few, enough = count, max(1, 2 * count)
    while binom.cdf(count, enough, max_fraction) > 1 - confidence:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if binom.cdf(count, middle, max_fraction) > 1 - confidence:
            too_few = middle
        else:
            enough = middle
    return enough


def _check_confidence(confidence: float) -> None:
    if not 0.5 < confidence < 1:
        raise ValueError(f"got confidence={confidence}, want one above 0.5 and below 1, such as 0.95")
