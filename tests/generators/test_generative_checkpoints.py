"""Files of weights, MONAI core's and the real monai-generative's, into either kind of network."""

import generative.networks.nets as archived
import monai.networks.nets as core
import pytest
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import as_monai_network, convert_generative_state_dict, load_generator_network

AUTOENCODER = {"spatial_dims": 2, "num_res_blocks": 1, "attention_levels": (False, True), "norm_num_groups": 4}
UNET = AUTOENCODER | {"in_channels": 3, "out_channels": 3, "num_head_channels": 4}
CONDITIONED = UNET | {"with_conditioning": True, "cross_attention_dim": 5}
# Each as monai-generative, as MONAI core, and how it is called.
NETWORKS = {
    "autoencoder": ("AutoencoderKL", AUTOENCODER, (torch.linspace(0, 1, 256).reshape(2, 1, 16, 8),)),
    "U-Net": (
        "DiffusionModelUNet",
        UNET,
        (torch.linspace(-2, 2, 192).sin().reshape(2, 3, 8, 4), torch.tensor([3, 700])),
    ),
    "conditioned U-Net": (
        "DiffusionModelUNet",
        CONDITIONED,
        (
            torch.linspace(-2, 2, 192).sin().reshape(2, 3, 8, 4),
            torch.tensor([3, 700]),
            torch.linspace(-1, 1, 10).reshape(2, 1, 5),
        ),
    ),
}
CHANNELS = {"generative": {"num_channels": (8, 16)}, "monai": {"channels": (8, 16)}}


@pytest.fixture(autouse=True)
def same_numbers_in_every_run():
    torch.manual_seed(0)


def make(package, name, options, **more):
    module = archived if package == "generative" else core
    return with_random_weights(getattr(module, name)(**options, **CHANNELS[package], **more))


def with_random_weights(network):
    """Every weight drawn: both packages start with some at 0, which would hide the rest."""
    with torch.no_grad():
        for weight in network.parameters():
            deviation = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_(torch.randn(weight.shape) * deviation + (weight.ndim == 1))
    return network.eval()


@torch.no_grad()
def assert_same(found, wanted, arguments):
    """Equal to 1e-5 of the largest value."""
    found, wanted = (
        network.reconstruct(*arguments) if hasattr(network, "reconstruct") else network(*arguments)
        for network in (found, wanted)
    )
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert wanted.abs().max() > 0


@pytest.mark.parametrize("weights_of", CHANNELS)
@pytest.mark.parametrize("network_of", CHANNELS)
@pytest.mark.parametrize("case", NETWORKS)
def test_either_kind_of_network_takes_either_kind_of_weights(case, network_of, weights_of, tmp_path):
    name, options, arguments = NETWORKS[case]
    trained = make(weights_of, name, options)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    loaded = load_generator_network(make(network_of, name, options).train(), tmp_path / "weights.pt")
    assert type(loaded) is getattr(core, name)
    assert not loaded.training
    assert_same(loaded, trained, arguments)


