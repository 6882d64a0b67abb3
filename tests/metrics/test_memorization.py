"""The copy fraction as a metric: parity with scikit-learn's cosines, verification, and what is cached."""

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from sklearn.metrics.pairwise import cosine_similarity

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import AlignedDetector, MemorizationMetric, NCCDetector
from monai_deepssim.networks import DeepSSIMEmbedder
from monai_deepssim.similarity import DEFORMATION_COST, standardize
from monai_deepssim.transforms import Perturbation


def make_embedder(side=32, dim=64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(side * side, dim))


@pytest.fixture
def training_images():
    return torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def synthetic_images(training_images):
    """Five images: noisy copies of training images 4 and 2, and three new ones."""
    generator = torch.Generator().manual_seed(2)
    copies = training_images[[4, 2]] + 0.02 * torch.rand(2, 1, 32, 32, generator=generator)
    return torch.cat([copies, torch.rand(3, 1, 32, 32, generator=generator)])


def cosines(embedder, images, training_images):
    with torch.no_grad():
        return cosine_similarity(embedder(standardize(images)), embedder(standardize(training_images)))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("decollated", [False, True], ids=["batches", "lists"])
def test_scores_and_copy_fraction_are_those_of_scikit_learns_cosines(
    training_images, synthetic_images, batch_size, decollated
):
    metric = MemorizationMetric(make_embedder()).fit(training_images.split(4))
    for batch in synthetic_images.split(batch_size):
        scores = metric(list(batch) if decollated else batch)
        assert scores.shape == (len(batch), 2)
    expected = cosines(make_embedder(), synthetic_images, training_images)
    assert metric.get_buffer().shape == (5, 1)
    torch.testing.assert_close(metric.get_buffer()[:, 0], torch.tensor(expected.max(1)))
    assert metric.get_nearest().tolist() == expected.argmax(1).tolist()
    assert metric.aggregate().item() == pytest.approx((expected.max(1) > 0.85).mean()) == pytest.approx(0.4)
    metric.reset()
    assert metric.aggregate().isnan()
    metric(synthetic_images[:1])
    assert metric.aggregate() == 1, "the training images stay fitted"


def test_the_training_loader_gives_tensors_or_dictionaries(training_images, synthetic_images):
    items = [{"image": MetaTensor(image)} for image in training_images]
    of_dictionaries = MemorizationMetric(make_embedder()).fit(DataLoader(Dataset(items), batch_size=4))
    of_tensors = MemorizationMetric(make_embedder()).fit(DataLoader(Dataset(list(training_images)), batch_size=4))
    torch.testing.assert_close(of_dictionaries(synthetic_images), of_tensors(synthetic_images))


def test_the_embedder_embeds_in_eval_mode_and_keeps_its_mode(training_images, synthetic_images):
    embedder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(32 * 32), torch.nn.Dropout(0.5))
    metric = MemorizationMetric(embedder)
    embedder.train()
    metric.fit([training_images])
    one_by_one = torch.cat([metric(image[None]) for image in synthetic_images])
    torch.testing.assert_close(one_by_one, metric(synthetic_images))
    assert embedder.training
    assert all(module.training for module in embedder.modules())
    assert embedder[1].num_batches_tracked == 0


def test_verification_finds_copies_that_the_cosine_misses_and_has_its_own_threshold(phantoms):
    training, unseen = phantoms[:6], phantoms[6:9]
    change = Perturbation("shift_3").set_random_state(5)
    synthetic = torch.cat([torch.stack([change(image) for image in training[:3]]).flip(2), unseen])
    torch.manual_seed(0)
    embedder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(136 * 112, 32))

    by_cosine = MemorizationMetric(embedder).fit([training])
    assert (by_cosine(synthetic[:3])[:, 0] < 0.85).all()
    assert by_cosine.aggregate() == 0

    # One image is aligned: of all that the embedder proposes, the one that pixels in one pose choose.
    metric = MemorizationMetric(embedder, verify=True, top_k=1).fit(training.split(4))
    metric(synthetic[:2])
    metric(list(synthetic[2:]))
    assert metric.get_nearest()[:3].tolist() == [0, 1, 2]
    by_pair = AlignedDetector(NCCDetector())
    torch.testing.assert_close(metric.get_buffer()[:3, 0], by_pair.score_pairs(synthetic[:3], training[:3]))
    assert metric.aggregate() == 0.5
    assert metric.threshold == 0.86
    strict = MemorizationMetric(embedder, verify=True, top_k=6, verify_threshold=1.0).fit([training])
    strict(synthetic[:1])
    assert strict.aggregate() == 0


def test_verification_deforms_at_the_price_of_an_audit(phantoms):
    training = phantoms[:6]
    warped = Perturbation("warp").set_random_state(0)(training[3])[None].as_tensor()
    expected = AlignedDetector(NCCDetector(), deformation_cost=DEFORMATION_COST).score_pairs(warped, training[3:4])
    stiff = AlignedDetector(NCCDetector(), deformation_cost=None).score_pairs(warped, training[3:4])
    assert expected > stiff

    metric = MemorizationMetric(torch.nn.Flatten(), verify=True, top_k=2).fit([training])
    metric(warped)

    torch.testing.assert_close(metric.get_buffer()[:, 0], expected)


def test_an_image_without_a_score_is_left_out_and_a_diverged_generator_does_not_pass(training_images):
    broken = training_images[:2].clone()
    broken[:, 0, 3, 3] = torch.nan
    for verify in (False, True):
        metric = MemorizationMetric(make_embedder(), verify=verify).fit([training_images])
        scores = metric(broken)
        assert scores[:, 0].isnan().all()
        assert scores[:, 1].tolist() == [-1, -1]
        assert metric.aggregate().isnan()
        metric(training_images[3:4])
        assert metric.get_nearest().tolist() == [-1, -1, 3]
        assert metric.aggregate() == 1


