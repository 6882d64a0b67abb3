"""The bundle that studies what prevents copies, run as users run it, with tiny networks on a few small phantoms."""

import ast
import json
import shutil
from collections import Counter
from pathlib import Path

import monai.bundle
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import get_track_meta
from PIL import Image
from torch import nn

from monai_deepssim.command import main
from monai_deepssim.study import MemorizationStudy, trainings

BUNDLE = Path(__file__).parents[2] / "bundles" / "memorization_study"
GENERATOR = {
    "autoencoder_channels": [4, 4, 4],
    "autoencoder_num_res_blocks": 1,
    "autoencoder_norm_num_groups": 2,
    "discriminator_channels": 4,
    "perceptual_network": "none",
    "autoencoder_epochs": 1,
    "autoencoder_batch_size": 8,
    "diffusion_channels": [8, 8, 8],
    "diffusion_num_res_blocks": 1,
    "diffusion_attention": [False, False, True],
    "diffusion_head_channels": [0, 0, 8],
    "diffusion_norm_num_groups": 4,
    "diffusion_batch_size": 4,
    "num_inference_steps": 2,
}
COPY_DETECTOR = {
    "network_def#backbone": "resnet18",
    "network_def#pretrained": False,
    "max_epochs": 1,
    "images_per_batch": 4,
    "num_workers": 0,
}
BASE = {"training_images": 4, "repetitions": "none", "augmentation": False, "width": 8, "epochs": 2}
# Three cells of two trainings: the base cell is a later checkpoint of the training that has 1 epoch.
FACTORS = {"epochs": [1, 2], "training_images": [4, 8]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    (folder / "generator.json").write_text(json.dumps(GENERATOR))
    (folder / "copy_detector.json").write_text(json.dumps(COPY_DETECTOR))
    coarse = nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten())
    torch.jit.trace(coarse, torch.rand(2, 1, 40, 32)).save(str(folder / "coarse.pt"))
    return {
        "base": BASE,
        "factors": FACTORS,
        "num_seeds": 1,
        "num_samples": 16,
        "phantom": {"num_subjects": 10, "seed": 3, "pixel_size_mm": [4.8, 5.2]},
        "num_holdout": 32,
        "image_size": [40, 32],
        "generator_settings": str(folder / "generator.json"),
        "copy_detector_settings": str(folder / "copy_detector.json"),
        "checkpoint": str(folder / "coarse.pt"),
        "allow_torchscript": True,
        "deepssim_image_size": [40, 32],
        "top_k": 3,
        "device": "cpu",
    }


def run(output_dir, settings, **overrides):
    overrides = {**settings, "output_dir": str(output_dir), **overrides}
    monai.bundle.run(config_file=str(BUNDLE / "configs" / "inference.json"), bundle_root=str(BUNDLE), **overrides)


def path_in(override):
    """The path that MONAI makes of an override: a literal, so that nothing in its name is evaluated."""
    return Path(ast.literal_eval(override.removeprefix("$")))


class Counting:
    """Counts what is run and from where trainings go on, and kills the study at the beginning of one of the runs."""

    def __init__(self, monkeypatch, kill_at=None):
        self.runs, self.trained, self.steps, self.kill_at = [], [], [], kill_at
        self.work = trainings.run_config
        monkeypatch.setattr(trainings, "run_config", self)

    def __call__(self, bundle, config, files, overrides):
        self.runs.append(config)
        if config == "train_diffusion":
            state = path_in(overrides["output_dir"]) / "diffusion_training.pt"
            begin = torch.load(state, weights_only=True)["trainer"]["iteration"] if state.is_file() else 0
            self.steps.append((begin, overrides["diffusion_epochs"] * overrides["diffusion_iterations_per_epoch"]))
            self.trained.append(overrides)
        if len(self.runs) == self.kill_at:
            raise KeyboardInterrupt
        self.work(bundle, config, files, overrides)


