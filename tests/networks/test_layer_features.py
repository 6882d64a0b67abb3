"""Features of named layers: what is averaged, what is left behind, and what is said of a name that is none."""

import pytest
import torch
from torch import nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import SUPPORTED_BACKBONES, DeepSSIMEmbedder, LayerFeatures, find_stages


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), nn.Flatten())


class Permuted(nn.Module):
    """As a vision transformer's block: channels last, and a tuple."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1), "attention"


def hooks_of(network):
    return [hook for module in network.modules() for hook in module._forward_hooks]


def test_features_are_the_spatial_means_of_the_layers_outputs(network):
    x = torch.randn(2, 1, 9, 8)
    features = LayerFeatures(network, ["1.0", "0"])(x)
    assert list(features) == ["1.0", "0"]
    torch.testing.assert_close(features["0"], network[0](x).mean((2, 3)))
    torch.testing.assert_close(features["1.0"], network[1][0](network[0](x)).mean((2, 3)))


def test_volumes_are_averaged_over_three_axes():
    network = nn.Sequential(nn.Conv3d(1, 4, 3))
    x = torch.randn(2, 1, 5, 6, 7)
    torch.testing.assert_close(LayerFeatures(network, "0")(x)["0"], network(x).mean((2, 3, 4)))


def test_channels_may_be_last():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), Permuted())
    x = torch.randn(2, 1, 9, 8)
    last = LayerFeatures(network, ["1"], channel_dim=-1)(x)["1"]
    torch.testing.assert_close(last, network[0](x).mean((2, 3)))
    assert LayerFeatures(network, ["1"])(x)["1"].shape == (2, 7)  # rows, unnoticed: what the docstring warns of


def test_an_output_without_positions_is_taken_as_it_is(network):
    x = torch.randn(2, 1, 9, 8)
    torch.testing.assert_close(LayerFeatures(network, ["2"])(x)["2"], network(x))


def test_hooks_are_gone_afterwards_also_when_the_network_fails(network):
    features = LayerFeatures(network, ["0", "1"])
    features(torch.randn(2, 1, 9, 8))
    assert hooks_of(network) == []
    with pytest.raises(RuntimeError):
        features(torch.randn(2, 7, 9, 8))
    assert hooks_of(network) == []


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda x: torch.compile(nn.DataParallel(x))])
def test_compiled_and_parallel_networks_are_reached_by_their_own_names(network, wrap):
    x = torch.randn(2, 1, 9, 8)
    features = LayerFeatures(wrap(network), ["1.1"])(x)
    torch.testing.assert_close(features["1.1"], network[1](network[0](x)).mean((2, 3)))


def test_gradients_pass_and_half_precision_is_averaged_in_single(network):
    x = torch.randn(2, 1, 9, 8, requires_grad=True)
    LayerFeatures(network, ["0"])(x)["0"].sum().backward()
    assert x.grad is not None
    assert LayerFeatures(network.bfloat16(), ["0"])(x.bfloat16())["0"].dtype == torch.float32


def test_an_unknown_name_is_answered_with_the_nearest(network):
    with pytest.raises(UnusableInputError, match=r"no layer 'features.1.0' \(did you mean 1.0, 0\?\)"):
        LayerFeatures(network, ["0", "features.1.0"])
    embedder = DeepSSIMEmbedder("convnext_atto")
    with pytest.raises(UnusableInputError, match=r"no layer '3' \(did you mean .*feature_extractor.3"):
        LayerFeatures(embedder, ["3"])
    with pytest.raises(UnusableInputError, match=r"no layer 'feature_extracter.3' \(did you mean feature_extractor.3,"):
        LayerFeatures(embedder, ["feature_extracter.3"])


@pytest.mark.parametrize("layers", [[], ["0", "0"]])
def test_no_name_or_a_name_twice_is_refused(network, layers):
    with pytest.raises(ValueError, match="want at least one name, and each of them once"):
        LayerFeatures(network, layers)


def test_a_layer_that_takes_no_part_is_named(network):
    network.add_module("spare", nn.Identity())
    features = LayerFeatures(nn.ModuleList([network]), ["0.spare"])
    features.network.forward = lambda x: network[0](x)
    with pytest.raises(UnusableInputError, match=r"layers 0.spare took no part in the forward pass"):
        features(torch.randn(2, 1, 9, 8))


def test_a_wrong_axis_or_no_tensor_is_named(network):
    with pytest.raises(ValueError, match=r"shape \(2, 3, 7, 6\), which has no axis 4"):
        LayerFeatures(network, ["0"], channel_dim=4)(torch.randn(2, 1, 9, 8))

    class Text(nn.Module):
        def forward(self, x):
            return "text"

    with pytest.raises(UnusableInputError, match="layer 0 puts out str, want a tensor"):
        LayerFeatures(nn.Sequential(Text()), ["0"])(torch.randn(2, 1, 9, 8))


@pytest.mark.parametrize(
    ("backbone", "stages"),
    [("convnext_atto", "1357"), ("resnet18", "4567"), ("efficientnet_b0", "2358"), ("mobilenet_v3_small", None)],
)
def test_stages_end_where_the_resolution_halves(backbone, stages):
    assert backbone in SUPPORTED_BACKBONES
    embedder = DeepSSIMEmbedder(backbone)
    found = find_stages(embedder)
    assert embedder.training
    assert len(found) == 4
    if stages:
        assert found == tuple(f"feature_extractor.{number}" for number in stages)
    sizes = []
    for name in found:
        embedder.get_submodule(name).register_forward_hook(lambda _module, _x, y: sizes.append(y.shape[-1]))
    with torch.no_grad():
        embedder.eval()(torch.randn(1, 1, 64, 64))
    assert sizes == [16, 8, 4, 2]


def test_the_stages_of_a_backbone_that_takes_folded_images_have_features():
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True, canonical_size=(128, 128)).eval()
    layers = find_stages(embedder)
    assert layers == find_stages(DeepSSIMEmbedder(backbone="convnext_atto"))
    features = LayerFeatures(embedder, layers)(torch.randn(2, 1, 136, 112))
    assert [features[layer].shape for layer in layers] == [(2, 40), (2, 80), (2, 160), (2, 320)]
