"""The form of an embedder that embeds fastest."""

import pytest
import torch

from monai_deepssim.networks import DeepSSIMEmbedder, prepare_for_inference


def trained(**arguments):
    """An embedder whose norms have statistics, and whose blocks count."""
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(embedding_dim=16, **arguments)
    with torch.no_grad():
        for name, value in embedder.state_dict().items():
            if name.endswith(("running_mean", "running_var", "layer_scale")):
                value.uniform_(0.5, 1.5)
    return embedder.eval()


@pytest.mark.parametrize("backbone", ["convnext_atto", "resnet18", "efficientnet_b0", "mobilenet_v3_small"])
def test_embeddings_are_the_same_to_rounding(backbone):
    embedder, images = trained(backbone=backbone), torch.randn(3, 1, 80, 64)
    with torch.inference_mode():
        torch.testing.assert_close(prepare_for_inference(embedder)(images), embedder(images), atol=1e-4, rtol=0)


def test_an_embedder_in_a_canonical_pose_embeds_alike():
    embedder = trained(backbone="convnext_atto", canonical_size=(128, 128), fold_flips=True, pooled_size=(2, 2))
    images = torch.randn(2, 1, 80, 64)
    with torch.inference_mode():
        torch.testing.assert_close(prepare_for_inference(embedder)(images), embedder(images), atol=1e-4, rtol=0)


def test_the_first_convolution_takes_one_channel_and_norms_are_gone():
    prepared = prepare_for_inference(trained(backbone="resnet18"))
    modules = list(prepared.feature_extractor.modules())
    assert next(module for module in modules if isinstance(module, torch.nn.Conv2d)).weight.shape[1] == 1
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in modules)


def test_the_network_itself_stays_as_it_is():
    embedder = trained(backbone="resnet18").train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    prepare_for_inference(embedder)
    assert embedder.training
    assert all(parameter.requires_grad for parameter in embedder.parameters())
    for name, value in embedder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_other_networks_are_returned_as_they_are():
    network = torch.nn.Flatten()
    assert prepare_for_inference(network) is network
    volumes = DeepSSIMEmbedder(backbone="resnet10_3d", spatial_dims=3)
    assert prepare_for_inference(volumes) is volumes
