"""The bundle that trains, evaluates and embeds, run as users run it."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from killed_training import kill_at_step
from monai.bundle import ConfigParser, ckpt_export, load, run
from monai.data import DataLoader, set_track_meta
from monai.transforms import RandRotate
from monai.utils import set_determinism
from PIL import Image
from torchvision.ops import StochasticDepth

from monai_deepssim.data import write_phantom_pairs
from monai_deepssim.networks import DeepSSIMEmbedder, load_deepssim

BUNDLE = Path(__file__).parents[2] / "bundles" / "deepssim_brain_mri"
CONFIGS = BUNDLE / "configs"


@pytest.fixture(autouse=True)
def _as_before():
    """A bundle's initialize switches determinism on for the whole process."""
    yield
    set_determinism(None)
    set_track_meta(True)


def run_bundle(*configs, **overrides):
    run(config_file=[str(CONFIGS / f"{name}.json") for name in configs], bundle_root=str(BUNDLE), **overrides)


def parsed(*names):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    return parser


@pytest.fixture(scope="module")
def slices_folder(icbm152_slices, tmp_path_factory):
    """Real slices as PNG, five a patient, in a folder."""
    folder = tmp_path_factory.mktemp("slices")
    for position, image in enumerate(icbm152_slices[10:30]):
        pixels = (image[0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"patient{position // 5}_slice{position % 5}.png")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained small embedder."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    torch.save(DeepSSIMEmbedder(backbone="convnext_atto").state_dict(), path)
    return path


def test_training_on_a_folder_of_ones_own_writes_a_checkpoint_that_loads_and_a_tensorboard_log(slices_folder, tmp_path):
    run_bundle(
        "train",
        dataset_dir=str(slices_folder),
        patient_id_pattern="patient(\\d+)_",
        validation_fraction=0.25,
        output_dir=str(tmp_path),
        max_epochs=1,
        items_per_batch=5,
        num_workers=0,
    )
    assert load_deepssim(tmp_path / "model.pt").backbone == "convnext_atto"
    assert load_deepssim(tmp_path / "checkpoint.pt").backbone == "convnext_atto"
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_fine_tuning_starts_from_the_given_weights_with_their_norm_frozen(slices_folder, checkpoint, tmp_path):
    run_bundle(
        "train",
        "fine_tune",
        initial_weights=str(checkpoint),
        dataset_dir=str(slices_folder),
        patient_id_pattern="patient(\\d+)_",
        validation_fraction=0.25,
        output_dir=str(tmp_path),
        max_epochs=1,
        items_per_batch=5,
        num_workers=0,
        learning_rate=1e-6,
    )
    before, after = (load_deepssim(path).state_dict() for path in (checkpoint, tmp_path / "model.pt"))
    assert all(torch.allclose(after[name].float(), before[name].float(), atol=1e-3) for name in before)
    assert not torch.equal(after["fc.3.weight"], before["fc.3.weight"])
    # An untrained norm has the statistics 0 and 1; one that was not frozen would have moved.
    assert torch.equal(after["fc.2.running_mean"], before["fc.2.running_mean"])
    assert torch.equal(after["fc.2.running_var"], before["fc.2.running_var"])


def test_a_new_head_is_trained_on_the_backbone_of_the_small_training(tmp_path):
    small = {
        "train#images#num_subjects": 4,
        "train#images#levels": ["basal_ganglia"],
        "validate#images#num_subjects": 2,
        "items_per_batch": 2,
        "num_workers": 0,
        "max_epochs": 1,
    }
    run_bundle("train", "small", **small, output_dir=str(tmp_path / "narrow"))
    narrow = tmp_path / "narrow" / "model.pt"
    wide = {"initial_weights": str(narrow), "output_dir": str(tmp_path / "wide"), "learning_rate": 1e-6}
    run_bundle("train", "small", "widen_head", **{**small, **wide})
    before, after = (load_deepssim(path) for path in (narrow, tmp_path / "wide" / "model.pt"))
    assert after.fold_flips
    assert after.canonical_size == before.canonical_size == (192, 144)
    assert (before.fc[6].out_features, after.fc[6].out_features) == (256, 1024)
    first = [network.feature_extractor[0][0].weight for network in (before, after)]
    assert not torch.equal(*first)
    torch.testing.assert_close(*first, atol=1e-3, rtol=0)
    assert torch.equal(after.fc[2].running_mean, before.fc[2].running_mean)


def test_training_on_with_randomized_phantoms_starts_from_the_given_weights(checkpoint, tmp_path):
    few = {f"{side}#images#datasets#{number}#num_subjects": 3 for side in ("train", "validate") for number in (0, 1)}
    run_bundle(
        "train",
        "small",
        "fine_tune",
        "randomized",
        **few,
        **{"train#images#datasets#0#levels": ["basal_ganglia"]},
        initial_weights=str(checkpoint),
        output_dir=str(tmp_path),
        items_per_batch=3,
        num_workers=0,
        max_epochs=1,
        learning_rate=1e-6,
    )
    before, after = (load_deepssim(path).state_dict() for path in (checkpoint, tmp_path / "model.pt"))
    assert all(torch.allclose(after[name].float(), before[name].float(), atol=1e-3) for name in before)
    assert not torch.equal(after["fc.3.weight"], before["fc.3.weight"])


def test_training_on_with_chest_phantoms_starts_from_the_given_weights(checkpoint, tmp_path):
    run_bundle(
        *("train", "fine_tune", "chest_xray", "chest_phantoms"),
        **{
            "train#images#num_subjects": 4,
            "validate#images#num_subjects": 2,
            "initial_weights": str(checkpoint),
            "output_dir": str(tmp_path),
            "items_per_batch": 2,
            "num_workers": 0,
            "max_epochs": 1,
            "learning_rate": 1e-6,
        },
    )
    before, after = (load_deepssim(path).state_dict() for path in (checkpoint, tmp_path / "model.pt"))
    assert all(torch.allclose(after[name].float(), before[name].float(), atol=1e-3) for name in before)
    assert not torch.equal(after["fc.3.weight"], before["fc.3.weight"])


def test_a_training_that_is_killed_takes_up_where_it_stopped(tmp_path, monkeypatch):
    overrides = {
        "train#images#num_subjects": 4,
        "train#images#levels": ["basal_ganglia"],
        "validate#images#num_subjects": 2,
        "items_per_batch": 2,
        "num_workers": 0,
        "output_dir": str(tmp_path),
        "max_epochs": 3,
    }
    kill_at_step(monkeypatch, torch.optim.AdamW, 4)  # in the second epoch
    with pytest.raises(RuntimeError, match="Failed to evaluate"):  # MONAI's word for whatever ends an expression
        run_bundle("train", "small", **overrides)
    monkeypatch.undo()
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == 2
    run_bundle("train", "small", **overrides)
    after = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert after["trainer"]["iteration"] == 6
    assert after["optimizer"]["state"][0]["step"] == 6


def test_two_processes_train_together_and_one_of_them_saves(tmp_path):
    arguments = {
        "train#images#num_subjects": 4,
        "train#images#levels": ["basal_ganglia"],
        "validate#images#num_subjects": 3,
        "validate#images#levels": ["basal_ganglia"],
        "items_per_batch": 2,
        "num_workers": 0,
        "max_epochs": 1,
        "output_dir": str(tmp_path),
    }
    configs = [str(CONFIGS / f"{name}.json") for name in ("train", "small", "multi_gpu_train")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(configs), "--bundle_root", str(BUNDLE)]
    command += [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert load_deepssim(tmp_path / "model.pt").backbone == "convnext_atto"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 1


def test_embedding_a_folder_writes_an_array_and_a_table_and_names_what_cannot_be_read(
    slices_folder, checkpoint, tmp_path, capsys
):
    for path in slices_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "patient9_slice0.png").write_bytes(b"not a picture")
    output = tmp_path / "out"
    run_bundle(
        "inference",
        dataset_dir=str(tmp_path),
        patient_id_pattern="patient(\\d+)_",
        checkpoint=str(checkpoint),
        output_dir=str(output),
    )
    embeddings = np.load(output / "embeddings.npy")
    table = pd.read_csv(output / "images.csv", dtype={"patient_id": str})
    assert embeddings.shape == (20, 256)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert table["row"].tolist()[:20] == list(range(20))
    assert table["patient_id"].tolist()[:6] == ["0"] * 5 + ["1"]
    assert "patient9_slice0.png" in table.loc[20, "problem"]
    assert "20 of 21 images embedded" in capsys.readouterr().out


def test_the_published_protocol_runs_as_a_bundle(checkpoint, tmp_path, capsys):
    run_bundle("reproduce", checkpoint=str(checkpoint), output_dir=str(tmp_path), only="deepssim", num_pairs=6)
    clean, augmented = json.loads((tmp_path / "summary.json").read_text())["results"]
    assert clean["counts"] == {"different": 2, "duplicate": 2, "similar": 2}
    assert clean["recall_duplicate"] == 1.0  # an unchanged copy has cosine 1 whatever the network
    assert augmented["augmented"]
    with pytest.raises(SystemExit) as ended:
        run_bundle("reproduce", output_dir=str(tmp_path), testsetcsv="a.csv")
    assert ended.value.code == 2
    assert "Did you mean --testset_csv?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "reproduce", "inference"])
def test_every_required_property_of_monai_is_in_the_config(name):
    from monai.bundle.properties import InferProperties, TrainProperties

    parser = ConfigParser()
    parser.read_config(str(CONFIGS / f"{name}.json"))
    properties = TrainProperties if name == "train" else InferProperties
    required = [p["id"].replace("::", "#") for p in properties.values() if p["required"]]
    assert [identifier for identifier in required if identifier not in parser] == []


@pytest.mark.parametrize("workflow", ["train", "inference"])
def test_monai_loads_the_shipped_network_with_its_weights(workflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a user's folder, not the bundle's
    network = load("deepssim_brain_mri", bundle_dir=str(BUNDLE.parent), workflow_type=workflow, device="cpu")
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    loaded = network.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name].to(loaded[name].dtype)) for name in weights)
    images = torch.rand(2, 1, 136, 112)
    expected = load_deepssim(BUNDLE / "models" / "model.pt")(images)
    torch.testing.assert_close(network.eval()(images), expected)


