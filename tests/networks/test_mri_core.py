"""MRI-CORE's image encoder: the published names and shapes, strict loading, other sizes, and what goes in."""

import builtins
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torchvision.transforms import Normalize

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import MRICoreMemorizationIndexMetric
from monai_deepssim.networks import LayerFeatures, MRICoreEncoder

SHAPES = json.loads((Path(__file__).resolve().parents[1] / "data" / "mri_core_encoder_state_dict.json").read_text())


@pytest.fixture(scope="module")
def weights():
    """Random weights with the published names and shapes, small enough for activations that stay finite."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(max(math.prod(shape) for shape in SHAPES.values()), generator=generator) * 0.05
    return {name: noise[: math.prod(shape)].reshape(shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mri_core")


@pytest.fixture(scope="module")
def checkpoint(weights, folder):
    torch.save(weights, folder / "encoder.pt")
    return folder / "encoder.pt"


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return MRICoreEncoder(image_size=64, checkpoint=checkpoint).eval()


@pytest.fixture(scope="module")
def teacher(weights):
    """The same weights as a DINOv2 training keeps them: in chunks, with a class token and heads, without a neck."""
    state = {}
    for name, value in weights.items():
        if name.startswith("neck"):
            continue
        number = name.split(".")[1] if name.startswith("blocks") else ""
        name = name.replace("blocks.", f"blocks.{int(number) // 3}.") if number else name
        state["backbone." + name.replace("lin", "fc")] = value
    tokens = weights["pos_embed"][:, :14, :14].reshape(1, 196, 768)
    state["backbone.pos_embed"] = torch.cat([torch.zeros(1, 1, 768), tokens], dim=1)
    state |= {f"backbone.{name}": torch.zeros(1, 1, 768) for name in ("cls_token", "mask_token", "norm.weight")}
    return state | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}


def save(state, path):
    torch.save(state, path)
    return path


def test_names_and_shapes_are_the_published_ones(encoder):
    assert {name: list(value.shape) for name, value in encoder.state_dict().items()} == SHAPES
    assert len(SHAPES) == 153


def test_every_weight_is_loaded(encoder, weights):
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_norms_have_the_epsilon_of_sam(encoder):
    norms = [module for module in encoder.modules() if "LayerNorm" in type(module).__name__]
    assert {norm.eps for norm in norms} == {1e-6}
    assert len(norms) == 26


def test_a_whole_sam_is_loaded_by_its_encoder(weights, folder, checkpoint, encoder):
    state = {f"module.image_encoder.{name}": value for name, value in weights.items()}
    state["module.mask_decoder.iou_token.weight"] = torch.zeros(1, 256)
    loaded = MRICoreEncoder(64, save({"model": state, "epoch": 3}, folder / "sam.pt"))
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


def test_a_dinov2_teacher_is_loaded_with_its_position_embedding_and_without_a_neck(teacher, weights, folder):
    loaded = MRICoreEncoder(224, save({"teacher": teacher}, folder / "teacher.pt")).eval()
    state = loaded.state_dict()
    assert torch.equal(state.pop("pos_embed"), weights["pos_embed"][:, :14, :14])
    assert set(state) == {name for name in SHAPES if not name.startswith(("neck", "pos_embed"))}
    assert all(torch.equal(value, weights[name]) for name, value in state.items())
    loaded.image_size = 32
    with torch.no_grad():
        assert loaded(torch.rand(1, 1, 20, 20)).shape == (1, 768)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("neck.2.weight"), "1 missing keys: neck.2.weight"),
        (lambda state: state.pop("pos_embed"), "1 missing keys: pos_embed"),
        (
            lambda state: state.update({"blocks.0.attn.rel_pos_h": torch.zeros(27, 64)}),
            "1 unexpected keys: blocks.0.attn.rel_pos_h",
        ),
        (
            lambda state: state.update({"blocks.1.norm1.bias": torch.zeros(3)}),
            r"1 keys of another shape: blocks.1.norm1.bias \(3,\) instead of \(768,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, folder, change, message):
    state = dict(weights)
    change(state)
    path = save(state, folder / "other.pt")
    with pytest.raises(UnusableInputError, match=rf"other.pt: .*{message}"):
        MRICoreEncoder(64, path)


def test_a_missing_file_and_one_that_is_no_checkpoint_are_named(folder):
    with pytest.raises(UnusableInputError, match=r"none.pt: no such file"):
        MRICoreEncoder(64, folder / "none.pt")
    (folder / "text.pt").write_text("weights")
    with pytest.raises(UnusableInputError, match=r"text.pt: not a checkpoint"):
        MRICoreEncoder(64, folder / "text.pt")


def test_other_sizes_interpolate_the_position_embedding(encoder, weights):
    expected = F.interpolate(weights["pos_embed"].permute(0, 3, 1, 2), size=(4, 4), mode="bilinear")
    torch.testing.assert_close(encoder._position_embedding(4, 4), expected.permute(0, 2, 3, 1))
    assert encoder._position_embedding(64, 64) is encoder.pos_embed


def test_a_size_that_is_no_multiple_of_the_patches_is_refused():
    with pytest.raises(ValueError, match="got image_size=100, want a multiple of 16"):
        MRICoreEncoder(100)


def test_images_are_scaled_resized_and_normalised_as_imagenets(encoder):
    x = torch.zeros(2, 1, 32, 16)
    x[0, 0, :, 8:] = 40.0  # dark left, bright right, of any unit
    y = encoder.preprocess(x)
    assert y.shape == (2, 3, 64, 64)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(y[0, :, :, :16], normalize(torch.zeros(3, 64, 16)))
    torch.testing.assert_close(y[0, :, :, -16:], normalize(torch.ones(3, 64, 16)))
    torch.testing.assert_close(y[1], normalize(torch.zeros(3, 64, 64)))
    with pytest.raises(ValueError, match=r"want \(N, 1, H, W\)"):
        encoder.preprocess(torch.zeros(2, 3, 32, 32))


def test_features_of_the_published_blocks_have_768_channels(encoder):
    with torch.no_grad():
        x = torch.rand(2, 1, 40, 30, generator=torch.Generator().manual_seed(0))
        features = LayerFeatures(encoder, MRICoreEncoder.LAYERS, channel_dim=-1)(x)
        assert [tuple(value.shape) for value in features.values()] == [(2, 768)] * 3
        tokens = encoder.patch_embed(encoder.preprocess(x)) + encoder._position_embedding(4, 4)
        expected = encoder.blocks[:4](tokens).flatten(1, 2).mean(1)
    torch.testing.assert_close(features["blocks.3"], expected)


def test_the_detector_takes_the_path_of_a_checkpoint(checkpoint):
    metric = MRICoreMemorizationIndexMetric(checkpoint, image_size=32, null=[0.5, 0.1])
    images = torch.rand(5, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="few for the channels"):
        scores = metric.fit([images])(images[2:4])
    assert scores[:, 1].tolist() == [2, 3]


def test_without_timm_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_timm(name, *args, **kwargs):
        if name == "timm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_timm)
    with pytest.raises(UnusableInputError, match=r"pip install monai-deepssim\[mri_core\]"):
        MRICoreEncoder(64)
