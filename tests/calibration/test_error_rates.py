"""The stated error rates hold: 200 seeded audits of a generator that copies nothing, or a known few.

Images are unit vectors, an image's score is its highest cosine with any training image, as in an audit, and every run
draws training, held-out and synthetic images anew. Sampling error is taken at three standard errors, or at one in a
thousand of the binomial distribution.
"""

import numpy as np
import pytest
from scipy.stats import binom

from monai_deepssim.calibration import (
    NullScores,
    conformal_p_values,
    find_discoveries,
    percentile_threshold,
    random_halves_null,
)

NUM_RUNS = 200
DIMENSIONS = 12


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def draw_strangers(generator, num_images):
    return unit(generator.standard_normal((num_images, DIMENSIONS)).astype(np.float32))


def draw_patients(generator, slices_of_each):
    """Images of patients, and the patient of each: slices of one patient have a cosine of about 0.9."""
    patients = np.repeat(np.arange(len(slices_of_each)), slices_of_each)
    centres = draw_strangers(generator, len(slices_of_each))[patients]
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


def audits_by_halves(slices_of_each, num_repeats=2):
    """False-positive rate at 10 % in each run, of the p-values as halves give them and of those that are doubled."""
    generator = np.random.default_rng(23)
    rates = []
    for run in range(NUM_RUNS):
        training, patients = draw_patients(generator, slices_of_each)
        similarity = training @ training.T

        def score_between(indices, searched, similarity=similarity):
            return similarity[np.ix_(indices, searched)].max(axis=1)

        null = random_halves_null(score_between, len(training), patients, num_repeats, seed=run)
        synthetic, _ = draw_patients(generator, np.ones(50, dtype=int))
        scores = highest(synthetic, training)
        as_given = conformal_p_values(scores, null.scores, null.groups)
        rates.append([(as_given <= 0.1).mean(), (null.p_values(scores) <= 0.1).mean()])
    return np.array(rates).T


@pytest.mark.parametrize("slices_of_each", [np.ones(120, dtype=int), np.arange(60) % 4 + 1], ids=["images", "slices"])
def test_halves_of_the_training_set_accuse_too_many_and_doubled_p_values_do_not(slices_of_each) -> None:
    as_given, doubled = audits_by_halves(slices_of_each)
    assert_above(as_given, 0.1)
    assert_at_most(doubled, 0.1)
    # The doubling bounds the bias closely: it does not merely switch the test off.
    assert doubled.mean() > 0.05


@pytest.mark.parametrize("num_copies", [0, 6])
@pytest.mark.parametrize("slices_of_each", [np.ones(300, dtype=int), np.arange(240) % 3 + 1], ids=["images", "slices"])
def test_the_false_discovery_rate_holds_with_halves_of_the_training_set(slices_of_each, num_copies) -> None:
    generator = np.random.default_rng(26)
    proportions, recalls = [], []
    for run in range(NUM_RUNS):
        training, patients = draw_patients(generator, slices_of_each)
        similarity = training @ training.T

        def score_between(indices, searched, similarity=similarity):
            return similarity[np.ix_(indices, searched)].max(axis=1)

        null = random_halves_null(score_between, len(training), patients, repeats=2, seed=run)
        strangers, _ = draw_patients(generator, np.ones(20 - num_copies, dtype=int))
        copies = draw_copies(generator, training, num_copies)
        found = find_discoveries(highest(np.concatenate([copies, strangers]), training), null, fdr=0.2)
        proportions.append(found.is_discovery[num_copies:].sum() / max(found.count, 1))
        recalls.append(found.is_discovery[:num_copies].mean() if num_copies else np.nan)
    assert_at_most(np.array(proportions), 0.2)
    # Doubled p-values are on the safe side, and not far on it; copies are found.
    assert np.mean(proportions) > 0.02
    assert not num_copies or np.mean(recalls) > 0.99


def test_unknown_patients_in_the_training_set_hide_copies_from_the_halves() -> None:
    generator = np.random.default_rng(24)
    training, patients = draw_patients(generator, np.full(100, 3))
    # As far from their source as a patient's slices are from each other.
    copies = highest(draw_copies(generator, training, 20, noise=0.15), training)

    def score_between(indices, searched):
        return highest(training[indices], training[searched])

    known, unknown = (random_halves_null(score_between, 300, groups) for groups in (patients, None))
    assert (known.p_values(copies) <= 0.05).mean() > 0.9
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
