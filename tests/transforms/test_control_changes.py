"""The graded changes that the copies go through which an audit plants."""

import pandas as pd
import pytest
import torch
from scipy import ndimage

from monai_deepssim.calibration import MILD_CHANGES, MILD_VOLUME_CHANGES, compute_detection_curve
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import CONTROL_CHANGES, VOLUME_CONTROL_CHANGES, FitImageSize

NAMES = [change.name for change in CONTROL_CHANGES]
COMPARED = (136, 112)


def change(name, image, partner=None, seed=5, image_size=COMPARED):
    chosen = next(change for change in CONTROL_CHANGES if change.name == name)
    return chosen.apply(image, partner, seed=seed, image_size=image_size)


VOLUME_NAMES = [change.name for change in VOLUME_CONTROL_CHANGES]
BOX = (32, 32, 32)


@pytest.fixture(scope="module")
def heads():
    cohort = PhantomBrainDataset(2, 8, (32, 36, 30), volume=True, skull_fraction=0.0, progress=False)
    return [item["image"].as_tensor() for item in cohort]


def volume_change(name, volume, partner=None, seed=5, image_size=(36, 36, 36)):
    chosen = next(change for change in VOLUME_CONTROL_CHANGES if change.name == name)
    return chosen.apply(volume, partner, seed=seed, image_size=image_size)


def enlarged(image, factor):
    return torch.nn.functional.interpolate(image[None], scale_factor=factor, mode="bilinear")[0]


