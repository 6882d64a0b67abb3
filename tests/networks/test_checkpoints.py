"""Loading DeepSSIM checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import DeepSSIMEmbedder, TorchScriptEmbedder, load_deepssim

PUBLISHED = Path(__file__).parents[1] / "data" / "deepssim_state_dict.json"


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return DeepSSIMEmbedder(backbone="convnext_atto", embedding_dim=32).eval()


def save(state, path):
    torch.save(state, path)
    return path


def test_the_published_names_and_shapes_load_strictly_and_the_backbone_is_inferred(tmp_path):
    shapes = json.loads(PUBLISHED.read_text())
    state = {
        name: torch.zeros(shape, dtype=torch.long) if name.endswith("num_batches_tracked") else torch.full(shape, 0.01)
        for name, shape in shapes.items()
    }
    embedder = load_deepssim(save(state, tmp_path / "published.pt"))
    assert embedder.backbone == "convnext_base"
    assert not embedder.training
    assert {name: list(value.shape) for name, value in embedder.state_dict().items()} == shapes
    assert all(torch.equal(value, state[name]) for name, value in embedder.state_dict().items())


@pytest.mark.parametrize("wrap", ["plain", "network", "state_dict", "module."])
def test_a_checkpoint_of_ours_gives_the_same_embeddings_however_it_was_wrapped(small, tmp_path, wrap):
    state = dict(small.state_dict())
    if wrap == "module.":
        state = {f"module.{name}": value for name, value in state.items()}
    elif wrap != "plain":
        state = {wrap: state, "epoch": 3}
    loaded = load_deepssim(save(state, tmp_path / "model.pt"))
    images = torch.randn(2, 1, 136, 112)
    assert torch.equal(loaded(images), small(images))


def test_a_resnet_is_inferred_too(tmp_path):
    state = DeepSSIMEmbedder(backbone="resnet18", embedding_dim=16, hidden_dim=64).state_dict()
    assert load_deepssim(save(state, tmp_path / "model.pt")).backbone == "resnet18"


def test_a_torchscript_file_embeds_the_same_whether_or_not_it_repeats_the_channel(small, tmp_path):
    images = torch.randn(2, 1, 136, 112)
    repeating = torch.jit.trace(small, images)
    repeating.save(str(tmp_path / "repeating.pt"))
    inner = nn.Sequential(small.feature_extractor, small.fc)
    torch.jit.trace(inner, images.expand(-1, 3, -1, -1)).save(str(tmp_path / "three.pt"))
    for name in ("repeating.pt", "three.pt"):
        with pytest.raises(UnusableInputError, match=r"can read and write files.*--allow_torchscript true"):
            load_deepssim(tmp_path / name)
        embedder = load_deepssim(tmp_path / name, allow_torchscript=True)
        assert isinstance(embedder, TorchScriptEmbedder)
        torch.testing.assert_close(embedder(images), small(images), atol=1e-5, rtol=1e-5)


def test_a_wrong_state_dict_names_its_missing_and_unexpected_keys(small, tmp_path):
    state = dict(small.state_dict())
    state["classifier.weight"] = state.pop("fc.3.bias")
    path = save(state, tmp_path / "wrong.pt")
    with pytest.raises(UnusableInputError) as caught:
        load_deepssim(path)
    message = str(caught.value)
    assert str(path) in message
    assert "1 missing keys: fc.3.bias" in message
    assert "1 unexpected keys: classifier.weight" in message


def test_another_backbone_than_the_named_one_is_an_error(small, tmp_path):
    path = save(small.state_dict(), tmp_path / "model.pt")
    with pytest.raises(UnusableInputError, match="resnet18"):
        load_deepssim(path, backbone="resnet18")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a checkpoint"), (b"not a checkpoint at all", "not a checkpoint"), (None, "no such file")],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content, said):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableInputError, match=said) as caught:
        load_deepssim(path)
    assert str(path) in str(caught.value)


def test_a_truncated_checkpoint_is_an_error(small, tmp_path):
    path = save(small.state_dict(), tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnusableInputError, match=r"model\.pt"):
        load_deepssim(path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (print, ("code ran",))

    path = save({"network": Malicious()}, tmp_path / "model.pt")
    with pytest.raises(UnusableInputError, match=r"it calls (builtins\.)?print, and code of a checkpoint is never run"):
        load_deepssim(path)


def test_a_checkpoint_of_something_else_is_an_error(tmp_path):
    with pytest.raises(UnusableInputError, match="want a state dict of tensors"):
        load_deepssim(save([1, 2, 3], tmp_path / "list.pt"))


def test_weights_remember_that_images_are_folded(tmp_path):
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True).eval()
    torch.save(embedder.state_dict(), tmp_path / "model.pt")
    loaded = load_deepssim(tmp_path / "model.pt")
    images = torch.randn(2, 1, 128, 128)
    assert loaded.fold_flips
    assert torch.equal(loaded(images), embedder(images))
    assert torch.equal(loaded(images.flip(3)), loaded(images))


def test_dropout_of_a_head_that_is_trained_on_is_the_callers(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(DeepSSIMEmbedder(backbone="convnext_atto", dropout=0.0).state_dict(), path)
    images = torch.randn(2, 1, 64, 64)
    for dropout in (0.33, 0.0):
        head = load_deepssim(path, dropout=dropout).fc[2:].train()
        head[0].eval()
        features = torch.randn(4, 320)
        assert torch.equal(head(features), head(features)) == (dropout == 0)
    assert torch.equal(load_deepssim(path, dropout=0.0)(images), load_deepssim(path)(images))


def test_weights_remember_the_canonical_pose_and_the_size_of_the_pooled_features(tmp_path, phantoms):
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(
        "convnext_atto", hidden_dim=64, embedding_dim=32, canonical_size=(96, 64), pooled_size=(3, 2)
    ).eval()
    torch.save(embedder.state_dict(), tmp_path / "model.pt")
    loaded = load_deepssim(tmp_path / "model.pt")
    assert (loaded.canonical_size, loaded.pooled_size) == ((96, 64), (3, 2))
    assert torch.equal(loaded(phantoms[:2]), embedder(phantoms[:2]))
