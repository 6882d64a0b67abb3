"""One pose for all images."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Affine
from skimage.draw import ellipse

from monai_deepssim.similarity import canonicalize_pose, pairwise_ssim, standardize

SIZE = (128, 96)


def change(images, rotation_degrees=0.0, shift_pixels=(0.0, 0.0), zoom=1.0):
    transform = Affine(
        rotate_params=float(np.deg2rad(rotation_degrees)),
        translate_params=shift_pixels,
        scale_params=[1 / zoom] * 2,
        padding_mode="zeros",
        image_only=True,
    )
    return torch.stack([torch.as_tensor(transform(image)) for image in images])


def ssim_of_pairs(x, y):
    return pairwise_ssim(standardize(x), standardize(y)).diagonal()


@pytest.mark.parametrize(
    "pose",
    [
        {"rotation_degrees": 12.0},
        {"rotation_degrees": -12.0},
        {"shift_pixels": (3.0, -2.0)},
        {"zoom": 1.05},
        {"zoom": 0.95},
        {"rotation_degrees": -7.0, "shift_pixels": (-2.0, 2.0), "zoom": 0.97},
    ],
)
@pytest.mark.parametrize("subjects", ["phantoms", "icbm152_slices"])
def test_another_pose_of_a_slice_becomes_the_same_image(pose, subjects, request):
    images = request.getfixturevalue(subjects)[::5]
    moved = standardize(change(images, **pose))
    before = ssim_of_pairs(standardize(images), moved)
    after = ssim_of_pairs(canonicalize_pose(standardize(images), SIZE), canonicalize_pose(moved, SIZE))
    assert after.min() > 0.9
    assert after.mean() > 0.96 > 0.8 > before.mean()


def test_slices_of_the_cerebellum_which_have_no_long_axis_are_turned_too(icbm152_slices):
    images = icbm152_slices[2:8:2]
    turned = standardize(change(images, rotation_degrees=12.0))
    after = ssim_of_pairs(canonicalize_pose(standardize(images), SIZE), canonicalize_pose(turned, SIZE))
    assert after.min() > 0.9


def test_a_mirrored_image_becomes_the_mirrored_canonical_image(phantoms):
    images = standardize(phantoms[:4])
    for axis in (2, 3):
        mirrored = canonicalize_pose(images.flip(axis), SIZE).flip(axis)
        torch.testing.assert_close(mirrored, canonicalize_pose(images, SIZE), atol=1e-3, rtol=0)


def test_a_change_of_contrast_hardly_moves_the_pose(phantoms):
    for gamma in (0.6, 1.5):
        contrast = torch.stack([AdjustContrast(gamma)(image) for image in phantoms[:6]])
        shown = canonicalize_pose(standardize(contrast), SIZE) > 0
        wanted = canonicalize_pose(standardize(phantoms[:6]), SIZE) > -0.2
        # Contours, not intensities: the share of pixels that are on the same side.
        assert (shown == wanted).float().mean() > 0.9


@pytest.mark.parametrize(("lean_degrees", "centre"), [(0.0, (60, 50)), (17.0, (70, 60)), (-25.0, (66, 48))])
def test_an_ellipse_by_scikit_image_comes_to_the_middle_upright_and_at_the_stated_size(lean_degrees, centre):
    image = np.zeros((136, 112), dtype=np.float32)
    image[ellipse(*centre, 40, 25, shape=image.shape, rotation=np.deg2rad(lean_degrees))] = 1
    shown = canonicalize_pose(standardize(torch.from_numpy(image)[None, None]), SIZE)[0, 0] > 0
    positions = shown.nonzero().double() - torch.tensor([63.5, 47.5])
    covariance = torch.cov(positions.T)
    assert positions.mean(0).abs().max() < 0.3
    assert abs(covariance[0, 1]) / covariance[0, 0] < 0.02
    assert covariance[0, 0] / covariance[1, 1] == pytest.approx((40 / 25) ** 2, rel=0.05)
    # The soft outline lies a little outside of the sharp one, so that the shape comes out a little smaller.
    assert covariance.det() ** 0.25 == pytest.approx(0.235 * np.sqrt(128 * 96), rel=0.06)


def test_an_image_without_background_and_an_empty_one_give_finite_images():
    noise = torch.randn(2, 1, 128, 96, generator=torch.Generator().manual_seed(0))
    for images in (noise, torch.zeros(1, 1, 80, 100), torch.eye(64)[None, None]):
        canonical = canonicalize_pose(images, SIZE)
        assert canonical.shape == (len(images), 1, *SIZE)
        assert canonical.isfinite().all()


def test_the_background_stays_what_it_was(phantoms):
    brighter = standardize(phantoms[:2]) + 5
    torch.testing.assert_close(canonicalize_pose(brighter, SIZE), canonicalize_pose(brighter - 5, SIZE) + 5)


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 3, 64, 64), (1, 1, 64, 64, 64)])
def test_another_shape_is_an_error_that_names_it(shape):
    with pytest.raises(ValueError, match="want"):
        canonicalize_pose(torch.zeros(shape), SIZE)
