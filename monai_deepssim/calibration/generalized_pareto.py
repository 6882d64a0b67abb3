"""The generalised Pareto distribution: what lies above a high threshold, whatever the scores are otherwise."""

from __future__ import annotations

import numpy as np

from monai_deepssim.calibration.vectors import Vector, as_scores

__all__ = ["fit_generalized_pareto", "generalized_pareto_fit_p_value", "generalized_pareto_survival"]

# Below so small a shape the power in the survival function is its limit, the exponential function, to rounding.
_EXPONENTIAL = 1e-6
# Probability-weighted moments exist for shapes below 1, and are estimated well below 1/2. A mean of so few excesses
# that it asks for more is no evidence of a shape.
_LARGEST_SHAPE = 0.9


def fit_generalized_pareto(excesses: Vector, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Fit a generalised Pareto distribution by probability-weighted moments.

    With :math:`a_0 = E[Y]` and :math:`a_1 = E[Y (1 - F(Y))]`, the latter from all pairs of excesses
    (:math:`a_1 = E[\min(Y, Y')] / 2`),

    .. math:: \xi = 2 - \frac{a_0}{a_0 - 2 a_1}, \qquad \sigma = a_0 (1 - \xi)

    No search for a maximum: a thousand resamplings are fitted at once.

    Hosking, Wallis. *Parameter and quantile estimation for the generalized Pareto distribution.* Technometrics 29
    (1987).

    Args:
        excesses: ``(k,)``, by how much each score exceeds the threshold; at least 0.
        weights: ``(B, k)``, weight of each excess in each of B fits; ``None`` for one fit in which all count alike.

    Returns:
        Shape and scale, ``(B,)`` each. A fit in which fewer than two excesses have a weight has shape 0.

    Raises:
        ValueError: when there are fewer than two excesses, one is negative, or all are 0.

    Example:
        >>> from scipy.stats import genpareto
        >>> shape, scale = fit_generalized_pareto(genpareto(0.2, scale=3).ppf((np.arange(1000) + 0.5) / 1000))
        >>> shape.round(2), scale.round(1)
        (array([0.2]), array([3.]))
    """
    values = as_scores(excesses, "excesses")
    if len(values) < 2 or values.min() < 0 or values.max() == 0:
        raise ValueError(f"got {len(values)} excesses, want two or more that are at least 0 and not all 0")
    order = np.argsort(values)
    values = values[order]
    weight = np.ones((1, len(values))) if weights is None else np.asarray(weights, dtype=np.float64)[:, order]
    total = weight.sum(axis=1)
    pairs = total**2 - (weight**2).sum(axis=1)
    is_fitted = pairs > 1e-12 * np.maximum(total, 1) ** 2
    above = total[:, None] - np.cumsum(weight, axis=1)
    mean = (weight * values).sum(axis=1) / np.where(total > 0, total, 1)
    first = (weight * values * above).sum(axis=1) / np.where(is_fitted, pairs, 1)
    spread = mean - 2 * first
    is_fitted &= spread > 1e-12 * values[-1]
    shape = np.where(is_fitted, 2 - mean / np.where(is_fitted, spread, 1), 0.0)
    shape = np.minimum(shape, _LARGEST_SHAPE)
    return shape, mean * (1 - shape)


def generalized_pareto_survival(excesses: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    r"""Compute the probability of an excess at least as large.

    .. math:: S(y) = \Big(1 + \frac{\xi y}{\sigma}\Big)_+^{-1 / \xi}, \qquad S(y) = e^{-y / \sigma} \text{ for } \xi = 0

    Args:
        excesses: at least 0; broadcast against shape and scale.
        shape: xi; above 0 for a heavy tail, below 0 for one that ends at -sigma / xi.
        scale: sigma, at least 0; at 0 no excess is possible.

    Returns:
        Probabilities.

    Example:
        >>> generalized_pareto_survival(np.array([0.0, 1.0, 5.0]), np.array(-0.5), np.array(1.0))
        array([1.  , 0.25, 0.  ])
    """
    excess, xi, sigma = np.broadcast_arrays(excesses, shape, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.where(excess > 0, excess / sigma, 0.0)
        is_exponential = np.abs(xi) < _EXPONENTIAL
        base = np.maximum(1 + xi * standard, 0.0)
        return np.where(is_exponential, np.exp(-standard), base ** (-1 / np.where(is_exponential, 1.0, xi)))


def generalized_pareto_fit_p_value(
    excesses: Vector, effective_size: int | None = None, num_simulations: int = 500, seed: int = 0
) -> float:
    r"""Test whether excesses are of a generalised Pareto distribution: Cramér-von Mises with a parametric bootstrap.

    .. math:: W^2 = \frac{1}{12 k} + \sum_i \Big(F(y_{(i)}) - \frac{2 i - 1}{2 k}\Big)^2

    Its distribution depends on the shape and on the fact that the parameters were fitted to the same excesses, so it is
    simulated from the fit. Where excesses depend on each other, k of them scatter like fewer; W² is scaled down to that
    number, and as many are simulated.

    Choulakian, Stephens. *Goodness-of-fit tests for the generalized Pareto distribution.* Technometrics 43 (2001).

    Args:
        excesses: ``(k,)``, at least 0.
        effective_size: how many independent excesses there are; k by default.
        num_simulations: samples that are drawn from the fit.
        seed: seed of the draw.

    Returns:
        The p-value, in (0, 1]; small where they do not fit.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> generalized_pareto_fit_p_value(generator.exponential(size=100)) > 0.05
        True
        >>> generalized_pareto_fit_p_value(generator.choice([0.1, 0.9], 100) + 0.01 * generator.random(100)) < 0.01
        True
    """
    values = np.sort(as_scores(excesses, "excesses"))
    size = len(values) if effective_size is None else effective_size
    shape, scale = fit_generalized_pareto(values)
    statistic = _cramer_von_mises(values[None], shape, scale)[0] * size / len(values)
    uniform = np.random.default_rng(seed).random((num_simulations, size))
    simulated = _quantile(uniform, shape[0], scale[0])
    simulated.sort(axis=1)
    above = (size - 1 - np.arange(size)) / (size - 1)
    mean, first = simulated.mean(axis=1), (simulated * above).mean(axis=1)
    fitted = np.minimum(2 - mean / (mean - 2 * first), _LARGEST_SHAPE)
    as_large = _cramer_von_mises(simulated, fitted, mean * (1 - fitted)) >= statistic
    return float((1 + as_large.sum()) / (num_simulations + 1))


def _quantile(probabilities: np.ndarray, shape: float, scale: float) -> np.ndarray:
    if abs(shape) < _EXPONENTIAL:
        return -scale * np.log1p(-probabilities)
    return scale / shape * np.expm1(-shape * np.log1p(-probabilities))


def _cramer_von_mises(values: np.ndarray, shape: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The statistic of each row of sorted values, ``(B,)``."""
    size = values.shape[1]
    below = 1 - generalized_pareto_survival(values, shape[:, None], scale[:, None])
    return 1 / (12 * size) + ((below - (2 * np.arange(size) + 1) / (2 * size)) ** 2).sum(axis=1)
