"""The Memorization Index: the authors' numbers, brute force, whitening, the null and its limits."""

import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torchvision.transforms.functional import rotate

from monai_deepssim.metrics import (
    SUPPORTED_DETECTORS,
    MemorizationIndexMetric,
    MRICoreMemorizationIndexMetric,
    compute_memorization_index,
)
from monai_deepssim.metrics.feature_whitening import ZCAWhitening
from monai_deepssim.metrics.memorization_index import score_whitened
from monai_deepssim.networks import DeepSSIMEmbedder

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "memorization_index.npz"
LAYERS = ("block3", "block7", "block11")


@pytest.fixture(scope="module")
def reference():
    with np.load(FIXTURE) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def features(reference):
    return [{layer: reference[f"{side}_{layer}"] for layer in LAYERS} for side in ("query", "train")]


@pytest.fixture(scope="module")
def index(features, reference):
    return compute_memorization_index(*features, null=(reference["mu_null"], reference["sigma_null"]))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(query, train, mean, deviation):
    """The definition, written with NumPy and loops over the queries."""
    cosines = []
    for layer in train:
        mu, covariance = train[layer].numpy().mean(0), np.cov(train[layer].numpy(), rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors @ np.diag(np.maximum(values, 1e-8) ** -0.5) @ vectors.T
        q, t = (query[layer].numpy() - mu) @ root, (train[layer].numpy() - mu) @ root
        cosines.append([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in t] for a in q])
    cosines = np.sort(np.array(cosines), axis=2)[:, :, ::-1]
    first, second = (np.prod(np.maximum(cosines[:, :, k], 0), axis=0) ** (1 / len(train)) for k in (0, 1))
    return first, (first - mean) / deviation, first - second


