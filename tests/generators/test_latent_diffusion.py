"""Latent diffusion through MONAI's SupervisedTrainer and SupervisedEvaluator."""

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import nn

from monai_deepssim.engines import ResumableCheckpoint
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import (
    Conditions,
    FrozenAutoencoderInferer,
    GeneratorCheckpoint,
    LatentPrepareBatch,
    LatentSamplingInferer,
    LatentScaling,
    SamplingDataset,
    WarmUpEMAHandler,
    compute_latent_shapes,
    encode_images,
    load_autoencoder,
    load_generator,
)

NOISE = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0205, "clip_sample": False}


def make_autoencoder(seed=0):
    torch.manual_seed(seed)
    return AutoencoderKL(
        2, channels=(4, 4, 4), num_res_blocks=1, norm_num_groups=2, attention_levels=(False, False, False)
    )


def make_unet(context_size=None, seed=1):
    torch.manual_seed(seed)
    network = DiffusionModelUNet(
        2,
        3,
        3,
        num_res_blocks=1,
        channels=(8, 8, 8),
        attention_levels=(False, False, True),
        num_head_channels=(0, 0, 8),
        norm_num_groups=4,
        resblock_updown=True,
        with_conditioning=context_size is not None,
        cross_attention_dim=context_size,
    )
    for parameter in network.parameters():  # its last layers start as zeros, and would hide everything before them
        parameter.data += 0.02 * torch.randn_like(parameter)
    return network


def make_inferer(image_size=(40, 32), scale_factor=1.0, autoencoder=None):
    shapes = compute_latent_shapes(image_size, 3, 3, 3)
    return FrozenAutoencoderInferer(
        autoencoder or make_autoencoder(), DDPMScheduler(1000, **NOISE), shapes, scale_factor
    )


def make_training(folder, images, epochs, cache=True, momentum=0.01):
    inferer = make_inferer(images[0]["image"].shape[1:], scale_factor=None)
    network = make_unet()
    dataset = encode_images(Dataset(images), inferer) if cache else Dataset(images)
    ema = WarmUpEMAHandler(network, momentum)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=2),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        inferer=inferer,
        prepare_batch=LatentPrepareBatch(inferer.shapes),
        train_handlers=[
            ema,
            LatentScaling(inferer, dataset),
            GeneratorCheckpoint(folder / "diffusion.pt", ema.ema_model, inferer),
            ResumableCheckpoint(
                folder / "training.pt",
                {"network": network, "ema": ema.ema_model, "optimizer": optimizer, "inferer": inferer},
            ),
        ],
    )
    return trainer, inferer, network, ema