def test_the_network_of_the_training_takes_the_shipped_weights_strictly():
    network = parsed("train").get_parsed_content("network_def")
    network.load_state_dict(torch.load(BUNDLE / "models" / "model.pt", weights_only=True), strict=True)


def test_the_network_is_exported_as_a_program_that_embeds_images_of_any_number_and_size(tmp_path):
    ckpt_export(config_file=str(CONFIGS / "train.json"), bundle_root=str(BUNDLE), filepath=str(tmp_path / "model.ts"))
    program = load_deepssim(tmp_path / "model.ts", allow_torchscript=True)
    network = load_deepssim(BUNDLE / "models" / "model.pt")
    for shape in ((1, 1, 136, 112), (3, 1, 150, 120)):
        images = torch.rand(shape)
        torch.testing.assert_close(program(images), network(images))


@pytest.mark.parametrize("num_images", [3, 9])
def test_fewer_images_than_a_batch_are_trained_on_in_one_batch(tmp_path, num_images):
    random = np.random.default_rng(0)
    for number in range(num_images):
        pixels = random.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    run_bundle(
        "train",
        dataset_dir=str(tmp_path),
        image_size=[64, 64],
        output_dir=str(tmp_path / "out"),
        max_epochs=1,
        num_workers=0,
    )
    assert torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 1


