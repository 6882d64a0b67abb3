"""What rates of an attack on members and non-members say: advantage, AUC, epsilon and singling out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, norm

from monai_deepssim.calibration.proportions import Proportion

__all__ = [
    "advantage_interval",
    "auc_interval",
    "effective_patients",
    "epsilon_lower_bound",
    "epsilon_lower_bounds",
    "singling_out_risk",
]

_CONFIDENCE = 0.95
# Where the equation of the AUC's interval is solved; its ends are no proper start.
_EDGE = 1e-9


def effective_patients(codes: np.ndarray) -> float:
    r"""Compute how many patients with equally many images would tell as much, if all images of a patient were alike.

    .. math:: n_{\mathrm{eff}} = \frac{(\sum_g n_g)^2}{\sum_g n_g^2}

    Kish. *Survey Sampling.* Wiley (1965).

    Args:
        codes: int64 ``(N,)``, the patient of each image, numbered from 0.

    Example:
        >>> effective_patients(np.array([0, 0, 1, 1])), effective_patients(np.array([0, 1, 1, 1, 1, 1, 1]))
        (2.0, 1.3243243243243243)
    """
    sizes = np.bincount(codes).astype(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def auc_interval(auc: float, num_members: float, num_non_members: float) -> tuple[float, float]:
    r"""Compute the 95 % interval of an area under the ROC curve by Newcombe's method 5, which has a width at 1, too.

    The areas that are solutions of

    .. math::
        (\hat A - A)^2 = z^2 \, \frac{A (1 - A)}{m n} \Big(1 + N \Big[\frac{1 - A}{2 - A} + \frac{A}{1 + A}\Big]\Big),
        \qquad N = \frac{m + n}{2} - 1

    Newcombe. *Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2.* Statistics
    in Medicine 25 (2006).

    Args:
        auc: the area, 0 to 1.
        num_members: independent members, m; with several images of a patient see :func:`effective_patients`.
        num_non_members: independent non-members, n.

    Example:
        >>> low, high = auc_interval(0.5, 100, 100)
        >>> round(low, 3), round(high, 3)
        (0.421, 0.579)
        >>> round(auc_interval(1.0, 10, 10)[0], 3)
        0.8
    """
    quantile, mean_size = norm.ppf((1 + _CONFIDENCE) / 2), (num_members + num_non_members) / 2 - 1

    def excess(area: float) -> float:
        spread = area * (1 - area) * (1 + mean_size * ((1 - area) / (2 - area) + area / (1 + area)))
        return (auc - area) ** 2 - quantile**2 * spread / (num_members * num_non_members)

    inside = min(max(auc, _EDGE), 1 - _EDGE)
    low = 0.0 if auc <= _EDGE else float(brentq(excess, 0, inside))
    high = 1.0 if auc >= 1 - _EDGE else float(brentq(excess, inside, 1))
    return low, high


def advantage_interval(tpr: Proportion, fpr: Proportion) -> tuple[float, float]:
    r"""Compute the interval of an attack's advantage, TPR - FPR, from the intervals of the two rates.

    .. math::
        \mathrm{TPR} - \mathrm{FPR} - \sqrt{(\mathrm{TPR} - l_t)^2 + (u_f - \mathrm{FPR})^2}, \qquad
        \mathrm{TPR} - \mathrm{FPR} + \sqrt{(u_t - \mathrm{TPR})^2 + (\mathrm{FPR} - l_f)^2}

    Newcombe. *Interval estimation for the difference between independent proportions.* Statistics in Medicine 17
    (1998), method 10, here with exact intervals clustered by patient in place of Wilson's.

    Args:
        tpr: share of the members that are flagged.
        fpr: share of the non-members that are flagged, of other patients.

    Example:
        >>> from monai_deepssim.calibration import proportion_interval
        >>> rates = proportion_interval([True] * 30 + [False] * 70), proportion_interval([True] * 10 + [False] * 90)
        >>> low, high = advantage_interval(*rates)
        >>> round(low, 3), round(high, 3)
        (0.084, 0.312)
    """
    difference = tpr.value - fpr.value
    below = np.hypot(tpr.value - tpr.low, fpr.high - fpr.value)
    above = np.hypot(tpr.high - tpr.value, fpr.value - fpr.low)
    return float(difference - below), float(difference + above)


def epsilon_lower_bound(tpr_low: float, fpr_high: float, delta: float = 1e-5) -> float:
    r"""Compute the smallest epsilon with which differential privacy would allow such rates of an attack.

    A mechanism is :math:`(\varepsilon, \delta)`-differentially private if and only if every attack that tells its
    output with a member from that without has

    .. math::
        \mathrm{TPR} \le e^\varepsilon \, \mathrm{FPR} + \delta \quad\text{and}\quad
        1 - \mathrm{FPR} \le e^\varepsilon (1 - \mathrm{TPR}) + \delta,

    so that :math:`\varepsilon` is at least the logarithm of :math:`(\mathrm{TPR} - \delta) / \mathrm{FPR}` and of
    :math:`(1 - \mathrm{FPR} - \delta) / (1 - \mathrm{TPR})`. Both grow with the TPR and fall with the FPR: with limits
    that hold together at a confidence, so does the bound.

    Kairouz, Oh, Viswanath. *The composition theorem for differential privacy.* ICML 2015, theorem 2.1: the
    characterisation by hypothesis tests. Jagielski, Ullman, Oprea. *Auditing differentially private machine learning.*
    NeurIPS 2020, and Nasr et al. *Adversary instantiation.* IEEE S&P 2021, for its use with Clopper-Pearson limits.

    Args:
        tpr_low: lower limit of the true-positive rate.
        fpr_high: upper limit of the false-positive rate.
        delta: the delta for which epsilon is bounded.

    Returns:
        The bound, 0 or more.

    Example:
        >>> round(epsilon_lower_bound(0.10, 0.02, delta=0), 4), epsilon_lower_bound(0.01, 0.02)
        (1.6094, 0.0)
    """
    candidates = [0.0]
    if tpr_low > delta and fpr_high > 0:
        candidates.append(float(np.log((tpr_low - delta) / fpr_high)))
    if 1 - fpr_high > delta and tpr_low < 1:
        candidates.append(float(np.log((1 - fpr_high - delta) / (1 - tpr_low))))
    return max(candidates)


def epsilon_lower_bounds(tpr: np.ndarray, fpr: np.ndarray, num_members: int, num_non_members: int) -> np.ndarray:
    """Compute the bound of many thresholds, as if each were the only one: good for choosing, not for a statement.

    Args:
        tpr: ``(T,)``, true-positive rate of each threshold.
        fpr: ``(T,)``, false-positive rate of each.
        num_members: images that the first are shares of.
        num_non_members: images that the second are shares of.

    Returns:
        ``(T,)``, as the better of the two ratios tells; below 0 where neither tells anything.
    """
    tail, hits, false_positives = (1 - _CONFIDENCE) / 2, tpr * num_members, fpr * num_non_members
    # The beta distribution has no quantile where the limit is 0 or 1.
    tpr_low = np.nan_to_num(beta.ppf(tail, hits, num_members - hits + 1), nan=0.0)
    fpr_high = np.nan_to_num(beta.ppf(1 - tail, false_positives + 1, num_non_members - false_positives), nan=1.0)
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(tpr_low) - np.log(fpr_high), np.log1p(-fpr_high) - np.log1p(-tpr_low))


def singling_out_risk(attack: Proportion, control: Proportion) -> tuple[float, float, float]:
    r"""Compute the risk of singling out, above what the same attack achieves against people outside the training set.

    .. math:: R = \frac{r_{\mathrm{attack}} - r_{\mathrm{control}}}{1 - r_{\mathrm{control}}}

    It is the share of people who would be safe from the attack had they not been in the training set, and are not.
    Singling out is what the Article 29 Working Party's opinion 05/2014 calls it: to isolate records that identify a
    person. The correction by a control is Anonymeter's (Giomi et al. *A unified framework for quantifying privacy risk
    in synthetic data.* PoPETs 2023), and as there the risk is bounded by 0 and 1.

    Args:
        attack: success rate against members, with an interval at a confidence c each.
        control: success rate of the same attack against non-members, likewise.

    Returns:
        The risk, and the ends of its interval: both rates at their worse and at their better end, which holds with at
        least the confidence 2c - 1.

    Example:
        >>> from monai_deepssim.calibration import proportion_interval
        >>> rates = proportion_interval([True] * 30 + [False] * 70), proportion_interval([True] * 10 + [False] * 90)
        >>> [round(value, 3) for value in singling_out_risk(*rates)]
        [0.222, 0.044, 0.369]
    """
    return (
        _above_control(attack.value, control.value),
        _above_control(attack.low, control.high),
        _above_control(attack.high, control.low),
    )


def _above_control(attack: float, control: float) -> float:
    return max(0.0, (attack - control) / (1 - control)) if control < 1 else 0.0
