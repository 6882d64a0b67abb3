"""Aligned SSIM undoes what was done to a copy, and says what it was."""

import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AdjustContrast, Affine, Flip
from skimage.metrics import structural_similarity

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import Alignment, aligned_ssim, copy_score, pairwise_ssim, standardize


@pytest.fixture(scope="module")
def brains():
    dataset = PhantomBrainDataset(8, seed=770, progress=False)
    return torch.stack([dataset[i]["image"].as_tensor() for i in range(len(dataset))])


@pytest.fixture(scope="module")
def volume():
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side) for side in (40, 48, 36)], indexing="ij"))
    noise = torch.nn.functional.interpolate(
        torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)), size=grid.shape[1:], mode="trilinear"
    )[0, 0]
    inside = (grid**2 / torch.tensor([0.5, 0.6, 0.4]).view(3, 1, 1, 1)).sum(0) < 1
    return ((noise - noise.min()) * inside / (noise.max() - noise.min()))[None]


def change(image, flips, degrees, shift, zoom, gamma):
    """What Alignment.apply does, in the test's own words."""
    image = Flip(list(flips))(image) if flips else image
    image = Affine(
        rotate_params=np.deg2rad(degrees).tolist(),
        translate_params=list(shift),
        scale_params=[1 / zoom] * len(shift),
        padding_mode="zeros",
        image_only=True,
    )(image)
    return AdjustContrast(gamma)(image).as_tensor()


def ssim_by_scikit_image(x, y):
    x, y = standardize(x[None])[0, 0].numpy(), standardize(y[None])[0, 0].numpy()
    return structural_similarity(x, y, data_range=x.max() - x.min())