@pytest.mark.parametrize("epochs", [1, 10, 20])
def test_the_learning_rate_rises_in_a_tenth_of_the_steps_and_falls_however_few_there_are(epochs):
    parser = parsed("train")
    parser.update({"max_epochs": epochs, "train#dataloader": [0], "optimizer": torch.optim.SGD([torch.zeros(1)])})
    scheduler = parser.get_parsed_content("lr_scheduler")
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(epochs - 1):
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert np.argmax(rates) <= max(epochs / 10, 1)
    assert max(rates) <= parser["learning_rate"] * (1 + 1e-6)


def test_the_small_training_has_the_published_sizes_of_its_head():
    # The first of the two trainings that made the shipped weights; the second widens the head.
    assert [parsed("train", "small")["network_def"][name] for name in ("hidden_dim", "embedding_dim")] == [256, 256]
    widened = parsed("train", "small", "widen_head")["network_def"]
    assert [widened[name] for name in ("hidden_dim", "embedding_dim")] == [1024, 1024]


def test_the_published_network_lies_over_the_training():
    parser = parsed("train", "published_network")
    assert parser["network_def"]["backbone"] == "convnext_base"
    assert parser["network_def"]["frozen_stages"] == 2
    assert (parser["learning_rate"], parser["optimizer"]["weight_decay"], parser["max_epochs"]) == (1e-3, 1e-3, 40)


