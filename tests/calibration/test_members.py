"""Members against non-members: parity with scikit-learn, and how often what it says is true in simulations."""

import json

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu
from sklearn.metrics import auc as area_under
from sklearn.metrics import roc_auc_score, roc_curve

from monai_deepssim.calibration import compare_members, proportion_interval
from monai_deepssim.calibration.cross_fitting import flag_by_halves, flag_by_third, split_patients
from monai_deepssim.calibration.privacy_measures import (
    advantage_interval,
    auc_interval,
    effective_patients,
    epsilon_lower_bound,
    epsilon_lower_bounds,
    singling_out_risk,
)

NUM_RUNS = 200
#: An interval that holds with 95 % holds this often in 200 runs, but for one test in a thousand.
FEWEST_COVERED = binom.ppf(0.001, NUM_RUNS, 0.95)


def draw_side(generator, num_patients, images_each=1, correlation=0.0, memorized=0.0):
    """Scores that are alike within a patient, and raised by four standard deviations where one is memorized."""
    patients = np.repeat(np.arange(num_patients), images_each)
    of_patient = generator.normal(size=num_patients)[patients]
    scores = np.sqrt(correlation) * of_patient + np.sqrt(1 - correlation) * generator.normal(size=len(patients))
    return scores + 4 * (generator.random(num_patients) < memorized)[patients], patients


def simulate(num_members, num_non_members, memorized=0.0, num_runs=NUM_RUNS, **clusters):
    generator = np.random.default_rng(11)
    comparisons = []
    for run in range(num_runs):
        members, patients = draw_side(generator, num_members, memorized=memorized, **clusters)
        others, other_patients = draw_side(generator, num_non_members, **clusters)
        comparisons.append(compare_members(members, others, patients, other_patients, seed=run))
    return comparisons


@pytest.mark.parametrize(
    "sides",
    [
        {"num_members": 300, "num_non_members": 150},
        {"num_members": 60, "num_non_members": 40, "images_each": 5, "correlation": 0.7},
        {"num_members": 12, "num_non_members": 10, "images_each": 4, "correlation": 1.0},
    ],
    ids=["independent", "clustered", "few patients"],
)
def test_where_nothing_is_memorized_the_intervals_hold_and_epsilon_is_bounded_by_0(sides):
    comparisons = simulate(**sides)
    advantages = np.array([comparison.advantage for comparison in comparisons])
    covered = sum(low <= 0 <= high for low, high in (comparison.advantage_interval for comparison in comparisons))
    assert covered >= FEWEST_COVERED
    # No bias towards an advantage, unlike the largest difference over all thresholds.
    assert abs(advantages.mean()) < 3 * advantages.std() / np.sqrt(NUM_RUNS)
    assert sum(low <= 0.5 <= high for low, high in (c.auc_interval for c in comparisons)) >= FEWEST_COVERED
    assert sum(comparison.epsilon_lower_bound == 0 for comparison in comparisons) >= FEWEST_COVERED
    assert sum(comparison.singling_out[1] == 0 for comparison in comparisons) >= FEWEST_COVERED


def test_the_largest_difference_of_all_thresholds_would_be_an_advantage_where_there_is_none():
    generator = np.random.default_rng(1)
    largest = []
    for _ in range(50):
        fpr, tpr, _ = roc_curve(np.arange(450) < 300, generator.normal(size=450))
        largest.append((tpr - fpr).max())
    assert np.mean(largest) > 0.05


def test_one_memorized_patient_in_twenty_is_detected():
    comparisons = simulate(1000, 500, memorized=0.05, num_runs=60)
    assert np.mean([comparison.advantage_interval[0] > 0 for comparison in comparisons]) > 0.8
    assert np.mean([comparison.epsilon_lower_bound > 0 for comparison in comparisons]) > 0.6
    assert np.mean([comparison.singling_out[1] > 0 for comparison in comparisons]) > 0.6
    # The best threshold has 0.05; that of other patients is not quite as good.
    assert 0.03 < np.mean([comparison.advantage for comparison in comparisons]) <= 0.05
    assert comparisons[0].sentence.startswith("The synthetic set lies closer to its training images")


def test_a_bound_on_epsilon_is_not_above_the_epsilon_of_a_known_mechanism():
    # Randomised response: a bit that says "member" is true with e^eps / (1 + e^eps).
    generator, epsilon, above = np.random.default_rng(2), 1.0, 0
    honest = np.exp(epsilon) / (1 + np.exp(epsilon))
    bounds = []
    for run in range(100):
        members, others = generator.random(400) < honest, generator.random(400) >= honest
        bounds.append(
            compare_members(members.astype(float), others.astype(float), delta=0, seed=run).epsilon_lower_bound
        )
        above += bounds[-1] > epsilon
    assert above <= binom.ppf(0.999, 100, 0.05)
    assert np.median(bounds) > 0.5


