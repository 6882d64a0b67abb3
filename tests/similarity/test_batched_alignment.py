"""The search in torch operations finds what the compiled one finds."""

import numpy as np
import pytest
import torch

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import (
    VERSIONS,
    Alignment,
    LocalMatch,
    aligned_ssim,
    deform_onto,
    extract_local_features,
    match_local_features,
)
from monai_deepssim.similarity.batched import change_images
from monai_deepssim.transforms import RandStructurePreserving, RandWarp

SAME = 1e-3
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def brains():
    dataset = PhantomBrainDataset(6, seed=771, progress=False)
    return torch.stack([dataset[i]["image"].as_tensor() for i in range(len(dataset))])


@pytest.fixture(scope="module")
def copies(brains):
    change = RandStructurePreserving(prob=0.9, shift_pixels=4.0, zoom=0.05).set_random_state(3)
    return torch.stack([torch.as_tensor(change(image)) for image in brains])


def assert_same(x, y, device="cpu", **arguments):
    compiled = aligned_ssim(x, y, **arguments, batched=False)
    batched = aligned_ssim(x.to(device), y.to(device), **arguments, batched=True)
    assert type(batched.ssim) is torch.Tensor
    assert batched.ssim.device.type == device
    torch.testing.assert_close(batched.ssim.cpu(), compiled.ssim, atol=SAME, rtol=0)
    return compiled.alignments, batched.alignments


def test_copies_under_every_change(brains, copies):
    for first, second in zip(*assert_same(copies, brains), strict=True):
        assert second.flips == first.flips
        assert second.rotation_degrees == pytest.approx(first.rotation_degrees, abs=0.1)
        assert second.shift_pixels == pytest.approx(first.shift_pixels, abs=0.1)
        assert second.zoom == pytest.approx(first.zoom, abs=0.002)
        assert second.gamma == pytest.approx(first.gamma, abs=0.02)


def test_an_image_that_is_not_changed_is_left_as_it_is(brains):
    _, alignments = assert_same(brains, brains)
    assert {str(alignment) for alignment in alignments} == {"unchanged"}


def test_strangers(brains):
    assert_same(brains, brains.roll(1, 0))


def test_deformed_copies_and_the_price_of_it(brains, copies):
    warp = RandWarp().set_random_state(5)
    warped = torch.stack([torch.as_tensor(warp(image)) for image in copies])
    first, second = assert_same(warped, brains, deformation_cost=0.1)
    assert any(alignment.deformation_pixels > 0.3 for alignment in second)
    for one, other in zip(first, second, strict=True):
        assert other.deformation_pixels == pytest.approx(one.deformation_pixels, abs=0.05)


@pytest.mark.parametrize("size", [(137, 111), (50, 40), (24, 30), (16, 17)])
def test_sizes_that_are_halved_twice_once_or_never(brains, copies, size):
    # Twice 16 pixels are few: an SSIM of so few windows moves more with the last digits of a change.
    x, y = (torch.nn.functional.interpolate(side[:3], size, mode="area") for side in (copies, brains))
    assert_same(x, y, deformation_cost=0.1)


def test_from_the_transform_of_a_match(brains):
    square = brains[:2, :, 12:124]
    turned = square.transpose(2, 3).contiguous()
    features = [[extract_local_features(image) for image in side] for side in (turned, square)]
    matches = []
    for query, training in zip(*features, strict=True):
        found = [match_local_features(query, training, version) for version in VERSIONS]
        matches.append(max((match for match in found if match), key=lambda match: match.num_inliers))
    # The last has none.
    x, y = torch.cat([turned, square[:1]]), torch.cat([square, square[1:]])
    first, second = assert_same(x, y, matches=[*matches, None])
    assert [str(alignment) for alignment in second[:2]] == [str(alignment) for alignment in first[:2]]


def test_an_inverted_match(brains):
    shift = np.array([[1.0, 0.0, 9.0], [0.0, 1.0, -6.5]])
    nothing = np.zeros((0, 2), np.float32)
    match = LocalMatch(20, shift, inverted=True, points=nothing, core=nothing, density=0.0)
    moved = torch.zeros_like(brains[:1])
    moved[..., :-7, 9:] = (1 - brains[:1])[..., 7:, :-9]
    assert_same(moved, brains[:1], matches=[match])


def test_constant_images_follow_the_rule_of_pairwise_ssim(brains):
    flat, other = torch.full_like(brains[:1], 0.5), torch.full_like(brains[:1], 0.25)
    x = torch.cat([flat, flat, flat, brains[:1]])
    y = torch.cat([flat, other, brains[:1], brains[:1]])
    assert_same(x, y, deformation_cost=0.1)
    assert aligned_ssim(x, y, batched=True).ssim.tolist() == pytest.approx([1.0, 0.0, 0.0, 1.0], abs=1e-5)


def test_many_pairs_are_aligned_in_blocks(brains, copies, monkeypatch):
    whole = aligned_ssim(copies, brains, deformation_cost=0.1, batched=True)
    monkeypatch.setattr("monai_deepssim.similarity.batched.alignment._BLOCK_PIXELS", 2 * brains[0].numel())
    blocks = aligned_ssim(copies, brains, deformation_cost=0.1, batched=True)
    torch.testing.assert_close(blocks.ssim, whole.ssim, atol=1e-5, rtol=0)


def test_what_deformations_made_of_images(brains, copies):
    x = torch.cat([copies[:2], torch.ones_like(copies[:1])])
    torch.testing.assert_close(
        deform_onto(x, brains[:3], batched=True), deform_onto(x, brains[:3], batched=False), atol=1e-3, rtol=0
    )


def test_images_are_changed_at_once_as_one_by_one(brains):
    alignments = [
        Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0),
        Alignment((0, 1), (0.0,), (0.0, 0.0), 1.0, 1.4),
        Alignment((1,), (7.0,), (-2.5, 1.0), 1.04, 0.7, inverted=True),
        Alignment((), (-3.0,), (4.0, 0.0), 0.96, 1.0, stretch=1.1, stretch_degrees=30.0),
    ]
    changed = change_images(brains[:4], alignments)
    expected = torch.stack([alignment.apply(image) for alignment, image in zip(alignments, brains, strict=False)])
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)
    assert torch.equal(changed[0], brains[0])
    assert change_images(brains[:0], []).shape == (0, 1, 136, 112)


def test_volumes_have_no_torch_operations():
    volume = torch.rand(1, 1, 32, 32, 32)
    with pytest.raises(ValueError, match="got batched=True for x"):
        aligned_ssim(volume, volume, batched=True)


@needs_gpu
def test_on_a_gpu_torch_operations_are_the_default(brains, copies):
    x, y = torch.cat([copies, brains]), torch.cat([brains, brains.roll(1, 0)])
    assert_same(x, y, device="cuda", deformation_cost=0.1)
    found = aligned_ssim(x.cuda(), y.cuda(), deformation_cost=0.1)
    torch.testing.assert_close(found.ssim.cpu(), aligned_ssim(x, y, deformation_cost=0.1).ssim, atol=SAME, rtol=0)
    deformed = deform_onto(x.cuda(), y.cuda())
    assert deformed.is_cuda
    torch.testing.assert_close(deformed.cpu(), deform_onto(x, y), atol=SAME, rtol=0)
