"""Scores of a synthetic set as a whole, against references and against what they promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import MMDMetric
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import (
    SUPPORTED_SET_SCORES,
    SetScoreMetric,
    compute_auth_pct,
    compute_ct_score,
    compute_fid,
    compute_fld_gap,
    compute_linear_mmd,
    compute_mifid,
)
from monai_deepssim.metrics.fld import _fit_log_variances, _log_likelihoods

FIXTURE = Path(__file__).parents[1] / "data" / "memorization_index.npz"


@pytest.fixture(scope="module")
def features():
    """Training, held-out, honest and copied features: three draws of one distribution, and the first again."""
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(3, 6, generator=generator)

    def draw(size):
        return centres[torch.randint(3, (size,), generator=generator)] + torch.randn(size, 6, generator=generator)

    training, holdout, honest = draw(300), draw(200), draw(250)
    copies = training[:250] + 0.01 * torch.randn(250, 6, generator=generator)
    return {"training": training, "holdout": holdout, "honest": honest, "copies": copies}


def arguments(name, features, synthetic):
    _, needs_holdout = SUPPORTED_SET_SCORES[name]
    return [features[synthetic], features["training"], *([features["holdout"]] if needs_holdout else [])]


def test_auth_pct_is_that_of_the_fixture():
    fixture = np.load(FIXTURE)
    synthetic, training = (torch.from_numpy(fixture[f"{part}_block11"]) for part in ("query", "train"))
    assert compute_auth_pct(synthetic, training).item() == pytest.approx(float(fixture["authpct_block11"]))


def test_auth_pct_is_its_definition_also_when_training_images_occur_twice(features):
    training = torch.cat([features["training"], features["training"][:20]]).double()
    synthetic = torch.cat([features["honest"][:50], features["copies"][:50]]).double()
    among = cdist(training, training)
    np.fill_diagonal(among, np.inf)
    between = cdist(synthetic, training)
    nearest = between.argmin(axis=1)
    expected = 100 * np.mean(between.min(axis=1) > among[nearest].min(axis=1))
    assert compute_auth_pct(synthetic, training).item() == pytest.approx(expected)
    assert 10 < expected < 90


@pytest.mark.parametrize("name", ["auth_pct", "ct_score", "fld_gap"])
def test_scores_of_copying_fall_when_a_generator_copies(name, features):
    compute, _ = SUPPORTED_SET_SCORES[name]
    honest, copying = (compute(*arguments(name, features, part)).item() for part in ("honest", "copies"))
    threshold = {"auth_pct": (40, 5), "ct_score": (-3, -5), "fld_gap": (-60, -200)}[name]
    assert honest > threshold[0]
    assert copying < threshold[1]


def test_fid_and_mmd_improve_when_a_generator_copies_and_mifid_does_not(features):
    for name in ("fid", "mmd"):
        compute, _ = SUPPORTED_SET_SCORES[name]
        assert compute(*arguments(name, features, "copies")) < compute(*arguments(name, features, "honest"))
    copying, honest = (compute_mifid(features[part], features["training"], 1e-4) for part in ("copies", "honest"))
    assert copying > 10 * honest
    assert honest == pytest.approx(compute_fid(features["honest"], features["training"]).item())


def test_ct_is_the_weighted_mean_of_mann_whitney_over_the_cells(features):
    synthetic, training, holdout = (features[part].double().numpy() for part in ("honest", "training", "holdout"))
    cells = KMeans(3, n_init=10, random_state=0).fit(training)
    expected, weights = [], []
    for cell in range(3):
        s, t, h = (rows[cells.predict(rows) == cell] for rows in (synthetic, training, holdout))
        ds, dh = cdist(s, t).min(axis=1), cdist(h, t).min(axis=1)
        pairs_won = (ds[:, None] > dh[None]).sum()  # no ties among real numbers
        assert mannwhitneyu(ds, dh).statistic == pairs_won
        n, m = len(h), len(s)
        assert m > 20
        expected.append((pairs_won - n * m / 2 + 0.5) / np.sqrt(n * m * (n + m + 1) / 12))
        weights.append(n / len(holdout))
    score = compute_ct_score(*(torch.from_numpy(rows) for rows in (synthetic, training, holdout)))
    assert score.item() == pytest.approx(np.dot(expected, weights))


def test_ct_leaves_out_cells_of_few_synthetic_images_and_reduces_many_features(features):
    near_one_centre = features["training"][:1] + 0.1 * torch.randn(40, 6)
    cells = KMeans(3, n_init=10, random_state=0).fit(features["training"].double().numpy())
    only = cells.predict(near_one_centre.double().numpy()) == cells.predict(features["training"][:1].double().numpy())
    assert only.all()
    in_cell = {
        part: features[part][torch.from_numpy(cells.predict(features[part].double().numpy()) == cells.labels_[0])]
        for part in ("training", "holdout")
    }
    alone = compute_ct_score(near_one_centre, in_cell["training"], in_cell["holdout"], num_cells=1)
    both = compute_ct_score(near_one_centre, features["training"], features["holdout"])
    assert both.item() == pytest.approx(alone.item())
    # Rotated into 80 dimensions nothing changes: the principal components hold all of it.
    basis = torch.linalg.qr(torch.randn(80, 80, dtype=torch.float64)).Q[:6]
    wide = [features[part].double() @ basis for part in ("honest", "training", "holdout")]
    narrow = [features[part] for part in ("honest", "training", "holdout")]
    assert compute_ct_score(*wide).item() == pytest.approx(compute_ct_score(*narrow).item(), abs=1e-6)


def test_flds_likelihood_is_that_of_torchs_mixture_and_its_widths_follow_the_distances(features):
    centres, training = features["honest"][:40].double(), features["training"].double()
    log_variances = torch.linspace(-2, 1, 40, dtype=torch.float64)
    scales = (log_variances / 2).exp()[:, None].expand(40, 6)
    mixture = MixtureSameFamily(
        Categorical(torch.ones(40, dtype=torch.float64)), Independent(Normal(centres, scales), 1)
    )
    torch.testing.assert_close(_log_likelihoods(training, centres, log_variances), mixture.log_prob(training))
    fitted = _fit_log_variances(torch.cat([training[:1], training[:1] + 1.0]), training)
    assert fitted[0] < fitted[1] - 5


def test_the_fld_gap_does_not_depend_on_the_scale_of_the_features(features):
    sets = [features[part] for part in ("honest", "training", "holdout")]
    scaled = [rows * torch.arange(1.0, 7.0) + 3 for rows in sets]
    assert compute_fld_gap(*scaled).item() == pytest.approx(compute_fld_gap(*sets).item(), rel=1e-3)


def test_mifid_punishes_a_generator_that_repeats_a_few_training_images(features):
    few = features["training"][:10].repeat(20, 1) + 1e-3 * torch.randn(200, 6)
    training = features["training"]
    x, y = (torch.nn.functional.normalize(rows.double(), dim=1) for rows in (few, training))
    distance = (1 - (x @ y.T).abs()).amin(1).mean()
    assert distance < 0.1
    expected = compute_fid(few, training) / distance
    assert compute_mifid(few, training).item() == pytest.approx(expected.item(), rel=1e-3)


def test_fid_is_that_of_the_paper(features):
    # MONAI's FIDMetric gives the same, and raises with SciPy 1.18.
    sets = [features[name].double().numpy() for name in ("honest", "training")]
    means, covariances = [rows.mean(0) for rows in sets], [np.cov(rows, rowvar=False) for rows in sets]
    root = sqrtm(covariances[0] @ covariances[1])
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert compute_fid(features["honest"], features["training"]).item() == pytest.approx(expected)


def test_mmd_is_monais(features):
    synthetic, training = features["honest"].double(), features["training"].double()
    expected = MMDMetric()(training[:250], synthetic).item()
    assert compute_linear_mmd(synthetic, training[:250]).item() == pytest.approx(expected)
    drawn = compute_linear_mmd(synthetic, training)
    assert drawn == compute_linear_mmd(synthetic, training)
    assert drawn.item() == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("name", SUPPORTED_SET_SCORES)
def test_the_metric_gives_what_the_function_gives_for_batches_and_lists(name, features):
    compute, _ = SUPPORTED_SET_SCORES[name]
    synthetic, *real = arguments(name, features, "honest")
    metric = SetScoreMetric(name, *real)
    assert metric.aggregate().isnan()
    metric(synthetic[:100])
    metric(list(synthetic[100:]))
    assert metric.aggregate().item() == pytest.approx(compute(synthetic, *real).item(), rel=1e-4)
    metric.reset()
    assert metric.aggregate().isnan()


@pytest.mark.parametrize("name", SUPPORTED_SET_SCORES)
def test_unusable_features_are_refused_in_words(name, features):
    compute, _ = SUPPORTED_SET_SCORES[name]
    synthetic, *real = arguments(name, features, "honest")
    with pytest.raises(ValueError, match=r"want a tensor \(N, D\)"):
        compute(synthetic[0], *real)
    with pytest.raises(ValueError, match="use one network"):
        compute(synthetic[:, :5], *real)
    broken = synthetic.clone()
    broken[7, 2] = torch.nan
    with pytest.raises(UnusableInputError, match="synthetic features of image 7 are not finite"):
        compute(broken, *real)
    with pytest.raises(UnusableInputError):
        compute(synthetic[:0], *real)


def test_too_few_images_for_the_cells_of_ct_are_refused_in_words(features):
    synthetic, training, holdout = (features[part] for part in ("honest", "training", "holdout"))
    with pytest.raises(UnusableInputError, match="held-out images"):
        compute_ct_score(synthetic, training, holdout[:1])
    with pytest.raises(UnusableInputError, match="more than 20 of the 15 synthetic"):
        compute_ct_score(synthetic[:15], training, holdout)
    with pytest.raises(UnusableInputError, match="do not make 3 cells"):
        compute_ct_score(synthetic, training[:2], holdout)
    with pytest.raises(ValueError, match="unknown score"):
        SetScoreMetric("fidd", training)
    with pytest.raises(ValueError, match="has not seen"):
        SetScoreMetric("ct_score", training)
