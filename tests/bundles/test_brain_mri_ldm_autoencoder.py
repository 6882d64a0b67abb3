"""The first stage of the latent diffusion bundle, run as users run it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_training import KilledError, kill_at_step
from monai.bundle import ConfigParser, run
from monai.bundle.properties import TrainProperties
from monai.data import set_track_meta
from monai.utils import set_determinism
from PIL import Image
from two_processes import run_bundle_on_two_processes

from monai_deepssim.data import list_images

BUNDLE = Path(__file__).parents[2] / "bundles" / "brain_mri_ldm"
CONFIGS = BUNDLE / "configs"
# Plain values over the ones of the files, as a user gives them; 40 x 32 pixels of 5 mm show a whole brain.
TINY = {
    "phantom": {"num_subjects": 3, "seed": 41, "pixel_size_mm": [4.8, 5.2]},
    "num_validation": 2,
    "image_size": [40, 32],
    "duplication": "none",
    "autoencoder_channels": [8, 8],
    "autoencoder_num_res_blocks": 1,
    "autoencoder_norm_num_groups": 4,
    "discriminator_channels": 4,
    "autoencoder_batch_size": 2,
    "autoencoder_val_interval": 1,
    "autoencoder_epochs": 1,
    "perceptual_network": "none",
}


@pytest.fixture(autouse=True)
def _as_before():
    """A bundle's initialize switches determinism on for the whole process."""
    yield
    set_determinism(None)
    set_track_meta(True)


def train(*configs, **overrides):
    files = [str(CONFIGS / f"{name}.json") for name in ("train_autoencoder", *configs)]
    run(config_file=files, bundle_root=str(BUNDLE), **{**TINY, **overrides})


def parsed(*names, **overrides):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    parser.update(overrides)
    return parser


