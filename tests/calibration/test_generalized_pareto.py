"""The generalised Pareto fit against SciPy's distribution and L-moments, and its test of fit against its own level."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binom, genpareto

from monai_deepssim.calibration import (
    fit_generalized_pareto,
    generalized_pareto_fit_p_value,
    generalized_pareto_survival,
)

SHAPES = (-0.5, -0.2, 0.0, 1e-9, 0.1, 0.4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_survival_function_is_scipys(shape) -> None:
    excesses = np.linspace(0, 12, 50)
    np.testing.assert_allclose(
        generalized_pareto_survival(excesses, np.array(shape), np.array(1.5)),
        genpareto(shape, scale=1.5).sf(excesses),
        rtol=1e-6,
        atol=1e-15,
    )


@pytest.mark.skipif(not hasattr(stats, "lmoment"), reason="needs SciPy 1.15")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_fit_is_that_of_scipys_l_moments_and_finds_the_parameters(shape) -> None:
    excesses = genpareto(shape, scale=1.5).rvs(5000, random_state=1)
    first, second = stats.lmoment(excesses, order=[1, 2])
    fitted_shape, fitted_scale = fit_generalized_pareto(excesses)
    np.testing.assert_allclose(fitted_shape, 2 - first / second, rtol=1e-9)
    np.testing.assert_allclose(fitted_scale, first * (first / second - 1), rtol=1e-9)
    assert abs(fitted_shape[0] - shape) < 0.08
    assert abs(fitted_scale[0] - 1.5) < 0.12


def test_many_weighted_fits_are_each_the_fit_alone_and_no_weight_is_no_excess() -> None:
    generator = np.random.default_rng(2)
    excesses, weights = generator.exponential(size=40), generator.integers(0, 3, (20, 40)).astype(float)
    shapes, scales = fit_generalized_pareto(excesses, weights)
    for row in range(20):
        alone = fit_generalized_pareto(excesses, weights[row : row + 1])
        np.testing.assert_allclose((shapes[row], scales[row]), (alone[0][0], alone[1][0]))
    only_some = (weights[0] > 0).astype(float)
    np.testing.assert_allclose(
        fit_generalized_pareto(excesses, only_some[None]), fit_generalized_pareto(excesses[only_some > 0])
    )


def test_a_resampling_that_holds_one_excess_alone_has_the_shape_of_none() -> None:
    shapes, scales = fit_generalized_pareto([0.0, 1.0, 3.0], np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(shapes, [0, 0])
    np.testing.assert_array_equal(scales, [3, 0])
    np.testing.assert_array_equal(generalized_pareto_survival(np.array([0.0, 1.0]), shapes[1:], scales[1:]), [1, 0])


@pytest.mark.parametrize("excesses", [[1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_what_cannot_be_fitted_is_refused_in_words(excesses) -> None:
    with pytest.raises(ValueError, match="want two or more that are at least 0"):
        fit_generalized_pareto(excesses)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_the_test_of_fit_rejects_one_true_tail_in_twenty(shape) -> None:
    generator = np.random.default_rng(3)
    samples = genpareto(shape).rvs((100, 40), random_state=generator)
    num_rejected = sum(generalized_pareto_fit_p_value(sample, num_simulations=99) <= 0.05 for sample in samples)
    assert binom.ppf(0.001, 100, 0.05) <= num_rejected <= binom.ppf(0.999, 100, 0.05)


def test_pairs_of_equal_scores_are_no_misfit_when_they_are_counted_once() -> None:
    generator = np.random.default_rng(4)
    samples = np.repeat(generator.exponential(size=(100, 40)), 2, axis=1)
    plainly, by_pairs = (
        sum(generalized_pareto_fit_p_value(sample, size, num_simulations=99) <= 0.05 for sample in samples)
        for size in (None, 40)
    )
    assert plainly > binom.ppf(0.999, 100, 0.05) >= by_pairs


def test_two_clumps_of_scores_do_not_fit() -> None:
    generator = np.random.default_rng(5)
    clumps = np.append(generator.exponential(0.02, 25), generator.normal(0.4, 0.02, 15))
    assert generalized_pareto_fit_p_value(clumps) < 0.01
