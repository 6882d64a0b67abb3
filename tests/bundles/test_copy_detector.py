"""The bundle that trains the copy detector, run as users run it, with a tiny network on a few phantoms."""

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from monai.bundle.properties import InferProperties, TrainProperties
from monai.data import set_track_meta
from monai.losses import ContrastiveLoss
from monai.utils import set_determinism
from PIL import Image
from two_processes import run_bundle_on_two_processes

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import ContrastiveCopyDetector
from monai_deepssim.networks import CopyDetector, load_copy_detector

BUNDLE = Path(__file__).parents[2] / "bundles" / "copy_detector"
CONFIGS = BUNDLE / "configs"
TINY = {
    "train#images#num_subjects": 4,
    "validate#images#num_subjects": 2,
    "train#images#num_workers": 1,
    "validate#images#num_workers": 1,
    "image_size": [64, 64],
    "images_per_batch": 2,
}


@pytest.fixture(autouse=True)
def _nothing_stays_switched():
    """A bundle's `initialize` seeds everything and stops MONAI from tracking metadata, for the whole process."""
    yield
    set_track_meta(True)
    set_determinism(None)


def run_bundle(*configs, **overrides):
    run(config_file=[str(CONFIGS / f"{name}.json") for name in configs], bundle_root=str(BUNDLE), **overrides)


def configuration(*names, **overrides):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    parser.update(overrides)
    return parser


def test_a_training_of_two_epochs_is_taken_up_for_a_third(tmp_path):
    run_bundle("train", "small", **TINY, output_dir=str(tmp_path), max_epochs=2)
    detector = load_copy_detector(tmp_path / "model.pt")
    assert (detector.backbone, detector.spatial_dims) == ("resnet18", 2)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 2 * 2
    assert saved["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.5e-3)  # the cosine ends at half the rate
    assert math.isfinite(saved["best"]["metric"])
    assert saved["best"]["epoch"] in (1, 2)
    assert list((tmp_path / "tensorboard").glob("events*"))

    run_bundle("train", "small", **TINY, output_dir=str(tmp_path), max_epochs=3)
    resumed = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert resumed["trainer"]["iteration"] == 3 * 2
    assert resumed["optimizer"]["state"][0]["step"] == 3 * 2
    assert torch.equal(resumed["network"]["fc_end.weight"], saved["network"]["fc_end.weight"])
    assert not torch.equal(resumed["network"]["model.fc.weight"], saved["network"]["model.fc.weight"])


def test_a_training_on_volumes_gives_a_detector_of_volumes_with_its_threshold_and_fractions(tmp_path):
    sizes = {**TINY, "image_size": [32, 32, 32], "max_epochs": 1, "output_dir": str(tmp_path)}
    run_bundle("train", "volumes", "small_volumes", **sizes)
    network = load_copy_detector(tmp_path / "model.pt")
    assert (network.backbone, network.spatial_dims) == ("resnet18_narrow", 3)
    cohort = PhantomBrainDataset(9, seed=5, image_size=(32, 32, 32), volume=True, progress=False)
    volumes = torch.stack([torch.as_tensor(item["image"]) for item in cohort])
    training, holdout, new = volumes.split([4, 4, 1])
    detector = ContrastiveCopyDetector(tmp_path / "model.pt").fit(training.split(3))
    threshold = detector.fit_threshold([holdout])
    with torch.no_grad():
        correlations = np.corrcoef(network(torch.cat([training, holdout])).numpy())[:4, 4:]
    assert threshold == pytest.approx(np.percentile(correlations.max(axis=1), 95), abs=1e-5)
    fractions = detector.compute_fractions([torch.cat([training[1:2], new])])
    assert (fractions.is_copy[0], fractions.is_memorized[1]) == (True, True)
    assert detector.score_pairs(training[:1], training[:1]).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="the weights are of volumes: give those of a 2-D copy detector"):
        detector.fit([volumes[:, :, 0]])


def test_a_view_of_a_volume_is_turned_about_every_axis_and_flipped_left_to_right():
    parser = configuration("train", "volumes")
    change = parser.get_parsed_content("train#preprocessing").set_random_state(0)
    cohort = PhantomBrainDataset(1, seed=5, image_size=(32, 32, 32), volume=True, progress=False)
    volume = cohort[0]["image"].as_tensor()
    views = [change({"image": volume})["image"] for _ in range(60)]
    unchanged, flipped = (sum(torch.equal(view, other) for view in views) for other in (volume, volume.flip(1)))
    assert 5 < unchanged < 25  # a quarter of each
    assert 5 < flipped < 25
    assert parser["images"]["items"]["volumes"] == "@volumes"
    assert parser["volumes"] is True
    network = parser.get_parsed_content("network_def")
    assert (network.spatial_dims, network.backbone, parser["images_per_batch"]) == (3, "resnet18", 10)
    turned = next(view for view in views if not any(torch.equal(view, other) for other in (volume, volume.flip(1))))
    for axis in (1, 2, 3):  # a turn about one axis leaves the sums along it as they were turned, those of others differ
        assert not torch.allclose(turned.sum(axis), volume.sum(axis), atol=0.5)
        assert not torch.allclose(turned.sum(axis), volume.flip(1).sum(axis), atol=0.5)


def test_two_processes_train_together_each_contrasts_its_own_batch_and_one_of_them_saves(tmp_path):
    arguments = {**TINY, "validate#images#num_subjects": 3, "max_epochs": 1, "output_dir": str(tmp_path)}
    configs = [CONFIGS / f"{name}.json" for name in ("train", "small", "multi_gpu_train")]
    printed = run_bundle_on_two_processes(configs, BUNDLE, tmp_path, **arguments)
    assert load_copy_detector(tmp_path / "model.pt").backbone == "resnet18"
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 1  # 4 images, 2 a process
    assert not any(name.startswith("module.") for name in saved["network"])
    assert printed.count("Key metric: nt_xent best value") == 1