@pytest.fixture(scope="module")
def published_pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_phantom_pairs(folder, 3, num_training_pairs=10, progress=False)
    return {"dataset_dir": str(folder / "images"), "pairs_csv": str(folder / "train.csv")}


def published(tmp_path, **overrides):
    """The published training of a small network."""
    parser = parsed("train", "published")
    small = {"network_def#backbone": "convnext_atto", "network_def#pretrained": False, "num_workers": 0}
    parser.update({**small, "output_dir": str(tmp_path), "device": "$torch.device('cpu')", **overrides})
    parser.parse()
    return parser


# Each setting of the published code; see docs/papers/deepssim.md.
PUBLISHED = {
    "network_def#backbone": "convnext_base",
    "network_def#pretrained": True,
    "network_def#hidden_dim": 512,
    "network_def#embedding_dim": 256,
    "network_def#dropout": 0.33,
    "network_def#frozen_stages": 0,
    "network_def#frozen_parameters": "[01]",
    "trained_module#_target_": "monai_deepssim.networks.PairSimilarity",
    "loss#_target_": "torch.nn.MSELoss",
    "optimizer#_target_": "torch.optim.AdamW",
    "optimizer#weight_decay": 1e-3,
    "learning_rate": 1e-3,
    "lr_scheduler#_target_": "torch.optim.lr_scheduler.ConstantLR",
    "lr_scheduler#factor": 1.0,
    "max_epochs": 40,
    "items_per_batch": 32,
    "augmentation_prob": 0.33,
    "seed": 42,
    "freeze_norm_from_epoch": None,
    "train#sampler": None,
    "train#dataloader#drop_last": False,
    "train#inferer#_target_": "SimpleInferer",
    "val_interval": 1,
}


def test_every_published_setting_is_in_the_published_training():
    parser = parsed("train", "published")
    assert {name: parser[name] for name in PUBLISHED} == PUBLISHED
    clipping = next(h for h in parser["train#handlers"] if h["_target_"].endswith("GradientClipping"))
    assert clipping["max_norm"] == 1.0
    unset = {"fold_flips", "canonical_size", "pooled_size"} & set(parser["network_def"])
    assert not unset


def test_the_published_augmentations_change_each_image_of_a_pair_on_its_own_in_the_published_order():
    augmentation = parsed("train", "published")["train#augmentation"]
    names = ["RandFlipd", "RandFlipd", "RandRotated", "RandAdjustContrastd"]
    assert [(one["_target_"], one["keys"]) for one in augmentation] == [
        (name, key) for key in ("real", "synthetic") for name in names
    ]
    assert [one["spatial_axis"] for one in augmentation if "spatial_axis" in one] == [0, 1, 0, 1]
    assert {one["range_x"] for one in augmentation if "range_x" in one} == {0.17}
    # As the published code leaves it to MONAI: the border is repeated, the size kept.
    assert not {"padding_mode", "keep_size", "mode"} & {name for one in augmentation for name in one}
    assert RandRotate().padding_mode == "border"


def test_the_published_code_freezes_235_of_340_parameters():
    with torch.device("meta"):
        features = torchvision.models.convnext_base().features
    pattern = PUBLISHED["network_def#frozen_parameters"]
    names = [name for name, _ in features.named_parameters()]
    assert (len([name for name in names if re.search(pattern, name)]), len(names)) == (235, 340)
    assert {name for name in names if re.search(pattern, name)} == {
        name for name in names if "0" in name or "1" in name
    }
    small = DeepSSIMEmbedder("convnext_atto", frozen_parameters=pattern).train()
    trained = {name for name, parameter in small.feature_extractor.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in small.feature_extractor.named_parameters() if not re.search(pattern, name)}
    assert all(module.training for module in small.feature_extractor.modules())