@pytest.mark.parametrize("package", CHANNELS)
def test_a_definition_of_a_bundle_is_built_and_loaded(package, tmp_path):
    trained = make("generative", "AutoencoderKL", AUTOENCODER)
    # As trainers write it, from a parallel training.
    weights = {f"module.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "checkpoint.pt")
    definition = {"_target_": f"{package}.networks.nets.AutoencoderKL", **AUTOENCODER, **CHANNELS[package]}
    loaded = load_generator_network(definition, str(tmp_path / "checkpoint.pt"))
    assert_same(loaded, trained, NETWORKS["autoencoder"][2])
    assert definition["_target_"].startswith(package)


def test_transposed_convolutions_of_monai_generative_load_into_its_own_network_and_into_no_other(tmp_path):
    trained = make("generative", "AutoencoderKL", AUTOENCODER, use_convtranspose=True)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    loaded = load_generator_network(
        make("generative", "AutoencoderKL", AUTOENCODER, use_convtranspose=True), tmp_path / "weights.pt"
    )
    assert type(loaded) is archived.AutoencoderKL
    assert_same(loaded, trained, NETWORKS["autoencoder"][2])
    with pytest.raises(UnusableInputError, match=r"missing keys: .*deconv.*use_convtranspose false"):
        load_generator_network(
            make("monai", "AutoencoderKL", AUTOENCODER, use_convtranspose=True), tmp_path / "weights.pt"
        )


@pytest.mark.parametrize("package", CHANNELS)
def test_missing_unexpected_and_misshapen_keys_are_named_with_the_file(package, tmp_path):
    weights = make(package, "AutoencoderKL", AUTOENCODER).state_dict()
    del weights["quant_conv_mu.conv.bias"]
    weights["discriminator.weight"] = torch.zeros(1)
    weights["post_quant_conv.conv.bias"] = torch.zeros(7)
    torch.save(weights, tmp_path / "weights.pt")
    network = make("monai", "AutoencoderKL", AUTOENCODER)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UnusableInputError) as caught:
        load_generator_network(network, tmp_path / "weights.pt")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'weights.pt'}: these weights")
    assert "1 missing keys: quant_conv_mu.conv.bias" in message
    assert "1 unexpected keys: discriminator.weight" in message
    assert "1 keys of another shape: post_quant_conv.conv.bias (7,) instead of (3,)" in message
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_a_missing_weight_of_an_attention_is_named_as_monai_generative_names_it(tmp_path):
    """MONAI's load_old_state_dict ends in a KeyError here."""
    weights = make("generative", "DiffusionModelUNet", CONDITIONED).state_dict()
    name = "middle_block.attention.transformer_blocks.0.attn2.to_out.0.weight"
    del weights[name]
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(UnusableInputError, match=f"1 missing keys: {name}"):
        load_generator_network(make("monai", "DiffusionModelUNet", CONDITIONED), tmp_path / "weights.pt")


def test_without_its_linear_layer_monais_attention_is_equal_or_refused():
    """``include_fc=False`` leaves out what a plain attention has never applied, and what a conditioned one has."""
    _, _, arguments = NETWORKS["U-Net"]
    trained = make("generative", "DiffusionModelUNet", UNET)
    network = make("monai", "DiffusionModelUNet", UNET, include_fc=False)
    network.load_state_dict(convert_generative_state_dict(trained.state_dict(), network))
    assert_same(network, trained, arguments)

    trained = make("generative", "DiffusionModelUNet", CONDITIONED)
    network = make("monai", "DiffusionModelUNet", CONDITIONED, include_fc=False)
    with pytest.raises(UnusableInputError, match=r"unexpected keys: .*attn1\.to_out\.0.*include_fc must be true"):
        convert_generative_state_dict(trained.state_dict(), network)


def test_combined_projections_are_refused():
    network = make("monai", "DiffusionModelUNet", UNET, use_combined_linear=True)
    with pytest.raises(UnusableInputError, match=r"missing keys: .*qkv.*use_combined_linear false"):
        convert_generative_state_dict(make("generative", "DiffusionModelUNet", UNET).state_dict(), network)


def test_the_projections_that_were_never_applied_may_hold_anything_or_be_missing():
    trained = make("generative", "AutoencoderKL", AUTOENCODER)
    network = as_monai_network(trained)
    wanted = network.state_dict()
    weights = {name: value for name, value in trained.state_dict().items() if ".proj_attn." not in name}
    assert len(weights) < len(trained.state_dict())
    found = convert_generative_state_dict(weights, network)
    assert all(value.equal(found[name]) for name, value in wanted.items())


def test_a_file_that_is_missing_or_runs_code_is_refused(tmp_path):
    network = make("monai", "AutoencoderKL", AUTOENCODER)
    with pytest.raises(UnusableInputError, match=r"none\.pt: no such file"):
        load_generator_network(network, tmp_path / "none.pt")
    torch.save(network, tmp_path / "weights.pt")
    with pytest.raises(UnusableInputError, match="can be loaded safely"):
        load_generator_network(network, tmp_path / "weights.pt")


def test_what_is_no_network_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(TypeError, match=r"got a network of type str, want a torch\.nn\.Module"):
        load_generator_network("AutoencoderKL", tmp_path / "weights.pt")
