"""Aligned SSIM of volumes: what was done to a copy is undone, told in words, and costs no more where slices are few."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Affine
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from skimage.metrics import structural_similarity
from torch.nn.functional import interpolate

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import (
    Alignment,
    aligned_ssim,
    copied_area,
    copy_score,
    deform_onto,
    match_coarsely,
    shrink_volumes,
    standardize,
)


def draw_volume(seed, size=(36, 40, 32), radii=(0.72, 0.86, 0.62)):
    """An ellipsoid full of structure that is no one else's."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in size], indexing="ij"))
    inside = ((grid / np.array(radii)[:, None, None, None]) ** 2).sum(0) < 1
    structure = gaussian_filter(random.standard_normal(size), 1.6)
    structure = np.clip(0.5 + 0.3 * structure / structure.std(), 0, 1)
    return torch.from_numpy((structure * inside).astype(np.float32))[None]


def ssim_by_scikit_image(x, y):
    x, y = standardize(x[None])[0, 0].numpy(), standardize(y[None])[0, 0].numpy()
    return structural_similarity(x, y, data_range=x.max() - x.min())


@pytest.fixture(scope="module")
def volume():
    return draw_volume(0)


@pytest.fixture(scope="module")
def cube():
    return draw_volume(1, (32, 32, 32))


def rotate(volume, axis, degrees):
    angles = [0.0, 0.0, 0.0]
    angles[axis] = float(np.deg2rad(degrees))
    return Affine(rotate_params=angles, padding_mode="zeros", image_only=True)(volume).as_tensor()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rotation_about_any_axis_is_found_and_named(volume, axis):
    copy = rotate(volume, axis, -14.0)

    found = aligned_ssim(copy[None], volume[None])

    name = ("left-right", "back-front", "feet-head")[axis]
    assert found.ssim.item() > 0.98
    assert str(found.alignments[0]) == f"rotated -14.0° about the {name} axis"


@pytest.mark.parametrize("gamma", [0.4, 2.5])
def test_strong_gammas_are_found(volume, gamma):
    found = aligned_ssim(AdjustContrast(gamma)(volume).as_tensor()[None], volume[None])

    assert found.ssim.item() > 0.98
    assert found.alignments[0].gamma == pytest.approx(gamma, rel=0.03)


def test_a_cropped_and_enlarged_copy_is_found(volume):
    cropped = volume[0, :, 4:, :].numpy()  # a tenth of the field of view, then fitted to the box again
    enlarged = zoom(cropped, np.array(volume.shape[1:]) / cropped.shape, order=1, grid_mode=True, mode="nearest")
    other_axis = zoom(volume[0].numpy(), 1.14, order=1)
    first = (np.array(other_axis.shape) - volume.shape[1:]) // 2
    inner = other_axis[tuple(slice(f, f + side) for f, side in zip(first, volume.shape[1:], strict=True))]

    copies = torch.stack([torch.from_numpy(copy.astype(np.float32))[None] for copy in (enlarged, inner)])

    assert aligned_ssim(copies, torch.stack([volume, volume])).ssim.min() > 0.93


def test_a_head_that_was_cropped_is_not_taken_for_one_whose_axes_were_exchanged():
    # From afar, other orders of the axes fit this one better, once they are stretched to its outline.
    head = PhantomBrainDataset(2, 5102, (64, 64, 64), volume=True, progress=False)[1]["image"].as_tensor()
    cropped = interpolate(head[None, :, :58, 1:59, 6:], size=(64, 64, 64), mode="trilinear")
    copy, training = (interpolate(volume, size=(32, 32, 32), mode="area") for volume in (cropped, head[None]))

    assert aligned_ssim(copy, training).ssim.item() > 0.95