def test_a_pair_is_standardised_before_it_is_augmented_and_its_ssim_is_that_of_the_list(published_pairs, tmp_path):
    parser = published(tmp_path, **published_pairs, augmentation_prob=0.0)
    training, validation = (parser.get_parsed_content(f"{part}#dataset") for part in ("train", "validate"))
    assert (len(training), len(validation)) == (8, 2)
    pair = pd.read_csv(published_pairs["pairs_csv"]).iloc[2]
    for image, column in zip(training[2]["image"], ("real_key", "synth_key"), strict=True):
        uid, name = pair[column].split("___")
        pixels = np.asarray(Image.open(Path(published_pairs["dataset_dir"], uid, f"{name}.png"))).astype(float)
        np.testing.assert_allclose(image, (pixels - pixels.mean()) / pixels.std(), atol=1e-5)
    assert training[2]["label"].tolist() == [float(np.float16(pair["ssim"]))]
    augmented = published(tmp_path, **published_pairs, augmentation_prob=1.0)
    first, second = augmented.get_parsed_content("train#dataset")[1]["image"]  # a duplicate, changed twice
    assert not torch.allclose(first, second, atol=0.1)


def test_the_published_training_takes_one_step_as_the_published_code_does(published_pairs, tmp_path):
    overrides = {"augmentation_prob": 0.0, "network_def#dropout": 0.0, "max_epochs": 1, "items_per_batch": 8}
    parser = published(tmp_path, **published_pairs, **overrides)
    network = parser.get_parsed_content("network_def")
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    expected = copy.deepcopy(network)
    trainer = parser.get_parsed_content("train#trainer")
    batch = next(iter(DataLoader(parser.get_parsed_content("train#dataset"), batch_size=8)))
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-3, weight_decay=1e-3)
    expected.train()
    first, second = (expected(batch["image"][:, [side]]) for side in (0, 1))
    loss = ((torch.nn.functional.cosine_similarity(first, second) - batch["label"][:, 0]) ** 2).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    optimizer.step()
    trainer.run()
    assert trainer.state.output[0]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, weights in expected.state_dict().items():
        # The batch of the trainer is in another order, which rounds otherwise; a first step of AdamW is about 1e-3.
        assert torch.allclose(network.state_dict()[name].float(), weights.float(), atol=3e-4) or "feature" in name, name


def test_the_published_training_keeps_its_rate_and_the_best_network_by_validation(published_pairs, tmp_path):
    small = {"network_def#backbone": "convnext_atto", "network_def#pretrained": False, "num_workers": 0}
    run_bundle(
        *("train", "published"), **published_pairs, **small, output_dir=str(tmp_path), max_epochs=2, items_per_batch=3
    )
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert state["trainer"]["iteration"] == 2 * 3  # eight pairs, the last batch with two
    assert load_deepssim(tmp_path / "model.pt").backbone == "convnext_atto"


def test_an_embedder_of_volumes_is_trained_on_phantom_volumes(tmp_path):
    small = {
        "image_size": [32, 32, 32],
        "network_def#canonical_size": [32, 32, 32],
        "train#images#num_subjects": 3,
        "validate#images#num_subjects": 2,
        "items_per_batch": 3,
        "max_epochs": 1,
    }
    run_bundle("train", "volumes", "small_volumes", **small, output_dir=str(tmp_path))
    embedder = load_deepssim(tmp_path / "model.pt")
    assert (embedder.backbone, embedder.spatial_dims, embedder.pooled_size) == ("resnet10_3d", 3, (3, 3, 3))
    assert embedder(torch.rand(2, 1, 32, 32, 32)).shape == (2, 512)


def test_an_embedder_of_volumes_is_trained_on_a_folder_of_ones_own(tmp_path):
    generator = np.random.default_rng(0)
    for patient in range(4):
        head = np.zeros((36, 40, 30), np.float32)
        head[6:30, 5:34, 4:26] = generator.random((24, 29, 22))
        nibabel.save(nibabel.Nifti1Image(head, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / f"patient{patient}.nii.gz")
    run_bundle(
        "train",
        "volumes",
        dataset_dir=str(tmp_path),
        patient_id_pattern="(patient\\d)",
        validation_fraction=0.5,
        output_dir=str(tmp_path / "training"),
        image_size=[32, 32, 32],
        max_epochs=1,
        items_per_batch=2,
        num_workers=0,
    )
    assert load_deepssim(tmp_path / "training" / "model.pt").spatial_dims == 3