class TestAgainstTheAuthors:
    @pytest.mark.parametrize("name", ["similarity", "mi", "oni", "consensus"])
    def test_their_numbers_come_out(self, index, reference, name):
        torch.testing.assert_close(getattr(index, name).double(), reference[name].double(), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("number", range(3))
    def test_so_do_those_of_each_layer(self, index, reference, number):
        torch.testing.assert_close(
            index.layer_similarity[:, number].double(), reference[f"sim_{LAYERS[number]}"], atol=1e-4, rtol=0
        )
        assert index.layer_nearest[:, number].tolist() == reference[f"top1_{LAYERS[number]}"].tolist()

    def test_so_does_their_null_from_their_seed(self, features, reference):
        mean, deviation = compute_memorization_index(*features, seed=1234).null
        assert mean == pytest.approx(reference["mu_null"].item(), abs=1e-5)
        assert deviation == pytest.approx(reference["sigma_null"].item(), abs=1e-5)

    def test_another_seed_gives_a_null_like_theirs(self, features, reference):
        mean, deviation = compute_memorization_index(*features, seed=0).null
        assert mean != pytest.approx(reference["mu_null"].item(), abs=1e-6)
        assert mean == pytest.approx(reference["mu_null"].item(), abs=0.01)
        assert deviation == pytest.approx(reference["sigma_null"].item(), abs=0.01)


class TestTheDefinition:
    def test_brute_force_agrees(self, features, index):
        similarity, mi, margin = by_hand(*features, *index.null)
        torch.testing.assert_close(index.similarity.numpy(), similarity, atol=1e-5, rtol=0, check_dtype=False)
        torch.testing.assert_close(index.mi.numpy(), mi, atol=1e-4, rtol=0, check_dtype=False)
        torch.testing.assert_close(index.margin.numpy(), margin, atol=1e-5, rtol=0, check_dtype=False)

    def test_whitening_is_symmetric_and_whitens_as_scikit_learn_does(self):
        train = normal(80, 6) @ normal(6, 6, seed=1)
        query = normal(5, 6, seed=2)
        whitening = ZCAWhitening(train)
        pca = PCA(whiten=True).fit(train.numpy())
        turned_back = torch.from_numpy(pca.transform(query.numpy()) @ pca.components_)
        torch.testing.assert_close(whitening.transform(query), turned_back)
        torch.testing.assert_close(whitening.matrix, whitening.matrix.T)

    def test_the_unit_of_a_layer_does_not_matter(self, features):
        query, train = features
        scales = {"block3": 1e-6, "block7": 1e5, "block11": 1.0}
        scaled = compute_memorization_index(
            *({layer: values * scales[layer] for layer, values in side.items()} for side in (query, train))
        )
        torch.testing.assert_close(scaled.mi, compute_memorization_index(query, train).mi, atol=1e-4, rtol=1e-4)

    def test_a_negative_cosine_counts_as_none(self):
        # Training features have mean 0, so that a query always finds one of a cosine of at least 0 among all of them,
        # but not among a random half: here -3 does not when it is in the one half and all others are 1.
        train = torch.tensor([[-3.0], [1.0], [1.0], [1.0]])
        generator, scores = np.random.default_rng(0), []
        for _ in range(10):
            values = train.flatten().numpy()[generator.permutation(4)]
            scores += [float((value * values[2:] > 0).any()) for value in values[:2]]
        assert 0.0 in scores
        index = compute_memorization_index({"layer": train}, {"layer": train})
        assert index.null == pytest.approx((np.mean(scores), np.std(scores)), abs=1e-5)

    def test_one_layer_without_any_likeness_takes_the_similarity_to_nearly_none(self):
        axis = torch.tensor([[1.0, 0.0]])
        index = score_whitened({"a": -axis, "b": axis}, {"a": axis.repeat(2, 1), "b": axis.repeat(2, 1)}, (0.5, 0.1))
        assert index.layer_similarity.tolist() == [[-1.0, 1.0]]
        assert index.similarity.item() == pytest.approx(1e-3, rel=1e-3)  # the root of the paper's 1e-6
        assert index.oni.item() == pytest.approx(math.tanh(5), abs=1e-3)

    def test_no_image_named_twice_means_no_agreement_and_the_nearest_is_the_most_similar(self):
        train = {layer: normal(60, 4, seed=seed) for seed, layer in enumerate("abc")}
        mixed = {"a": train["a"][3:4], "b": train["b"][8:9] + 0.2, "c": train["c"][9:10] + 0.2}
        index = compute_memorization_index(mixed, train)
        assert index.layer_nearest.tolist() == [[3, 8, 9]]
        assert (index.consensus.item(), index.agreement.item(), index.nearest.item()) == (1, 1, 3)

    def test_the_nearest_is_the_one_that_most_layers_name(self):
        train = {layer: normal(60, 4, seed=seed) for seed, layer in enumerate("abc")}
        mixed = {"a": train["a"][3:4], "b": train["b"][8:9] + 0.05, "c": train["c"][8:9] + 0.05}
        index = compute_memorization_index(mixed, train)
        assert index.layer_nearest.tolist() == [[3, 8, 8]]
        # The authors count who agrees with the first layer.
        assert (index.consensus.item(), index.agreement.item(), index.nearest.item()) == (1, 2, 8)

    def test_the_result_cannot_be_changed(self, index):
        with pytest.raises(dataclasses.FrozenInstanceError):
            index.mi = torch.zeros(1)


class TestFewTrainingImages:
    def test_fewer_than_channels_make_the_empirical_index_blind_and_the_shrunk_one_see(self):
        basis = normal(6, 64, seed=1)  # what varies, below a little noise
        everybody = normal(60, 6) @ basis + 0.05 * normal(60, 64, seed=2)
        train, strangers = everybody[:40], everybody[40:]
        copies = train[:20] + 0.1 * normal(20, 6, seed=3) @ basis + 0.01 * normal(20, 64, seed=4)
        query = {"layer": torch.cat([copies, strangers])}
        with pytest.warns(UserWarning, match="40 training images are few for the channels of layers layer \\(64\\)"):
            shrunk = compute_memorization_index(query, {"layer": train})
        assert shrunk.nearest[:20].tolist() == list(range(20))
        assert shrunk.mi[:20].min() > shrunk.mi[20:].median()
        with pytest.warns(UserWarning, match="are few"), pytest.warns(UserWarning, match="standard deviation is 0"):
            empirical = compute_memorization_index(query, {"layer": train}, covariance="empirical")
        assert empirical.similarity.max() < 0.2  # what is a copy to within noise is far from everything

    def test_three_are_refused(self):
        with pytest.raises(ValueError, match="got 3 training images, want at least 4"):
            compute_memorization_index({"layer": normal(1, 1)}, {"layer": normal(3, 1)})

    def test_four_are_scored(self):
        assert compute_memorization_index({"layer": normal(2, 1)}, {"layer": normal(4, 1)}).mi.shape == (2,)

    def test_enough_do_not_warn(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compute_memorization_index({"layer": normal(2, 4)}, {"layer": normal(8, 4)})


class TestTheNull:
    def test_without_spread_everything_above_its_mean_is_infinitely_far(self):
        train = {"layer": normal(40, 3)}
        query = {"layer": torch.cat([train["layer"][:1], normal(1, 3, seed=5)])}
        with pytest.warns(UserWarning, match="standard deviation is 0"):
            index = compute_memorization_index(query, train, null=(1.0, 0.0))
        assert index.mi.tolist() == [0.0, -math.inf]
        assert index.oni.tolist() == [0.0, 1.0]

    def test_training_images_that_are_all_the_same_say_nothing_and_say_so(self):
        same = {"layer": torch.ones(20, 3)}
        with pytest.warns(UserWarning, match="standard deviation is 0"):
            index = compute_memorization_index({"layer": torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])}, same)
        assert index.mi.tolist() == [0.0, 0.0]

    def test_of_changed_images_it_is_that_of_the_changed_against_the_others(self):
        train = {"layer": normal(200, 3)}
        plain = compute_memorization_index(train, train, seed=3)
        same = compute_memorization_index(train, train, seed=3, null_query=train)
        turned = compute_memorization_index(train, train, seed=3, null_query={"layer": -100 + 0 * train["layer"]})
        assert same.null == plain.null
        assert turned.null[0] < plain.null[0]

    @pytest.mark.parametrize("null", [(0.5, -0.1), (math.nan, 0.1)])
    def test_one_that_is_none_is_refused(self, null):
        with pytest.raises(ValueError, match="want a finite mean and a standard deviation of at least 0"):
            compute_memorization_index({"layer": normal(2, 1)}, {"layer": normal(8, 1)}, null=null)