def test_there_are_all_the_changes_that_copies_go_through_and_no_two_of_a_name():
    assert len(set(NAMES)) == len(NAMES) <= 21
    assert {change.change for change in CONTROL_CHANGES} == {
        "none", "blur", "noise", "gamma", "rotation", "shift", "zoom", "crop", "warp", "bias_field", "mix",
        "half_resolution",
    }  # fmt: skip
    assert {"blur_1", "blur_2", "blur_3", "noise_0.05", "rotation_15", "mix_0.5"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_follows_from_its_seed_keeps_the_size_and_stays_in_range(name, phantoms):
    image, partner = phantoms[0], phantoms[1]
    before = image.clone()
    changed = change(name, image, partner)
    assert torch.equal(changed, change(name, image, partner))
    assert (changed.shape, changed.dtype, type(changed)) == (image.shape, torch.float32, torch.Tensor)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(changed, image) == (name == "none")
    assert torch.equal(image, before)


@pytest.mark.parametrize("pixels", [1, 2, 3])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_blur_is_of_pixels_of_the_size_at_which_images_are_compared(pixels, factor, phantoms):
    large = enlarged(phantoms[0], factor)
    changed = change(f"blur_{pixels}", large)
    expected = ndimage.gaussian_filter(large[0].numpy(), sigma=pixels * factor, mode="constant")
    assert changed[0].numpy() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("std", [0.02, 0.05])
@pytest.mark.parametrize("factor", [1, 4])
def test_noise_is_not_averaged_out_where_a_large_image_is_made_smaller(std, factor):
    grey = torch.full((1, 136 * factor, 112 * factor), 0.5)
    noisy = FitImageSize(COMPARED)(change(f"noise_{std}", grey))
    assert noisy.std().item() == pytest.approx(std, rel=0.05)


def test_half_the_resolution_is_half_of_that_at_which_images_are_compared(phantoms):
    large = enlarged(phantoms[0], 4)
    smaller = torch.nn.functional.interpolate(large[None], (68, 56), mode="bilinear", antialias=True)
    expected = torch.nn.functional.interpolate(smaller, large.shape[1:], mode="bilinear")[0]
    assert torch.allclose(change("half_resolution", large), expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_a_mixture_shows_the_other_image_at_the_size_of_the_first(share, phantoms):
    partner = enlarged(phantoms[1], 2)
    changed = change(f"mix_{share}", phantoms[0], partner)
    assert torch.allclose(changed, (1 - share) * phantoms[0] + share * FitImageSize(COMPARED)(partner), atol=1e-6)


def test_a_mixture_needs_an_image_of_another_patient(phantoms):
    with pytest.raises(ValueError, match=r"got no partner for mix_0\.5, want an image of another patient"):
        change("mix_0.5", phantoms[0])


def test_the_detection_curve_has_words_for_every_change():
    rows = [
        {"change": change.change, "level": change.level, "unit": change.unit, "found": True, "patient_id": ""}
        for change in CONTROL_CHANGES
    ]
    curve = compute_detection_curve(pd.DataFrame(rows), reference="blur_2")
    assert [point.name for point in curve.points] == NAMES
    assert not [sentence for sentence in curve.sentences if "under the change" in sentence]


def test_volumes_go_through_every_mild_change_and_through_those_of_their_own():
    assert len(set(VOLUME_NAMES)) == len(VOLUME_NAMES) <= 21
    assert set(VOLUME_NAMES) >= MILD_VOLUME_CHANGES
    # Rotation and shift are others, and an autoencoder is planted by itself.
    assert MILD_CHANGES - set(VOLUME_NAMES) == {"rotation_5", "shift_10", "autoencoder"}
    assert set(VOLUME_NAMES) - MILD_CHANGES - MILD_VOLUME_CHANGES == {"blur_2"}


@pytest.mark.parametrize("name", VOLUME_NAMES)
def test_a_change_of_a_volume_follows_from_its_seed_and_keeps_its_size(name, heads):
    volume, partner = heads
    changed = volume_change(name, volume, partner)
    assert torch.equal(changed, volume_change(name, volume, partner))
    assert (changed.shape, changed.dtype, type(changed)) == (volume.shape, torch.float32, torch.Tensor)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(changed, volume) == (name == "none")


@pytest.mark.parametrize(("axis", "letter"), [(1, "x"), (2, "y"), (3, "z")])
def test_flips_and_rotations_of_a_volume_are_about_their_axis(axis, letter, heads):
    assert torch.equal(volume_change(f"flip_{letter}", heads[0]), heads[0].flip(axis))
    turned = volume_change(f"rotation_{letter}_10", heads[0])[0].numpy()
    plane = tuple(other - 1 for other in (1, 2, 3) if other != axis)
    expected = [
        ndimage.rotate(heads[0][0].numpy(), angle, plane, reshape=False, order=1, mode="constant")
        for angle in (-10, 10)
    ]
    assert min(abs(turned - one).mean() for one in expected) < 0.002
    assert max(abs(turned - one).mean() for one in expected) > 0.02


def test_every_second_slice_is_dropped_and_made_from_its_neighbours(heads):
    ramp = torch.linspace(0, 1, 32).view(1, 32, 1, 1).expand(1, 32, 32, 32)
    noise = torch.rand(1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    thinned = volume_change("slices_2", noise)
    # Linear between the slices that are left, along one axis: second differences vanish inside every other pair.
    bends = [thinned.diff(n=2, dim=axis).abs().flatten(2).mean() for axis in (1, 2, 3)]
    assert sorted(bends)[0] < 0.6 * sorted(bends)[1]
    assert (volume_change("slices_2", ramp) - ramp).abs().max() < 0.05


def test_a_large_volume_is_changed_at_the_size_at_which_volumes_are_compared(heads):
    large = enlarged_volume(heads[0], 2)
    blurred = volume_change("blur_1", large, image_size=BOX)
    assert max(blurred.shape[1:]) == 32
    expected = ndimage.gaussian_filter(FitImageSize(BOX)(large)[0].numpy(), 1.0, mode="constant")
    assert FitImageSize(BOX)(blurred)[0].numpy() == pytest.approx(expected, abs=0.02)


def enlarged_volume(volume, factor):
    return torch.nn.functional.interpolate(volume[None], scale_factor=factor, mode="trilinear")[0]


def test_the_detection_curve_has_words_for_every_change_of_a_volume():
    rows = [
        {"change": change.change, "level": change.level, "unit": change.unit, "found": True, "patient_id": ""}
        for change in VOLUME_CONTROL_CHANGES
    ]
    curve = compute_detection_curve(pd.DataFrame(rows), reference="blur_2")
    assert [point.name for point in curve.points] == VOLUME_NAMES
    assert not [sentence for sentence in curve.sentences if "under the change" in sentence]
    assert "A copy with one slice in 2 kept would" in " ".join(curve.sentences)
