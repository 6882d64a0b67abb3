"""The DeepSSIM embedder."""

import pytest
import torch
import torchvision
from monai.transforms import Rotate

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import SUPPORTED_BACKBONES, DeepSSIMEmbedder, fold_flips
from monai_deepssim.networks.backbones import build_backbone
from monai_deepssim.similarity import standardize


@pytest.mark.parametrize("size", [(64, 64), (136, 112), (97, 131)])
def test_embeddings_are_unit_vectors_for_any_size(size):
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", embedding_dim=48).eval()
    embeddings = embedder(torch.randn(3, 1, *size))
    assert embeddings.shape == (3, 48)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 63, 64), (1, 64, 64), (2, 1, 64, 64, 64)])
def test_another_shape_is_an_error_that_names_it(shape):
    embedder = DeepSSIMEmbedder(backbone="convnext_atto").eval()
    with pytest.raises(ValueError, match="got images of shape"):
        embedder(torch.randn(shape))


def test_three_channels_are_taken_as_they_are():
    torch.manual_seed(0)
    grey = DeepSSIMEmbedder(backbone="convnext_atto").eval()
    colour = DeepSSIMEmbedder(backbone="convnext_atto", in_channels=3).eval()
    colour.load_state_dict(grey.state_dict())
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(grey(images), colour(images.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="in_channels=2"):
        DeepSSIMEmbedder(backbone="convnext_atto", in_channels=2)


@pytest.mark.parametrize("name", sorted(SUPPORTED_BACKBONES))
def test_every_backbone_can_be_built_and_run(name):
    if name in ("convnext_base", "convnext_large", "convnext_small"):
        with torch.device("meta"):
            embedder = DeepSSIMEmbedder(backbone=name)
            assert embedder.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 256)
    else:
        assert DeepSSIMEmbedder(backbone=name).eval()(torch.randn(1, 1, 64, 64)).shape == (1, 256)


def test_the_small_backbone_has_fewer_than_4_7_million_parameters():
    assert sum(p.numel() for p in DeepSSIMEmbedder(backbone="convnext_atto").parameters()) < 4.7e6


def test_an_unknown_backbone_is_an_error_that_lists_the_known_ones():
    with pytest.raises(UnusableInputError, match="convnext_atto"):
        DeepSSIMEmbedder(backbone="convnext_giga")


def test_random_weights_are_never_frozen():
    assert all(p.requires_grad for p in DeepSSIMEmbedder(backbone="convnext_atto", frozen_stages=2).parameters())


@pytest.mark.parametrize(
    ("name", "frozen", "trained"), [("convnext_tiny", (0, 1, 2, 3), (4, 5, 6, 7)), ("resnet18", range(6), (6, 7))]
)
def test_the_first_two_stages_of_a_pretrained_backbone_are_frozen(tmp_path, name, frozen, trained):
    path = tmp_path / "imagenet.pth"
    classifier = torchvision.models.get_model(name)
    torch.save(classifier.state_dict(), path)
    embedder = DeepSSIMEmbedder(backbone=name, pretrained=path, frozen_stages=2).train()
    features = embedder.feature_extractor
    assert not any(p.requires_grad for i in frozen for p in features[i].parameters())
    assert all(p.requires_grad for i in trained for p in features[i].parameters())
    assert all(p.requires_grad for p in embedder.fc.parameters())
    assert not any(module.training for i in frozen for module in features[i].modules())
    assert all(features[i].training for i in trained)
    assert torch.equal(next(features.parameters()), next(classifier.parameters()))


def test_pretrained_weights_that_do_not_fit_or_do_not_exist_are_errors(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UnusableInputError, match="not those of torchvision's resnet18"):
        DeepSSIMEmbedder(backbone="resnet18", pretrained=tmp_path / "other.pth")
    with pytest.raises(UnusableInputError, match="no such file"):
        DeepSSIMEmbedder(backbone="resnet18", pretrained=tmp_path / "missing.pth")
    with pytest.raises(UnusableInputError, match="no ImageNet weights"):
        DeepSSIMEmbedder(backbone="convnext_atto", pretrained=True)


def test_a_frozen_norm_gives_in_training_what_it_gives_afterwards():
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", dropout=0.0).train()
    images = torch.randn(4, 1, 64, 64)
    by_batch = embedder(images)
    embedder.freeze_norm()
    statistics = embedder.fc[2].running_mean.clone()
    frozen = embedder.train()(images)
    torch.testing.assert_close(embedder.eval()(images), frozen)
    assert torch.equal(embedder.fc[2].running_mean, statistics)
    assert not torch.allclose(frozen, by_batch, atol=1e-3)
    torch.testing.assert_close(embedder.train()(images[:2]), frozen[:2])  # whatever else is in the batch