def random_changes(count, dims, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield (
            tuple(axis for axis in range(dims) if random.random() < 0.5),
            random.uniform(-12, 12, 1 if dims == 2 else 3) * (1 if dims == 2 else 0.6),
            random.uniform(-4, 4, dims),
            random.uniform(0.95, 1.05),
            random.uniform(0.5, 1.5),
        )


def test_a_copy_under_any_mix_of_changes_is_matched_by_its_original(brains):
    cases = list(random_changes(len(brains), 2, seed=1))
    copies = torch.stack([change(image, *case) for image, case in zip(brains, cases, strict=True)])

    found = aligned_ssim(copies, brains)

    assert found.ssim.min() > 0.99
    for alignment, (flips, degrees, shift, zoom, gamma) in zip(found.alignments, cases, strict=True):
        assert alignment.flips == flips
        assert alignment.rotation_degrees == pytest.approx(degrees, abs=0.25)
        assert alignment.shift_pixels == pytest.approx(-zoom * shift, abs=0.3)  # Affine's shift is that of the reading
        assert alignment.zoom == pytest.approx(zoom, abs=0.005)
        assert alignment.gamma == pytest.approx(gamma, rel=0.05)


@pytest.mark.parametrize(
    "case",
    [
        ((), (12.0,), (4.0, -4.0), 1.05, 0.5),
        ((0, 1), (-12.0,), (-4.0, -4.0), 0.95, 1.5),
        ((1,), (12.0,), (0.0, 4.0), 0.95, 0.5),
    ],
)
def test_a_copy_changed_to_the_limits_is_changed_back(brains, case):
    flips, degrees, shift, zoom, gamma = case
    for original in brains[:3]:
        copy = change(original, *case)
        # The inverse: gamma first, then input at zoom * (R^-1 v - shift), then the flips.
        undone = AdjustContrast(1 / gamma)(copy)
        angle = np.deg2rad(degrees[0])
        inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        affine = np.eye(3)
        affine[:2, :2] = zoom * inverse
        affine[:2, 2] = -zoom * np.array(shift)
        undone = Affine(affine=torch.from_numpy(affine), padding_mode="zeros", image_only=True)(undone)
        undone = Flip(list(flips))(undone) if flips else undone
        known = ssim_by_scikit_image(original, undone.as_tensor())
        assert known > 0.9  # or the test undoes something else

        assert aligned_ssim(original[None], copy[None]).ssim.item() == pytest.approx(known, abs=0.03)


def test_the_search_stays_within_the_bounds_that_it_is_given(brains):
    copies = torch.stack([change(image, (), (8.0,), (-3.0, 4.0), 1.05, 1.5) for image in brains[:3]])

    found = aligned_ssim(copies, brains[:3], rotation_degrees=2.0, shift_pixels=1.0, zoom=0.01, gamma=(0.9, 1.2))

    for alignment in found.alignments:
        assert abs(alignment.rotation_degrees[0]) <= 2.0 + 1e-9
        # A shift undone after a rotation is longer by up to the diagonal of a square, and by the zoom.
        assert max(map(abs, alignment.shift_pixels)) <= np.sqrt(2) * 1.01 / 0.99
        assert 0.99 - 1e-9 <= alignment.zoom <= 1 / 0.99 + 1e-9
        assert 1 / 1.2 - 1e-9 <= alignment.gamma <= 1.2 + 1e-9


def test_the_bounds_hold_for_the_inverse_of_a_change_too(brains):
    shrunk = torch.stack([change(image, (), (0.0,), (0.0, 0.0), 0.93, 1.0) for image in brains[:2]])
    bright = torch.stack([change(image, (), (0.0,), (0.0, 0.0), 1.0, 0.6) for image in brains[:2]])

    enlarged = aligned_ssim(brains[:2], shrunk, zoom=0.07)
    darkened = aligned_ssim(brains[:2], bright, gamma=(0.6, 1.0))

    assert [alignment.zoom for alignment in enlarged.alignments] == pytest.approx([1 / 0.93] * 2, abs=0.003)
    assert [alignment.gamma for alignment in darkened.alignments] == pytest.approx([1 / 0.6] * 2, abs=0.02)


def test_the_ssim_is_that_of_the_change_it_names(brains):
    found = aligned_ssim(brains, brains.roll(1, 0))

    changed = [alignment.apply(image) for alignment, image in zip(found.alignments, brains.roll(1, 0), strict=True)]
    for x, y, ssim in zip(brains, changed, found.ssim, strict=True):
        assert ssim.item() == pytest.approx(ssim_by_scikit_image(x, y), abs=2e-3)


def test_where_nothing_may_be_changed_the_ssim_is_that_of_scikit_image(brains, volume):
    generator = torch.Generator().manual_seed(0)
    for image in (brains[0], volume):
        noisy = image + 0.1 * torch.rand(image.shape, generator=generator)

        found = aligned_ssim(image[None], noisy[None], rotation_degrees=0, shift_pixels=0, zoom=0, gamma=(1, 1))

        assert found.alignments[0].flips == ()
        assert found.ssim.item() == pytest.approx(ssim_by_scikit_image(image, noisy), abs=2e-5)


def test_what_comes_from_outside_of_the_image_is_black():
    texture = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    image = 0.3 + torch.nn.functional.interpolate(texture, size=(96, 80), mode="bicubic")[0].clamp(0, 1)
    image[0, 48, 40] = 0  # its smallest value, without which the frame would be the background
    copy = change(image, (), (9.0,), (3.0, 3.0), 0.96, 1.0)

    found = aligned_ssim(copy[None], image[None])

    assert found.ssim.item() > 0.98
    aligned = found.alignments[0].apply(image)
    assert ssim_by_scikit_image(copy, aligned) == pytest.approx(found.ssim.item(), abs=2e-3)


def test_flips_that_look_second_best_from_afar_are_tried_as_well():
    # Coarse images of this copy correlate best without one of the flips that it went through.
    image = PhantomBrainDataset(6, seed=4711, progress=False)[5]["image"].as_tensor()
    copy = change(image, (0, 1), (-11.9,), (2.6, -2.8), 0.977, 0.5)
    small = [torch.nn.functional.interpolate(full[None], size=(97, 81), mode="area") for full in (copy, image)]

    found = aligned_ssim(*small)

    assert found.ssim.item() > 0.95
    assert found.alignments[0].flips == (0, 1)


def test_of_flips_that_fit_nearly_as_well_the_best_is_found(brains, monkeypatch):
    x, y = brains[7:], brains[6:7]  # two brains, each nearly its own mirror image
    found = aligned_ssim(x, y).ssim.item()
    module = sys.modules[aligned_ssim.__module__]
    align_pair = module.align_pair

    def with_flips(bits):
        def align(reference, x, y, size, search, least, change):
            return align_pair(reference, x, y, size, search._replace(flip_bits=np.array([bits])), least, change)

        monkeypatch.setattr(module, "align_pair", align)
        return aligned_ssim(x, y).ssim.item()

    assert found == pytest.approx(max(with_flips(bits) for bits in (0, 2, 4, 6)), abs=1e-3)


def test_unrelated_brains_stay_unlike_and_never_below_their_plain_ssim(brains):
    found = aligned_ssim(brains, brains.roll(1, 0)).ssim
    plain = pairwise_ssim(standardize(brains), standardize(brains.roll(1, 0))).diagonal()

    assert (found < 0.75).all()
    assert (found >= plain - 1e-3).all()


def test_a_pair_that_cannot_reach_the_least_ssim_is_given_up_and_has_no_number(brains):
    x, y = brains[[0, 0]], torch.stack([brains[0].flip(2), brains[1]])
    found = aligned_ssim(x, y, least_ssim=0.9)
    assert found.stopped.tolist() == [False, True]
    assert found.ssim.isnan().tolist() == [False, True]
    assert found.ssim[0] == aligned_ssim(x[:1], y[:1]).ssim[0]
    assert not aligned_ssim(x, y, least_ssim=torch.tensor([0.9, 0.1])).stopped.any()
    with pytest.raises(ValueError, match="least_ssim"):
        aligned_ssim(x, y, least_ssim=torch.tensor([0.9, 0.9, 0.9]))


def test_a_copy_score_that_is_out_of_reach_is_not_computed_and_the_others_are_the_same(brains):
    x, y = brains[[0, 0, 1]], torch.stack([brains[0].flip(2), brains[1], brains[1]])
    plain, given_up = copy_score(x, y), copy_score(x, y, least_score=0.9)
    assert given_up.stopped.tolist() == [False, True, False]
    for values in (given_up.score, given_up.ssim, given_up.coarse_correlation):
        assert values.isnan().tolist() == [False, True, False]
    assert torch.equal(given_up.score[[0, 2]], plain.score[[0, 2]])
    assert plain.score[1] < 0.9


def test_the_range_and_offset_of_the_intensities_do_not_matter(brains):
    copies = torch.stack([change(image, (1,), (5.0,), (1.0, 2.0), 1.0, 1.2) for image in brains[:3]])

    plain = aligned_ssim(copies, brains[:3]).ssim

    torch.testing.assert_close(aligned_ssim(copies * 90 - 7, brains[:3] * 0.01 + 3).ssim, plain, atol=1e-3, rtol=0)


def test_what_is_the_same_already_is_left_as_it_is(brains):
    found = aligned_ssim(brains, brains)

    assert found.ssim.tolist() == pytest.approx([1] * len(brains), abs=1e-4)
    assert found.ssim.max() <= 1
    assert found.alignments == [Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0)] * len(brains)
    assert str(found.alignments[0]) == "unchanged"


