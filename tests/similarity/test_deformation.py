"""A copy that was deformed a little is deformed back, at a price that does not pay for a stranger."""

import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.registration import optical_flow_ilk
from skimage.transform import warp

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    Alignment,
    aligned_ssim,
    deform_onto,
    pairwise_ssim,
    standardize,
)
from monai_deepssim.transforms import GradedVariants, RandWarp


@pytest.fixture(scope="module")
def brains():
    dataset = PhantomBrainDataset(8, seed=771, progress=False)
    return torch.stack([dataset[i]["image"].as_tensor() for i in range(len(dataset))])


@pytest.fixture(scope="module")
def warped(brains):
    return torch.stack([RandWarp().set_random_state(i)(image) for i, image in enumerate(brains)])


def ssim_of(x, y):
    return torch.stack(
        [pairwise_ssim(standardize(a[None]), standardize(b[None]))[0, 0] for a, b in zip(x, y, strict=True)]
    )


def deform_by_scikit_image(x, y):
    """Iterative Lucas-Kanade as scikit-image does it: at full size, about our window, not smoothed and not damped."""
    x, y = standardize(x[None])[0, 0].numpy(), standardize(y[None])[0, 0].numpy()
    rows, columns = optical_flow_ilk(x, y, radius=12, num_warp=8, gaussian=True)
    at = np.meshgrid(*map(np.arange, x.shape), indexing="ij")
    return torch.from_numpy(warp(y, np.stack([at[0] + rows, at[1] + columns]), mode="edge", order=1)).float()[None]


def test_a_deformed_copy_is_deformed_back(brains, warped):
    rigid = aligned_ssim(warped, brains)

    found = aligned_ssim(warped, brains, deformation_cost=0.0)

    assert rigid.ssim.max() < 0.80
    assert found.ssim.min() > 0.85
    # Displacements of 1.5 pixels along each axis, of which the alignment has taken a part.
    assert all(0.7 < alignment.deformation_pixels < 2.2 for alignment in found.alignments)
    assert all("deformed by" in str(alignment) for alignment in found.alignments)
    assert all(alignment.deformation_pixels == 0 for alignment in rigid.alignments)


def test_it_gains_most_of_what_the_looser_optical_flow_of_scikit_image_gains(brains, warped):
    aligned = torch.stack(
        [change.apply(image) for change, image in zip(aligned_ssim(warped, brains).alignments, brains, strict=True)]
    )

    ours, before = ssim_of(warped, deform_onto(warped, aligned)), ssim_of(warped, aligned)

    theirs = ssim_of(warped, torch.stack([deform_by_scikit_image(x, y) for x, y in zip(warped, aligned, strict=True)]))
    assert theirs.min() > 0.9  # or it is no yardstick
    assert ((ours - before) > 0.7 * (theirs - before)).all()


def test_the_score_is_the_ssim_of_the_deformed_image_less_its_price(brains, warped):
    found = aligned_ssim(warped, brains, deformation_cost=0.05)

    for x, y, score, alignment in zip(warped, brains, found.ssim, found.alignments, strict=True):
        deformed = deform_onto(x[None], alignment.apply(y)[None])
        price = 0.05 * alignment.deformation_pixels
        assert price > 0.02
        assert score.item() == pytest.approx(ssim_of(x[None], deformed).item() - price, abs=3e-3)


def test_a_deformation_that_is_not_worth_its_price_is_not_made(brains, warped):
    rigid = aligned_ssim(warped, brains)

    dear = aligned_ssim(warped, brains, deformation_cost=10.0)

    assert dear.ssim.tolist() == rigid.ssim.tolist()
    assert dear.alignments == rigid.alignments


def test_what_is_the_same_already_is_not_deformed(brains):
    copies = torch.stack([RandWarp(0.001).set_random_state(0)(image) for image in brains[:2]])

    for x in (brains[:2], copies):
        found = aligned_ssim(x, brains[:2], deformation_cost=DEFORMATION_COST)
        assert found.ssim.min() > 0.999
        assert [str(alignment) for alignment in found.alignments] == ["unchanged"] * 2


def test_where_there_is_nothing_to_gain_no_deformation_is_searched(brains, monkeypatch):
    monkeypatch.setattr(sys.modules[aligned_ssim.__module__], "deform_pair", None)
    found = aligned_ssim(brains.flip(2), brains, deformation_cost=0.0)
    assert (found.ssim > 0.9999).all()


