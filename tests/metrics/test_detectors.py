"""The copy detectors, all of them from one table of cases."""

import sys

import imagehash
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torch import nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import (
    SUPPORTED_DETECTORS,
    ContrastiveCopyDetector,
    DeepSSIMDetector,
    MSEDetector,
    NCCDetector,
    OpenCLIPDetector,
    PHashDetector,
    SSIMDetector,
    TorchScriptDetector,
    detector_arguments,
    make_detector,
)
from monai_deepssim.networks import CopyDetector


def pooled_pixels(side):
    """An embedder that needs no training: the image in side x side pixels."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Flatten())


class Encoder(nn.Module):
    """What the detector uses of a CLIP model."""

    class visual:  # noqa: N801 (open_clip's name)
        image_size = (64, 64)
        image_mean = (0.5, 0.5, 0.5)
        image_std = (0.5, 0.5, 0.5)

    def encode_image(self, images):
        assert images.shape[1:] == (3, 64, 64)
        return nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)


DETECTORS = {
    "deepssim": lambda: DeepSSIMDetector(pooled_pixels(16), threshold=0.999),
    "copy_detector": lambda: ContrastiveCopyDetector(pooled_pixels(16), threshold=0.999),
    "torchscript": lambda: TorchScriptDetector(pooled_pixels(16), resize=96, threshold=0.9999),
    "open_clip": lambda: OpenCLIPDetector(Encoder(), threshold=0.9999),
    "ssim": lambda: SSIMDetector(threshold=0.999),
    "ncc": lambda: NCCDetector(threshold=0.999),
    "mse": lambda: MSEDetector(threshold=-1e-6),
    "phash": lambda: PHashDetector(threshold=0.97),
}
every_detector = pytest.mark.parametrize("name", DETECTORS)


def test_the_table_of_cases_has_the_detectors_that_need_no_bundle_of_their_own():
    assert set(DETECTORS) <= set(SUPPORTED_DETECTORS)
    assert all(isinstance(build(), SUPPORTED_DETECTORS[name]) for name, build in DETECTORS.items())
    assert all(SUPPORTED_DETECTORS[name].title for name in DETECTORS)


def test_a_detector_is_made_by_its_name_and_a_mistyped_argument_is_refused_with_the_nearest():
    assert isinstance(make_detector("deepssim", nn.Flatten()), DeepSSIMDetector)
    assert make_detector("phash", hash_size=4).represent_batch(torch.rand(1, 1, 64, 64)).shape == (1, 16)
    assert detector_arguments("mri_core")[:2] == ["image_size", "layers"]
    with pytest.raises(UnusableInputError, match=r"no argument channel_dims\. Did you mean channel_dim\?"):
        make_detector("mri_core", channel_dims=1)
    with pytest.raises(UnusableInputError, match=r"ncc has no argument sigma\. It has no arguments of its own"):
        make_detector("ncc", sigma=1)
    with pytest.raises(UnusableInputError, match="phash cannot be made of these arguments: got hash_size=1"):
        make_detector("phash", hash_size=1)


@every_detector
@pytest.mark.parametrize("pixel", [float("nan"), float("inf")])
def test_an_image_with_a_pixel_that_is_no_number_has_no_score_and_is_left_out(name, phantoms, pixel):
    detector = DETECTORS[name]().fit([phantoms[:4]])
    broken = phantoms[:3].clone()
    broken[1, 0, 3, 3] = pixel
    output = detector(broken)
    assert output[1, 0].isnan()
    assert output[:, 1].tolist() == [0, -1, 2]
    assert detector.aggregate() == 1
    with pytest.raises(ValueError, match=r"NaN or infinite pixels in image\(s\) \[1\] of batch 0"):
        DETECTORS[name]().fit([broken])


@pytest.mark.parametrize("name", ["ssim", "ncc", "mse"])
def test_pixels_of_another_size_are_an_error_though_there_are_as_many(name):
    detector = DETECTORS[name]().fit([torch.rand(3, 1, 64, 32)])
    with pytest.raises(ValueError, match=r"got images of \(32, 64\) pixels after others of \(64, 32\)"):
        detector(torch.rand(2, 1, 32, 64))


@every_detector
def test_a_copy_is_found_and_scores_higher_than_any_other_image(name, phantoms):
    detector = DETECTORS[name]().fit([phantoms[:4], phantoms[4:8]])
    output = detector(torch.cat([phantoms[[5, 2]], phantoms[8:]]))
    assert output.shape == (6, 2)
    assert output[:2, 1].tolist() == [5, 2]
    assert output[:2, 0].min() > output[2:, 0].max()
    assert output[2:, 1].max() < 8
    assert detector.aggregate() == pytest.approx(2 / 6)


@every_detector
def test_the_order_of_the_images_and_of_the_pair_does_not_matter(name, phantoms):
    detector = DETECTORS[name]()
    first, second = detector.represent_batch(phantoms[:5]), detector.represent_batch(phantoms[5:8])
    scores = detector.compare(first, second)
    assert scores.shape == (5, 3)
    torch.testing.assert_close(detector.compare(second, first).T, scores)
    torch.testing.assert_close(detector.represent_batch(phantoms[[4, 0]]), first[[4, 0]], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(detector.compare(first[[4, 0]], second[[1]]), scores[[4, 0]][:, [1]])


@every_detector
def test_pairs_score_as_the_diagonal_of_all_against_all(name, phantoms):
    detector = DETECTORS[name]()
    first, second = detector.represent_batch(phantoms[:3]), detector.represent_batch(phantoms[3:6])
    torch.testing.assert_close(detector.compare_pairs(first, second), detector.compare(first, second).diagonal())
    torch.testing.assert_close(
        detector.score_pairs(phantoms[:3], phantoms[3:6]), detector.compare(first, second).diagonal()
    )


@every_detector
@pytest.mark.parametrize("size", [(96, 80), (64, 100)])
def test_other_sizes_and_batches_of_one_work(name, size, phantoms):
    images = nn.functional.interpolate(phantoms[:3], size=size, mode="bilinear")
    detector = DETECTORS[name]().fit(images.split(1))
    assert detector(images[1:2])[0, 1] == 1


def test_ssim_is_scikit_images_mean_of_both_orders_of_standardised_images(phantoms):
    x, y = (((image - image.mean()) / image.std(correction=0))[0].numpy() for image in phantoms[:2])
    both = [structural_similarity(a, b, data_range=float(np.ptp(a))) for a, b in ((x, y), (y, x))]
    assert abs(both[0] - both[1]) > 1e-5
    assert SSIMDetector().score_pairs(phantoms[:1], phantoms[1:2]).item() == pytest.approx(np.mean(both), abs=1e-4)


def test_ncc_is_numpys_correlation_and_mse_its_mean_square(phantoms):
    x, y = (image.double().numpy().ravel() for image in phantoms[:2])
    assert NCCDetector().score_pairs(phantoms[:1], phantoms[1:2]).item() == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert MSEDetector().score_pairs(phantoms[:1], phantoms[1:2]).item() == pytest.approx(-np.mean((x - y) ** 2))


def test_a_blank_image_correlates_with_nothing(phantoms):
    blank = torch.full_like(phantoms[:1], 0.3)
    assert NCCDetector().fit([phantoms])(blank)[0, 0] == 0
    assert SSIMDetector().fit([phantoms])(blank)[0, 0] == 0
    assert SSIMDetector().fit([blank])(blank)[0, 0] == 1


def test_phash_is_one_less_imagehashs_distance_by_the_number_of_bits(phantoms):
    x, y = (imagehash.phash(Image.fromarray(np.uint8(np.round(image[0].numpy() * 255)))) for image in phantoms[:2])
    assert x - y > 0
    score = PHashDetector().score_pairs(phantoms[:1], phantoms[1:2]).item()
    assert score == pytest.approx(1 - (x - y) / 64)


def test_volumes_are_compared_by_those_that_can_and_refused_in_words_by_the_others():
    torch.manual_seed(0)
    volumes = torch.rand(3, 1, 16, 16, 16)
    for build in (SSIMDetector, NCCDetector, MSEDetector):
        assert build().fit([volumes])(volumes)[:, 1].tolist() == [0, 1, 2]
    for detector in (PHashDetector(), TorchScriptDetector(nn.Flatten()), OpenCLIPDetector(Encoder())):
        with pytest.raises(ValueError, match=r"want \(B, 1, H, W\)"):
            detector.fit([volumes])


class TestCopyDetection:
    def test_the_score_is_pearsons_correlation_of_the_embeddings(self, phantoms):
        torch.manual_seed(0)
        network = CopyDetector(backbone="resnet18", embedding_dim=16).eval()
        with torch.no_grad():
            x, y = network(phantoms[:2]).numpy()
        score = ContrastiveCopyDetector(network).score_pairs(phantoms[:1], phantoms[1:2])
        assert score.item() == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)

    def test_the_threshold_is_the_95th_percentile_of_what_training_images_have_with_held_out_ones(self):
        torch.manual_seed(0)
        training, holdout = torch.rand(50, 1, 4, 4), torch.rand(30, 1, 4, 4)
        detector = ContrastiveCopyDetector(nn.Flatten()).fit([training])
        correlations = np.corrcoef(training.flatten(1).numpy(), holdout.flatten(1).numpy())[:50, 50:]
        expected = np.percentile(correlations.max(axis=1), 95)
        assert detector.fit_threshold(holdout.split(7)) == pytest.approx(expected, abs=1e-6)
        assert detector.threshold == pytest.approx(expected, abs=1e-6)
        # The other way round, each held-out image's nearest training image, is another number.
        assert abs(np.percentile(correlations.max(axis=0), 95) - expected) > 1e-3

    def test_strictly_above_the_threshold_is_a_copy(self, phantoms):
        detector = ContrastiveCopyDetector(pooled_pixels(8)).fit([phantoms[:6]])
        highest = detector(phantoms[6:7])[0, 0].item()
        for threshold, expected in ((highest, 0.0), (np.nextafter(np.float32(highest), np.float32(-1)), 1.0)):
            detector.threshold = float(threshold)
            assert detector.compute_fractions([phantoms[6:7]]).copy_fraction == expected
            assert detector.aggregate() == expected

    def test_copies_and_memorized_images_are_counted_on_their_own_sides(self, phantoms):
        training = torch.cat([phantoms[:5], phantoms[:1]])  # image 0 is there twice: one copy memorizes both
        detector = ContrastiveCopyDetector(pooled_pixels(8), threshold=0.9999).fit([training])
        fractions = detector.compute_fractions([phantoms[[0, 0, 3]], phantoms[8:9]])
        assert fractions.copy_fraction == pytest.approx(3 / 4)
        assert fractions.is_memorized.tolist() == [True, False, False, True, False, True]
        assert fractions.memorized_fraction == pytest.approx(3 / 6)

    def test_volumes_have_a_threshold_and_fractions_too(self):
        torch.manual_seed(0)
        training, holdout = torch.rand(40, 1, 8, 8, 8), torch.rand(30, 1, 8, 8, 8)
        detector = ContrastiveCopyDetector(nn.Sequential(nn.AdaptiveAvgPool3d(4), nn.Flatten())).fit([training])
        pooled = [nn.functional.avg_pool3d(volumes, 2).flatten(1).numpy() for volumes in (training, holdout)]
        highest = np.corrcoef(*pooled)[:40, 40:].max(axis=1)
        assert detector.fit_threshold(holdout.split(8)) == pytest.approx(np.percentile(highest, 95), abs=1e-6)
        fractions = detector.compute_fractions([torch.cat([training[:3], torch.rand(5, 1, 8, 8, 8)])])
        assert fractions.is_copy.tolist()[:3] == [True] * 3
        assert fractions.is_memorized.tolist()[:3] == [True] * 3
        assert fractions.copy_fraction < 0.7

    def test_weights_of_volumes_are_not_for_slices(self, phantoms):
        detector = ContrastiveCopyDetector(CopyDetector(3, "resnet18_narrow", embedding_dim=8))
        assert detector.fit([torch.rand(2, 1, 32, 32, 32)])(torch.rand(1, 1, 32, 32, 32)).shape == (1, 2)
        with pytest.raises(ValueError, match="the weights are of volumes: give those of a 2-D copy detector"):
            ContrastiveCopyDetector(detector.embedder).fit([phantoms])
        with pytest.raises(ValueError, match="the weights are of slices: give those of a 3-D copy detector"):
            ContrastiveCopyDetector(CopyDetector(backbone="resnet18_narrow")).fit([torch.rand(2, 1, 32, 32, 32)])

    def test_without_a_threshold_there_is_no_fraction(self, phantoms):
        detector = ContrastiveCopyDetector(pooled_pixels(8)).fit([phantoms])
        with pytest.raises(ValueError, match="fit_threshold"):
            detector.compute_fractions([phantoms])


class TestTorchScript:
    @staticmethod
    def save(module, path, channels=3, size=(64, 64)):
        torch.jit.trace(module.eval(), torch.rand(2, channels, *size)).save(str(path))
        return path

    def test_the_program_gets_three_imagenet_channels_with_the_shorter_side_of_288(self, tmp_path, phantoms):
        torch.manual_seed(0)
        convolution = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Flatten())
        detector = TorchScriptDetector(self.save(convolution, tmp_path / "sscd.pt"))
        assert detector._scale(phantoms[:2]).shape == (2, 1, 350, 288)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        scaled = nn.functional.interpolate(phantoms[:2], size=(350, 288), mode="bilinear", antialias=True)
        with torch.no_grad():
            rows = convolution((scaled.repeat(1, 3, 1, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        expected = nn.functional.cosine_similarity(rows[:1], rows[1:]).item()
        assert detector.score_pairs(phantoms[:1], phantoms[1:2]).item() == pytest.approx(expected, abs=1e-5)

    def test_a_program_of_one_fixed_size_is_given_that_size(self, tmp_path, phantoms):
        class OnlyOneSize(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.randn(8, 3 * 32 * 32))

            def forward(self, x):
                return nn.functional.linear(x.flatten(1), self.weight)

        path = self.save(OnlyOneSize(), tmp_path / "vit.pt", size=(32, 32))
        detector = TorchScriptDetector(path, resize=(32, 32)).fit([phantoms])
        assert detector(phantoms[3:4])[0, 1] == 3
        with pytest.raises(UnusableInputError, match=r"vit\.pt"):
            TorchScriptDetector(path)

    def test_a_program_of_one_channel_is_not_given_imagenets_three(self, tmp_path, phantoms):
        path = self.save(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Flatten()), tmp_path / "one.pt", 1
        )
        with pytest.raises(UnusableInputError, match="normalization to standardize or none"):
            TorchScriptDetector(path)
        assert TorchScriptDetector(path, None, "standardize").fit([phantoms])(phantoms[2:3])[0, 1] == 2

    def test_a_file_that_is_none_is_named(self, tmp_path):
        with pytest.raises(UnusableInputError, match="no such file"):
            TorchScriptDetector(tmp_path / "none.pt")
        with pytest.raises(ValueError, match="want imagenet, standardize or none"):
            TorchScriptDetector(nn.Flatten(), normalization="imagnet")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny model of random weights that open_clip knows as "tiny", and its file."""
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny.json").write_text(
        '{"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},'
        ' "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}}'
    )
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny").eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return model, folder / "tiny.pt"