def some_images(number=4, size=(40, 32), scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return [{"image": scale * torch.rand(1, *size, generator=generator)} for _ in range(number)]


@pytest.mark.parametrize(
    ("image_size", "latents", "padded"),
    [
        ((136, 112), (3, 34, 28), (3, 36, 28)),
        ((128, 128), (3, 32, 32), (3, 32, 32)),
        ((80, 64), (3, 20, 16), (3, 20, 16)),
    ],
)
def test_the_published_image_sizes_go_through_the_networks_and_back(image_size, latents, padded):
    inferer = make_inferer(image_size)
    assert inferer.encode(torch.rand(1, 1, *image_size))[0].shape[1:] == latents == inferer.shapes.autoencoder
    assert inferer.shapes.diffusion == padded
    noise = torch.randn(1, *padded)
    prediction = inferer(torch.rand(1, 1, *image_size), make_unet(), noise, torch.tensor([500]))
    assert prediction.shape == noise.shape
    images = LatentSamplingInferer(inferer, DDIMScheduler(1000, **NOISE), 2)(noise, make_unet())
    assert images.shape == (1, 1, *image_size)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("cache", [True, False])
def test_the_autoencoder_is_frozen_and_the_unet_is_trained(tmp_path, cache):
    trainer, inferer, network, _ = make_training(tmp_path, some_images(), 1, cache)
    frozen = {name: value.clone() for name, value in inferer.autoencoder.state_dict().items()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inferer.train()
    trainer.run()
    assert all(torch.equal(frozen[name], value) for name, value in inferer.autoencoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in inferer.autoencoder.parameters())
    assert not inferer.autoencoder.training
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_what_the_network_sees_is_the_scaled_noised_posterior():
    inferer = make_inferer(scale_factor=2.5)
    images = torch.stack([item["image"] for item in some_images(2)])
    seen = {}

    class Watch(nn.Module):
        def forward(self, x, timesteps, context=None):
            seen.update(x=x, context=context)
            return x

    mean, sigma = inferer.encode(images)
    noise, timesteps = torch.randn(2, 3, 12, 8), torch.tensor([10, 900])
    for inputs, encoded in ((images, False), (mean, True)):
        torch.manual_seed(5)
        inferer(inputs, Watch(), noise, timesteps, condition=torch.ones(2, 1, 4), encoded=encoded)
        torch.manual_seed(5)
        latents = mean if encoded else mean + sigma * torch.randn_like(sigma)
        kept = DDPMScheduler(1000, **NOISE).alphas_cumprod[timesteps][:, None, None, None]
        expected = kept.sqrt() * nn.functional.pad(2.5 * latents, (0, 0, 1, 1)) + (1 - kept).sqrt() * noise
        torch.testing.assert_close(seen["x"], expected)
        assert seen["context"].shape == (2, 1, 4)


def test_latents_encoded_before_are_drawn_anew_at_every_step():
    inferer = make_inferer()
    latents = encode_images(Dataset([{**item, "context": torch.ones(1, 2)} for item in some_images(3)]), inferer)
    batch = next(iter(DataLoader(latents, batch_size=3)))
    prepare_batch = LatentPrepareBatch(inferer.shapes, condition_name="context")
    torch.manual_seed(0)
    drawn = torch.stack([prepare_batch(batch, "cpu")[0] for _ in range(400)])
    assert torch.allclose(drawn.mean(0), batch["latent_mean"], atol=0.3 * batch["latent_sigma"].max().item())
    assert drawn.std(0).mean().item() == pytest.approx(batch["latent_sigma"].mean().item(), rel=0.02)
    _, target, _, arguments = prepare_batch(batch, "cpu")
    assert torch.equal(target, arguments["noise"])
    assert target.shape == (3, 3, 12, 8)
    assert arguments["encoded"]
    assert torch.equal(arguments["condition"], torch.ones(3, 1, 2))


def test_scaled_latents_have_a_standard_deviation_of_one_and_the_factor_survives_a_kill(tmp_path):
    images = some_images(6)
    trainer, inferer, _, _ = make_training(tmp_path, images, 1, cache=False)
    trainer.run()
    factor = float(inferer.scale_factor)
    torch.manual_seed(0)
    stacked = torch.stack([item["image"] for item in images]).repeat(30, 1, 1, 1)
    assert (factor * inferer.autoencoder.encode_stage_2_inputs(stacked)).std().item() == pytest.approx(1, abs=0.01)

    trainer, inferer, _, _ = make_training(tmp_path, some_images(6, scale=0.2), 2)
    trainer.run()
    assert trainer.state.iteration == 6
    assert float(inferer.scale_factor) == factor
    assert load_generator(tmp_path / "diffusion.pt").scale_factor == pytest.approx(factor)


def test_a_training_on_another_autoencoder_is_not_taken_up(tmp_path):
    trainer, inferer, *_ = make_training(tmp_path, some_images(), 1)
    trainer.run()
    inferer.autoencoder_sha256 = "0" * 64
    with pytest.raises(RuntimeError, match="an autoencoder with other weights"):
        inferer.load_state_dict(torch.load(tmp_path / "training.pt", weights_only=True)["inferer"])
    torch.save(make_autoencoder(seed=9).state_dict(), tmp_path / "autoencoder.pt")
    with pytest.raises(UnusableInputError, match="was trained with another autoencoder"):
        load_autoencoder(
            make_autoencoder(), tmp_path / "autoencoder.pt", generator=load_generator(tmp_path / "diffusion.pt")
        )
    torch.save(make_autoencoder(seed=0).state_dict(), tmp_path / "autoencoder.pt")
    load_autoencoder(
        make_autoencoder(3), tmp_path / "autoencoder.pt", generator=load_generator(tmp_path / "diffusion.pt")
    )


def test_the_average_forgets_the_beginning_and_goes_on_after_a_kill(tmp_path):
    trainer, _, network, ema = make_training(tmp_path, some_images(), 1)
    name = "time_embed.0.weight"

    def note(engine):
        history.append((engine.state.ema_momentum, network.state_dict()[name].clone()))

    expected = network.state_dict()[name].clone()
    history = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    assert [momentum for momentum, _ in history] == [9 / 10, 9 / 11]
    for momentum, value in history:
        expected = (1 - momentum) * expected + momentum * value
    torch.testing.assert_close(ema.ema_model.state_dict()[name], expected)

    trainer, _, network, ema = make_training(tmp_path, some_images(), 2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    assert [momentum for momentum, _ in history[2:]] == [9 / 12, 9 / 13]
    saved = torch.load(tmp_path / "diffusion.pt", weights_only=True)
    assert torch.equal(saved["network"][name], ema.ema_model.state_dict()[name])


def test_an_unknown_scale_factor_is_an_error_and_not_a_training_on_nan():
    with pytest.raises(RuntimeError, match="scale factor of the latents is not known"):
        make_inferer(scale_factor=None)(
            torch.rand(1, 1, 40, 32), make_unet(), torch.randn(1, 3, 12, 8), torch.tensor([1])
        )


def draw(dataset, context_size=None, batch_size=8):
    inferer = make_inferer()
    network = make_unet(context_size)
    sampling = LatentSamplingInferer(inferer, DDIMScheduler(1000, **NOISE), 3)
    batches = DataLoader(dataset, batch_size=batch_size)
    return torch.cat([sampling(batch["image"], network.eval(), batch.get("context")) for batch in batches])


def test_image_7_alone_is_image_7_of_a_batch():
    shape = (3, 12, 8)
    together = draw(SamplingDataset(shape, num_images=9, seed=40), batch_size=9)
    alone = draw(SamplingDataset(shape, num_images=9, seed=40, indices=[7]))
    torch.testing.assert_close(alone[0], together[7], atol=1e-5, rtol=1e-5)
    assert (together[7] - together[6]).abs().max() > 1e-3


def test_the_context_reaches_the_network():
    conditions = Conditions(torch.tensor([[[0.0, 0.0]], [[5.0, -5.0]]]), ["a", "b"])
    images = draw(SamplingDataset((3, 12, 8), None, 0, conditions, images_per_condition=2), context_size=2)
    swapped = Conditions(conditions.contexts.flip(0), ["b", "a"])
    others = draw(SamplingDataset((3, 12, 8), None, 0, swapped, images_per_condition=2), context_size=2)
    assert len(images) == 4
    assert all((image - other).abs().max() > 1e-4 for image, other in zip(images, others, strict=True))
    descriptions = [item["condition"] for item in SamplingDataset((3, 12, 8), 5, 0, conditions, 2)]
    assert descriptions == ["a", "a", "b", "b", "a"]


def test_a_perfect_denoiser_gives_the_latents_back_because_nothing_is_clipped():
    inferer = make_inferer((32, 32), scale_factor=0.5)
    target = 3 * torch.randn(1, 3, 8, 8)  # far outside of [-1, 1]
    scheduler = DDIMScheduler(1000, **NOISE)

    class Perfect(nn.Module):
        def forward(self, x, timesteps, context=None):
            kept = scheduler.alphas_cumprod[timesteps.long()][:, None, None, None]
            return (x - kept.sqrt() * target) / (1 - kept).sqrt()

    images = LatentSamplingInferer(inferer, scheduler, 50)(torch.randn(1, 3, 8, 8), Perfect())
    expected = inferer.autoencoder.decode_stage_2_outputs(target / 0.5).clamp(0, 1)
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=1e-3)