def test_of_folded_images_a_flip_changes_nothing_at_all():
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True).eval()
    images = torch.randn(2, 1, 128, 144)
    embeddings = embedder(images)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    for axes in ([2], [3], [2, 3]):
        assert torch.equal(embedder(images.flip(axes)), embeddings)
    plain = DeepSSIMEmbedder(backbone="convnext_atto").eval()
    assert not torch.allclose(plain(images.flip(2)), plain(images))


def test_the_backbone_sees_the_folded_image_and_all_seven_channels_of_it():
    torch.manual_seed(0)
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True).eval()
    seen = []
    embedder.feature_extractor.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = torch.randn(2, 1, 128, 144)
    embedder(images)
    assert torch.equal(seen[0], fold_flips(images))


def test_folded_images_may_not_become_too_small_for_the_backbone():
    with pytest.raises(ValueError, match="at least 128 pixels"):
        DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True)(torch.zeros(1, 1, 136, 112))
    with pytest.raises(ValueError, match="128 pixels"):
        DeepSSIMEmbedder(backbone="convnext_atto", fold_flips=True, canonical_size=(128, 96))


def test_folding_reaches_the_first_convolution_of_every_family_of_backbones():
    for backbone in ("convnext_atto", "resnet18", "mobilenet_v3_small"):
        embedder = DeepSSIMEmbedder(backbone=backbone, fold_flips=True)
        embedder(torch.randn(2, 1, 128, 128)).sum().backward()
        first = next(module for module in embedder.modules() if isinstance(module, torch.nn.Conv2d))
        assert (first.weight.grad.abs().sum((0, 2, 3)) > 0).tolist() == [True] * 7


def test_a_pretrained_backbone_takes_folded_images_of_equal_channels_as_it_took_grey_ones(tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pt")
    grey, _ = build_backbone("resnet18", tmp_path / "resnet18.pt")
    folded, _ = build_backbone("resnet18", tmp_path / "resnet18.pt", in_channels=7)
    images = torch.randn(2, 1, 64, 64)
    wanted = grey.eval()(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(folded.eval()(images.expand(-1, 7, -1, -1)), wanted, rtol=1e-4, atol=1e-4)


def test_a_new_head_takes_backbone_and_norm_of_a_checkpoint(tmp_path):
    options = {"backbone": "convnext_atto", "fold_flips": True, "canonical_size": (128, 128)}
    narrow = DeepSSIMEmbedder(**options)
    torch.nn.init.uniform_(narrow.fc[2].running_mean)
    torch.save(narrow.state_dict(), tmp_path / "model.pt")
    wide = DeepSSIMEmbedder(
        **options, pretrained=tmp_path / "model.pt", frozen_stages=0, hidden_dim=96, embedding_dim=80, dropout=0.0
    )
    images = torch.randn(2, 1, 96, 80)
    assert wide.eval()(images).shape == (2, 80)
    with torch.no_grad():
        features = [network.eval().feature_extractor(network._prepare(images)) for network in (narrow, wide)]
    assert torch.equal(*features)
    assert torch.equal(wide.fc[2].running_mean, narrow.fc[2].running_mean)
    assert all(parameter.requires_grad for parameter in wide.parameters())
    with pytest.raises(UnusableInputError, match=r"model\.pt: the backbone of this checkpoint is another one"):
        DeepSSIMEmbedder(backbone="convnext_atto", pretrained=tmp_path / "model.pt")


def test_in_a_canonical_pose_a_turned_copy_embeds_nearly_the_same(phantoms):
    torch.manual_seed(0)
    plain = DeepSSIMEmbedder(backbone="convnext_atto", pooled_size=(4, 3)).eval()
    torch.manual_seed(0)
    posed = DeepSSIMEmbedder(backbone="convnext_atto", pooled_size=(4, 3), canonical_size=(128, 96)).eval()
    images = standardize(phantoms[:6])
    turned = standardize(torch.stack([Rotate(0.2, padding_mode="zeros")(image) for image in phantoms[:6]]).as_tensor())
    with torch.no_grad():
        distances = [(network(images) - network(turned)).norm(dim=1).mean() for network in (plain, posed)]
    assert distances[1] < 0.4 * distances[0]


def test_a_canonical_size_makes_the_embedding_independent_of_the_frame(phantoms):
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", canonical_size=(128, 96)).eval()
    images = standardize(phantoms[:3])
    background = images[:, :, :1, :1]
    framed = torch.nn.functional.pad(images - background, (10, 10, 20, 20)) + background
    with torch.no_grad():
        torch.testing.assert_close(embedder(framed), embedder(images), atol=1e-2, rtol=0)


def test_folding_is_refused_for_three_channels():
    with pytest.raises(ValueError, match="in_channels=3"):
        DeepSSIMEmbedder(backbone="convnext_atto", in_channels=3, fold_flips=True)


def test_a_canonical_pose_is_refused_for_three_channels():
    with pytest.raises(ValueError, match="in_channels=1"):
        DeepSSIMEmbedder(backbone="convnext_atto", in_channels=3, canonical_size=(128, 96))
