"""Intervals of shares: against SciPy, against another formula, and how often they hold the truth."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import beta, binom, binomtest, t

from monai_deepssim.calibration import proportion_interval


def ends(proportion):
    return proportion.low, proportion.high


def draw_clustered(generator, share, correlation, sizes):
    """Flags with a share, correlated within patients: beta-binomial, and all or nothing at a correlation of 1."""
    if correlation == 1:
        shares = generator.random(len(sizes)) < share
    else:
        scale = (1 - correlation) / correlation
        shares = generator.beta(share * scale, (1 - share) * scale, len(sizes))
    patients = np.repeat(np.arange(len(sizes)), sizes)
    return generator.random(len(patients)) < shares[patients], patients


@pytest.mark.parametrize(("count", "total"), [(0, 7), (1, 200), (37, 100), (7, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_independent_images_have_the_exact_binomial_interval(count, total, confidence) -> None:
    flags = np.arange(total) < count
    expected = binomtest(count, total).proportion_ci(confidence, method="exact")
    for groups in (None, range(total), [""] * total):
        share = proportion_interval(flags, groups, confidence)
        assert (share.count, share.total, share.value) == (count, total, count / total)
        assert ends(share) == (expected.low, expected.high)
        assert share.method == "exact binomial (Clopper-Pearson)"
        assert share.num_groups is None


def test_the_exact_interval_holds_the_truth_at_least_as_often_as_it_says() -> None:
    low, high = np.array([ends(proportion_interval(np.arange(40) < count)) for count in range(41)]).T
    shares = np.linspace(0.001, 0.999, 199)[:, None]
    coverage = (binom.pmf(np.arange(41), 40, shares) * ((low <= shares) & (shares <= high))).sum(axis=1)
    assert coverage.min() >= 0.95
    assert coverage.mean() < 0.99


def test_patients_of_equal_size_have_the_interval_that_the_spread_of_their_shares_gives() -> None:
    flags, patients = draw_clustered(np.random.default_rng(3), 0.3, 0.3, np.full(40, 6))
    shares = flags.reshape(40, 6).mean(axis=1)
    effective = flags.mean() * (1 - flags.mean()) / (shares.var(ddof=1) / 40)
    assert effective < 200
    effective *= (t.ppf(0.025, 239) / t.ppf(0.025, 39)) ** 2
    count = flags.mean() * effective
    expected = beta.ppf(0.025, count, effective - count + 1), beta.ppf(0.975, count + 1, effective - count)
    share = proportion_interval(flags, patients)
    assert ends(share) == pytest.approx(expected, rel=1e-9)
    assert share.effective_total == pytest.approx(effective)
    assert (share.num_groups, share.value) == (40, flags.mean())


def test_images_that_are_all_alike_within_a_patient_tell_as_much_as_one_of_each() -> None:
    of_patient = np.arange(50) % 5 == 0
    share = proportion_interval(np.repeat(of_patient, 8), np.repeat(np.arange(50), 8))
    # One less, because the variance is estimated.
    assert share.effective_total == pytest.approx(49 * (t.ppf(0.025, 399) / t.ppf(0.025, 49)) ** 2)
    one_of_each = proportion_interval(of_patient)
    assert share.low < one_of_each.low < one_of_each.high < share.high


@pytest.mark.parametrize("sizes", [[5] * 30, [1] * 29 + [300], [10]])
def test_nothing_found_is_nothing_found_in_so_many_patients(sizes) -> None:
    patients = np.repeat(np.arange(len(sizes)), sizes)
    none = proportion_interval(np.zeros(len(patients)), patients)
    assert none.low == 0
    # If all images of a patient go together, the chance to find nothing is (1 - high)^G: 2.5 % at this end.
    assert (1 - none.high) ** len(sizes) == pytest.approx(0.025)
    every = proportion_interval(np.ones(len(patients)), patients)
    assert ends(every) == pytest.approx((1 - none.high, 1))


def test_clustering_never_narrows_an_interval_and_a_finding_never_lowers_its_upper_end() -> None:
    generator = np.random.default_rng(4)
    for _ in range(60):
        sizes = generator.integers(1, 9, generator.integers(2, 30))
        flags, patients = draw_clustered(generator, generator.random() * 0.3, generator.random(), sizes)
        share, plain, none = (
            proportion_interval(some, groups)
            for some, groups in ((flags, patients), (flags, None), (np.zeros(len(flags)), patients))
        )
        assert share.low <= plain.low + 1e-12
        assert share.high >= plain.high - 1e-12
        assert share.high >= none.high
        opposite = proportion_interval(~flags, patients)
        assert ends(opposite) == pytest.approx((1 - share.high, 1 - share.low), abs=1e-9)


def test_two_patients_say_next_to_nothing() -> None:
    share = proportion_interval([True, False, True, False], ["a", "a", "b", "b"])
    assert share.low < 0.001
    assert share.high > 0.999


@pytest.mark.parametrize("correlation", [0.3, 1])
@pytest.mark.parametrize("expected_share", [0.02, 0.2])
def test_the_clustered_interval_holds_the_truth_where_the_plain_one_does_not(correlation, expected_share) -> None:
    generator = np.random.default_rng(5)
    covered = np.zeros(2)
    for _ in range(300):
        flags, patients = draw_clustered(generator, expected_share, correlation, generator.integers(1, 15, 60))
        for position, groups in enumerate((patients, None)):
            share = proportion_interval(flags, groups)
            covered[position] += share.low <= expected_share <= share.high
    assert covered[0] >= binom.ppf(0.001, 300, 0.95)
    assert covered[1] < binom.ppf(0.001, 300, 0.9)


def test_tensors_and_unknown_patients_are_taken_and_the_summary_is_plain() -> None:
    flags = torch.tensor([1, 1, 0, 0, 0])
    share = proportion_interval(flags, ["a", "a", "", "", None])
    assert share.num_groups == 4
    entry = json.loads(json.dumps(share.as_json()))
    assert entry["value"] == 0.4
    assert entry["interval"] == [share.low, share.high]
    assert entry["confidence"] == 0.95
    assert "clustered by patient or file" in entry["method"]
    assert entry["num_groups"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least 1"),
        (([0.5],), "other than 0 and 1"),
        (([True], ["a", "b"]), "got 2 groups for 1"),
        (([True], None, 95), "got confidence=95"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        proportion_interval(*arguments)
