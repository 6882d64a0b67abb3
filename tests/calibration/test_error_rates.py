"""The stated error rates hold: 200 seeded audits of a generator that copies nothing, or a known few.

Images are unit vectors, an image's score is its highest cosine with any training image, as in an audit, and every run
draws training, held-out and synthetic images anew. Sampling error is taken at three standard errors, or at one in a
thousand of the binomial distribution.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm

from monai_deepssim.calibration import (
    NullScores,
    conformal_p_values,
    find_discoveries,
    leave_one_out_null,
    leave_out_duplicates,
    percentile_threshold,
)

NUM_RUNS = 200
DIMENSIONS = 12


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw_strangers(generator, num_images, dimensions=DIMENSIONS):
    return unit(generator.standard_normal((num_images, dimensions)).astype(np.float32))


def draw_patients(generator, slices_of_each, dimensions=DIMENSIONS):
    """Images of patients, and the patient of each: slices of one patient have a cosine of about 0.9."""
    patients = np.repeat(np.arange(len(slices_of_each)), slices_of_each)
    centres = draw_strangers(generator, len(slices_of_each), dimensions)[patients]
    return unit(centres + 0.1 * generator.standard_normal(centres.shape).astype(np.float32)), patients


def draw_copies(generator, training, num_copies, noise=0.03):
    copied = training[generator.choice(len(training), num_copies, replace=False)]
    return unit(copied + noise * generator.standard_normal(copied.shape).astype(np.float32))


def highest(images, training):
    return (images @ training.T).max(axis=1)


def assert_at_most(rates, nominal):
    assert np.mean(rates) <= nominal + 3 * np.std(rates) / np.sqrt(len(rates)), np.mean(rates)


def assert_above(rates, nominal):
    assert np.mean(rates) > nominal + 3 * np.std(rates) / np.sqrt(len(rates)), np.mean(rates)


def audits_with_holdout(num_copies, num_synthetic=50, num_holdout=999):
    """False-positive rate at 5 %, false-discovery proportion and share of copies found at 5 %, of each run."""
    generator = np.random.default_rng(20)
    rates = []
    for _ in range(NUM_RUNS):
        training = draw_strangers(generator, 150)
        null = NullScores(highest(draw_strangers(generator, num_holdout), training))
        copies = draw_copies(generator, training, num_copies)
        synthetic = np.concatenate([copies, draw_strangers(generator, num_synthetic - num_copies)])
        found = find_discoveries(highest(synthetic, training), null, fdr=0.05)
        rates.append(
            (
                (found.p_values[num_copies:] <= 0.05).mean(),
                found.is_discovery[num_copies:].sum() / max(found.count, 1),
                found.is_discovery[:num_copies].mean() if num_copies else np.nan,
            )
        )
    return np.array(rates).T


def test_without_copies_the_error_rates_are_their_nominal_level_and_not_only_below_it() -> None:
    false_positive_rates, false_discovery_proportions, _ = audits_with_holdout(num_copies=0)
    assert_at_most(false_positive_rates, 0.05)
    assert_at_most(0.1 - false_positive_rates, 0.05)
    # Every discovery is false here, so the rate is the share of runs that have one. With 999 held-out and 50 synthetic
    # images theory gives exactly 5 %.
    num_runs_with_discoveries = np.count_nonzero(false_discovery_proportions)
    assert binom.ppf(0.001, NUM_RUNS, 0.05) <= num_runs_with_discoveries <= binom.ppf(0.999, NUM_RUNS, 0.05)


def test_with_copies_the_false_discovery_rate_holds_and_the_copies_are_found() -> None:
    false_positive_rates, false_discovery_proportions, recalls = audits_with_holdout(num_copies=10)
    assert_at_most(false_positive_rates, 0.05)
    # Benjamini and Hochberg: the level times the share of images that are not copies.
    assert_at_most(false_discovery_proportions, 0.05 * 40 / 50)
    assert false_discovery_proportions.mean() > 0.02
    assert recalls.mean() > 0.99


def audits_with_slices(num_patients, level):
    """Images of a new patient flagged at the level in each run, by image, by patient, and by each patient's highest."""
    generator = np.random.default_rng(21)
    rates = []
    for _ in range(NUM_RUNS):
        training = draw_strangers(generator, 150)
        # A few patients have most of the slices.
        holdout, patients = draw_patients(generator, generator.geometric(0.1, num_patients))
        holdout_scores = highest(holdout, training)
        synthetic, _ = draw_patients(generator, np.ones(50, dtype=int))
        scores = highest(synthetic, training)
        by_rule = [
            conformal_p_values(scores, holdout_scores),
            conformal_p_values(scores, holdout_scores, patients),
            conformal_p_values(scores, holdout_scores, patients, group_rule="max"),
        ]
        rates.append([(p_values <= level).mean() for p_values in by_rule])
    return np.array(rates).T