@pytest.fixture(scope="module")
def study(tmp_path_factory, settings):
    """A study that was killed before the last step of its first training, and taken up: its folder and what was run."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Autoencoder, copy detector, 1 step, samples: then the step that leads to the base cell.
        killed = Counting(monkeypatch, kill_at=5)
        with pytest.raises(SystemExit) as ended:
            run(folder, settings)
        assert ended.value.code == 130
        assert not (folder / "summary.json").exists()
        monkeypatch.undo()
        taken_up = Counting(monkeypatch)
        run(folder, settings)
    return folder, killed, taken_up


def test_a_study_that_was_killed_does_not_train_or_draw_anything_twice(study, settings, monkeypatch, capsys):
    folder, killed, taken_up = study
    assert killed.runs == ["train_autoencoder", "train", "train_diffusion", "inference", "train_diffusion"]
    assert Counter(taken_up.runs) == {"train_diffusion": 2, "inference": 2}
    assert killed.steps == [(0, 1), (1, 2)]
    assert taken_up.steps == [(1, 2), (0, 2)]  # the first training from its first step, and the other one
    again = Counting(monkeypatch)
    run(folder, settings)
    assert again.runs == []
    assert json.loads((folder / "summary.json").read_text())["cells_of_an_earlier_run"] == 3
    assert get_track_meta()  # the copy detector's config switches it off


def test_a_level_that_is_added_is_trained_alone(study, settings, monkeypatch, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "study")
    counting = Counting(monkeypatch)
    run(folder, settings, factors={**FACTORS, "repetitions": ["high"], "augmentation": [True]})
    assert Counter(counting.runs) == {"train_diffusion": 2, "inference": 2}
    given = [(path_in(one["duplication"]).name, one["augmentation"]) for one in counting.trained]
    assert given == [("training-0004-high-seed0.csv", False), ("training-0004-none-seed0.csv", True)]
    assert all(one["dataset_dir"] == one["duplication"] for one in counting.trained)
    cells = pd.read_csv(folder / "cells.csv")
    assert len(cells) == 2 * 5
    repeated = pd.read_csv(folder / "images" / "training-0004-high-seed0.csv")
    assert repeated["copies"].between(1, 14).all()
    assert repeated["copies"].max() > 1
    summary = json.loads((folder / "summary.json").read_text())
    assert sum(group["total"] for group in summary["memorized_by_repetition"]) == 4


def test_cells_of_a_vae_and_a_gan_are_trained_by_their_own_configs_and_judged_as_the_others(
    study, settings, monkeypatch, tmp_path
):
    folder = shutil.copytree(study[0], tmp_path / "study")
    counting = Counting(monkeypatch)
    run(folder, settings, factors={**FACTORS, "generator": ["vae", "gan"]})
    assert counting.runs == ["train_vae", "train_gan"]
    cells = pd.read_csv(folder / "cells.csv")
    pooled = cells[cells["seed"] == "all"].set_index("generator")
    assert pooled.loc[["vae", "gan"], "steps"].tolist() == [2, 2]  # as many as the base cell
    assert (pooled.loc[["vae", "gan"], "looks_real_total"] == 16).all()
    for kind in ("vae", "gan"):
        manifest = pd.read_csv(next((folder / "cells").glob(f"{kind}-images*/seed0_samples/manifest.csv")))
        assert manifest["seed"].tolist() == list(range(1_000_000, 1_000_016))
    summary = json.loads((folder / "summary.json").read_text())
    assert [one["to"] for one in summary["directions"] if one["factor"] == "generator"] == ["diffusion"] * 2
    assert "| VAE |" in (folder / "table.md").read_text()
    again = Counting(monkeypatch)
    run(folder, settings, factors={**FACTORS, "generator": ["vae", "gan"]})
    assert again.runs == []


def test_a_training_that_is_past_a_new_level_begins_anew(study, settings, monkeypatch, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "study")
    shutil.rmtree(next((folder / "cells").glob("images0004-*-epochs00001")))
    counting = Counting(monkeypatch)
    run(folder, settings)
    assert counting.steps == [(0, 1)]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "cells.csv"), pd.read_csv(study[0] / "cells.csv"), atol=1e-3)


def test_a_quiet_study_prints_nothing_and_is_that_of_the_bundle(study, settings, tmp_path, capfd):
    folder = shutil.copytree(study[0], tmp_path / "study")
    shutil.rmtree(next((folder / "cells").glob("images0008-*")))
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["study", *options, "-o", str(folder), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert json.loads((folder / "summary.json").read_text())["cells_of_an_earlier_run"] == 2
    pd.testing.assert_frame_equal(pd.read_csv(folder / "cells.csv"), pd.read_csv(study[0] / "cells.csv"), atol=1e-3)


def test_training_sets_of_one_seed_are_nested_and_no_held_out_image_is_in_them(study):
    folder = study[0] / "images"
    small, large = (set(pd.read_csv(folder / f"training-{size:04d}-none-seed0.csv")["image"]) for size in (4, 8))
    assert (len(small), len(large)) == (4, 8)
    assert small < large <= set(pd.read_csv(folder / "pool.csv")["image"])
    patients = [set(pd.read_csv(folder / name)["patient_id"]) for name in ("holdout.csv", "pool.csv")]
    assert not patients[0] & patients[1]


def test_every_cell_is_judged_twice_and_its_fidelity_measured(study):
    folder, summary = study[0], json.loads((study[0] / "summary.json").read_text())
    cells = pd.read_csv(folder / "cells.csv")
    assert cells["seed"].tolist() == ["all", "0"] * 3
    pooled = cells[cells["seed"] == "all"]
    assert sorted(zip(pooled["training_images"], pooled["epochs"], pooled["steps"], pooled["passes"], strict=True)) == [
        (4, 1, 1, 1),
        (4, 2, 2, 2),
        (8, 2, 2, 1),  # as many steps as the base cell, and half the passes
    ]
    for name in ("copies_deepssim", "copies_copy_detection", "looks_real"):
        assert (cells[f"{name}_low"] <= cells[name]).all()
        assert (cells[name] <= cells[f"{name}_high"]).all()
        assert (cells[f"{name}_total"] == 16).all()
    assert (cells["false_alarms_deepssim_total"] == 16).all()
    # A network of two steps draws no brains, and nothing that the distance to them could be small of.
    assert (cells["looks_real"] == 0).all()
    assert (cells["fid"] > 10 * summary["controls"]["fid_of_other_real_images"]).all()
    assert {(one["factor"], one["share"]) for one in summary["directions"]} == {
        (factor, share)
        for factor in ("epochs", "training_images")
        for share in ("copies_deepssim", "copies_copy_detection")
    }


def test_the_report_shows_curves_expectations_and_samples_and_needs_no_other_file(study):
    folder = study[0]
    html = (folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2 + 3  # curves, sheets
    assert "more epochs: more copies" in html
    assert "same number of optimisation steps" in html
    assert "http" not in html.split("</style>")[1]
    assert {path.name for path in (folder / "figures").iterdir()} == {"epochs.png", "training_images.png"}
    sheets = sorted((folder / "cells").glob("*/seed0_samples.png"))
    assert len(sheets) == 3
    assert Image.open(sheets[0]).size == (8 * 40, 2 * (80 + 25))
    assert "| epochs | steps |" in (folder / "table.md").read_text()


def test_the_samples_are_those_of_their_generator_and_the_same_noise_is_used_in_every_cell(study):
    manifests = [pd.read_csv(path) for path in sorted((study[0] / "cells").glob("*/seed0_samples/manifest.csv"))]
    assert len({manifest["generator_sha256"][0] for manifest in manifests}) == 3
    assert len({tuple(manifest["seed"]) for manifest in manifests}) == 1
    scores = np.load(next((study[0] / "cells").glob("*/seed0.npz")))
    assert scores["aligned_ssim"].shape == (16,)
    assert np.isfinite(scores["correlation"]).all()


def test_a_folder_with_another_study_is_refused(study, settings, capsys):
    with pytest.raises(SystemExit) as ended:
        run(study[0], settings, image_size=[48, 32])
    assert ended.value.code == 2
    assert "another image_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"widht": 3}, "no such option"),
        ({"factors": {"colour": [1]}}, "'colour' is unknown"),
        ({"factors": {"width": 16}}, "--factors#width: is 16, wanted a list"),
        ({"base": {**BASE, "repetitions": "often"}}, "--base#repetitions: is 'often'"),
        ({"factors": {"width": [6]}}, "multiples of 4"),
        ({"factors": {"training_images": [11]}}, "there are 10 besides"),
        ({"num_samples": 4}, "--num_samples: is 4"),
        ({"equal": "time"}, "--equal: is 'time'"),
        ({"copy_detector_checkpoint": "nowhere.pt"}, "--copy_detector_checkpoint: nowhere.pt is not a file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, settings, capsys, overrides, message):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, settings, **overrides)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_estimate_alone_trains_nothing(tmp_path, settings, capsys):
    run(tmp_path / "study", settings, estimate_only=True)
    assert "2 trainings (4 steps)" in capsys.readouterr().out
    assert not (tmp_path / "study").exists()


def test_the_config_names_every_option_and_the_defaults_are_a_grid_that_can_be_trained():
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    assert list(config["study"]) == ["_target_", *MemorizationStudy.option_names()]
    assert set(config["base"]) == set(config["factors"])
    assert all(config["base"][name] in levels for name, levels in config["factors"].items())