def test_training_on_ones_own_images_writes_everything_that_the_next_steps_need(tmp_path):
    images, output = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = random.integers(0, 256, (50, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"sub{number // 2}_scan{number % 2}.png")
    (tmp_path / "copies.csv").write_text("path,copies\nsub0_scan0.png,3\nsub1_scan0.png,2\nsub2_scan0.png,4\n")
    holdout = tmp_path / "holdout"
    holdout.mkdir()
    Image.fromarray(random.integers(0, 256, (50, 40), dtype=np.uint8)).save(holdout / "other.png")
    train(
        phantom=None,
        dataset_dir=str(images),
        patient_id_pattern="(sub[0-9])",
        validation_dir=str(holdout),
        duplication=str(tmp_path / "copies.csv"),
        output_dir=str(output),
    )
    network = parsed("train_autoencoder", **TINY).get_parsed_content("network_def")
    network.load_state_dict(torch.load(output / "autoencoder.pt", weights_only=True))
    assert network.encode(torch.rand(1, 1, 40, 32))[0].shape == (1, 3, 20, 16)
    # 6 images, repeated to 12, two a batch.
    assert torch.load(output / "autoencoder_training.pt", weights_only=True)["trainer"]["iteration"] == 6
    listed = list_images(output / "repetitions.csv")
    assert [(item["patient_id"], item["copies"]) for item in listed[:2]] == [("sub0", "3"), ("sub0", "1")]
    assert len(list_images(output / "training_images")) == 6
    assert Image.open(listed[0]["image"]).size == (32, 40)
    assert Image.open(output / "reconstructions" / "epoch_0001.png").size == (32, 80)
    assert list((output / "tensorboard" / "autoencoder").glob("events*"))


def test_the_small_training_of_chest_x_rays_repeats_phantoms_of_the_chest(tmp_path):
    sizes = {name: value for name, value in TINY.items() if name not in ("phantom", "image_size", "duplication")}
    run(
        config_file=[str(CONFIGS / f"{name}.json") for name in ("train_autoencoder", "small", "small_chest_xray")],
        bundle_root=str(BUNDLE),
        **{**sizes, "phantom#num_subjects": 18, "output_dir": str(tmp_path)},
    )
    listed = list_images(tmp_path / "repetitions.csv")
    assert [(item["source"], item["copies"]) for item in listed[15:17]] == [
        ("chest-5000001-15", "14"),
        ("chest-5000001-16", "1"),
    ]
    assert Image.open(listed[0]["image"]).size == (64, 64)


def test_chest_x_rays_have_the_published_latents():
    config = parsed("inference", "chest_xray")
    assert config.get_parsed_content("latent_shapes").diffusion == (3, 32, 32)


def test_a_training_that_is_killed_ends_with_the_weights_of_an_undisturbed_one(tmp_path, monkeypatch):
    kill_at_step(monkeypatch, torch.optim.Adam, 6)  # in the second epoch
    with pytest.raises(RuntimeError) as caught:  # MONAI's word for whatever ends an expression
        train(output_dir=str(tmp_path / "killed"), autoencoder_epochs=3)
    cause = caught.value
    while isinstance(cause, RuntimeError):
        cause = cause.__cause__
    assert isinstance(cause, KilledError)
    monkeypatch.undo()
    saved = torch.load(tmp_path / "killed" / "autoencoder_training.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 2
    for name in ("killed", "undisturbed"):
        train(output_dir=str(tmp_path / name), autoencoder_epochs=3)
    after, expected = (
        torch.load(tmp_path / name / "autoencoder_training.pt", weights_only=True) for name in ("killed", "undisturbed")
    )
    for part in ("network", "discriminator"):
        assert all(torch.equal(after[part][name], value) for name, value in expected[part].items()), part
    assert after["trainer"]["iteration"] == 6
    assert [int(after[name]["state"][0]["step"]) for name in ("optimizer", "discriminator_optimizer")] == [6, 6]


def test_images_other_than_those_of_the_training_that_lies_there_are_refused(tmp_path, capsys):
    train(output_dir=str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        train(output_dir=str(tmp_path), duplication="high")
    assert ended.value.code == 2
    assert "a training on other images, or on other repetitions" in capsys.readouterr().err


def test_two_processes_train_together_and_one_of_them_writes(tmp_path):
    arguments = {**TINY, "num_validation": 3, "output_dir": str(tmp_path)}
    configs = [CONFIGS / f"{name}.json" for name in ("train_autoencoder", "multi_gpu_autoencoder")]
    printed = run_bundle_on_two_processes(configs, BUNDLE, tmp_path, **arguments)
    saved = torch.load(tmp_path / "autoencoder_training.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 1  # 3 images, 2 a process
    assert not any(name.startswith("module.") for part in ("network", "discriminator") for name in saved[part])
    assert len(list((tmp_path / "training_images").iterdir())) == 3
    assert len(list((tmp_path / "reconstructions").iterdir())) == 1
    assert printed.count("Key metric: reconstruction_ssim best value") == 1


def test_the_published_settings_are_the_defaults():
    config = parsed("train_autoencoder")
    network = config.get_parsed_content("autoencoder_def")
    assert (config["autoencoder_channels"], config["autoencoder_num_res_blocks"]) == ([64, 128, 128], 2)
    assert (config["autoencoder_norm_num_groups"], config["latent_channels"]) == (32, 3)
    with torch.no_grad():
        assert network.encode(torch.rand(1, 1, *config["image_size"]))[0].shape == (1, 3, 34, 28)
    assert not any("attn" in name for name, _ in network.named_modules())
    weights = [config[f"{name}_weight"] for name in ("kl", "perceptual", "adversarial")]
    assert weights == [1e-6, 0.1, 0.125]
    assert config["perceptual_network"] == "squeeze"
    assert (config["discriminator_num_layers"], config["discriminator_channels"]) == (3, 32)
    assert [config[f"autoencoder_{name}"] for name in ("epochs", "batch_size", "learning_rate")] == [100, 16, 1e-4]
    optimizers = [config.get_parsed_content(name) for name in ("optimizer", "discriminator_optimizer")]
    assert all(type(optimizer) is torch.optim.Adam for optimizer in optimizers)


def test_the_small_setting_holds_plain_values_and_its_networks_can_be_built():
    small = json.loads((CONFIGS / "small.json").read_text())
    # It lies over three workflows, which have the bundle's root in common.
    in_common = {"duplication": "$@bundle_root + '/configs/small_repetitions.csv'"}
    plain = {name: value for name, value in small.items() if in_common.get(name) != value}
    assert not any("#" in name or str(value).startswith(("$", "@")) for name, value in plain.items())
    config = parsed("train_autoencoder", "small")
    network = config.get_parsed_content("autoencoder_def")
    levels = len(small["autoencoder_channels"]) - 1
    latent = network.encode(torch.rand(1, 1, *small["image_size"]))[0]
    assert latent.shape[2:] == tuple(side // 2**levels for side in small["image_size"])


def test_every_property_that_monai_asks_of_a_training_is_in_the_config():
    config = parsed("train_autoencoder")
    required = [p["id"].replace("::", "#") for p in TrainProperties.values() if p["required"]]
    assert [identifier for identifier in (*required, "network_def") if identifier not in config] == []