def test_slices_of_few_held_out_patients_need_their_patients_named() -> None:
    by_image, by_patient, by_highest = audits_with_slices(num_patients=12, level=0.1)
    assert_above(by_image, 0.1)
    assert_at_most(by_patient, 0.1)
    assert_at_most(by_highest, 0.1)
    assert by_highest.mean() <= by_patient.mean()


@pytest.mark.parametrize("num_copies", [0, 6])
def test_the_false_discovery_rate_holds_with_held_out_slices_grouped_by_patient(num_copies) -> None:
    generator = np.random.default_rng(22)
    proportions = []
    for _ in range(NUM_RUNS):
        training = draw_strangers(generator, 150)
        holdout, patients = draw_patients(generator, generator.integers(1, 15, 99))
        strangers, _ = draw_patients(generator, np.ones(20 - num_copies, dtype=int))
        synthetic = np.concatenate([draw_copies(generator, training, num_copies), strangers])
        null = NullScores(highest(holdout, training), patients)
        found = find_discoveries(highest(synthetic, training), null, fdr=0.2)
        proportions.append(found.is_discovery[num_copies:].sum() / max(found.count, 1))
    assert_at_most(np.array(proportions), 0.2)
    assert np.mean(proportions) > 0.05


def leave_one_out(training, patients, rows=None, duplicate_threshold=None):
    """The null of training images as an audit makes it."""
    rows = np.arange(len(training)) if rows is None else rows
    similarity = training[rows] @ training.T
    similarity[patients[rows, None] == patients] = -1
    scores, nearest = similarity.max(axis=1), similarity.argmax(axis=1)
    if duplicate_threshold is not None:
        kept = ~leave_out_duplicates(scores, duplicate_threshold).flags
        scores, nearest, rows = scores[kept], nearest[kept], rows[kept]
    return leave_one_out_null(scores, nearest, rows, patients[rows])


def sizes_of_leave_one_out(slices_of_each, num_runs, votes):
    """Share of strangers at or below ``votes`` / (G + 1), counted plainly and with one more vote, of each run."""
    generator, rates, num_patients = np.random.default_rng(23), [], len(slices_of_each)
    level = votes / (num_patients + 1) + 1e-12
    for _ in range(num_runs):
        training, patients = draw_patients(generator, slices_of_each)
        null = leave_one_out(training, patients)
        scores = highest(draw_patients(generator, np.ones(100, dtype=int))[0], training)
        plainly = conformal_p_values(scores, null.scores, null.groups)
        rates.append([(plainly <= level).mean(), (null.p_values(scores) <= level).mean()])
    return np.array(rates).T, level


@pytest.mark.parametrize("num_patients", [30, 200])
def test_plain_leave_one_out_is_twice_too_sure_at_its_smallest_p_value_and_one_more_vote_is_enough(
    num_patients,
) -> None:
    (plainly, _), level = sizes_of_leave_one_out(np.ones(num_patients, dtype=int), NUM_RUNS, votes=1)
    assert_above(plainly, level)
    (_, corrected), level = sizes_of_leave_one_out(np.ones(num_patients, dtype=int), NUM_RUNS, votes=2)
    assert_at_most(corrected, level)
    # Not merely switched off: at this level it is nearly exact.
    assert corrected.mean() > 0.6 * level


@pytest.mark.parametrize(("num_patients", "num_runs"), [(30, NUM_RUNS), (200, 50), (2000, 4)])
@pytest.mark.parametrize("votes", [2, 4])
def test_leave_one_out_p_values_hold_their_size_with_slices_of_patients(num_patients, num_runs, votes) -> None:
    slices_of_each = np.arange(num_patients) % (2 if num_patients == 2000 else 4) + 1
    (_, corrected), level = sizes_of_leave_one_out(slices_of_each, num_runs, votes)
    assert_at_most(corrected, level)


