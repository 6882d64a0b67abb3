"""An autoencoder in MONAI's AdversarialTrainer: what reaches the losses, and what a checkpoint holds."""

import logging

import numpy as np
import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.data import DataLoader
from monai.engines import AdversarialTrainer, SupervisedEvaluator
from monai.handlers import StatsHandler
from monai.networks.nets import AutoencoderKL, PatchDiscriminator
from PIL import Image
from torch import nn
from torch.distributions import Normal, kl_divergence

from monai_deepssim.engines import GradientClipping, ResumableCheckpoint
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import (
    AutoencoderGenerator,
    AutoencoderLoss,
    PatchDiscriminatorLoss,
    PatchGeneratorLoss,
    ReconstructionPicture,
    gaussian_kl,
    perceptual_loss_at_hand,
    prepare_reconstruction_batch,
)

IMAGES = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class KilledError(Exception):
    pass


def make_autoencoder():
    torch.manual_seed(0)
    return AutoencoderKL(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(8, 8),
        latent_channels=2,
        num_res_blocks=1,
        norm_num_groups=4,
        attention_levels=(False, False),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def make_trainer(folder=None, epochs=2, handlers=(), optimizer=torch.optim.Adam, generator=None, **loss):
    generator = generator or AutoencoderGenerator(make_autoencoder())
    discriminator = PatchDiscriminator(spatial_dims=2, channels=4, in_channels=1, num_layers_d=1)
    g_optimizer = optimizer(generator.parameters(), lr=1e-3)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    parts = {
        "network": generator.autoencoder,
        "optimizer": g_optimizer,
        "discriminator": discriminator,
        "discriminator_optimizer": d_optimizer,
    }
    checkpoint = [] if folder is None else [ResumableCheckpoint(folder / "training.pt", parts)]
    trainer = AdversarialTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader([{"image": image} for image in IMAGES], batch_size=3),
        g_network=generator,
        g_optimizer=g_optimizer,
        g_loss_function=PatchGeneratorLoss(),
        recon_loss_function=AutoencoderLoss(generator, **loss),
        d_network=discriminator,
        d_optimizer=d_optimizer,
        d_loss_function=PatchDiscriminatorLoss(),
        prepare_batch=prepare_reconstruction_batch,
        train_handlers=[*handlers, *checkpoint],
    )
    trainer.logger.disabled = True
    return trainer, parts


class At:
    """A handler of one event."""

    def __init__(self, event, call):
        self.event, self.call = event, call

    def attach(self, engine):
        engine.add_event_handler(self.event, self.call)


def test_the_generator_returns_one_tensor_and_decodes_the_mean_when_it_validates():
    autoencoder = make_autoencoder()
    generator = AutoencoderGenerator(autoencoder)
    first, second = generator(IMAGES), generator(IMAGES)
    assert first.shape == IMAGES.shape
    assert not torch.equal(first, second)  # latents are drawn
    generator.eval()
    torch.testing.assert_close(generator(IMAGES), autoencoder.reconstruct(IMAGES))
    assert generator.latents is None


def test_the_divergence_is_that_of_torch():
    mean, deviation = torch.randn(4, 3, 5, 5), torch.rand(4, 3, 5, 5) + 0.1
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(gaussian_kl(mean, deviation), expected)
    tiny = torch.full((1, 1, 2, 2), 3e-7)  # the smallest deviation that AutoencoderKL gives
    assert gaussian_kl(torch.zeros_like(tiny), tiny).isfinite()


def test_the_loss_is_the_weighted_sum_of_its_terms_and_the_kl_reaches_the_encoder():
    generator = AutoencoderGenerator(make_autoencoder())
    loss = AutoencoderLoss(generator, kl_weight=0.5, perceptual_loss=nn.MSELoss(), perceptual_weight=0.1)
    reconstruction = generator(IMAGES)
    value = loss(reconstruction, IMAGES)
    l1, mse = (reconstruction - IMAGES).abs().mean(), (reconstruction - IMAGES).square().mean()
    torch.testing.assert_close(value, l1 + 0.5 * gaussian_kl(*generator.latents) + 0.1 * mse)
    assert sorted(loss.terms) == ["kl", "l1", "perceptual"]
    # Nothing but the KL term leads to the encoder when the reconstruction is cut off.
    loss(reconstruction.detach(), IMAGES).backward()
    assert generator.autoencoder.quant_conv_log_sigma.conv.weight.grad.abs().sum() > 0
    assert list(loss.parameters()) == []  # the generator's weights are none of the loss's