def test_a_batch_gives_what_single_pairs_give(brains):
    whole = aligned_ssim(brains[:4], brains[1:5])

    single = [aligned_ssim(brains[i : i + 1], brains[i + 1 : i + 2]) for i in range(4)]

    assert whole.ssim.tolist() == [one.ssim.item() for one in single]
    assert whole.alignments == [one.alignments[0] for one in single]


@pytest.mark.parametrize("size", [(97, 81), (64, 64), (30, 41)])
def test_odd_and_small_images_are_aligned(brains, size):
    image = torch.nn.functional.interpolate(brains[:1], size=size, mode="area")[0]
    copy = change(image, (0,), (6.0,), (1.0, -1.5), 1.02, 0.8)

    found = aligned_ssim(copy[None], image[None])

    assert found.ssim.item() > 0.98
    assert found.alignments[0].flips == (0,)


def test_volumes_are_aligned_by_flips_and_small_rotations_about_each_axis(volume):
    for case in random_changes(2, 3, seed=5):
        copy = change(volume, *case)

        found = aligned_ssim(copy[None], volume[None])

        assert found.ssim.item() > 0.97
        assert found.alignments[0].flips == case[0]
        assert found.alignments[0].rotation_degrees == pytest.approx(case[1], abs=0.5)
        again = found.alignments[0].apply(volume)
        assert ssim_by_scikit_image(copy, again) == pytest.approx(found.ssim.item(), abs=5e-3)


def test_constant_images_have_no_likeness_and_raise_no_error(brains):
    flat = torch.full_like(brains[:1], 0.3)

    assert aligned_ssim(brains[:1], flat).ssim.item() == 0
    assert aligned_ssim(flat, brains[:1]).ssim.item() == 0
    assert aligned_ssim(flat, flat).ssim.item() == 1


def test_the_words_leave_out_what_cannot_be_seen():
    assert str(Alignment((), (0.1,), (0.1, -0.2), 1.001, 1.01)) == "unchanged"
    assert (
        str(Alignment((1,), (-6.5,), (0.0, 0.0), 0.96, 1.2))
        == "flipped left-right, rotated 6.5° counter-clockwise, shrunk to 96.0 %, gamma 1.20"
    )