def test_ten_copies_in_a_thousand_images_are_called_with_two_hundred_of_two_thousand_training_images() -> None:
    generator, num_copies = np.random.default_rng(26), 10
    proportions, recalls, exact = [], [], []
    for _ in range(NUM_RUNS):
        # The highest of 2,000 similarities, and plain copies: 1 % of 1,000 synthetic images.
        null = NullScores(highest_of_training(generator, 200), extra_votes=1)
        copies = np.clip(generator.normal(0.95, 0.03, num_copies), None, 1)
        found = find_discoveries(np.append(copies, highest_of_training(generator, 1000 - num_copies)), null)
        proportions.append(found.is_discovery[num_copies:].sum() / max(found.count, 1))
        recalls.append(found.is_discovery[:num_copies].mean())
        exact.append(found.num_exact)
    assert_at_most(np.array(proportions), 0.05)
    assert np.mean(recalls) >= 0.8, np.mean(recalls)
    assert max(exact) == 0


def highest_of_training(generator, num_images, num_training=2000):
    return norm(0, 0.13).isf(-np.expm1(np.log(generator.random(num_images)) / num_training))


@pytest.mark.parametrize("num_copies", [0, 10])
@pytest.mark.parametrize("slices_of_each", [np.ones(600, dtype=int), np.arange(300) % 3 + 1], ids=["images", "slices"])
def test_the_false_discovery_rate_holds_with_training_images_as_null(slices_of_each, num_copies) -> None:
    generator = np.random.default_rng(27)
    proportions, recalls = [], []
    for _ in range(25):
        training, patients = draw_patients(generator, slices_of_each, dimensions=48)
        scored = np.sort(generator.choice(len(training), 200, replace=False))
        null = leave_one_out(training, patients, scored)
        strangers, _ = draw_patients(generator, np.ones(1000 - num_copies, dtype=int), dimensions=48)
        copies = draw_copies(generator, training, num_copies)
        found = find_discoveries(highest(np.concatenate([copies, strangers]), training), null)
        proportions.append(found.is_discovery[num_copies:].sum() / max(found.count, 1))
        recalls.append(found.is_discovery[:num_copies].mean() if num_copies else np.nan)
    assert_at_most(np.array(proportions), 0.05)
    assert not num_copies or np.mean(recalls) >= 0.8


def test_duplicates_in_the_training_set_silence_no_copy() -> None:
    generator = np.random.default_rng(28)
    with_them, without = [], []
    for _ in range(25):
        training, patients = draw_patients(generator, np.ones(1000, dtype=int), dimensions=48)
        training[:50] = draw_copies(generator, training[50:], 50)
        scored = np.sort(generator.choice(1000, 200, replace=False))
        copies = draw_copies(generator, training, 300)
        strangers, _ = draw_patients(generator, np.ones(700, dtype=int), dimensions=48)
        scores = highest(np.concatenate([copies, strangers]), training)
        for recalls, threshold in ((with_them, None), (without, 0.86)):
            found = find_discoveries(scores, leave_one_out(training, patients, scored, threshold))
            recalls.append(found.is_discovery[:300].mean())
    assert np.mean(with_them) < 0.2
    assert np.mean(without) > 0.95


def test_unknown_patients_in_the_training_set_hide_copies() -> None:
    generator = np.random.default_rng(24)
    training, patients = draw_patients(generator, np.full(100, 3))
    # As far from their source as a patient's slices are from each other.
    copies = highest(draw_copies(generator, training, 20, noise=0.15), training)
    known, unknown = (leave_one_out(training, groups) for groups in (patients, np.arange(300)))
    assert (known.p_values(copies) <= 0.05).mean() > 0.8
    assert (unknown.p_values(copies) <= 0.05).mean() < 0.2


@pytest.mark.parametrize(("num_holdout", "accuses_too_many"), [(50, True), (400, False)])
def test_dars_percentile_is_a_rule_whose_error_rate_depends_on_the_size_of_the_held_out_set(
    num_holdout, accuses_too_many
) -> None:
    generator = np.random.default_rng(25)
    rates = []
    for _ in range(NUM_RUNS):
        training, holdout = draw_strangers(generator, 150), draw_strangers(generator, num_holdout)
        threshold = percentile_threshold(highest(training, holdout))
        rates.append((highest(draw_strangers(generator, 50), training) > threshold).mean())
    if accuses_too_many:
        assert_above(np.array(rates), 0.05)
    else:
        assert_at_most(np.array(rates), 0.05)
