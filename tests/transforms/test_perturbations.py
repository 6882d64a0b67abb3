"""The named changes of the benchmark."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_deepssim.similarity import aligned_ssim
from monai_deepssim.transforms import SUPPORTED_PERTURBATIONS, JPEGCompression, Perturbation, RandCropResize, RandWarp


@pytest.fixture(scope="module")
def image(phantoms):
    return phantoms[0]


def change(name, image, seed=3):
    return Perturbation(name).set_random_state(seed)(image)


@pytest.mark.parametrize("name", SUPPORTED_PERTURBATIONS)
def test_a_perturbation_follows_from_its_seed_and_stays_in_range(name, image):
    before = image.clone()
    changed = change(name, image)
    assert torch.equal(changed, change(name, image))
    assert changed.shape == image.shape
    assert changed.dtype == torch.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(image, before), "the given image was changed"
    assert torch.equal(changed, image) == (name == "none")


RANDOM = ["noise_0.01", "rotation_3", "intensity", "mix", "shift_3", "zoom_5", "crop_5", "warp"]


@pytest.mark.parametrize("name", RANDOM)
def test_other_seeds_give_other_changes(name, image):
    changed = [change(name, image, seed) for seed in range(12)]
    assert any(not torch.equal(changed[0], other) for other in changed[1:])


def test_noise_has_the_standard_deviation_that_it_is_named_for():
    grey = torch.full((1, 200, 200), 0.5)
    for std in (0.01, 0.02):
        assert change(f"noise_{std}", grey).std().item() == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize("degrees", [3, 5, 10])
def test_a_rotation_is_by_its_degrees_in_either_direction(degrees, image):
    directions = set()
    for seed in range(8):
        angle = aligned_ssim(change(f"rotation_{degrees}", image, seed)[None], image[None]).alignments[0]
        assert abs(angle.rotation_degrees[0]) == pytest.approx(degrees, abs=0.15)
        directions.add(np.sign(angle.rotation_degrees[0]))
    assert directions == {-1, 1}


def test_flips_exchange_left_and_right_or_top_and_bottom(image):
    assert torch.equal(change("flip_horizontal", image), image.flip(2))
    assert torch.equal(change("flip_vertical", image), image.flip(1))


def test_intensity_is_a_factor_from_90_to_110_percent():
    grey = torch.full((1, 8, 8), 0.5)
    factors = [change("intensity", grey, seed).mean().item() / 0.5 for seed in range(50)]
    assert 0.9 <= min(factors) < 0.95
    assert 1.05 < max(factors) <= 1.1


@pytest.mark.parametrize("gamma", [0.5, 1.5])
def test_gamma_is_the_exponent(gamma, image):
    torch.testing.assert_close(change(f"gamma_{gamma}", image), image**gamma, atol=1e-5, rtol=0)


def test_a_shift_moves_both_axes_by_3_pixels():
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    places = {tuple(change("shift_3", point, seed)[0].nonzero()[0].tolist()) for seed in range(40)}
    assert places == {(12, 12), (12, 18), (18, 12), (18, 18)}


def test_a_zoom_changes_the_size_by_5_percent(image):
    zooms = {round(aligned_ssim(change("zoom_5", image, seed)[None], image[None]).alignments[0].zoom, 2)
             for seed in range(8)}  # fmt: skip
    assert zooms == {0.95, 1.05}


def test_a_crop_keeps_a_window_of_95_percent_at_any_place():
    ramp = torch.linspace(0, 1, 200).view(1, 1, 200).expand(1, 200, 200)
    starts = [RandCropResize(0.05).set_random_state(seed)(ramp) for seed in range(30)]
    assert all((one.max() - one.min()).item() == pytest.approx(0.95, abs=0.01) for one in starts)
    assert min(one.min() for one in starts) < 0.01
    assert max(one.max() for one in starts) > 0.99


def test_blur_has_a_standard_deviation_of_1_pixel(image):
    expected = ndimage.gaussian_filter(image[0].numpy(), 1.0, mode="constant")
    assert np.abs(change("blur", image)[0].numpy() - expected).max() < 0.02


def test_a_warp_displaces_each_axis_by_its_standard_deviation():
    warp = RandWarp(displacement_pixels=1.5, scale_pixels=20)
    spreads = []
    for seed in range(20):
        warp.set_random_state(seed)
        # Intensities tell where a pixel came from: along the columns of one ramp, along the rows of the other.
        for axis, side in ((1, 136), (2, 112)):
            shape = (1, side, 1) if axis == 1 else (1, 1, side)
            ramp = torch.arange(side, dtype=torch.float32).view(shape).expand(1, 136, 112)
            warp.set_random_state(seed)
            inner = (warp(ramp) - ramp)[:, 10:-10, 10:-10]
            spreads.append((axis, inner.square().mean().sqrt().item()))
    for axis in (1, 2):
        assert np.mean([spread for of, spread in spreads if of == axis]) == pytest.approx(1.5, rel=0.1)


def test_jpeg_is_lossy_by_its_quality(image):
    losses = [(JPEGCompression(quality)(image) - image).abs().mean() for quality in (10, 50, 95)]
    assert losses[0] > losses[1] > losses[2] > 0
    assert torch.equal(change("jpeg_50", image), JPEGCompression(50)(image))


def test_an_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match="rotation_10, flip_horizontal"):
        Perturbation("rotate")


@pytest.mark.parametrize(
    ("transform", "arguments"),
    [(RandWarp, {"displacement_pixels": 0}), (RandCropResize, {"crop": 1.0}), (JPEGCompression, {"quality": 100})],
)
def test_a_number_out_of_its_range_is_an_error(transform, arguments):
    with pytest.raises(ValueError, match="want"):
        transform(**arguments)
