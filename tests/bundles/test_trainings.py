"""What the configs of all bundles that train have in common: overrides that are checked, and an end in words."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run
from monai.data import set_track_meta
from monai.utils import set_determinism
from PIL import Image

from monai_deepssim.workflow.config_steps import perform_steps

BUNDLES = Path(__file__).parents[2] / "bundles"
TRAININGS = [
    ("deepssim_brain_mri", "train"),
    ("copy_detector", "train"),
    ("brain_mri_ldm", "train_autoencoder"),
    ("brain_mri_ldm", "train_diffusion"),
]
SIZES = {
    "deepssim_brain_mri": {"items_per_batch": 4},
    "copy_detector": {"images_per_batch": 4, "network_def#backbone": "resnet18", "network_def#pretrained": "false"},
    "brain_mri_ldm": {
        "num_validation": 2,
        "autoencoder_channels": [4, 4],
        "autoencoder_norm_num_groups": 2,
        "perceptual_network": "none",
        "amp": "False",
    },
}


@pytest.fixture(autouse=True)
def _as_before():
    """A bundle's initialize switches determinism on for the whole process, and its logging file the log."""
    level = logging.root.level
    yield
    set_determinism(None)
    set_track_meta(True)
    logging.root.setLevel(level)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(random.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def run_bundle(bundle, config, **overrides):
    folder = BUNDLES / bundle
    run(config_file=str(folder / "configs" / f"{config}.json"), bundle_root=str(folder), **overrides)


def refusal(capsys, bundle, config, **overrides):
    """The one line with which a bundle refuses overrides, with status 2."""
    with pytest.raises(SystemExit) as ended:
        run_bundle(bundle, config, **overrides)
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(("bundle", "config"), TRAININGS)
@pytest.mark.parametrize(
    ("mistyped", "nearest"), [("output_dirr", "--output_dir"), ("train#trainr", "--train#trainer"), ("seeed", "--seed")]
)
def test_a_mistyped_override_is_refused_with_the_nearest(capsys, bundle, config, mistyped, nearest):
    message = f"monai-deepssim: --{mistyped}: there is no such option. Did you mean {nearest}?"
    assert refusal(capsys, bundle, config, **{mistyped: "x"}) == message


@pytest.mark.parametrize(("bundle", "config"), TRAININGS)
def test_a_truth_value_as_a_text_means_what_it_says(bundle, config):
    """MONAI's command line passes ``--amp false`` as a text, which Python takes for true."""
    file = str(BUNDLES / bundle / "configs" / f"{config}.json")
    shipped = ConfigParser.load_config_file(file)
    names = [name for name, value in shipped.items() if isinstance(value, bool)]
    names += ["validate#handlers#1#iteration_log"]
    if bundle != "brain_mri_ldm":
        names += ["network_def#pretrained", "train#dataloader#drop_last"]
    for text, value in (("false", False), ("False", False), ("true", True), ("True", True)):
        workflow = ConfigWorkflow(file, steps=[], **dict.fromkeys(names, text))
        workflow.initialize()
        perform_steps(workflow)
        assert {name: workflow.parser[name] for name in names} == dict.fromkeys(names, value)


def test_a_bundle_is_checked_against_the_configs_of_its_own_folder(capsys, tmp_path):
    """A user's copy of a bundle may have ids of its own, and other files beside its configs."""
    configs = tmp_path / "mine" / "configs"
    shutil.copytree(BUNDLES / "copy_detector" / "configs", configs)
    (configs / "settings.yaml").write_text("other_number: 3\n")
    (configs / "list.json").write_text("[1, 2]")
    (configs / "broken.json").write_text("{")
    overrides = {"steps": [], "other_number": 4}
    run(config_file=str(configs / "train.json"), bundle_root=str(configs.parent), **overrides)
    with pytest.raises(SystemExit):
        run(config_file=str(configs / "train.json"), bundle_root=str(configs.parent), **overrides, other_numbr=5)
    assert capsys.readouterr().err.endswith(
        "monai-deepssim: --other_numbr: there is no such option. Did you mean --other_number?\n"
    )


def test_other_texts_are_no_truth_values(capsys, images):
    for name in ("amp", "augmentation", "cache_latents", "verify_copies", "validate#handlers#1#iteration_log"):
        message = refusal(capsys, "brain_mri_ldm", "train_diffusion", **{name: "off"})
        assert message == f"monai-deepssim: --{name}: is 'off', wanted true or false."
    # Where a file may stand for true, as for the weights of a backbone, another text is its path.
    weights = {"network_def#pretrained": "nothing.pt"}
    message = refusal(capsys, "deepssim_brain_mri", "train", dataset_dir=str(images), **weights)
    assert "nothing.pt" in message


@pytest.mark.parametrize(("bundle", "config"), TRAININGS[:3])
def test_an_interrupted_training_ends_with_one_line(monkeypatch, capfd, images, tmp_path, bundle, config):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    for optimizer in (torch.optim.Adam, torch.optim.AdamW):
        monkeypatch.setattr(optimizer, "step", interrupted)
    sizes = {**SIZES[bundle], "image_size": [64, 64], "num_workers": 0}
    with pytest.raises(SystemExit) as ended:
        run_bundle(bundle, config, dataset_dir=str(images), output_dir=str(tmp_path / "out"), **sizes)
    assert ended.value.code == 130
    written = capfd.readouterr().err
    assert "Traceback" not in written
    assert "ERROR" not in written
    assert written.splitlines()[-1] == "monai-deepssim: interrupted. The same command continues where this stopped."


def test_the_file_of_another_training_is_refused_in_one_line(capsys, images, tmp_path):
    (tmp_path / "out").mkdir()
    torch.save({"network": {}}, tmp_path / "out" / "checkpoint.pt")
    sizes = {"image_size": [64, 64], "num_workers": 0, "output_dir": str(tmp_path / "out")}
    message = refusal(capsys, "deepssim_brain_mri", "train", dataset_dir=str(images), **sizes)
    assert "checkpoint.pt: this checkpoint is of another training" in message


@pytest.mark.parametrize("file", sorted(BUNDLES.glob("*/configs/*.json")), ids=lambda file: "/".join(file.parts[-3:]))
def test_what_has_steps_runs_them_in_one_way(file):
    config = json.loads(file.read_text())
    if "run" in config:  # a workflow, not settings that lie over one
        workflow = re.fullmatch(r"\$@(\w+)\.run\(\)", config["run"])  # of the package, which has its own steps
        if workflow is None:
            assert (config["run"], bool(config["steps"])) == ("$run_steps()", True)
        else:
            assert config[workflow[1]]["_target_"].startswith("monai_deepssim.")
