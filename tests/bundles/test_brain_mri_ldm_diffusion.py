"""The diffusion half of the generator's bundle, run as users run it, with tiny networks on a few phantoms."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_training import kill_at_step
from monai.bundle import ConfigParser, run
from monai.bundle.properties import InferProperties, TrainProperties
from monai.data import set_track_meta
from monai.networks.nets import AutoencoderKL
from monai.utils import set_determinism
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from two_processes import run_bundle_on_two_processes

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.generators import GeneratorImages

BUNDLE = Path(__file__).parents[2] / "bundles" / "brain_mri_ldm"
CONFIGS = BUNDLE / "configs"
PHANTOM = {"num_subjects": 3, "seed": 3, "pixel_size_mm": [4.8, 5.2]}
NETWORKS = {
    "image_size": [40, 32],  # latents of 10 x 8, which the U-Net wants padded to 12 x 8
    "autoencoder_channels": [4, 4, 4],
    "autoencoder_num_res_blocks": 1,
    "autoencoder_norm_num_groups": 2,
    "diffusion_channels": [8, 8, 8],
    "diffusion_num_res_blocks": 1,
    "diffusion_attention": [False, False, True],
    "diffusion_head_channels": [0, 0, 8],
    "diffusion_norm_num_groups": 4,
    "num_inference_steps": 2,
}
TRAINING = {
    **NETWORKS,
    "phantom": PHANTOM,
    "num_validation": 16,
    "duplication": "low",
    "diffusion_batch_size": 2,
    "diffusion_iterations_per_epoch": 2,
    "val_interval": 1,
    "num_samples": 16,
    "deepssim_image_size": [40, 32],
}


@pytest.fixture(autouse=True)
def _nothing_stays_switched():
    """A bundle's `initialize` seeds everything and stops MONAI from tracking metadata, for the whole process."""
    yield
    set_track_meta(True)
    set_determinism(None)