@pytest.mark.parametrize(
    ("query", "train", "message"),
    [
        ({"a": normal(2, 3)}, {}, "got no layers"),
        ({"b": normal(2, 3)}, {"a": normal(9, 3)}, "want those of the training features"),
        ({"a": normal(2, 4)}, {"a": normal(9, 3)}, "want those of the training features"),
        ({"a": normal(2, 3, 1)}, {"a": normal(9, 3)}, r"have shape \(2, 3, 1\), want \(N, C\)"),
        ({"a": normal(2, 3) / 0}, {"a": normal(9, 3)}, "not finite"),
        ({"a": normal(2, 3)}, {"a": normal(9, 3), "b": normal(8, 3)}, "differ in their number of training images"),
    ],
)
def test_features_that_do_not_fit_are_refused(query, train, message):
    with pytest.raises(ValueError, match=message):
        compute_memorization_index(query, train, null=(0.5, 0.1))


class TestTheMetric:
    @pytest.fixture
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 6, 7, stride=2), nn.GELU(), nn.Conv2d(6, 8, 5, stride=2), nn.GELU())

    @pytest.fixture
    def images(self, phantoms):
        generator = torch.Generator().manual_seed(0)
        mixing = torch.rand(40, len(phantoms), generator=generator).softmax(1)
        return torch.einsum("nm,mchw->nchw", (8 * mixing).softmax(1), phantoms)[..., ::2, ::2]

    def test_scores_are_the_index_and_the_nearest(self, network, images):
        metric = MemorizationIndexMetric(network, ["1", "3"]).fit(images[:32].split(5))
        scores = metric(images[30:36])
        index = metric.compute_index(metric.represent_batch(images[30:36]))
        assert scores.shape == (6, 2)
        torch.testing.assert_close(scores[:, 0], index.mi)
        assert scores[:2, 1].tolist() == [30, 31]
        assert scores[:2, 0].min() > scores[2:, 0].max()

    def test_it_is_the_function_on_the_layers_of_standardised_images(self, network, images):
        metric = MemorizationIndexMetric(network, ["1", "3"], seed=4).fit([images[:32]])
        z = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True, correction=0)
        with torch.no_grad():
            maps = [network[:2](z), network(z)]
        pooled = {name: output.mean((2, 3)) for name, output in zip("13", maps, strict=True)}
        expected = compute_memorization_index(
            {name: values[32:] for name, values in pooled.items()},
            {name: values[:32] for name, values in pooled.items()},
            seed=4,
        )
        torch.testing.assert_close(metric(images[32:])[:, 0], expected.mi, atol=1e-3, rtol=1e-3)

    def test_pairs_and_searches_are_in_the_same_unit(self, network, images):
        metric = MemorizationIndexMetric(network, ["1", "3"]).fit([images[:32]])
        copies = metric.represent_batch(images[:3])
        scores, indices = metric.search(copies, num_neighbors=2)
        assert indices[:, 0].tolist() == [0, 1, 2]
        torch.testing.assert_close(scores[:, 0], metric.compute_index(copies).mi, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(metric.score_pairs(images[:3], images[:3]), scores[:, 0], atol=1e-3, rtol=1e-3)
        every = metric.compare(copies, metric.training_representations)
        torch.testing.assert_close(every.topk(2).values.float(), scores, atol=1e-3, rtol=1e-3)

    def test_the_threshold_is_one_on_the_index(self, network, images):
        metric = MemorizationIndexMetric(network, ["1", "3"], threshold=1.47).fit([images[:32]])
        mi = metric(images)[:, 0]
        assert metric.aggregate().item() == pytest.approx((-torch.tanh(mi) < -math.tanh(1.47)).float().mean().item())

    def test_pooled_features_do_not_change_with_a_flip(self, network, images):
        plain, pooled = (
            MemorizationIndexMetric(network, ["1", "3"], pool_over_transforms=pool) for pool in (False, True)
        )
        for axes in ([2], [3], [2, 3]):
            torch.testing.assert_close(
                pooled.represent_batch(images[:4].flip(axes)), pooled.represent_batch(images[:4]), atol=1e-4, rtol=1e-3
            )
        assert not torch.allclose(plain.represent_batch(images[:4].flip(2)), plain.represent_batch(images[:4]), 1e-2)
        assert pooled.fit([images[:32]])(images[:4].flip(3))[:, 1].tolist() == [0, 1, 2, 3]

    def test_pooled_features_change_less_with_a_rotation(self, network, images):
        def change(pool):
            represent = MemorizationIndexMetric(network, ["1", "3"], pool_over_transforms=pool).represent_batch
            spread = represent(images).std(0)
            return ((represent(rotate(images, 4.0)) - represent(images)) / spread).norm(dim=1).mean()

        assert change(True) < change(False)

    def test_the_null_of_changed_images_is_another_and_comes_from_the_seed(self, network, images):
        def null(**kwargs):
            metric = MemorizationIndexMetric(network, ["1", "3"], **kwargs).fit(images.split(16))
            return metric.compute_index(metric.represent_batch(images[:1])).null

        assert null(null_jitter=True) == null(null_jitter=True)
        assert null(null_jitter=True) != null()
        assert null(null_jitter=True, seed=1) != null(null_jitter=True)

    def test_representations_alone_are_refused_where_the_null_needs_images(self, network, images):
        metric = MemorizationIndexMetric(network, ["1", "3"], null_jitter=True)
        with pytest.raises(ValueError, match="needs the training images: call fit"):
            metric.fit_representations(metric.represent_batch(images))

    def test_representations_alone_are_enough_otherwise(self, network, images):
        fitted = MemorizationIndexMetric(network, ["1", "3"]).fit([images])
        metric = MemorizationIndexMetric(network, ["1", "3"]).fit_representations(fitted.training_representations)
        torch.testing.assert_close(metric(images[:2]), fitted(images[:2]))

    def test_unfitted_it_says_what_to_do(self, network, images):
        metric = MemorizationIndexMetric(network, ["1"])
        for use in (metric, lambda x: metric.score_pairs(x, x), lambda x: metric.search(metric.represent_batch(x))):
            with pytest.raises(RuntimeError, match="call fit"):
                use(images[:2])

    def test_deepssim_is_compared_by_its_stages(self, phantoms):
        metric = MemorizationIndexMetric(DeepSSIMEmbedder("convnext_atto"))
        assert metric.represent_batch(phantoms[:2]).shape == (2, 40 + 80 + 160 + 320)

    def test_another_network_needs_the_names_of_layers(self, network):
        with pytest.raises(ValueError, match="got layers=None for a Sequential"):
            MemorizationIndexMetric(network)

    def test_both_are_found_by_name(self):
        assert SUPPORTED_DETECTORS["memorization_index"] is MemorizationIndexMetric
        assert SUPPORTED_DETECTORS["mri_core"] is MRICoreMemorizationIndexMetric
