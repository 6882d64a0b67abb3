"""Shares with their intervals, also where several images are of one patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, binomtest
from scipy.stats import t as student_t

from monai_deepssim.calibration.vectors import Groups, Vector, as_flags, as_group_codes

__all__ = ["Proportion", "proportion_interval"]

_EXACT = "exact binomial (Clopper-Pearson)"
_CLUSTERED = "exact binomial for the effective number of images, clustered by patient or file (Korn-Graubard)"


@dataclass(frozen=True)
class Proportion:
    """A share, with its interval.

    Attributes:
        count: the number counted.
        total: the number that it is a share of.
        value: the share, 0 to 1.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: confidence level of the interval, such as 0.95.
        method: name of the method that computed the interval.
        num_groups: number of patients or files that they come from, an unknown one counting each time; ``None`` where
            images were taken as independent.
        effective_total: the number of independent images that would tell as much; ``None`` as for ``num_groups``.
    """

    count: int
    total: int
    value: float
    low: float
    high: float
    confidence: float = 0.95
    method: str = _EXACT
    num_groups: int | None = None
    effective_total: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of ``summary.json``."""
        return {
            "count": self.count,
            "total": self.total,
            "value": self.value,
            "interval": [self.low, self.high],
            "confidence": self.confidence,
            "method": self.method,
            "num_groups": self.num_groups,
            "effective_total": self.effective_total,
        }


def proportion_interval(flags: Vector, groups: Groups | None = None, confidence: float = 0.95) -> Proportion:
    r"""Give a share its interval: how far it may be from the share among many more images of the same origin.

    **Independent images** (``groups=None``, or no two of one group) have the exact binomial interval of Clopper and
    Pearson: whatever the true share, it lies in the interval with at least the stated confidence.

    **Images clustered in patients** tell less than as many independent ones: when one slice of a patient is memorized,
    so are often its neighbours. Korn and Graubard's interval is Clopper and Pearson's for fewer images,

    .. math::
        n^* = \min(n, n_e) \Big(\frac{t_{n-1}}{t_{G-1}}\Big)^2, \qquad
        n_e = \frac{p (1 - p)}{v}, \qquad
        v = \frac{G}{G - 1} \frac{1}{n^2} \sum_g \Big(\sum_{i \in g} (y_i - p)\Big)^2,

    where p is the share, v its variance estimated from the G patients, :math:`n_e` the effective number of images and
    t the quantiles of Student's distribution at the confidence, which pay for an estimate from few patients. It is
    never narrower than the interval of independent images.

    When nothing is found, v is 0 and says nothing. Whatever the images of a patient have to do with each other, the
    chance to find nothing is at most :math:`(1 - p)^G`, so the upper end is that of 0 of G patients, which is exact.
    The upper end is never below that one either when something is found: a finding must not make a release look safer.
    The lower end is treated in the same way towards 1. This takes patients with many images to have the same share as
    patients with few.

    The interval knows of no wrong verdicts: it takes each flag as it is.

    Clopper, Pearson. Biometrika 26 (1934). Korn, Graubard. *Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data.* Survey Methodology 24 (1998).

    Args:
        flags: ``(N,)``, whether each image is one, such as a copy; at least 1 image.
        groups: ``(N,)``, what the images cluster in: the patient of a training image, the volume of a synthetic slice.
            An empty one is unknown and taken for a cluster of its own, so with many unknown ones the interval is
            too narrow. Never the patient that a synthetic image was found to resemble: independent draws of a generator
            do not depend on each other because they came out alike.
        confidence: 0.95 for a 95 % interval.

    Returns:
        The share and its interval.

    Raises:
        ValueError: when there is no image, or the lengths differ.

    Example:
        >>> share = proportion_interval([False] * 200)
        >>> share.value, share.low, round(share.high, 4)
        (0.0, 0.0, 0.0183)
        >>> share = proportion_interval([False] * 200, groups=[f"patient {i // 10}" for i in range(200)])
        >>> share.num_groups, round(share.high, 4)
        (20, 0.1684)
    """
    found = as_flags(flags, "flags")
    total, count = len(found), int(found.sum())
    if total == 0:
        raise ValueError("got no flags, want at least 1: the share of no images is not defined")
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence={confidence}, want a share between 0 and 1, such as 0.95")
    codes = np.arange(total) if groups is None else as_group_codes(groups, total)
    num_groups = int(codes.max()) + 1
    if num_groups == total:
        interval = binomtest(count, total).proportion_ci(confidence_level=confidence, method="exact")
        return Proportion(count, total, count / total, float(interval.low), float(interval.high), confidence)
    share = count / total
    if num_groups == 1 or count in (0, total):
        effective_total = float(num_groups)
    else:
        residuals = np.bincount(codes, weights=found - share)
        variance = num_groups / (num_groups - 1) * float((residuals**2).sum()) / total**2
        effective_total = min(total, share * (1 - share) / variance) if variance > 0 else total
        tail = (1 - confidence) / 2
        effective_total *= float((student_t.ppf(tail, total - 1) / student_t.ppf(tail, num_groups - 1)) ** 2)
    low, high = _clopper_pearson(share, effective_total, confidence)
    low_of_all, _ = _clopper_pearson(1.0, num_groups, confidence)
    _, high_of_none = _clopper_pearson(0.0, num_groups, confidence)
    return Proportion(
        count=count,
        total=total,
        value=share,
        low=min(low, low_of_all),
        high=max(high, high_of_none),
        confidence=confidence,
        method=_CLUSTERED,
        num_groups=num_groups,
        effective_total=effective_total,
    )


def _clopper_pearson(share: float, total: float, confidence: float) -> tuple[float, float]:
    # By the beta distribution, which unlike scipy.stats.binomtest takes a total that is not a whole number.
    tail = (1 - confidence) / 2
    count = share * total
    low = 0.0 if share == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if share == 1 else float(beta.ppf(1 - tail, count + 1, total - count))
    return low, high
