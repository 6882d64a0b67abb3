"""Networks of the real monai-generative 0.2.3 and what they become in MONAI core: the same outputs."""

import importlib
import sys

import generative.networks.nets as archived
import monai.config
import monai.networks.nets as core
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import LatentDiffusionInferer
from monai.networks.schedulers import DDIMScheduler
from monai.utils import IgniteInfo

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import as_monai_network, check_generative_target, convert_generative_state_dict

AUTOENCODER = {
    "spatial_dims": 2,
    "num_channels": (8, 16),
    "num_res_blocks": 1,
    "attention_levels": (False, False),
    "norm_num_groups": 4,
}
AUTOENCODERS = {
    "no attention": {"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False},
    "attention between encoder and decoder": {},
    "attention in the decoder only": {"with_encoder_nonlocal_attn": False},
    "attention at a level only": {
        "attention_levels": (False, True),
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
    },
    "attention everywhere": {"attention_levels": (True, True), "num_res_blocks": (1, 2), "norm_eps": 0.01},
    "other channels": {"in_channels": 2, "out_channels": 3, "latent_channels": 4, "use_checkpointing": True},
    "volumes": {"spatial_dims": 3, "attention_levels": (False, True)},
    "one level, which both packages name alike": {
        "num_channels": (8,),
        "attention_levels": (False,),
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
    },
}

UNET = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 3,
    "num_channels": (8, 16),
    "num_res_blocks": 1,
    "attention_levels": (False, False),
    "norm_num_groups": 4,
    "num_head_channels": 4,
}
CONDITIONED = {"attention_levels": (False, True), "with_conditioning": True, "cross_attention_dim": 5}
UNETS = {
    "attention in the middle only": {},
    "attention at a level": {"attention_levels": (False, True)},
    "attention everywhere": {"attention_levels": (True, True), "num_head_channels": (8, 4), "norm_eps": 0.01},
    "residual down- and upsampling": {"resblock_updown": True, "num_res_blocks": (1, 2)},
    "class embeddings": {"attention_levels": (False, True), "num_class_embeds": 3},
    "context": CONDITIONED,
    "context, two layers, dropout": CONDITIONED | {"transformer_num_layers": 2, "dropout_cattn": 0.5},
    "context at full precision": CONDITIONED | {"attention_levels": (True, True), "upcast_attention": True},
    "context and class embeddings": CONDITIONED | {"num_class_embeds": 3},
    "volumes with context": CONDITIONED | {"spatial_dims": 3},
}


@pytest.fixture(autouse=True)
def same_numbers_in_every_run():
    torch.manual_seed(0)


