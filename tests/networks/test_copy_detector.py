"""The copy detector's network, and the published checkpoint in it."""

import json
from pathlib import Path

import pytest
import torch
import torchvision

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import CopyDetector, load_copy_detector

PUBLISHED = Path(__file__).parents[1] / "data" / "copy_detector_state_dict.json"


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return CopyDetector(backbone="resnet18").eval()


def save(state, path):
    torch.save(state, path)
    return path


def test_the_published_names_and_shapes_load_strictly_the_unused_layer_included(tmp_path):
    shapes = json.loads(PUBLISHED.read_text())
    state = {
        name: torch.zeros(shape, dtype=torch.long) if name.endswith("num_batches_tracked") else torch.full(shape, 0.01)
        for name, shape in shapes.items()
    }
    detector = load_copy_detector(save(state, tmp_path / "published.pt"))
    assert (detector.spatial_dims, detector.backbone, detector.training) == (2, "resnet50", False)
    assert {name: list(value.shape) for name, value in detector.state_dict().items()} == shapes
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())


def test_the_embedding_is_that_of_torchvisions_resnet_and_the_unused_layer_changes_nothing(small):
    images = torch.rand(2, 1, 64, 48)
    resnet = torchvision.models.resnet18(num_classes=128)
    resnet.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    own = {name.removeprefix("model."): value for name, value in small.state_dict().items() if "fc_end" not in name}
    resnet.load_state_dict(own)
    with torch.no_grad():
        expected = resnet.eval()(images)
        embeddings = small(images)
        small.fc_end.weight.add_(1.0)
        torch.testing.assert_close(small(images), embeddings, rtol=0, atol=0)
    assert embeddings.shape == (2, 128)
    torch.testing.assert_close(embeddings, expected)


def test_a_volume_has_the_same_names_one_dimension_more_and_is_recognised(tmp_path):
    flat, deep = CopyDetector(backbone="resnet50"), CopyDetector(3, "resnet50", embedding_dim=16)
    assert list(deep.state_dict()) == list(flat.state_dict())
    detector = CopyDetector(3, "resnet18", embedding_dim=16).eval()
    loaded = load_copy_detector(save(detector.state_dict(), tmp_path / "model.pt"))
    assert (loaded.spatial_dims, loaded.backbone) == (3, "resnet18")
    volumes = torch.rand(2, 1, 32, 40, 32)
    with torch.no_grad():
        assert torch.equal(loaded(volumes), detector(volumes))
    assert loaded(volumes).shape == (2, 16)


def test_imagenet_weights_are_taken_from_a_file_but_for_the_first_and_the_last_layer(tmp_path):
    classifier = torchvision.models.resnet18()
    path = save(classifier.state_dict(), tmp_path / "imagenet.pt")
    detector = CopyDetector(backbone="resnet18", pretrained=path)
    assert torch.equal(detector.model.layer4[1].conv2.weight, classifier.layer4[1].conv2.weight)
    assert detector.model.conv1.weight.shape[1] == 1
    with pytest.raises(UnusableInputError, match="no ImageNet weights of a 3-D resnet18"):
        CopyDetector(3, "resnet18", pretrained=True)


def test_a_wrong_state_dict_names_its_missing_and_unexpected_keys(small, tmp_path):
    state = dict(small.state_dict())
    state["head.weight"] = state.pop("fc_end.weight")
    path = save(state, tmp_path / "wrong.pt")
    with pytest.raises(UnusableInputError, match=r"1 missing keys: fc_end.weight; 1 unexpected keys: head.weight") as e:
        load_copy_detector(path)
    assert str(path) in str(e.value)
    assert "2-D resnet18" in str(e.value)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"no checkpoint"), "not a checkpoint"),
        (lambda path: torch.save([1, 2], path), "want a state dict of tensors"),
        (lambda path: torch.save({"model.fc.weight": torch.tensor(1.0)}, path), "missing keys"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, write, said):
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(UnusableInputError, match=said) as caught:
        load_copy_detector(path)
    assert str(path) in str(caught.value)


def test_images_of_another_shape_are_refused_in_words(small):
    with pytest.raises(ValueError, match=r"want \(N, 1, H, W\) with sides of at least 32 pixels"):
        small(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match="spatial_dims=1"):
        CopyDetector(1)
    with pytest.raises(UnusableInputError, match="resnet18, resnet34, resnet50"):
        CopyDetector(backbone="vgg11")


def test_a_narrow_backbone_has_half_the_channels_in_2_d_and_3_d_and_is_recognised(tmp_path):
    wide, narrow = CopyDetector(backbone="resnet18"), CopyDetector(backbone="resnet18_narrow").eval()
    assert list(narrow.state_dict()) == list(wide.state_dict())
    assert narrow.model.layer3[1].conv2.weight.shape == (128, 128, 3, 3)
    halved = {name: value.half() for name, value in narrow.state_dict().items()}
    loaded = load_copy_detector(save(halved, tmp_path / "narrow.pt"))
    assert (loaded.backbone, loaded.spatial_dims) == ("resnet18_narrow", 2)
    images = torch.rand(2, 1, 64, 48)
    torch.testing.assert_close(loaded(images), narrow(images), atol=5e-3, rtol=5e-3)
    deep = CopyDetector(3, "resnet18_narrow").eval()
    loaded = load_copy_detector(save(deep.state_dict(), tmp_path / "deep.pt"))
    assert (loaded.backbone, loaded.spatial_dims) == ("resnet18_narrow", 3)
    with pytest.raises(UnusableInputError, match="no ImageNet weights of a 2-D resnet18_narrow"):
        CopyDetector(backbone="resnet18_narrow", pretrained=True)
