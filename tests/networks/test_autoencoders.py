"""A generator's autoencoder is loaded from its weights alone."""

import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import AutoencoderKL

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import AutoencoderWeights, ImageAutoencoder

BUNDLE = Path(__file__).parents[2] / "bundles" / "brain_mri_ldm"


def save(network, folder):
    torch.save(network.state_dict(), folder / "autoencoder.pt")
    return folder / "autoencoder.pt"


def build(**arguments):
    defaults = {"channels": (8, 16), "attention_levels": (False, True), "num_res_blocks": 1, "norm_num_groups": 8}
    return AutoencoderKL(**{"spatial_dims": 2, **defaults, **arguments}).eval()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"channels": (8,), "attention_levels": (False,)},
        {"channels": (16, 8, 32), "attention_levels": (False, False, False), "num_res_blocks": (2, 1, 3)},
        {"attention_levels": (True, True), "num_res_blocks": 2},
        {"with_encoder_nonlocal_attn": False},
        {"with_decoder_nonlocal_attn": False, "attention_levels": (False, False)},
        {"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False, "latent_channels": 7},
        {"use_convtranspose": True},
        {"include_fc": False, "use_combined_linear": True},
    ],
)
def test_the_architecture_is_read_off_the_names_and_shapes_of_the_weights(arguments, tmp_path):
    torch.manual_seed(0)
    network = build(**arguments)
    read = AutoencoderWeights(save(network, tmp_path)).arguments
    again = AutoencoderKL(**read, norm_num_groups=8).eval()
    again.load_state_dict(network.state_dict())
    image = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(again.reconstruct(image), network.reconstruct(image), rtol=0, atol=0)


@pytest.mark.parametrize("configs", [["train_autoencoder"], ["train_autoencoder", "small"]])
def test_the_autoencoder_of_the_generators_bundle_is_read(configs, tmp_path):
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / f"{name}.json" for name in configs])
    torch.manual_seed(0)
    network = parser.get_parsed_content("autoencoder_def").eval()
    weights = AutoencoderWeights(save(network, tmp_path))
    image = torch.rand(1, 1, 16, 16)
    fitted = weights.fit(image)
    assert fitted(image).shape == image.shape
    for part, trained in zip(fitted.network.modules(), network.modules(), strict=True):
        assert type(part) is type(trained)


@pytest.mark.parametrize("intensities", [(0.0, 1.0), (-1.0, 1.0)])
def test_groups_and_range_are_those_that_give_training_images_back_best(
    intensities, small_autoencoder, phantoms, tmp_path
):
    state = torch.load(small_autoencoder, weights_only=True)
    if intensities[0] < 0:  # the same autoencoder, of images from -1 to 1
        first, last = "encoder.blocks.0.conv", "decoder.blocks.5.conv"
        assert state[f"{last}.weight"].shape[0] == 1, "the last convolution is another one"
        state[f"{first}.weight"] = state[f"{first}.weight"] / 2
        state[f"{first}.bias"] = state[f"{first}.bias"] + state[f"{first}.weight"].sum((1, 2, 3))
        state[f"{last}.weight"] = state[f"{last}.weight"] * 2
        state[f"{last}.bias"] = state[f"{last}.bias"] * 2 - 1
    torch.save({"network": state, "epoch": 3}, tmp_path / "checkpoint.pt")
    images = torch.nn.functional.interpolate(phantoms[:2], (32, 28), mode="bilinear", antialias=True)
    fitted = AutoencoderWeights(tmp_path / "checkpoint.pt").fit(images)
    groups = {part.num_groups for part in fitted.network.modules() if isinstance(part, torch.nn.GroupNorm)}
    assert (groups, fitted.intensities) == ({2}, intensities)
    assert (fitted(images) - images).abs().mean() < 0.1


def test_images_whose_sides_cannot_be_halved_come_back_at_their_size():
    torch.manual_seed(0)
    autoencoder = ImageAutoencoder(build(channels=(8, 8, 8), attention_levels=(False, False, False)))
    image = torch.rand(2, 1, 21, 18)
    passed = autoencoder(image)
    assert passed.shape == image.shape
    assert 0 <= passed.min() <= passed.max() <= 1
    whole = torch.rand(1, 1, 16, 12)
    with torch.inference_mode():
        expected = autoencoder.network.reconstruct(whole).clamp(0, 1)
    assert torch.equal(autoencoder(whole), expected)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"weight": torch.zeros(2, 2)},
            "do not tell the architecture of an AutoencoderKL (they have no encoder.blocks)",
        ),
        (build(spatial_dims=3).state_dict(), "got an autoencoder in 3D from 1 to 1 channels, want one of grey slices"),
        (build(in_channels=3, out_channels=3).state_dict(), "in 2D from 3 to 3 channels"),
        (
            {name.replace(".attn.to_", ".to_"): value for name, value in build().state_dict().items()},
            "are not those of the AutoencoderKL that they are like: 24 missing keys",
        ),
    ],
)
def test_what_is_no_such_autoencoder_is_refused_in_words(state, words, tmp_path):
    torch.save(state, tmp_path / "autoencoder.pt")
    with pytest.raises(UnusableInputError, match=re.escape(words)) as refused:
        AutoencoderWeights(tmp_path / "autoencoder.pt")
    assert str(tmp_path / "autoencoder.pt") in str(refused.value)


def test_a_file_that_needs_pickle_to_run_code_is_refused(tmp_path):
    torch.save(build(), tmp_path / "autoencoder.pt")
    with pytest.raises(UnusableInputError, match="not a checkpoint"):
        AutoencoderWeights(tmp_path / "autoencoder.pt")
    with pytest.raises(UnusableInputError, match="no such file"):
        AutoencoderWeights(tmp_path / "missing.pt")
