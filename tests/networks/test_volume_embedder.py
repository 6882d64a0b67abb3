"""The DeepSSIM embedder of volumes."""

import pytest
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import VOLUME_BACKBONES, DeepSSIMEmbedder, load_deepssim
from monai_deepssim.networks.backbones import build_volume_backbone
from monai_deepssim.similarity import standardize

SMALL = {"backbone": "resnet10_3d", "spatial_dims": 3, "embedding_dim": 24, "hidden_dim": 32}


@pytest.mark.parametrize("size", [(32, 32, 32), (48, 40, 33)])
@pytest.mark.parametrize("options", [{}, {"canonical_size": (32, 32, 32), "pooled_size": (2, 2, 2)}])
def test_embeddings_of_volumes_are_unit_vectors_for_any_size(size, options):
    embedder = DeepSSIMEmbedder(**SMALL, **options).eval()
    embeddings = embedder(torch.randn(2, 1, *size))
    assert embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 3, 32, 32, 32), (2, 1, 32, 32, 31)])
def test_another_shape_is_an_error_that_names_it(shape):
    with pytest.raises(ValueError, match=r"want \(N, 1, X, Y, Z\) with sides of at least 32"):
        DeepSSIMEmbedder(**SMALL).eval()(torch.randn(shape))


@pytest.mark.parametrize(
    "options", [{"canonical_size": (32, 32)}, {"pooled_size": (2, 2)}, {"fold_flips": True}, {"in_channels": 3}]
)
def test_what_only_images_have_is_refused(options):
    with pytest.raises(ValueError, match="got "):
        DeepSSIMEmbedder(**{**SMALL, **options})


def test_a_backbone_of_images_is_refused_for_volumes_with_the_names_of_those_that_do():
    with pytest.raises(UnusableInputError, match="resnet10_3d"):
        DeepSSIMEmbedder(spatial_dims=3)


@pytest.mark.parametrize("name", VOLUME_BACKBONES)
def test_every_backbone_of_volumes_leaves_a_sixteenth_of_the_sides(name):
    with torch.device("meta"):
        features, channels = build_volume_backbone(name)
        assert features(torch.zeros(1, 1, 48, 32, 32)).shape == (1, channels, 3, 2, 2)


def test_in_a_canonical_pose_a_shift_hardly_changes_an_embedding():
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij")
    head = sum(((axis - 20) / radius) ** 2 for axis, radius in zip(axes, (9, 12, 7), strict=True)) < 1
    volume = (head * torch.cos(axes[0] / 3) * torch.sin(axes[1] / 2 + axes[2] / 4) + 2 * head)[None, None].float()
    embedder = DeepSSIMEmbedder(**SMALL, canonical_size=(32, 32, 32)).eval()
    with torch.no_grad():
        here, there = embedder(standardize(torch.cat([volume, volume.roll((3, -2, 4), (2, 3, 4))])))
    assert here @ there > 0.999


def test_weights_of_an_embedder_of_volumes_load_by_themselves(tmp_path):
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(**SMALL, canonical_size=(32, 32, 32), pooled_size=(2, 2, 2)).eval()
    torch.save(embedder.state_dict(), tmp_path / "model.pt")
    loaded = load_deepssim(tmp_path / "model.pt")
    assert (loaded.spatial_dims, loaded.canonical_size, loaded.pooled_size) == (3, (32, 32, 32), (2, 2, 2))
    volumes = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(volumes), embedder(volumes))


def test_an_embedder_of_volumes_can_be_exported():
    embedder = DeepSSIMEmbedder(**SMALL).eval()
    volumes = torch.randn(1, 1, 32, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(embedder)(volumes), embedder(volumes))