class TestOpenCLIP:
    def test_the_weights_of_a_file_embed_as_open_clips_own_model_does(self, weights, phantoms):
        model, path = weights
        square = nn.functional.pad(phantoms[:2], (12, 12))  # 136 x 136, so that nothing is left to pad
        scaled = nn.functional.interpolate(square, size=(32, 32), mode="bilinear", antialias=True)
        with torch.no_grad():
            mean, std = torch.tensor(model.visual.image_mean), torch.tensor(model.visual.image_std)
            rows = model.encode_image((scaled.repeat(1, 3, 1, 1) - mean.view(3, 1, 1)) / std.view(3, 1, 1))
        detector = OpenCLIPDetector(path, "tiny")
        torch.testing.assert_close(detector.represent_batch(square), rows)
        # The default brings any other size into the square, uncropped.
        torch.testing.assert_close(detector.represent_batch(phantoms[:2]), rows, atol=0.2, rtol=0.2)

    def test_a_folder_as_the_hub_has_them_is_read(self, weights, tmp_path, phantoms):
        _, path = weights
        config = (path.parent / "tiny.json").read_text()
        (tmp_path / "open_clip_config.json").write_text(f'{{"model_cfg": {config}, "preprocess_cfg": {{}}}}')
        (tmp_path / "open_clip_model.pth").write_bytes(path.read_bytes())
        pair = phantoms[:1], phantoms[1:2]
        score = OpenCLIPDetector(tmp_path).score_pairs(*pair)
        torch.testing.assert_close(score, OpenCLIPDetector(path, "tiny").score_pairs(*pair))

    def test_what_cannot_be_loaded_is_said(self, weights, tmp_path):
        _, path = weights
        with pytest.raises(UnusableInputError, match="no such file"):
            OpenCLIPDetector(tmp_path / "none.pt")
        with pytest.raises(UnusableInputError, match="unknown model 'huge'"):
            OpenCLIPDetector(path, "huge")
        torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
        with pytest.raises(UnusableInputError, match="not weights of tiny"):
            OpenCLIPDetector(tmp_path / "other.pt", "tiny")
        with pytest.raises(UnusableInputError, match="could not load this folder"):
            OpenCLIPDetector(tmp_path)

    def test_without_the_package_the_extra_is_named(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "open_clip", None)
        with pytest.raises(UnusableInputError, match=r"monai-deepssim\[clip\]"):
            OpenCLIPDetector(tmp_path)
