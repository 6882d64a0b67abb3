"""The published 3-D copy detector: its names and shapes, its arithmetic, and what is said of other weights."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import VolumeCopyDetector, load_copy_detector, shapes_of


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return VolumeCopyDetector((1, 2, 4), embedding_dim=8).eval()


def save(state, path):
    torch.save(state, path)
    return path


def test_the_network_for_knees_has_the_published_names_and_shapes():
    with torch.device("meta"):
        shapes = shapes_of(VolumeCopyDetector())
    expected = {"encoder.conv_first.conv": (16, 1, 3, 3, 3), "conv3D.conv": (8, 1024, 1, 1, 1)}
    expected |= {"dense.1": (128, 512), "dense.4": (32, 128), "sup_layer.1": (1, 32), "encoder.final_block.0": (1024,)}
    for block, channels in enumerate((32, 64, 128, 256, 512, 1024)):
        name = f"encoder.conv_blocks.{block}"
        expected[f"{name}.down.conv"] = (channels, channels // 2, 4, 4, 4)
        for layer in ("1", "2"):
            expected[f"{name}.res.norm{layer}"] = (channels,)
            expected[f"{name}.res.conv{layer}.conv"] = (channels, channels, 3, 3, 3)
    weights = {f"{name}.weight": shape for name, shape in expected.items()}
    biases = {f"{name}.bias": shape[:1] for name, shape in expected.items()}
    assert shapes == weights | biases


def test_a_volume_is_halved_only_along_the_axes_that_are_too_long_and_its_range_does_not_matter(small):
    assert small.image_size == (4, 8, 16)
    volumes = torch.rand(2, 1, 4, 8, 16)
    state = small.state_dict()

    def convolve(x, name, stride, padding):
        padded = F.pad(x, padding, mode="replicate")
        return F.conv3d(padded, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], stride=stride)

    def activate(x, name):
        return F.silu(F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6))

    low, high = volumes.amin((2, 3, 4), keepdim=True), volumes.amax((2, 3, 4), keepdim=True)
    x = convolve(2 * (volumes - low) / (high - low + 1e-4) - 1, "encoder.conv_first", 1, (1,) * 6)
    # Padding of the last axis first. Where a kernel of 4 moves by 1, three voxels are missing: two of them in front.
    for block, stride, padding in ((0, (1, 2, 2), (1, 1, 1, 1, 2, 1)), (1, (1, 1, 2), (1, 1, 2, 1, 2, 1))):
        name = f"encoder.conv_blocks.{block}"
        x = convolve(x, f"{name}.down", stride, padding)
        refined = convolve(activate(x, f"{name}.res.norm1"), f"{name}.res.conv1", 1, (1,) * 6)
        x = x + convolve(activate(refined, f"{name}.res.norm2"), f"{name}.res.conv2", 1, (1,) * 6)
    x = convolve(activate(x, "encoder.final_block.0"), "conv3D", 1, (0,) * 6)
    assert x.shape == (2, 8, 4, 4, 4)
    hidden = F.relu(F.linear(x.flatten(1), state["dense.1.weight"], state["dense.1.bias"]))
    expected = F.linear(hidden, state["dense.4.weight"], state["dense.4.bias"])
    torch.testing.assert_close(small(volumes), expected)
    torch.testing.assert_close(small(volumes * 0.5), expected, atol=1e-3, rtol=1e-2)
    with pytest.raises(ValueError, match=r"want .* of 4 x 8 x 16 voxels"):
        small(torch.rand(1, 1, 16, 8, 4))


def test_weights_of_the_published_size_for_hearts_load_by_name(tmp_path):
    torch.manual_seed(0)
    detector = VolumeCopyDetector((16, 16, 16)).eval()
    loaded = load_copy_detector(save({"state_dict": detector.state_dict()}, tmp_path / "hearts.pt"))
    assert (loaded.spatial_dims, loaded.image_size, loaded.training) == (3, (64, 64, 64), False)
    assert all(torch.equal(value, detector.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_strides_that_the_weights_do_not_remember_are_asked_for(small, tmp_path):
    path = save(small.state_dict(), tmp_path / "two_blocks.pt")
    with pytest.raises(UnusableInputError, match=r"an encoder of 2 blocks.*the downsampling along each axis, up to 4"):
        load_copy_detector(path)
    volumes = torch.rand(1, 1, 4, 8, 16)
    torch.testing.assert_close(load_copy_detector(path, downsampling=(1, 2, 4))(volumes), small(volumes))


def test_other_encoders_are_refused_with_what_is_missing(small, tmp_path):
    state = {name: value for name, value in small.state_dict().items() if name.startswith("encoder.")}
    path = save(state | {"decoder.conv_first.conv.weight": torch.rand(1)}, tmp_path / "vq_gan.pt")
    with pytest.raises(UnusableInputError, match=r"an encoder alone.*dense\.\* and sup_layer\.\* are missing"):
        load_copy_detector(path, downsampling=(1, 2, 4))
    path = save({**small.state_dict(), "decoder.weight": torch.rand(1)}, tmp_path / "more.pt")
    with pytest.raises(UnusableInputError, match=r"published 3-D copy detector: 1 unexpected keys: decoder\.weight"):
        load_copy_detector(path, downsampling=(1, 2, 4))
    path = save({"model.conv1.weight": torch.rand(64, 1, 7, 7, 7)}, tmp_path / "one.pt")
    with pytest.raises(UnusableInputError, match="the nearest is a 3-D resnet18"):
        load_copy_detector(path)


def test_factors_that_are_no_powers_of_two_are_refused():
    for factors in ((8, 64), (3, 8, 8), (1, 1, 1)):
        with pytest.raises(ValueError, match="want three powers of two"):
            VolumeCopyDetector(factors)