def test_at_the_price_of_a_verdict_a_deformed_copy_gains_and_a_stranger_does_not(brains, warped):
    gain = {}
    for name, y in (("copies", brains), ("strangers", brains.roll(1, 0))):
        found = aligned_ssim(warped, y, deformation_cost=DEFORMATION_COST)
        gain[name] = found.ssim - aligned_ssim(warped, y).ssim

    assert gain["copies"].mean() > 0.04
    assert min(gain["copies"].min(), gain["strangers"].min()) >= 0
    assert gain["strangers"].max() < 0.02


def test_the_field_is_stiff_and_lifts_a_stranger_little_even_free_of_charge(brains):
    rigid = aligned_ssim(brains, brains.roll(1, 0)).ssim

    free = aligned_ssim(brains, brains.roll(1, 0), deformation_cost=0.0).ssim

    assert 0.05 < (free - rigid).mean() < 0.13
    assert free.max() < 0.7


def test_a_copy_that_was_flipped_first_is_deformed_as_one_that_was_not(brains, warped):
    plain = aligned_ssim(warped, brains, deformation_cost=DEFORMATION_COST)

    found = aligned_ssim(warped, brains.flip(2), deformation_cost=DEFORMATION_COST)

    assert all(0 in alignment.flips for alignment in found.alignments)
    torch.testing.assert_close(found.ssim, plain.ssim, atol=0.01, rtol=0)


def test_the_length_is_that_of_displacements_which_can_be_seen(brains):
    # Nothing but the deformation may move the head, by 1.5 pixels; the empty background around it stays.
    image = torch.nn.functional.pad(brains[:1], (60, 60, 60, 60), value=brains[0].min().item())
    moved = Alignment((), (0.0,), (1.5, 0.0), 1.0, 1.0).apply(image[0])[None]

    found = aligned_ssim(moved, image, rotation_degrees=0, shift_pixels=0, zoom=0, gamma=(1, 1), deformation_cost=0.0)

    assert found.alignments[0].deformation_pixels == pytest.approx(1.5, abs=0.15)


def test_displacements_point_the_right_way():
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")

    def blob(row, column):
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200)[None, None]

    deformed = deform_onto(blob(48, 40), blob(46.5, 42))

    still = pairwise_ssim(standardize(blob(48, 40)), standardize(blob(46.5, 42))).item()
    assert ssim_of(blob(48, 40), deformed).item() > max(0.99, still)
    top = int(deformed.flatten().argmax())
    assert (top // 80, top % 80) == (48, 40)
    assert deformed.max().item() == pytest.approx(1, abs=0.02)  # the intensities of y


@pytest.mark.parametrize("size", [(97, 81), (64, 64), (30, 41), (17, 16)])
def test_odd_and_small_images_are_deformed(brains, size):
    image = torch.nn.functional.interpolate(brains[:1], size=size, mode="area")[0]
    copy = RandWarp(0.7, 12).set_random_state(1)(image)

    found = aligned_ssim(copy[None], image[None], deformation_cost=0.0)

    assert found.ssim.item() > aligned_ssim(copy[None], image[None]).ssim.item()
    assert deform_onto(copy[None], image[None]).shape == (1, 1, *size)


def test_volumes_are_deformed_along_all_axes():
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) for side in (40.0, 48.0, 36.0)], indexing="ij"))

    def smooth(cells):
        noise = torch.randn(1, 1, *cells, generator=generator)
        return torch.nn.functional.interpolate(noise, size=grid.shape[1:], mode="trilinear", align_corners=True)[0, 0]

    volume = smooth((8, 9, 7))
    for axis in range(3):
        moved = grid.clone()
        moved[axis] += 2.2 * smooth((3, 3, 3))
        at = moved.movedim(0, -1).flip(-1) / (torch.tensor([36.0, 48.0, 40.0]) - 1) * 2 - 1
        copy = torch.nn.functional.grid_sample(volume[None, None], at[None], padding_mode="border", align_corners=True)

        before = pairwise_ssim(standardize(copy), standardize(volume[None, None])).item()
        after = pairwise_ssim(standardize(copy), standardize(deform_onto(copy, volume[None, None]))).item()
        # Little is searched, for speed: it is the deformation that counts.
        limits = {"rotation_degrees": 1.0, "shift_pixels": 1.0}
        found = aligned_ssim(copy, volume[None, None], **limits, deformation_cost=0.0)

        assert before < 0.9
        assert 1 - after < 0.65 * (1 - before)
        assert found.ssim.item() > aligned_ssim(copy, volume[None, None], **limits).ssim.item() + 0.02
        assert found.alignments[0].deformation_pixels > 0.3