def test_a_loss_without_the_latents_of_its_reconstructions_is_an_error():
    generator = AutoencoderGenerator(make_autoencoder())
    loss = AutoencoderLoss(generator)
    with pytest.raises(RuntimeError, match="in training mode"):
        loss(IMAGES, IMAGES)
    generator(IMAGES[:2])
    with pytest.raises(RuntimeError, match="no latents of these"):
        loss(IMAGES, IMAGES)


def test_only_the_last_output_of_the_discriminator_is_judged():
    torch.manual_seed(0)
    features = [torch.randn(2, 8, 4, 4) * 100, torch.randn(2, 8, 4, 4) * 100]
    fake, real = torch.rand(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    value = PatchGeneratorLoss(0.125)([*features, fake])
    torch.testing.assert_close(value, 0.125 * (fake - 1).square().mean())
    value = PatchDiscriminatorLoss(0.125)([*features, real], [*features, fake])
    torch.testing.assert_close(value, 0.125 * 0.5 * (fake.square().mean() + (real - 1).square().mean()))


def test_the_trainer_trains_both_networks_towards_the_images():
    outputs = []
    trainer, parts = make_trainer(
        epochs=15, handlers=[At(Events.ITERATION_COMPLETED, lambda engine: outputs.append(dict(engine.state.output)))]
    )
    before = {name: value.clone() for name, value in parts["discriminator"].state_dict().items()}
    trainer.run()
    losses = [output["reconstruction_loss"].item() for output in outputs]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    assert torch.equal(outputs[0]["label"], outputs[0]["image"])  # MONAI's own prepare_batch would give None
    after = parts["discriminator"].state_dict()
    assert not torch.equal(before["final_conv.conv.weight"], after["final_conv.conv.weight"])


def test_the_log_shows_the_losses_although_the_trainer_sets_none_called_loss(capsys):
    class AverageLoss:
        def attach(self, engine):
            Average(lambda output: output["reconstruction_loss"]).attach(engine, "reconstruction_loss")

    trainer, _ = make_trainer(
        epochs=1, handlers=[AverageLoss(), StatsHandler(name="of_this_test", iteration_log=False)]
    )
    trainer.run()
    assert "Epoch[1] Metrics -- reconstruction_loss: 0." in capsys.readouterr().out
    assert "loss" not in trainer.state.output


def test_a_killed_training_takes_up_both_networks_and_both_optimizers(tmp_path):
    def kill(engine):
        if engine.state.epoch == 3:
            raise KilledError

    trainer, _ = make_trainer(tmp_path, epochs=4, handlers=[At(Events.ITERATION_COMPLETED, kill)])
    with pytest.raises(KilledError):
        trainer.run()
    saved = torch.load(tmp_path / "training.pt", weights_only=True)  # no whole module in it
    assert saved["trainer"]["iteration"] == 4
    assert sorted(saved["trainer"]) == ["epoch_length", "iteration", "max_epochs"]

    epochs = []
    trainer, parts = make_trainer(
        tmp_path, epochs=4, handlers=[At(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))]
    )
    loaded = {}

    def look(engine):
        loaded.update({name: part.state_dict() for name, part in parts.items()})
        loaded["network"] = {name: value.clone() for name, value in loaded["network"].items()}
        loaded["discriminator"] = {name: value.clone() for name, value in loaded["discriminator"].items()}
        loaded["steps"] = [int(loaded[name]["state"][0]["step"]) for name in ("optimizer", "discriminator_optimizer")]

    trainer.add_event_handler(Events.EPOCH_STARTED(once=3), look)
    trainer.run()
    assert epochs == [3, 4]
    assert loaded["steps"] == [4, 4]
    for name in ("network", "discriminator"):
        assert all(torch.equal(saved[name][key], value) for key, value in loaded[name].items()), name
    after = torch.load(tmp_path / "training.pt", weights_only=True)
    assert [int(after[name]["state"][0]["step"]) for name in ("optimizer", "discriminator_optimizer")] == [8, 8]