def test_a_folder_of_images_is_embedded_in_the_range_that_the_network_was_trained_on(tmp_path, phantoms):
    torch.manual_seed(0)
    detector = CopyDetector(backbone="resnet18", embedding_dim=16).eval()
    torch.save(detector.state_dict(), tmp_path / "model.pt")
    (tmp_path / "images").mkdir()
    for number, image in enumerate(phantoms[:3]):
        Image.fromarray(np.uint8(np.round(image[0].numpy() * 255))).save(tmp_path / "images" / f"{number}.png")
    run_bundle(
        "inference",
        dataset_dir=str(tmp_path / "images"),
        checkpoint=str(tmp_path / "model.pt"),
        output_dir=str(tmp_path / "out"),
    )
    rounded = (phantoms[:3] * 255).round() / 255
    with torch.no_grad():
        expected = detector(rounded).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out" / "embeddings.npy"), expected, atol=1e-4)


def test_a_folder_of_volumes_trains_a_detector_that_embeds_it(tmp_path):
    cohort = PhantomBrainDataset(5, seed=5, image_size=(32, 40, 36), volume=True, progress=False)
    (tmp_path / "volumes").mkdir()
    for number, item in enumerate(cohort):
        image = nib.Nifti1Image(item["image"][0].numpy(), np.diag([3.0, 3.0, 3.0, 1.0]))
        nib.save(image, tmp_path / "volumes" / f"{number}.nii.gz")
    sizes = {"image_size": [32, 32, 32], "images_per_batch": 2, "network_def#backbone": "resnet18_narrow"}
    sizes |= {"dataset_dir": str(tmp_path / "volumes"), "max_epochs": 1, "num_workers": 0}
    run_bundle("train", "volumes", **sizes, validation_fraction=0.3, output_dir=str(tmp_path))
    assert load_copy_detector(tmp_path / "model.pt").spatial_dims == 3
    output = {"checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out"), "volumes": True}
    run_bundle("inference", dataset_dir=sizes["dataset_dir"], image_size=sizes["image_size"], **output)
    assert np.load(tmp_path / "out" / "embeddings.npy").shape == (5, 128)


def test_the_loss_is_nt_xent_between_the_two_halves_of_the_batch():
    torch.manual_seed(0)
    views, originals = torch.randn(5, 16), torch.randn(5, 16)
    loss = configuration("train").get_parsed_content("loss")
    # By hand: of the 2B - 1 others, the one that an image has to pick out is its other view.
    unit = torch.nn.functional.normalize(torch.cat([views, originals]), dim=1)
    similarities = (unit @ unit.T / 0.07).fill_diagonal_(-torch.inf)
    expected = torch.nn.functional.cross_entropy(similarities, torch.arange(10).roll(5))
    assert loss(torch.cat([views, originals]), None).item() == pytest.approx(expected.item(), rel=1e-5)
    assert ContrastiveLoss(temperature=0.07)(views, originals).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_view_is_a_small_rotation_and_a_left_right_flip_in_the_same_range(phantoms):
    parser = configuration("train")
    change = parser.get_parsed_content("train#preprocessing").set_random_state(0)
    changes = [change({"image": phantoms[0]}) for _ in range(200)]
    assert all(torch.equal(item["label"], phantoms[0]) for item in changes)
    assert all(item["image"].min() >= 0 and item["image"].max() <= 1 + 1e-6 for item in changes)
    flipped = phantoms[0].flip(2)
    kept = sum(torch.equal(item["image"], phantoms[0]) for item in changes)
    only_flipped = sum(torch.equal(item["image"], flipped) for item in changes)
    assert 30 < kept < 70  # a quarter has neither
    assert 30 < only_flipped < 70
    turned = [item["image"] for item in changes if not torch.equal(item["image"], phantoms[0])]
    # 5 degrees move the border of the image by at most 6 pixels: the middle stays what it was, up to a flip.
    middle = (slice(None), slice(48, 88), slice(36, 76))
    nearest = [min((image - other)[middle].abs().mean() for other in (phantoms[0], flipped)) for image in turned]
    assert max(nearest) < 0.1


def test_the_published_settings_are_the_defaults():
    parser = configuration("train")
    assert parser["network_def"]["backbone"] == "resnet50"
    assert (parser["network_def"]["embedding_dim"], parser["temperature"]) == (128, 0.07)
    assert (parser["learning_rate"], parser["images_per_batch"], parser["max_epochs"]) == (1e-4, 64, 200)
    assert parser["optimizer"]["_target_"] == "torch.optim.Adam"
    assert parser["max_rotation_degrees"] == 5.0
    transforms = {item["_target_"]: item for item in parser["train"]["augmentation"]}
    assert transforms["RandRotated"]["prob"] == transforms["RandFlipd"]["prob"] == 0.5


@pytest.mark.parametrize("name", ["train", "inference"])
def test_every_required_property_of_monai_is_in_the_config(name):
    parser = configuration(name)
    properties = TrainProperties if name == "train" else InferProperties
    required = [p["id"].replace("::", "#") for p in properties.values() if p["required"]]
    assert [identifier for identifier in required if identifier not in parser] == []


def test_what_lies_over_the_config_names_something_in_the_config():
    parser = configuration("train")
    for override in ("small", "shipped", "volumes", "small_volumes"):
        names = json.loads((CONFIGS / f"{override}.json").read_text())
        assert [name for name in names if name not in parser] == []
