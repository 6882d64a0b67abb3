"""A VAE and a GAN: their networks, their losses, and that MONAI's trainers train them by the study's configs."""

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import set_track_meta
from monai.utils import set_determinism
from torch import nn

from monai_deepssim.data import PhantomBrainDataset, write_png
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import (
    GanDiscriminatorLoss,
    GanGeneratorLoss,
    PriorGAN,
    PriorVAE,
    VariationalLoss,
    build_discriminator,
    draw_from_prior,
)
from monai_deepssim.workflow import find_bundle
from monai_deepssim.workflow.config_steps import run_config

NETWORKS = {"vae": PriorVAE, "gan": PriorGAN}


@pytest.fixture(autouse=True)
def _as_before():
    yield
    set_determinism(None)
    set_track_meta(True)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, item in enumerate(PhantomBrainDataset(8, seed=3, image_size=(40, 32), progress=False)):
        write_png(folder / f"{number}.png", item["image"])
    return folder


@pytest.mark.parametrize("kind", NETWORKS)
def test_latents_become_images_of_any_size_that_can_be_halved(kind):
    for size in ((80, 64), (40, 32)):
        network = NETWORKS[kind](size).eval()
        made = network.decode(torch.randn(3, network.latent_size))
        assert made.shape == (3, 1, *size)
        assert ((made >= 0) & (made <= 1)).all()
    with pytest.raises(UnusableInputError, match="image_size is 36 x 32, wanted multiples of 8"):
        NETWORKS[kind]((36, 32))


def test_the_loss_of_the_vae_is_its_evidence_bound():
    torch.manual_seed(0)
    network = PriorVAE((16, 16), (4, 8), 6)
    images = torch.rand(3, 1, 16, 16)
    reconstruction = network(images)
    mean, deviation = network.latents
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, deviation), torch.distributions.Normal(torch.zeros(6), torch.ones(6))
    )
    expected = ((reconstruction - images) ** 2).sum((1, 2, 3)).mean() + 0.5 * divergence.sum(1).mean()
    torch.testing.assert_close(VariationalLoss(network, kl_weight=0.5)(reconstruction, images), expected)
    network.eval()(images)
    with pytest.raises(RuntimeError, match="holds no latents"):
        VariationalLoss(network)(reconstruction, images)


def test_the_losses_of_the_gan_are_cross_entropies_and_the_discriminators_does_not_reach_the_generator():
    torch.manual_seed(0)
    generator, discriminator = PriorGAN((16, 16), (8, 4), 6), build_discriminator((16, 16), (4, 8)).eval()
    made, real = generator(torch.randn(4, 6)), torch.rand(4, 1, 16, 16)
    entropy, ones, zeros = nn.BCEWithLogitsLoss(), torch.ones(4, 1), torch.zeros(4, 1)
    torch.testing.assert_close(GanGeneratorLoss(discriminator)(made), entropy(discriminator(made), ones))
    loss = GanDiscriminatorLoss(discriminator)(made, real)
    torch.testing.assert_close(loss, (entropy(discriminator(made), zeros) + entropy(discriminator(real), ones)) / 2)
    loss.backward()
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_config_trains_a_network_that_draws_the_same_image_of_the_same_seed(kind, images, tmp_path):
    overrides = {
        "dataset_dir": str(images),
        "num_validation": 2,
        "image_size": [40, 32],
        "output_dir": str(tmp_path),
        "device": "$torch.device('cpu')",
        "batch_size": 4,
        "max_epochs": 2,
        "steps_per_epoch": 3,
        "augmentation": True,
    }
    run_config("memorization_study", [f"train_{kind}"], overrides)
    untrained = NETWORKS[kind]((40, 32))
    before = {name: weights.clone() for name, weights in untrained.state_dict().items()}
    drawn = draw_from_prior(untrained, tmp_path / "generator.pt", [5, 6, 7])
    assert drawn.shape == (3, 1, 40, 32)
    torch.testing.assert_close(draw_from_prior(untrained, tmp_path / "generator.pt", [6])[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(before[name], weights) for name, weights in untrained.state_dict().items())
    with pytest.raises(UnusableInputError, match="weights of another generator"):
        draw_from_prior(NETWORKS[kind]((40, 32), channels=(4, 4, 4)), tmp_path / "generator.pt", [1])


def test_a_few_steps_bring_the_vae_nearer_to_its_images(images, tmp_path):
    parser = ConfigParser()
    parser.read_config(str(find_bundle("memorization_study") / "configs" / "train_vae.json"))
    small = {"dataset_dir": str(images), "num_validation": 2, "image_size": [40, 32], "output_dir": str(tmp_path)}
    parser.update({**small, "device": "$torch.device('cpu')", "batch_size": 6, "max_epochs": 1, "steps_per_epoch": 40})
    torch.manual_seed(0)
    trainer, network = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("network_def")
    batch = next(iter(parser.get_parsed_content("train#dataloader")))["image"]
    errors = []
    for _ in range(2):
        with torch.no_grad():
            errors.append((network.eval()(batch) - batch).square().mean().item())
        trainer.run()
    assert errors[1] < 0.6 * errors[0]