def test_the_axes_of_a_volume_are_alike():
    noise = torch.randn(2, 1, 6, 7, 8, generator=torch.Generator().manual_seed(2))
    x, y = torch.nn.functional.interpolate(noise, size=(34, 40, 46), mode="trilinear", align_corners=True)[:, None]
    x = y + 0.3 * x
    expected = deform_onto(x, y)

    turned = deform_onto(x.permute(0, 1, 4, 2, 3), y.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)

    assert (expected - y).abs().max() > 0.1
    torch.testing.assert_close(turned, expected, atol=2e-3, rtol=0)


def test_a_volume_of_a_stranger_gains_nothing_at_the_price_of_a_verdict():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 1, 8, 9, 7, generator=generator)
    x, y = torch.nn.functional.interpolate(noise, size=(40, 48, 36), mode="trilinear", align_corners=True)[:, None]

    found = aligned_ssim(x, y, deformation_cost=DEFORMATION_COST)

    rigid = aligned_ssim(x, y).ssim.item()
    assert rigid <= found.ssim.item() < rigid + 0.02


def test_what_is_deformed_keeps_its_device_and_becomes_float32(brains, warped):
    expected = deform_onto(warped[:1].as_tensor(), brains[:1])

    for y in (brains[:1].double(), MetaTensor(brains[:1])):
        deformed = deform_onto(warped[:1], y)
        assert deformed.dtype == torch.float32
        torch.testing.assert_close(torch.as_tensor(deformed), expected, atol=1e-5, rtol=0)
    eight_bits = (brains[:1] * 255).round().to(torch.uint8)
    torch.testing.assert_close(deform_onto(warped[:1], eight_bits), 255 * expected, atol=2, rtol=0, check_dtype=False)


def test_a_warped_copy_is_above_a_look_alike_that_was_warped_as_much(brains, warped):
    variants = [GradedVariants(1, ssim_range=(0.65, 0.80)).set_random_state(i)(x)[2] for i, x in enumerate(brains)]
    look_alikes = torch.stack([RandWarp().set_random_state(i)(x) for i, x in enumerate(variants)])

    copies = aligned_ssim(warped, brains, deformation_cost=DEFORMATION_COST).ssim
    others = aligned_ssim(look_alikes, brains, deformation_cost=DEFORMATION_COST).ssim

    assert (copies > others).all()
    assert copies.median() > others.median() + 0.08


def test_a_batch_gives_what_single_pairs_give(brains, warped):
    whole = aligned_ssim(warped[:4], brains[:4], deformation_cost=DEFORMATION_COST)
    deformed = deform_onto(warped[:4], brains[:4])

    for i in range(4):
        one = aligned_ssim(warped[i : i + 1], brains[i : i + 1], deformation_cost=DEFORMATION_COST)
        assert whole.ssim[i].item() == one.ssim.item()
        assert whole.alignments[i] == one.alignments[0]
        assert torch.equal(deformed[i : i + 1], deform_onto(warped[i : i + 1], brains[i : i + 1]))


def test_constant_images_are_left_alone(brains):
    flat = torch.full_like(brains[:1], 0.3)

    assert torch.equal(deform_onto(brains[:1], flat), flat)
    assert torch.equal(deform_onto(flat, brains[:1]), brains[:1])
    for x, y, score in ((brains[:1], flat, 0), (flat, brains[:1], 0), (flat, flat, 1)):
        assert aligned_ssim(x, y, deformation_cost=DEFORMATION_COST).ssim.item() == score


def test_the_range_and_offset_of_the_intensities_do_not_matter(brains, warped):
    deformed = deform_onto(warped[:2], brains[:2])

    again = deform_onto(warped[:2] * 90 - 7, brains[:2] * 0.01 + 3)

    torch.testing.assert_close((again - 3) * 100, deformed, atol=2e-3, rtol=0)


def test_the_words_leave_out_a_deformation_that_cannot_be_seen():
    assert str(Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0, 0.04)) == "unchanged"
    assert str(Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.2, 0.9)) == "gamma 1.20, deformed by 0.9 pixels"


@pytest.mark.parametrize("cost", [-0.1, float("nan")])
def test_a_price_below_nothing_is_refused(brains, cost):
    with pytest.raises(ValueError, match="want 0 or more"):
        aligned_ssim(brains[:1], brains[:1], deformation_cost=cost)


def test_pairs_of_different_shapes_are_refused(brains):
    with pytest.raises(ValueError, match="want pairs of one shape"):
        deform_onto(brains[:2], brains[:1])