def with_random_weights(network):
    """In eval mode, every weight drawn: MONAI and monai-generative start with some at 0, which would hide the rest."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            deviation = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * deviation + (weight.ndim == 1))
    return network.eval()


def make_autoencoder(**options):
    return with_random_weights(archived.AutoencoderKL(**AUTOENCODER | options))


def make_unet(**options):
    return with_random_weights(archived.DiffusionModelUNet(**UNET | options))


def assert_equal_outputs(found, wanted):
    """Equal to 1e-5 of the largest value."""
    assert found.shape == wanted.shape
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@torch.no_grad()
def assert_same_autoencoder(found, wanted, channels=1, spatial_dims=2):
    image = torch.rand(2, channels, *(16, 8, 8)[:spatial_dims])
    for found_output, wanted_output in zip(found.encode(image), wanted.encode(image), strict=True):
        assert_equal_outputs(found_output, wanted_output)
    latent = torch.randn_like(wanted_output)
    assert_equal_outputs(found.decode_stage_2_outputs(latent), wanted.decode_stage_2_outputs(latent))
    assert_equal_outputs(found.reconstruct(image), wanted.reconstruct(image))


def unet_arguments(options):
    options = UNET | options
    arguments = {"x": torch.randn(2, 3, *(8, 4, 4)[: options["spatial_dims"]]), "timesteps": torch.tensor([3, 700])}
    if options.get("with_conditioning"):
        arguments["context"] = torch.randn(2, 3, 5)
    if options.get("num_class_embeds"):
        arguments["class_labels"] = torch.tensor([0, 2])
    return arguments


@torch.no_grad()
def assert_same_unet(found, wanted, options=None):
    arguments = unet_arguments(options or {})
    assert_equal_outputs(found(**arguments), wanted(**arguments))


@pytest.mark.parametrize("options", AUTOENCODERS.values(), ids=AUTOENCODERS)
def test_an_autoencoder_gives_the_same_outputs_in_monai_core(options):
    trained = make_autoencoder(**options)
    converted = as_monai_network(trained)
    assert type(converted) is core.AutoencoderKL
    assert converted.use_checkpoint == trained.use_checkpointing
    assert_same_autoencoder(converted, trained, options.get("in_channels", 1), options.get("spatial_dims", 2))


@pytest.mark.parametrize("options", UNETS.values(), ids=UNETS)
def test_a_unet_gives_the_same_outputs_in_monai_core(options):
    trained = make_unet(**options)
    converted = as_monai_network(trained)
    assert type(converted) is core.DiffusionModelUNet
    assert_same_unet(converted, trained, options)


def test_a_conditioned_unet_looks_at_its_context_and_at_its_classes():
    """Otherwise the outputs above would be equal whatever became of those weights."""
    options = CONDITIONED | {"num_class_embeds": 3}
    converted, arguments = as_monai_network(make_unet(**options)), unet_arguments(options)
    with torch.no_grad():
        output = converted(**arguments)
        assert not output.allclose(converted(**arguments | {"context": torch.randn(2, 3, 5)}), rtol=0.01)
        assert not output.allclose(converted(**arguments | {"class_labels": torch.tensor([1, 1])}), rtol=0.01)


@pytest.mark.parametrize(
    "trained",
    [
        make_autoencoder(attention_levels=(True, True)),
        make_unet(**CONDITIONED),
        make_unet(attention_levels=(True, True)),
    ],
    ids=["autoencoder", "conditioned U-Net", "U-Net"],
)
def test_the_weights_are_those_of_load_old_state_dict_once_the_projections_are_the_identity(trained):
    weights = {
        name: value
        if ".proj_attn." not in name
        else torch.eye(len(value))
        if name.endswith("weight")
        else torch.zeros_like(value)
        for name, value in trained.state_dict().items()
    }
    wanted = as_monai_network(trained)
    found = convert_generative_state_dict(trained.state_dict(), wanted)
    with_random_weights(wanted)
    wanted.load_old_state_dict(weights)
    assert found.keys() == wanted.state_dict().keys()
    assert all(value.equal(found[name]) for name, value in wanted.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_mode_precision_and_device_are_kept_and_the_weights_are_copied(training):
    trained = make_autoencoder().double().train(training)
    converted = as_monai_network(trained)
    assert converted.training == training
    assert {weight.dtype for weight in converted.parameters()} == {torch.float64}
    with torch.no_grad():
        converted.encoder.blocks[0].conv.weight.zero_()
    assert trained.encoder.blocks[0].conv.weight.abs().max() > 0


def test_flash_attention_is_kept_unless_it_would_drop_at_inference():
    """monai-generative builds it only where there is a GPU, so the option is set afterwards."""

    def uses_flash_attention(network):
        for part in network.modules():
            if hasattr(part, "use_flash_attention"):
                part.use_flash_attention = True
        parts = as_monai_network(network).modules()
        return {part.use_flash_attention for part in parts if hasattr(part, "use_flash_attention")}

    assert uses_flash_attention(make_autoencoder()) == {True}
    assert uses_flash_attention(make_unet()) == {True}
    assert uses_flash_attention(make_unet(**CONDITIONED)) == {True}
    assert uses_flash_attention(make_unet(**CONDITIONED, dropout_cattn=0.1)) == {False}


def test_networks_of_monai_core_and_transposed_convolutions_stay_what_they_are():
    for network in (make_autoencoder(use_convtranspose=True), torch.nn.Linear(2, 1)):
        assert as_monai_network(network) is network


def test_another_network_of_monai_generative_is_refused_and_monais_is_named():
    network = archived.PatchDiscriminator(spatial_dims=2, num_channels=4, in_channels=1)
    with pytest.raises(
        UnusableInputError,
        match=r"generative\..*PatchDiscriminator.* MONAI itself has monai\.networks\.nets\.PatchDiscriminator",
    ):
        as_monai_network(network)


@pytest.mark.parametrize("use_convtranspose", [False, True])
def test_monais_inferer_draws_the_same_images_with_the_converted_networks(use_convtranspose):
    autoencoder, unet = make_autoencoder(use_convtranspose=use_convtranspose), make_unet(**CONDITIONED)
    scheduler = DDIMScheduler(num_train_timesteps=20, clip_sample=False)
    scheduler.set_timesteps(2)
    inferer = LatentDiffusionInferer(scheduler, scale_factor=0.7)
    noise, context = torch.randn(2, 3, 8, 4), torch.randn(2, 1, 5)
    wanted, found = (
        inferer.sample(
            input_noise=noise, autoencoder_model=first, diffusion_model=second, conditioning=context, verbose=False
        )
        for first, second in ((autoencoder, unet), (as_monai_network(autoencoder), as_monai_network(unet)))
    )
    assert_equal_outputs(found, wanted)


@pytest.fixture
def reimported_generative(monkeypatch):
    """monai-generative's modules but its networks are imported again, and afterwards are what they were."""
    for name in [
        name for name in sys.modules if name.startswith(("generative.utils", "generative.networks.schedulers"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    yield monkeypatch
    for name in set(sys.modules) - before:
        if name.startswith("generative"):
            del sys.modules[name]


TARGET = "generative.networks.schedulers.DDIMScheduler"


def test_where_the_schedulers_do_not_import_the_message_says_which_versions_do(reimported_generative):
    reimported_generative.delattr(monai.config, "IgniteInfo", raising=False)
    with pytest.raises(UnusableInputError) as caught:
        check_generative_target(TARGET)
    message = str(caught.value)
    assert message.startswith(f"{TARGET} cannot be imported: cannot import name 'IgniteInfo'")
    assert f"need MONAI 1.3.0 to 1.6.0; installed is {monai.__version__}" in message
    assert "MONAI itself has monai.networks.schedulers.DDIMScheduler (" in message


def test_networks_and_inferers_import_where_the_schedulers_do_not(reimported_generative):
    reimported_generative.delattr(monai.config, "IgniteInfo", raising=False)
    check_generative_target("generative.networks.nets.DiffusionModelUNet")
    check_generative_target("generative.inferers.LatentDiffusionInferer")


def test_where_the_schedulers_import_they_are_let_through(reimported_generative):
    reimported_generative.setattr(monai.config, "IgniteInfo", IgniteInfo, raising=False)
    check_generative_target(TARGET)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler"])
@pytest.mark.parametrize("schedule", ["linear_beta", "scaled_linear_beta", "sigmoid_beta"])
def test_monais_scheduler_steps_as_monai_generatives_once_it_has_the_same_timesteps(
    name, schedule, reimported_generative
):
    """What docs/monai_generative.md says of the schedulers."""
    reimported_generative.setattr(monai.config, "IgniteInfo", IgniteInfo, raising=False)
    options = {"num_train_timesteps": 1000, "schedule": schedule, "clip_sample": False}
    scheduler, archived_scheduler = (
        getattr(importlib.import_module(f"{package}.networks.schedulers"), name)(**options)
        for package in ("monai", "generative")
    )
    assert scheduler.alphas_cumprod.equal(archived_scheduler.alphas_cumprod)
    for each in (scheduler, archived_scheduler):
        each.set_timesteps(50)
    assert [archived_scheduler.timesteps[0], archived_scheduler.timesteps[-1]] == [980, 0]
    scheduler.timesteps = torch.arange(49, -1, -1) * (1000 // 50)

    images = []
    for each in (scheduler, archived_scheduler):
        image, generator = torch.linspace(-2, 2, 12).reshape(1, 3, 2, 2), torch.Generator().manual_seed(0)
        for timestep in each.timesteps:
            image, _ = each.step(0.5 * image.tanh(), timestep, image, generator=generator)
        images.append(image)
    assert_equal_outputs(*images)


def test_a_bundle_can_check_a_scheduler_before_it_builds_one(reimported_generative):
    reimported_generative.delattr(monai.config, "IgniteInfo", raising=False)
    parser = ConfigParser(
        {
            "imports": ["$from monai_deepssim.generators import check_generative_target"],
            "initialize": ["$check_generative_target(@scheduler#_target_)"],
            "scheduler": {"_target_": TARGET},
        }
    )
    with pytest.raises(RuntimeError, match="evaluate") as caught:
        parser.get_parsed_content("initialize")
    assert isinstance(caught.value.__cause__, UnusableInputError)


def test_without_monai_generative_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "generative", None)
    with pytest.raises(UnusableInputError, match=r"not installed.*pip install monai-deepssim\[generative\]"):
        check_generative_target(TARGET)


def test_a_class_that_monai_generative_has_not_is_named():
    with pytest.raises(UnusableInputError, match=r"generative\.networks\.nets has no AutoencoderLK"):
        check_generative_target("generative.networks.nets.AutoencoderLK")
