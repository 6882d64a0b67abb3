"""The bundle that trains, evaluates and embeds, run as users run it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, load, run
from monai.data import set_track_meta
from monai.utils import set_determinism
from PIL import Image

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


class KilledError(Exception):
    pass


def test_a_training_that_is_killed_takes_up_where_it_stopped(tmp_path, monkeypatch):
    step, calls = torch.optim.AdamW.step, []

    def killed_in_the_second_epoch(self, *arguments, **keywords):
        calls.append(self)
        if len(calls) == 4:
            raise KilledError
        return step(self, *arguments, **keywords)

    overrides = {
        "train#images#num_subjects": 4,
        "train#images#levels": ["basal_ganglia"],
        "validate#images#num_subjects": 2,
        "items_per_batch": 2,
        "num_workers": 0,
        "output_dir": str(tmp_path),
        "max_epochs": 3,
    }
    monkeypatch.setattr(torch.optim.AdamW, "step", killed_in_the_second_epoch)
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


def test_evaluation_on_phantom_pairs_writes_both_results(checkpoint, tmp_path):
    run_bundle(
        "evaluate", "evaluate_phantom", checkpoint=str(checkpoint), output_dir=str(tmp_path), **{"pairs#num_pairs": 9}
    )
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert sorted(result) == ["augmented", "clean"]
    assert result["clean"]["counts"] == {"different": 3, "duplicate": 3, "similar": 3}
    assert result["clean"]["recall"]["duplicate"] == 1.0  # an unchanged copy has cosine 1 whatever the network
    assert {"macro_f1", "precision", "recall", "silhouette", "roc_auc"} <= set(result["augmented"])


def test_evaluation_reads_the_published_layout(slices_folder, checkpoint, tmp_path):
    sources = sorted(slices_folder.iterdir())
    for uid in range(4):
        (tmp_path / "images" / f"IXI{uid}").mkdir(parents=True)
        for name, source in (("training", sources[5 * uid]), ("gen-0", sources[5 * uid]), ("gen-1", sources[uid])):
            (tmp_path / "images" / f"IXI{uid}" / f"{name}.png").write_bytes(source.read_bytes())
    lines = [f"IXI{uid}___training,IXI{uid}___gen-{i},{1 - i}" for uid in range(1, 4) for i in (0, 1)]
    (tmp_path / "test.csv").write_text("\n".join(["real_key,synth_key,label", *lines]))
    run_bundle(
        "evaluate",
        dataset_dir=str(tmp_path / "images"),
        pairs_csv=str(tmp_path / "test.csv"),
        checkpoint=str(checkpoint),
        output_dir=str(tmp_path / "out"),
    )
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["clean"]["num_pairs"] == 6
    assert result["clean"]["counts"] == {"different": 3, "duplicate": 3, "similar": 0}
    assert result["clean"]["recall"]["duplicate"] == 1.0


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
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


def test_the_small_training_has_the_published_sizes_of_its_head():
    # The first of the two trainings that made the shipped weights; the second widens the head.
    assert [parsed("train", "small")["network_def"][name] for name in ("hidden_dim", "embedding_dim")] == [256, 256]
    widened = parsed("train", "small", "widen_head")["network_def"]
    assert [widened[name] for name in ("hidden_dim", "embedding_dim")] == [1024, 1024]


def test_the_published_settings_lie_over_the_training():
    parser = parsed("train", "published")
    assert parser["network_def"]["backbone"] == "convnext_base"
    assert parser["network_def"]["frozen_stages"] == 2
    assert (parser["learning_rate"], parser["optimizer"]["weight_decay"], parser["max_epochs"]) == (1e-3, 1e-3, 40)
    clipping = next(h for h in parser["train"]["handlers"] if h["_target_"].endswith("GradientClipping"))
    assert clipping["max_norm"] == 1.0


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