def test_rates_are_those_of_scikit_learn_with_ties_too():
    generator = np.random.default_rng(3)
    members, others = np.round(generator.normal(0.6, 0.1, 700), 2), np.round(generator.normal(0.5, 0.1, 1200), 2)
    comparison = compare_members(members, others)
    labels, scores = np.arange(1900) < 700, np.concatenate([members, others])
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert comparison.auc == roc_auc_score(labels, scores)
    assert comparison.auc == pytest.approx(mannwhitneyu(members, others).statistic / (700 * 1200))
    assert comparison.tpr_at_1_fpr.value == tpr[fpr <= 0.01].max()
    assert comparison.tpr_at_01_fpr.value == tpr[fpr <= 0.001].max()
    assert set(zip(*comparison.roc, strict=True)) <= set(zip(fpr, tpr, strict=True))


def test_a_curve_of_many_points_is_thinned_to_200_that_lie_on_it_and_keep_its_ends():
    generator = np.random.default_rng(4)
    members, others = generator.normal(1, 1, 5000), generator.normal(0, 1, 5000)
    comparison = compare_members(members, others)
    fpr, tpr = comparison.roc
    assert len(fpr) <= 200
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert area_under(fpr, tpr) == pytest.approx(comparison.auc, abs=0.005)
    assert (fpr[fpr > 0] < 0.01).sum() > 20, "the left end is where few are accused"


@pytest.mark.parametrize(
    ("num_non_members", "known"), [(99, (False, False)), (100, (True, False)), (1000, (True, True))]
)
def test_a_low_false_positive_rate_takes_as_many_patients_as_it_has_in_its_denominator(num_non_members, known):
    generator = np.random.default_rng(5)
    comparison = compare_members(generator.normal(size=50), generator.normal(size=num_non_members))
    assert (comparison.tpr_at_1_fpr is not None, comparison.tpr_at_01_fpr is not None) == known
    entry = comparison.as_json()
    assert (entry["tpr_at_1_fpr"] is not None, entry["tpr_at_0.1_fpr"] is not None) == known
    assert ("takes 1,000 held-out patients" in comparison.sentence) == (not known[1])
    # A thousand slices of fifty patients are not a thousand witnesses.
    slices = compare_members(generator.normal(size=50), generator.normal(size=1000), None, np.arange(1000) % 50)
    assert slices.tpr_at_1_fpr is None


def test_fewer_than_ten_patients_have_no_interval_and_are_told_so():
    generator = np.random.default_rng(6)
    three = np.arange(60) % 3
    comparison = compare_members(generator.normal(2, 1, 60), generator.normal(0, 1, 60), three, None)
    entry = json.loads(json.dumps(comparison.as_json()))
    assert entry["auc"] > 0.8
    assert all(
        entry[name] is None for name in ("auc_interval", "advantage", "epsilon_lower_bound", "singling_out_risk")
    )
    assert entry["sentence"] == (
        "Not decided: it takes 10 patients on each side, and there are 3 in training and 60 held out."
    )


def test_the_summary_has_what_is_agreed_and_no_number_that_json_does_not_know():
    generator = np.random.default_rng(7)
    entry = compare_members(generator.normal(5, 1, 400), generator.normal(0, 1, 1000)).as_json()
    text = json.dumps(entry, allow_nan=False)
    names = ("auc", "tpr_at_1_fpr", "tpr_at_0.1_fpr", "advantage", "singling_out_risk")
    for name in names:
        low, high = json.loads(text)[f"{name}_interval"]
        assert low <= entry[name] <= high, name
    assert set(entry) == {
        *names, *(f"{name}_interval" for name in names),
        "num_members", "num_non_members", "epsilon_lower_bound", "epsilon_conditions", "roc", "sentence",
    }  # fmt: skip
    assert entry["epsilon_lower_bound"] > 2
    assert "delta = 1e-05" in entry["epsilon_conditions"]
    assert "chance decided which of these patients were in training" in entry["epsilon_conditions"]


def test_the_sentence_says_no_more_than_the_numbers():
    generator = np.random.default_rng(8)
    none = compare_members(generator.normal(size=1000), generator.normal(size=1000))
    assert none.sentence.startswith(
        "Not decided: no difference between training and held-out images is certain: advantage "
    )
    farther = compare_members(generator.normal(0, 1, 1000), generator.normal(1, 1, 1000))
    assert "closer to the held-out images" in farther.sentence
    assert "may not come from the same source" in farther.sentence
    assert farther.singling_out[0] == 0


