"""The named changes of the benchmark."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_deepssim.similarity import aligned_ssim
from monai_deepssim.transforms import (
    PART_PERTURBATIONS,
    PARTNER_PERTURBATIONS,
    SUPPORTED_PERTURBATIONS,
    FitImageSize,
    JPEGCompression,
    Perturbation,
    Perturbationd,
    RandCropResize,
    RandWarp,
)


@pytest.fixture(scope="module")
def image(phantoms):
    return phantoms[0]


@pytest.fixture(scope="module")
def partner(phantoms):
    return phantoms[1]


def change(name, image, seed=3, partner=None):
    return Perturbation(name).set_random_state(seed)(image, partner)


@pytest.mark.parametrize("name", SUPPORTED_PERTURBATIONS)
def test_a_perturbation_follows_from_its_seed_and_stays_in_range(name, image, partner):
    before, partner_before = image.clone(), partner.clone()
    changed = change(name, image, partner=partner)
    assert torch.equal(changed, change(name, image, partner=partner))
    assert changed.shape == image.shape
    assert changed.dtype == torch.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(image, before), "the given image was changed"
    assert torch.equal(partner, partner_before), "the partner was changed"
    assert torch.equal(changed, image) == (name == "none")


@pytest.mark.parametrize("name", SUPPORTED_PERTURBATIONS)
@pytest.mark.parametrize("size", [(75, 131), (64, 64)])
def test_an_image_of_any_size_keeps_it(name, size):
    generator = torch.Generator().manual_seed(0)
    image, partner = (torch.rand(1, *size, generator=generator) for _ in range(2))
    assert change(name, image, partner=partner).shape == image.shape


RANDOM = [
    "noise_0.01", "rotation_3", "rotation_any", "intensity", "mix", "quarter_turn", "shift_3", "shift_5_percent",
    "zoom_5", "anisotropic_zoom_10_percent", "crop_5", "warp", "warp_1_percent", "bias_field", "text", "salt",
    "two_at_once", "square_15_percent", "half_replaced", "quarter_pasted",
]  # fmt: skip


@pytest.mark.parametrize("name", RANDOM)
def test_other_seeds_give_other_changes(name, image, partner):
    changed = [change(name, image, seed, partner) for seed in range(12)]
    assert any(not torch.equal(changed[0], other) for other in changed[1:])


def test_noise_has_the_standard_deviation_that_it_is_named_for():
    grey = torch.full((1, 200, 200), 0.5)
    for std in (0.01, 0.02, 0.05):
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


@pytest.mark.parametrize("gamma", ["0.5", "0.67", "1.5", "2"])
def test_gamma_is_the_exponent(gamma, image):
    torch.testing.assert_close(change(f"gamma_{gamma}", image), image ** float(gamma), atol=1e-5, rtol=0)


def test_a_shift_moves_both_axes_by_3_pixels():
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    places = {tuple(change("shift_3", point, seed)[0].nonzero()[0].tolist()) for seed in range(40)}
    assert places == {(12, 12), (12, 18), (18, 12), (18, 18)}


def test_a_zoom_changes_the_size_by_5_percent(image):
    zooms = {round(aligned_ssim(change("zoom_5", image, seed)[None], image[None]).alignments[0].zoom, 2)
             for seed in range(8)}  # fmt: skip
    assert zooms == {0.95, 1.05}


@pytest.mark.parametrize(("name", "kept"), [("crop_5", 0.95), ("crop_10_percent", 0.9), ("crop_20_percent", 0.8)])
def test_a_crop_keeps_a_window_at_any_place(name, kept):
    ramp = torch.linspace(0, 1, 200).view(1, 1, 200).expand(1, 200, 200)
    windows = [change(name, ramp, seed) for seed in range(30)]
    assert all((window.max() - window.min()).item() == pytest.approx(kept, abs=0.01) for window in windows)
    assert min(window.min() for window in windows) < 0.02
    assert max(window.max() for window in windows) > 0.98


@pytest.mark.parametrize(("name", "sigma"), [("blur", 1.0), ("blur_1.5", 1.5), ("blur_2", 2.0), ("blur_3", 3.0)])
def test_a_blur_has_the_standard_deviation_of_its_name_in_pixels(name, sigma, image):
    expected = ndimage.gaussian_filter(image[0].numpy(), sigma, mode="constant")
    assert np.abs(change(name, image)[0].numpy() - expected).max() < 0.02


def test_a_blur_with_noise_is_noisier_than_the_blur_by_its_standard_deviation(image):
    noise = change("blur_2_noise", image * 0.5 + 0.25) - change("blur_2", image * 0.5 + 0.25)
    assert noise[:, 8:-8, 8:-8].std().item() == pytest.approx(0.01, rel=0.05)


def angle_of_bright_point(image):
    row, column = ndimage.center_of_mass(image[0].numpy())
    return np.rad2deg(np.arctan2(row - 50, column - 50))


@pytest.mark.parametrize("degrees", [15, 45])
def test_a_large_rotation_turns_a_point_by_its_degrees(degrees):
    point = torch.zeros(1, 101, 101)
    point[0, 49:52, 79:82] = 1  # to the right of the centre: angle 0
    angles = {round(angle_of_bright_point(change(f"rotation_{degrees}", point, seed))) for seed in range(8)}
    assert angles == {-degrees, degrees}


def test_a_rotation_by_any_angle_reaches_all_quadrants():
    point = torch.zeros(1, 101, 101)
    point[0, 49:52, 79:82] = 1
    angles = [angle_of_bright_point(change("rotation_any", point, seed)) for seed in range(40)]
    assert {int(angle // 90) for angle in angles} == {-2, -1, 0, 1}


def test_turns_and_the_transposition_of_a_square_move_pixels_and_change_none():
    image = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(change("transpose", image), image.transpose(1, 2))
    assert torch.equal(change("half_turn", image), image.flip(1, 2))
    turned = [change("quarter_turn", image, seed) for seed in range(12)]
    numbers = {next(k for k in range(4) if torch.equal(one, image.rot90(k, (1, 2)))) for one in turned}
    assert numbers == {1, 3}


def test_the_transposition_of_a_rectangle_is_scaled_to_fit(image):
    fitted = FitImageSize(tuple(image.shape[1:]))(image.transpose(1, 2))
    torch.testing.assert_close(change("transpose", image), fitted)


@pytest.mark.parametrize("percent", [5, 10])
def test_a_shift_by_percent_is_relative_to_each_side(percent):
    point = torch.zeros(1, 100, 200)
    point[0, 50, 100] = 1
    centres = [ndimage.center_of_mass(change(f"shift_{percent}_percent", point, seed)[0].numpy()) for seed in range(40)]
    shifts = {(round(row - 50, 3), round(column - 100, 3)) for row, column in centres}
    assert shifts == {(row * percent, 2 * column * percent) for row in (-1, 1) for column in (-1, 1)}


def spans(image):
    """Rows and columns of what is brighter than a half."""
    bright = image[0] > 0.5
    return bright.any(1).sum().item(), bright.any(0).sum().item()


@pytest.mark.parametrize("zoom", [0.7, 0.9, 1.1, 1.4])
def test_a_zoom_scales_about_the_centre_of_the_canvas(zoom):
    box = torch.zeros(1, 200, 200)
    box[:, 50:150, 60:140] = 1
    zoomed = change(f"zoom_{zoom}", box)
    assert spans(zoomed) == pytest.approx((100 * zoom, 80 * zoom), abs=1)
    assert ndimage.center_of_mass(zoomed[0].numpy()) == pytest.approx((99.5, 99.5), abs=0.6)


def test_a_border_takes_10_percent_of_the_side_on_each_side():
    framed = change("border_20_percent", torch.ones(1, 100, 200))
    expected = torch.zeros(1, 100, 200)
    expected[:, 10:90, 20:180] = 1
    torch.testing.assert_close(framed.as_tensor(), expected)


def test_an_anisotropic_zoom_changes_one_axis_by_10_percent():
    box = torch.zeros(1, 200, 200)
    box[:, 50:150, 50:150] = 1
    sizes = {spans(change("anisotropic_zoom_10_percent", box, seed)) for seed in range(40)}
    assert sizes == {(110, 100), (100, 110), (91, 100), (100, 91)}


def test_half_the_resolution_cannot_hold_a_checkerboard_and_resampling_keeps_a_smooth_image():
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    checkerboard = ((rows + columns) % 2).float()[None]
    assert change("half_resolution", checkerboard)[:, 4:-4, 4:-4].std() < 0.01
    smooth = (0.5 + 0.4 * torch.sin(columns / 8))[None]
    assert (change("resampled", smooth) - smooth)[:, :, 4:-4].abs().max() < 0.005


def disc():
    rows, columns = torch.meshgrid(torch.arange(100), torch.arange(100), indexing="ij")
    return ((rows - 50) ** 2 + (columns - 50) ** 2 < 40**2).float()[None]


def test_a_bias_field_is_smooth_and_reaches_35_percent_in_both_directions():
    biased = change("bias_field", disc())
    inside = biased[disc() == 1]
    assert biased.max() == pytest.approx(1)
    assert (inside.max() / inside.min()).item() == pytest.approx(1.35 / 0.65, rel=1e-4)
    assert (biased[:, 30:70, 30:70].diff(dim=2)).abs().max() < 0.05
    assert (biased[disc() == 0] == 0).all()


def ramp_on_background():
    """A foreground of 50 columns from 0.3 to 0.8 on a background of 0."""
    image = torch.zeros(1, 100, 100)
    image[:, :, 25:75] = torch.linspace(0.3, 0.8, 50)
    return image


def test_a_window_clips_a_fifth_of_the_foreground_on_each_side():
    foreground = change("window_20_80", ramp_on_background())[:, :, 25:75]
    assert (foreground == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (foreground == 1).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_saturation_clips_the_highest_15_percent_of_the_foreground():
    image = ramp_on_background()
    saturated = change("saturation", image)
    is_clipped = saturated == 1
    assert is_clipped[:, :, 25:75].float().mean().item() == pytest.approx(0.16, abs=0.011)
    factors = (saturated / image)[:, :, 25:75][~is_clipped[:, :, 25:75]]
    torch.testing.assert_close(factors, factors[:1].expand_as(factors))


def test_inversion_and_a_raised_background_follow_their_formulas(image):
    torch.testing.assert_close(change("inverted", image), 1 - image)
    torch.testing.assert_close(change("raised_background", image), 0.15 + 0.85 * image)


def test_sharpening_overshoots_on_both_sides_of_an_edge():
    edge = torch.full((1, 100, 100), 0.3)
    edge[:, :, 50:] = 0.7
    row = change("sharpen", edge)[0, 50, 20:80]
    assert row.max() > 0.8
    assert row.min() < 0.2
    assert row[5] == pytest.approx(0.3, abs=1e-3)


def test_salt_sets_1_percent_of_the_pixels_to_black_or_white():
    salted = change("salt", torch.full((1, 300, 300), 0.5))
    assert (salted == 0).float().mean().item() == pytest.approx(0.005, rel=0.15)
    assert (salted == 1).float().mean().item() == pytest.approx(0.005, rel=0.15)


def test_text_is_in_two_corners_and_about_6_percent_high():
    black = torch.zeros(1, 200, 200)
    corners = set()
    for seed in range(20):
        ink = change("text", black, seed)[0] > 0.5
        in_corner = [
            (rows, columns)
            for rows in ("top", "bottom")
            for columns in ("left", "right")
            if ink[slice(0, 24) if rows == "top" else slice(-24, None),
                   slice(0, 80) if columns == "left" else slice(-80, None)].any()
        ]  # fmt: skip
        assert not ink[24:-24].any()
        assert len(in_corner) == 2
        corners.update(in_corner)
        assert 6 <= ink[:100].any(1).sum() + ink[100:].any(1).sum() <= 26
    assert len(corners) == 4


def test_a_frame_is_a_line_of_2_percent_near_the_edge():
    framed = change("frame", torch.zeros(1, 100, 100))
    expected = torch.zeros(1, 100, 100)
    expected[:, 2:-2, 2:-2] = 1
    expected[:, 4:-4, 4:-4] = 0
    assert torch.equal(framed, expected)


@pytest.mark.parametrize("percent", [1, 2])
@pytest.mark.parametrize("side", [100, 300])
def test_a_relative_warp_displaces_by_a_share_of_the_longer_side(side, percent):
    ramp = torch.linspace(0.2, 0.8, side).view(1, 1, side).expand(1, side, side)
    # Zeros come in from outside, as far as the longest displacements reach.
    margin, spreads = side // 8, []
    for seed in range(20):
        inner = (change(f"warp_{percent}_percent", ramp, seed) - ramp)[:, margin:-margin, margin:-margin]
        spreads.append(inner.square().mean().sqrt().item() * (side - 1) / 0.6)
    assert np.mean(spreads) == pytest.approx(0.01 * percent * side, rel=0.15)


def test_two_changes_at_once_are_two_of_many(image):
    changed = [change("two_at_once", image, seed) for seed in range(30)]
    assert len({one.numpy().tobytes() for one in changed}) >= 28
    assert any(one[0, 0, 0] > 0.9 for one in changed), "none is inverted"
    assert any(one[0, 0, 0] == 0 for one in changed), "all are inverted"


def test_a_square_of_15_percent_of_the_heads_box_is_blacked_out():
    head = torch.zeros(1, 200, 200)
    head[:, 20:180, 50:150] = 1
    for seed in range(10):
        black = (change("square_15_percent", head, seed) == 0)[:, 20:180, 50:150][0]
        rows, columns = black.any(1).sum().item(), black.any(0).sum().item()
        assert rows == columns
        assert black.sum().item() == rows * columns == pytest.approx(0.15 * 160 * 100, rel=0.03)


def test_one_of_the_four_halves_is_replaced_by_the_partners():
    image, partner = torch.ones(1, 60, 80), torch.zeros(1, 60, 80)
    kept = {tuple(map(slice_of, change("half_replaced", image, seed, partner)[0].nonzero().T)) for seed in range(40)}
    assert kept == {((0, 29), (0, 79)), ((30, 59), (0, 79)), ((0, 59), (0, 39)), ((0, 59), (40, 79))}


def slice_of(positions):
    return positions.min().item(), positions.max().item()


def test_a_quarter_of_the_head_is_pasted_off_centre_into_the_partner():
    head, partner = torch.zeros(1, 200, 200), torch.full((1, 200, 200), 0.5)
    head[:, 20:180, 50:150] = 1
    places = set()
    for seed in range(10):
        pasted = change("quarter_pasted", head, seed, partner)[0]
        rows, columns = map(slice_of, (pasted == 1).nonzero().T)
        assert (rows[1] - rows[0] + 1, columns[1] - columns[0] + 1) == (80, 50)
        assert (pasted == 1).sum() == 80 * 50
        assert (pasted == 0.5).sum() == 200 * 200 - 80 * 50
        offsets = abs(np.mean(rows) - 99.5) / 160, abs(np.mean(columns) - 99.5) / 100
        assert max(offsets) > 0.09
        places.add((rows[0], columns[0]))
    assert len(places) > 5


@pytest.mark.parametrize(("name", "share"), [("average_of_two", 0.5), ("blend_30_percent", 0.3)])
def test_a_blend_gives_the_partner_its_share(name, share, image, partner):
    torch.testing.assert_close(change(name, image, partner=partner), (1 - share) * image + share * partner)


@pytest.mark.parametrize("name", PARTNER_PERTURBATIONS)
def test_a_change_by_a_partner_needs_one_of_the_images_shape(name, image):
    with pytest.raises(ValueError, match=f"no partner for '{name}'"):
        change(name, image)
    with pytest.raises(ValueError, match=r"got a partner of shape \(1, 9, 9\)"):
        change(name, image, partner=torch.zeros(1, 9, 9))


def test_the_dictionary_version_takes_the_partner_from_the_item(image, partner):
    item = {"image": image, "partner": partner}
    changed = Perturbationd("image", "average_of_two")(item)
    torch.testing.assert_close(changed["image"], (image + partner) / 2)
    assert torch.equal(changed["partner"], partner)
    assert torch.equal(item["image"], image)


def test_every_change_by_a_partner_leaves_a_part_of_an_image():
    assert set(PARTNER_PERTURBATIONS) < set(PART_PERTURBATIONS) < set(SUPPORTED_PERTURBATIONS)


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