def test_the_words_name_each_axis_and_direction():
    assert str(Alignment((0,), (0.0,), (-1.0, 2.0), 1.02, 1.0)) == (
        "flipped top-bottom, shifted 1.0 pixels up and 2.0 pixels right, enlarged to 102.0 %"
    )
    assert str(Alignment((0, 1), (0.0,), (0.0, -3.0), 1.0, 1.0)) == (
        "flipped top-bottom and left-right, shifted 3.0 pixels left"
    )
    assert str(Alignment((2,), (0.0, -3.0, 0.0), (0.0, -1.5, 2.0), 1.0, 0.8)) == (
        "flipped feet-head, rotated -3.0° about the back-front axis, "
        "shifted 1.5 pixels to the back and 2.0 pixels to the head, gamma 0.80"
    )
    assert str(Alignment((), (0.1, -0.1, 0.1), (0.1, 0.1, 0.1), 1.0, 1.0)) == "unchanged"


@pytest.mark.parametrize(
    ("shape", "angles", "shift"),
    [((1, 136, 112), (12.0,), (3.5, -6.0)), ((1, 40, 44, 36), (10.0, -7.0, 4.0), (2.0, -1.5, 3.0))],
)
def test_a_change_is_what_monais_transforms_make_of_it(shape, angles, shift):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    image.flatten()[:2] = torch.tensor([0.0, 1.0])
    axes, zoom, gamma = (0, len(shift) - 1), 0.9, 1.3
    turn = Affine(
        rotate_params=[float(np.deg2rad(angle)) for angle in angles],
        translate_params=[-pixels / zoom for pixels in shift],
        scale_params=[1 / zoom] * len(shift),
        padding_mode="zeros",
        image_only=True,
    )

    changed = Alignment(axes, angles, shift, zoom, gamma).apply(image)

    turned = turn(Flip(axes)(image)).as_tensor()
    # The range of a volume is the one that it had before.
    expected = AdjustContrast(gamma)(turned) if image.ndim == 3 else turned**gamma
    assert torch.allclose(changed, torch.as_tensor(expected), atol=1e-4)


def test_a_gamma_of_a_volume_that_is_brighter_than_what_comes_from_outside_stays_finite():
    volume = 0.1 + 0.5 * torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = Alignment((), (0.0, 0.0, 0.0), (2.0, 0.0, 0.0), 1.0, 1.1).apply(volume)
    assert changed.isfinite().all()
    assert changed.min() >= volume.min() - 1e-6


def test_the_direction_in_words_is_the_one_that_is_seen():
    image = torch.zeros(1, 65, 65)
    image[0, 8:16, 30:35] = 1  # a mark at the top

    turned = Alignment((), (20.0,), (0.0, 0.0), 1.0, 1.0).apply(image)
    moved = Alignment((), (0.0,), (5.0, 0.0), 1.0, 1.0)

    assert (turned[0].sum(0) * torch.arange(65)).sum() / turned.sum() > 34  # clockwise: the top goes right
    assert str(moved) == "shifted 5.0 pixels down"
    assert moved.apply(image)[0, 13:21, 30:35].min() > 0.99  # down by five rows
    aside = Alignment((), (0.0,), (0.0, 5.0), 1.0, 1.0)
    assert str(aside) == "shifted 5.0 pixels right"
    assert aside.apply(image)[0, 8:16, 35:40].min() > 0.99
    assert Alignment((), (0.0,), (0.0, 0.0), 1.2, 1.0).apply(image).sum() > 1.2 * image.sum()  # enlarged


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(2, 1, 32, 32), torch.rand(1, 1, 32, 32), "want pairs of one shape"),
        (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), "want pairs of one shape"),
        (torch.rand(1, 1, 8, 32), torch.rand(1, 1, 8, 32), "at least 16 pixels"),
        (torch.full((1, 1, 32, 32), torch.nan), torch.rand(1, 1, 32, 32), "NaN"),
    ],
)
def test_what_cannot_be_aligned_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        aligned_ssim(x, y)


def test_metadata_of_images_is_left_aside(phantoms, monkeypatch):
    calls = []
    update_meta = MetaTensor.update_meta
    monkeypatch.setattr(MetaTensor, "update_meta", lambda *args: calls.append(1) or update_meta(*args))

    def count(images):
        calls.clear()
        found = aligned_ssim(MetaTensor(images), MetaTensor(images.roll(1, 3)))
        assert type(found.ssim) is torch.Tensor
        return len(calls)

    assert count(phantoms[:4]) == count(phantoms[:1])