@pytest.mark.parametrize(("order", "flips"), [((1, 0, 2), ()), ((2, 0, 1), (1,)), ((2, 1, 0), (0, 2))])
def test_a_volume_saved_without_its_orientation_is_found(cube, order, flips):
    copy = cube.permute(0, *(axis + 1 for axis in order)).flip([axis + 1 for axis in flips])

    found = aligned_ssim(copy[None], cube[None])

    assert found.ssim.item() == pytest.approx(1, abs=1e-4)
    assert found.alignments[0].axes == order
    assert found.alignments[0].flips == flips
    torch.testing.assert_close(found.alignments[0].apply(cube), copy, atol=2e-3, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_stack_whose_header_forgot_the_dropped_slices_is_found(cube, axis):
    kept = torch.index_select(cube, axis + 1, torch.arange(0, 32, 2))
    padding = [0] * 6
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 8
    squeezed = torch.nn.functional.pad(kept, padding)

    found = aligned_ssim(squeezed[None], cube[None])
    of_stretched = aligned_ssim(cube[None], squeezed[None])

    assert found.ssim.item() > 0.95
    assert "squeezed to 50 %" in str(found.alignments[0])
    assert of_stretched.ssim.item() > 0.6
    assert of_stretched.alignments[0].stretches[axis] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("size", [(48, 48, 16), (16, 40, 33)])
def test_a_thin_stack_is_aligned(size):
    volume = draw_volume(3, size, (0.8, 0.9, 1.3))
    copy = Affine(
        rotate_params=[0.0, 0.0, 0.15], translate_params=[2.0, -1.5, 1.0], padding_mode="zeros", image_only=True
    )(volume).as_tensor()

    found = aligned_ssim(copy.flip(1)[None], volume[None])

    assert found.ssim.item() > 0.95
    assert found.alignments[0].flips == (0,)


def test_the_ssim_is_scikit_images_of_what_the_alignment_makes():
    x = torch.stack([draw_volume(seed) for seed in (4, 5, 6)])
    y = torch.stack([x[1], rotate(x[1], 0, 9.0).flip(3), AdjustContrast(1.7)(rotate(x[2], 1, -6.0)).as_tensor()])

    found = aligned_ssim(x, y)

    for first, second, alignment, ssim in zip(x, y, found.alignments, found.ssim, strict=True):
        assert ssim.item() == pytest.approx(ssim_by_scikit_image(first, alignment.apply(second)), abs=1e-4)
    assert found.ssim[0] < 0.65 < 0.9 < found.ssim[1:].min()


def test_what_lies_at_the_border_is_read_as_the_alignment_reads_it():
    full = torch.stack([draw_volume(seed, (24, 28, 17), radii=(3, 3, 3)) for seed in (7, 8)])
    copies = torch.stack([rotate(full[0], 1, 7.0), full[1].roll((2, -1, 1), (1, 2, 3))])

    found = aligned_ssim(torch.cat([copies, full]), torch.cat([full, full.flip(0)]))

    pairs = zip(torch.cat([copies, full]), torch.cat([full, full.flip(0)]), found.alignments, found.ssim, strict=True)
    for first, second, alignment, ssim in pairs:
        assert ssim.item() == pytest.approx(ssim_by_scikit_image(first, alignment.apply(second)), abs=1e-4)
    assert found.ssim[:2].min() > 0.6 > found.ssim[2:].max()


def test_the_words_say_which_axes_were_exchanged_and_stretched():
    still = (0.0, 0.0, 0.0)
    exchanged = Alignment((2,), still, still, 1.0, 1.0, axes=(1, 0, 2))
    assert str(exchanged) == (
        "axes exchanged: back-front becomes left-right, left-right becomes back-front, flipped feet-head"
    )
    stretched = Alignment((), still, (0.0, 1.0, -2.0), 0.9, 1.0, stretches=(1.0, 0.5, 1.2))
    assert str(stretched) == (
        "shifted 1.0 pixels to the front and 2.0 pixels to the feet, shrunk to 90.0 %, squeezed to 50 % back-front, "
        "stretched to 120 % feet-head"
    )


def test_other_volumes_stay_unlike(volume):
    others = torch.stack([draw_volume(seed) for seed in (10, 11, 12)])

    scores = copy_score(others, volume.expand_as(others))

    assert scores.score.max() < 0.6
    assert scores.coarse_correlation.max() < 0.4


def test_threads_and_batches_do_not_change_a_result(volume):
    others = torch.stack([volume.flip(1), draw_volume(20), rotate(volume, 2, 5.0)])

    whole = aligned_ssim(others, volume.expand_as(others), deformation_cost=0.1)
    single = [aligned_ssim(other[None], volume[None], deformation_cost=0.1) for other in others]

    assert whole.ssim.tolist() == [one.ssim.item() for one in single]
    assert whole.alignments == [one.alignments[0] for one in single]


def test_a_bent_copy_is_bent_back(volume):
    indices = np.indices(volume.shape[1:]).astype(float)
    indices[2] += 2 * np.sin(indices[1] / 6)
    bent = torch.from_numpy(map_coordinates(volume[0].numpy(), indices, order=1).astype(np.float32))[None]

    stiff = aligned_ssim(bent[None], volume[None])
    soft = aligned_ssim(bent[None], volume[None], deformation_cost=0.0)

    assert soft.ssim.item() > 0.9 > stiff.ssim.item() + 0.05
    alignment = soft.alignments[0]
    assert 0.5 < alignment.deformation_pixels < 3
    deformed = deform_onto(bent[None], alignment.apply(volume)[None])
    assert soft.ssim.item() == pytest.approx(ssim_by_scikit_image(bent, deformed[0]), abs=1e-3)


def test_what_is_cheap_ranks_the_source_first():
    volumes = torch.stack([draw_volume(seed, (32, 32, 32)) for seed in range(30, 38)])
    small = shrink_volumes(volumes)

    for row in (0, 3, 6):
        copy = rotate(volumes[row], row // 3, 10.0).flip(2).permute(0, 3, 1, 2)
        assert int(match_coarsely(shrink_volumes(copy[None])[0], small).argmax()) == row


def test_the_area_that_was_copied_is_found_in_a_volume():
    volume, half = (draw_volume(seed, radii=(3, 3, 3)) for seed in (40, 41))  # structure everywhere
    half[:, :18] = volume[:, :18]

    share, mask = copied_area(half, volume, Alignment((), (0.0,) * 3, (0.0,) * 3, 1.0, 1.0))

    assert mask.shape == (36, 40, 32)
    assert 0.4 < share < 0.8
    assert mask[:14].sum() > 5 * mask[22:].sum()
