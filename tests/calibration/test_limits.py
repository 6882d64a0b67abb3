"""Upper limits of a share and the numbers of images that they need: against SciPy, and how often they hold."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from monai_deepssim.calibration import images_needed, proportion_interval, upper_limit


@pytest.mark.parametrize(("count", "total"), [(0, 24), (1, 300), (37, 100), (7, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_limit_of_independent_images_is_that_of_the_beta_distribution(count, total, confidence):
    expected = 1.0 if count == total else beta.ppf(confidence, count + 1, total - count)
    assert upper_limit(np.arange(total) < count, confidence=confidence) == pytest.approx(expected)


def test_a_share_above_the_limit_would_have_shown_more_copies_with_the_confidence():
    limit = upper_limit(np.arange(200) < 3)
    assert binom.cdf(3, 200, limit) == pytest.approx(0.05)


def test_nothing_in_so_many_volumes_has_the_limit_of_so_many_images():
    volumes = np.repeat(np.arange(20), 10)
    assert upper_limit(np.zeros(200), volumes) == pytest.approx(upper_limit(np.zeros(20)))


def test_the_limit_of_clustered_images_holds_at_least_as_often_as_it_says():
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        shares = generator.beta(0.2, 1.8, 40)  # a mean of 0.1, alike within a volume
        volumes = np.repeat(np.arange(40), 8)
        held += upper_limit(generator.random(320) < shares[volumes], volumes) >= 0.1
    assert held >= binom.ppf(0.001, 400, 0.95)


@pytest.mark.parametrize("max_fraction", [0.003, 0.01, 0.2, 0.9])
@pytest.mark.parametrize("count", [0, 1, 12])
def test_one_image_less_than_needed_is_too_few(max_fraction, count):
    needed = images_needed(max_fraction, count)
    assert upper_limit(np.arange(needed) < count) <= max_fraction
    if needed > max(count, 1):
        assert upper_limit(np.arange(needed - 1) < count) > max_fraction


def test_no_copy_below_one_per_cent_takes_299_images():
    assert images_needed(0.01) == 299
    assert images_needed(0.01) == np.ceil(np.log(0.05) / np.log(0.99))


def test_no_number_of_images_shows_that_there_is_no_copy_at_all_and_any_that_there_may_be():
    assert images_needed(0) is None
    assert images_needed(1) == 1
    assert images_needed(1, count=5) == 5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: upper_limit([False], confidence=0.5), "confidence=0.5"),
        (lambda: images_needed(0.01, confidence=95), "confidence=95"),
        (lambda: images_needed(1.1), "max_fraction=1.1"),
        (lambda: images_needed(0.1, count=-1), "count=-1"),
        (lambda: upper_limit([]), "at least 1"),
        (lambda: proportion_interval([True], confidence=0), "confidence=0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(function, message):
    with pytest.raises(ValueError, match=message):
        function()