def test_the_shipped_embedder_cannot_pose_a_broken_image_and_is_not_asked_to(phantoms):
    embedder = DeepSSIMEmbedder("convnext_atto", canonical_size=(128, 128)).eval()
    metric = MemorizationMetric(embedder).fit([phantoms[:4]])
    broken = phantoms[:2].clone()
    broken[0, 0, 3, 3] = torch.nan
    assert metric(broken)[:, 1].tolist() == [-1, 1]


class TestCache:
    @pytest.fixture
    def embedder(self):
        embedder = make_embedder()
        embedder.embedded = 0

        def count(module, args):
            module.embedded += len(args[0])

        embedder.register_forward_pre_hook(count)
        return embedder

    def test_only_images_that_are_not_in_it_are_embedded(self, embedder, training_images, synthetic_images, tmp_path):
        path = tmp_path / "folder" / "embeddings.pt"
        without = MemorizationMetric(make_embedder()).fit([training_images])(synthetic_images)
        first = MemorizationMetric(embedder).fit(training_images.split(4), cache_path=path)
        assert embedder.embedded == 6
        torch.testing.assert_close(first(synthetic_images), without)

        embedder.embedded = 0
        again = MemorizationMetric(embedder).fit(training_images.flip(0).split(5), cache_path=path)
        assert embedder.embedded == 0
        nearest = again(synthetic_images)
        torch.testing.assert_close(nearest[:, 0], without[:, 0])
        assert nearest[:, 1].tolist() == (5 - without[:, 1]).tolist()

        embedder.embedded = 0
        grown = torch.cat([training_images, synthetic_images[2:3]])
        MemorizationMetric(embedder).fit([grown], cache_path=path)
        MemorizationMetric(embedder).fit([grown], cache_path=path)
        assert embedder.embedded == 1
        assert [file.name for file in path.parent.iterdir()] == ["embeddings.pt"]

    def test_it_serves_verification_too(self, embedder, phantoms, tmp_path):
        training = phantoms[:3, :, :32, 40:72]
        path = tmp_path / "embeddings.pt"
        without = MemorizationMetric(embedder, verify=True).fit([training])(training)
        for _ in range(2):
            metric = MemorizationMetric(embedder, verify=True).fit([training], cache_path=path)
            torch.testing.assert_close(metric(training), without)

    def test_embeddings_in_which_a_bit_was_flipped_are_computed_again(
        self, embedder, training_images, tmp_path, capsys
    ):
        path = tmp_path / "embeddings.pt"
        MemorizationMetric(embedder).fit([training_images], cache_path=path)
        numbers = torch.load(path, weights_only=True)["embeddings"].numpy().tobytes()
        content = bytearray(path.read_bytes())
        content[content.index(numbers) + 2] ^= 1
        path.write_bytes(content)
        embedder.embedded = 0
        MemorizationMetric(embedder).fit([training_images], cache_path=path)
        assert embedder.embedded == 6
        assert "embeddings.pt: is damaged" in capsys.readouterr().err
        assert torch.load(path, weights_only=True)["embeddings"].numpy().tobytes() == numbers

    def test_it_is_refused_to_another_embedder_and_never_replaces_another_file(self, training_images, tmp_path):
        path, other = tmp_path / "embeddings.pt", make_embedder()
        MemorizationMetric(make_embedder()).fit([training_images], cache_path=path)
        MemorizationMetric(make_embedder()).fit([training_images], cache_path=path)
        other[1].weight.data[0, 0] += 1e-3
        with pytest.raises(UnusableInputError, match=r"embeddings\.pt: holds the embeddings of another embedder"):
            MemorizationMetric(other).fit([training_images], cache_path=path)
        checkpoint = tmp_path / "model.pt"
        torch.save(other.state_dict(), checkpoint)
        before = checkpoint.read_bytes()
        with pytest.raises(UnusableInputError, match=r"model\.pt: not a file of cached embeddings"):
            MemorizationMetric(other).fit([training_images], cache_path=checkpoint)
        assert checkpoint.read_bytes() == before


def test_errors_name_what_is_wanted(training_images):
    with pytest.raises(ValueError, match="top_k=0"):
        MemorizationMetric(make_embedder(), top_k=0)
    with pytest.raises(RuntimeError, match=r"call fit\(training_loader\) first"):
        MemorizationMetric(make_embedder())(training_images)
    with pytest.raises(ValueError, match="no training images"):
        MemorizationMetric(make_embedder()).fit([])
    for wrong in ([training_images[0]], [{"label": training_images}], [[training_images]]):
        with pytest.raises(ValueError, match=r"want batches \(B, 1, H, W\)"):
            MemorizationMetric(make_embedder()).fit(wrong)
    with pytest.raises(UnusableInputError, match="training embeddings"):
        MemorizationMetric(make_embedder()).fit([torch.full((2, 1, 32, 32), torch.nan)])
    metric = MemorizationMetric(Pool(), verify=True)
    with pytest.raises(ValueError, match=r"\(24, 24\) pixels after others of \(32, 32\)"):
        metric.fit([training_images])(training_images[..., :24, :24])


class Pool(torch.nn.Module):
    """Embeds images of any size."""

    def forward(self, x):
        return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


def test_a_list_of_images_of_different_sizes_is_scored_one_by_one(training_images):
    embedder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten())
    metric = MemorizationMetric(embedder).fit([training_images])
    larger = torch.nn.functional.interpolate(training_images[3:4], scale_factor=2)[0]
    scores = metric([training_images[1], larger])
    assert scores[:, 1].tolist() == [1.0, 3.0]
    assert scores[:, 0].min() > 0.999