def test_an_adversarial_training_whose_second_optimizer_would_not_be_saved_is_an_error(tmp_path):
    trainer, parts = make_trainer()
    del parts["discriminator_optimizer"]
    ResumableCheckpoint(tmp_path / "training.pt", parts).attach(trainer)
    with pytest.raises(ValueError, match="save_dict has no d_optimizer of the trainer"):
        trainer.run()


def test_the_state_of_the_loss_scalers_is_saved_and_restored(tmp_path):
    def with_scalers(scale):
        trainer, _ = make_trainer(tmp_path, epochs=1)
        for name in ("g_scaler", "d_scaler"):
            setattr(trainer.state, name, torch.amp.GradScaler("cpu", init_scale=scale))
        return trainer

    with_scalers(64.0).run()
    trainer = with_scalers(2.0)
    trainer.run()
    assert [getattr(trainer.state, name).state_dict()["scale"] for name in ("g_scaler", "d_scaler")] == [64.0, 64.0]


def test_the_generators_gradients_are_clipped_before_its_step():
    norms = []

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            parameters = [p for group in self.param_groups for p in group["params"]]
            norms.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())

    generator = AutoencoderGenerator(make_autoencoder())
    trainer, _ = make_trainer(
        epochs=1,
        generator=generator,
        optimizer=Watch,
        handlers=[GradientClipping(generator, max_norm=0.01)],
        kl_weight=1.0,
    )
    trainer.run()
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_an_image_size_that_cannot_be_halved_is_refused_in_words():
    generator = AutoencoderGenerator(make_autoencoder())
    with pytest.raises(UnusableInputError, match=r"image_size is 15 x 16, and the autoencoder gives 1\d x 16 back"):
        generator(IMAGES[:, :, :15])


@pytest.mark.parametrize("decollate", [True, False])
def test_a_picture_shows_originals_above_their_reconstructions_at_each_validation(tmp_path, decollate):
    class Darken(nn.Module):
        def forward(self, images):
            return images / 2

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader([{"image": image} for image in IMAGES], batch_size=4),
        network=Darken(),
        prepare_batch=prepare_reconstruction_batch,
        val_handlers=[ReconstructionPicture(tmp_path / "pictures", num_images=3)],
        decollate=decollate,
    )
    evaluator.logger.disabled = True
    for epoch in (2, 4):
        evaluator.run(epoch)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["epoch_0002.png", "epoch_0004.png"]
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "epoch_0004.png")) / 255
    assert pixels.shape == (32, 48)
    for column in range(3):
        original = pixels[:16, 16 * column : 16 * column + 16]
        np.testing.assert_allclose(original, IMAGES[column, 0], atol=0.003)
        np.testing.assert_allclose(pixels[16:, 16 * column : 16 * column + 16], original / 2, atol=0.005)


def test_without_weights_on_this_machine_the_perceptual_loss_is_left_out_with_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    with caplog.at_level(logging.WARNING):
        assert perceptual_loss_at_hand("squeeze") is None
    assert "The perceptual loss is left out of this training" in caplog.text
    assert "squeezenet1_1-b8a52dc0.pth is not there" in caplog.text
    with pytest.raises(ValueError, match="want squeeze, alex, vgg or none"):
        perceptual_loss_at_hand("resnet")


def test_with_weights_on_this_machine_the_perceptual_loss_is_monais(tmp_path, monkeypatch):
    from torchvision.models import squeezenet1_1

    (tmp_path / "checkpoints").mkdir()
    torch.save(squeezenet1_1().state_dict(), tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    loss = perceptual_loss_at_hand("squeeze")
    images = torch.rand(2, 1, 64, 64)
    assert loss(images, images).item() == 0
    assert loss(images, images.flip(2)).item() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