@pytest.fixture
def output(tmp_path):
    """A folder with an autoencoder of random weights and two embedders, of coarse pixels and one that sees nothing."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        2,
        channels=(4, 4, 4),
        num_res_blocks=1,
        norm_num_groups=2,
        attention_levels=(False, False, False),
        latent_channels=3,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    torch.save(network.state_dict(), tmp_path / "autoencoder.pt")
    coarse = nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten())
    torch.jit.trace(coarse, torch.rand(2, 1, 40, 32)).save(str(tmp_path / "coarse.pt"))
    blind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 4))
    nn.init.zeros_(blind[2].weight)
    torch.jit.trace(blind, torch.rand(2, 1, 40, 32)).save(str(tmp_path / "blind.pt"))
    return tmp_path


def run_bundle(*configs, **overrides):
    run(config_file=[str(CONFIGS / f"{name}.json") for name in configs], bundle_root=str(BUNDLE), **overrides)


def train(output, **overrides):
    settings = {**TRAINING, "output_dir": str(output), "deepssim_checkpoint": str(output / "coarse.pt")}
    settings |= {"allow_torchscript": True, **overrides}
    run_bundle("train_diffusion", **settings)


def sample(output, folder="samples", **overrides):
    run_bundle("inference", **{**NETWORKS, "output_dir": str(output), "samples_dir": str(output / folder), **overrides})
    with (output / folder / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def refused(capsys):
    """A context in which a bundle has to end with status 2 and a message."""

    @contextmanager
    def refused(message):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            yield
        assert ended.value.code == 2
        assert re.search(message, capsys.readouterr().err)

    return refused


def load(path):
    return torch.load(path, weights_only=True)


def configuration(*names, **overrides):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    parser.update(overrides)
    return parser


def test_a_training_is_validated_taken_up_and_sampled(output, refused):
    train(output, diffusion_epochs=2)
    first, state = load(output / "diffusion.pt"), load(output / "diffusion_training.pt")
    assert state["trainer"]["iteration"] == 4
    assert first["context_size"] == 0
    # The generator is the average, which is neither the network nor where it began.
    assert first["epoch"] == state["best"]["epoch"]
    names = [name for name in state["network"] if name.startswith("time_embed")]
    assert any(not torch.equal(state["ema"][name], state["network"][name]) for name in names)
    if first["epoch"] == 2:
        assert all(torch.equal(first["network"][name], value) for name, value in state["ema"].items())
    scalars = EventAccumulator(str(output / "tensorboard" / "diffusion")).Reload()
    assert {"fid_statistics", "copy_fraction", "fid_unless_copied"} <= set(scalars.Tags()["scalars"])
    assert [event.step for event in scalars.Scalars("copy_fraction")] == [1, 2]

    # One over the standard deviation of the training latents, of repeated images as often as they are repeated.
    torch.manual_seed(0)
    autoencoder = configuration("train_diffusion", **NETWORKS).get_parsed_content("autoencoder_def")
    autoencoder.load_state_dict(load(output / "autoencoder.pt"))
    images = GeneratorImages(phantom=PHANTOM, image_size=(40, 32), duplication="low", progress=False)
    with torch.no_grad():
        drawn = [autoencoder.encode_stage_2_inputs(item["image"][None].repeat(50, 1, 1, 1)) for item in images]
    assert first["scale_factor"] == pytest.approx(1 / torch.cat(drawn).std().item(), rel=0.01)

    # Other images now, which would give another factor, and are refused unless what names them is removed.
    (output / "repetitions.csv").unlink()
    train(output, diffusion_epochs=3, phantom={**PHANTOM, "seed": 8, "skull_fraction": 1.0})
    resumed = load(output / "diffusion_training.pt")
    assert resumed["trainer"]["iteration"] == 6
    assert resumed["inferer"]["scale_factor"] == pytest.approx(first["scale_factor"], rel=1e-6)
    assert resumed["optimizer"]["state"][0]["step"] == 6

    rows = sample(output, num_images=9, sampling_batch_size=5, sampling_seed=100)
    assert [row["image"] for row in rows] == [f"{index:06d}.png" for index in range(9)]
    assert [int(row["seed"]) for row in rows] == list(range(100, 109))
    (alone,) = sample(output, "alone", num_images=9, indices=[7], sampling_seed=100)
    assert alone == rows[7]
    pixels = [load_slice(item) for item in list_images(output / "samples")]
    assert len(pixels) == 9
    (again,) = [load_slice(item) for item in list_images(output / "alone")]
    assert (again - pixels[7]).abs().max() < 0.03  # a step of 8 bits, scaled to the picture's range
    assert (pixels[6] - pixels[7]).abs().max() > 0.1

    # A folder is taken up where it was left, and is not mixed with another generator's images.
    (output / "samples" / "000003.png").unlink()
    before = (output / "samples" / "000004.png").stat().st_mtime_ns
    rows = sample(output, num_images=10, sampling_seed=100)
    assert sorted(int(row["index"]) for row in rows) == list(range(10))
    assert (output / "samples" / "000003.png").is_file()
    assert (output / "samples" / "000004.png").stat().st_mtime_ns == before
    with refused("holds images of another generator, seed"):
        sample(output, num_images=10, sampling_seed=101)


def test_a_training_that_is_killed_ends_with_the_weights_of_an_undisturbed_one(output, monkeypatch):
    killed = shutil.copytree(output, output / "killed")
    calls = kill_at_step(monkeypatch, torch.optim.AdamW, 4)  # in the second epoch
    with pytest.raises(RuntimeError, match="Failed to evaluate"):  # MONAI's word for whatever ends an expression
        train(killed, diffusion_epochs=3)
    monkeypatch.undo()
    assert len(calls) == 4
    assert load(killed / "diffusion_training.pt")["trainer"]["iteration"] == 2
    for folder in (killed, output):
        train(folder, diffusion_epochs=3)
    after, expected = (load(folder / "diffusion_training.pt") for folder in (killed, output))
    assert after["trainer"]["iteration"] == expected["trainer"]["iteration"] == 6
    for part in ("network", "ema"):
        assert all(torch.equal(after[part][name], value) for name, value in expected[part].items()), part


def test_variables_condition_a_generator_and_a_csv_says_what_to_draw(output, refused):
    conditions = {"conditioning": "variables", "conditioning_columns": ["white_matter_fraction", "csf_fraction"]}
    train(output, diffusion_epochs=1, val_interval=0, **conditions)
    saved = load(output / "diffusion.pt")
    assert saved["context_size"] == 2
    assert tuple(saved["scaling"]["columns"]) == ("white_matter_fraction", "csf_fraction")
    assert list((output / "tensorboard" / "diffusion").glob("events*"))
    (output / "wanted.csv").write_text("csf_fraction,white_matter_fraction\n0.1,0.4\n0.2,0.3\n")
    rows = sample(output, conditions_file=str(output / "wanted.csv"), images_per_condition=2)
    assert len(rows) == 4
    assert rows[0]["condition"] == rows[1]["condition"] == "white_matter_fraction=0.4 csf_fraction=0.1"
    # Without a file it is what was said of the training images, each once.
    rows = sample(output, "like_training", images_per_condition=1, phantom=PHANTOM, **conditions)
    assert len(rows) == 3
    with refused("conditioned on 2 numbers, and none are given"):
        sample(output, "unconditioned", num_images=1)


def test_texts_condition_a_generator(output):
    vectors = {f"phantom-3-{subject}/basal_ganglia": np.full(5, subject, dtype=np.float32) for subject in range(3)}
    np.savez(output / "captions.npz", **vectors)
    texts = {"conditioning": "text", "conditioning_file": str(output / "captions.npz")}
    train(output, diffusion_epochs=1, **texts)  # validated: held-out images need no text
    saved = load(output / "diffusion.pt")
    assert saved["context_size"] == 5
    rows = sample(output, conditions_file=str(output / "captions.npz"), images_per_condition=1, file_format="nii.gz")
    assert [row["condition"] for row in rows] == list(vectors)
    assert load_slice(list_images(output / "samples")[0]).shape == (1, 40, 32)
    # Of a state dict alone somebody has to say that it is conditioned, and on how many numbers.
    torch.save(saved["network"], output / "plain.pt")
    plain = {"diffusion_checkpoint": str(output / "plain.pt"), "scale_factor": saved["scale_factor"], "num_images": 1}
    rows = sample(
        output, "plain", conditions_file=str(output / "captions.npz"), generator_context_size=5, indices=[0], **plain
    )
    assert [row["condition"] for row in rows] == [next(iter(vectors))]


def test_the_generator_is_trained_on_the_images_that_the_folder_says(output, refused):
    settings = {"diffusion_epochs": 1, "val_interval": 0}
    train(output, **settings)
    assert len(list((output / "training_images").iterdir())) == 3
    # Another seed draws other repetitions; of images of one's own also other patients.
    with refused(r"repetitions\.csv: this folder holds a training on other images"):
        train(output, **settings, seed=1)


def test_a_training_that_copies_in_two_validations_running_ends_and_writes_no_generator(output):
    copying = {"deepssim_checkpoint": str(output / "blind.pt"), "max_copy_fraction": 0.5}
    train(output, diffusion_epochs=5, **copying)
    state = load(output / "diffusion_training.pt")
    assert state["trainer"]["iteration"] == 4  # two epochs
    assert state["stop"] == {"num_above": 2}
    assert state["best"]["metric"] == float("inf")
    assert load(output / "diffusion_last.pt")["epoch"] == 2
    assert not (output / "diffusion.pt").exists()
    train(output, diffusion_epochs=5, **copying)  # stays ended
    assert load(output / "diffusion_training.pt")["trainer"]["iteration"] == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 8}, "8 are drawn and 16 held out. Raise num_samples to 16 or more"),
        ({"num_validation": 5}, "16 are drawn and 5 held out. Put 16 or more images aside"),
        ({"max_copy_fraction": 0.0}, "max_copy_fraction is 0.0"),
        ({"image_size": [42, 32]}, r"Take \[40, 32\]"),
        ({"fid_features": "deepssim"}, "wanted statistics, autoencoder or the path of a file"),
    ],
)
def test_what_cannot_be_validated_is_refused_before_the_training_starts(output, refused, settings, message):
    with refused(message):
        train(output, diffusion_epochs=1, **settings)
    assert not (output / "diffusion_training.pt").exists()


def test_the_embedder_that_judges_copying_does_not_judge_quality_too(output, refused):
    with refused("this embedder judges which images are copies"):
        train(output, diffusion_epochs=1, fid_features=str(output / "coarse.pt"))


def test_augmentation_is_an_option_and_encodes_anew_at_every_step(output):
    settings = {**TRAINING, "output_dir": str(output), "device": torch.device("cpu"), "augmentation_probability": 1.0}
    plain = configuration("train_diffusion", **settings).get_parsed_content("train#dataset")
    assert "latent_mean" in plain[0]
    parser = configuration("train_diffusion", augmentation=True, max_rotation_degrees=0.0, **settings)
    augmented, images = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("train#images")
    assert torch.allclose(torch.as_tensor(augmented[0]["image"]), images[0]["image"].flip(2), atol=1e-3)


def test_the_published_settings_are_the_defaults():
    parser = configuration("train_diffusion")
    assert parser["diffusion_channels"] == [256, 512, 768]
    assert parser["diffusion_attention"] == [False, True, True]
    assert parser["diffusion_head_channels"] == [0, 512, 768]
    assert parser["diffusion_def"]["resblock_updown"] is True
    assert parser["diffusion_learning_rate"] == 2.5e-5
    assert (parser["diffusion_batch_size"], parser["diffusion_epochs"]) == (8, 100)
    for name, scheduler in (("noise_scheduler", "DDPMScheduler"), ("sampling_scheduler", "DDIMScheduler")):
        config = parser[name]
        assert (config["_target_"], config["schedule"]) == (scheduler, "scaled_linear_beta")
        assert config["clip_sample"] is False
    assert (parser["num_train_timesteps"], parser["beta_start"], parser["beta_end"]) == (1000, 0.0015, 0.0205)
    assert parser["num_inference_steps"] == 50
    assert configuration("inference")["num_inference_steps"] == 50


@pytest.mark.parametrize("name", ["train_diffusion", "inference"])
def test_every_required_property_of_monai_is_in_the_config(name):
    parser = configuration(name)
    properties = InferProperties if name == "inference" else TrainProperties
    required = [p["id"].replace("::", "#") for p in properties.values() if p["required"]]
    assert [identifier for identifier in required if identifier not in parser] == []


def test_the_two_workflows_build_the_same_networks_and_noise():
    training, inference = configuration("train_diffusion"), configuration("inference")
    for name in ("autoencoder_def", "diffusion_def", "sampling_scheduler", "latent_shapes", "diffusion_channels"):
        assert training[name] == inference[name]


def test_an_override_of_the_small_config_names_something_in_one_of_the_workflows():
    small = json.loads((CONFIGS / "small.json").read_text())
    workflows = [configuration(name) for name in ("train_autoencoder", "train_diffusion", "inference")]
    assert [name for name in small if not any(name in workflow for workflow in workflows)] == []


def test_two_processes_train_and_validate_together(output):
    configs = [CONFIGS / f"{name}.json" for name in ("train_diffusion", "multi_gpu_diffusion")]
    settings = {**TRAINING, "output_dir": str(output), "deepssim_checkpoint": str(output / "coarse.pt")}
    settings |= {"allow_torchscript": True, "diffusion_epochs": 1}
    run_bundle_on_two_processes(configs, BUNDLE, output, **settings)
    assert load(output / "diffusion_training.pt")["trainer"]["iteration"] == 2
    assert load(output / "diffusion.pt")["scale_factor"] > 0