def test_no_patient_has_a_say_in_the_threshold_that_judges_it():
    generator = np.random.default_rng(9)
    codes = np.repeat(np.arange(11), 4)
    folds = split_patients(codes, 2, generator)
    assert all(len(set(folds[codes == patient])) == 1 for patient in range(11))
    assert sorted(np.bincount(folds[::4]).tolist()) == [5, 6]
    scores = generator.normal(size=44), generator.normal(size=44)
    flags = flag_by_halves(scores, (codes, codes), np.random.default_rng(1))
    folds = split_patients(codes, 2, np.random.default_rng(1))
    # A patient who scores higher than all is flagged, and moves the flag of no other in its half.
    raised = scores[0] + np.where(codes == 0, 100, 0)
    moved = flag_by_halves((raised, scores[1]), (codes, codes), np.random.default_rng(1))
    same_half = (folds == folds[0]) & (codes != 0)
    assert moved[0][codes == 0].all()
    assert (moved[0][same_half] == flags[0][same_half]).all()
    judged, patients = flag_by_third(scores, (codes, codes), np.random.default_rng(1))
    assert len(judged[0]) == len(patients[0]) < 44


@pytest.mark.parametrize(("num_members", "num_non_members"), [(40, 300), (300, 40)])
def test_the_same_image_eight_times_makes_no_interval_narrower(num_members, num_non_members):
    generator = np.random.default_rng(10)
    members, others = generator.normal(0.5, 1, num_members), generator.normal(0, 1, num_non_members)
    once = compare_members(members, others)
    repeated = compare_members(
        np.repeat(members, 8),
        np.repeat(others, 8),
        np.repeat(np.arange(num_members), 8),
        np.repeat(np.arange(num_non_members), 8),
    )
    for name in ("advantage_interval", "auc_interval"):
        low, high = getattr(once, name)
        low_of_repeated, high_of_repeated = getattr(repeated, name)
        assert high_of_repeated - low_of_repeated > 0.99 * (high - low), name


def test_an_area_of_independent_images_has_the_spread_of_the_rank_test_where_nothing_is_told():
    low, high = auc_interval(0.5, 4000, 3000)
    standard_error = np.sqrt((4000 + 3000 + 1) / (12 * 4000 * 3000))
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=1e-3)
    assert auc_interval(0.0, 20, 30) == pytest.approx([1 - end for end in auc_interval(1.0, 20, 30)[::-1]])
    assert auc_interval(1.0, 20, 30)[1] == 1
    assert auc_interval(1.0, 20, 30)[0] < 1


def test_patients_with_equally_many_images_all_count_and_one_with_most_of_them_hides_the_others():
    assert effective_patients(np.repeat(np.arange(7), 5)) == pytest.approx(7)
    assert effective_patients(np.array([0] * 1000 + list(range(1, 10)))) < 1.02


def test_epsilon_is_what_the_two_inequalities_allow():
    for tpr, fpr, delta in [(0.3, 0.1, 0), (0.99, 0.9, 0), (0.05, 0.2, 0), (0.3, 0.1, 0.05), (0.0, 1.0, 0)]:
        epsilon = epsilon_lower_bound(tpr, fpr, delta)
        assert tpr <= np.exp(epsilon) * fpr + delta + 1e-12
        assert 1 - fpr <= np.exp(epsilon) * (1 - tpr) + delta + 1e-12
        if epsilon > 0:
            less = epsilon - 1e-6
            assert tpr > np.exp(less) * fpr + delta or 1 - fpr > np.exp(less) * (1 - tpr) + delta


def test_the_bounds_of_many_thresholds_are_those_of_exact_limits():
    found, wrong = np.array([0, 5, 40, 50]), np.array([0, 0, 9, 30])
    bounds = epsilon_lower_bounds(found / 50, wrong / 30, 50, 30)
    for position, bound in enumerate(bounds):
        tpr = proportion_interval(np.arange(50) < found[position])
        fpr = proportion_interval(np.arange(30) < wrong[position])
        assert max(bound, 0) == pytest.approx(epsilon_lower_bound(tpr.low, fpr.high, 0), abs=1e-9)


def test_the_advantage_has_newcombes_interval_and_the_risk_lies_between_0_and_1():
    equal = proportion_interval([True] * 5 + [False] * 5), proportion_interval([True] * 5 + [False] * 5)
    low, high = advantage_interval(*equal)
    assert (low, high) == pytest.approx((-high, -low))
    tpr, fpr = proportion_interval(np.arange(40) < 12), proportion_interval(np.arange(60) < 1)
    low, high = advantage_interval(tpr, fpr)
    assert 0.3 - 1 / 60 - low == pytest.approx(np.hypot(0.3 - tpr.low, fpr.high - 1 / 60))
    assert high - 0.3 + 1 / 60 == pytest.approx(np.hypot(tpr.high - 0.3, 1 / 60 - fpr.low))
    every = proportion_interval([True] * 10)
    assert singling_out_risk(every, every)[:2] == (0, 0)
    value, low, high = singling_out_risk(every, proportion_interval([False] * 10))
    assert (value, high) == (1, 1)
    assert 0 < low < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [0.1]), "got 0 members and 1"),
        (([0.1], []), "got 1 members and 0"),
        (([np.nan], [0.1]), "want finite numbers"),
        (([0.1], [0.2], ["a", "b"]), "got 2 groups for 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare_members(*arguments)
    with pytest.raises(ValueError, match="delta=1"):
        compare_members([0.1], [0.2], delta=1)
