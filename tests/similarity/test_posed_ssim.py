"""SSIM in one pose."""

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Affine

from monai_deepssim.similarity import pairwise_ssim, pose, posed_ssim, standardize


def change(images, rotation_degrees, shift_pixels, gamma):
    moved = Affine(
        rotate_params=float(np.deg2rad(rotation_degrees)),
        translate_params=shift_pixels,
        padding_mode="zeros",
        image_only=True,
    )
    return torch.stack([torch.as_tensor(AdjustContrast(gamma)(moved(image))) for image in images])


@pytest.mark.parametrize("subjects", ["phantoms", "icbm152_slices"])
def test_the_source_of_a_changed_copy_is_the_nearest(subjects, request):
    images = request.getfixturevalue(subjects)[:48:4]  # above, there is no brain
    copies = change(images, 9.0, (3.0, -2.0), 1.2).flip(2)
    ssim = posed_ssim(pose(copies), pose(images))
    assert ssim.shape == (len(images), len(images))
    assert ssim.argmax(1).tolist() == list(range(len(images)))
    assert ssim.diagonal().min() > 0.75
    plain = pairwise_ssim(standardize(copies), standardize(images))
    assert plain.diagonal().mean() < 0.6


def test_it_is_the_highest_ssim_over_the_flips(phantoms):
    x, y = pose(phantoms[:3]), pose(phantoms[3:7])
    ssim = posed_ssim(x, y)
    of_flips = torch.stack([pairwise_ssim(x.flip(axes), y) for axes in ([], [2], [3], [2, 3])])
    torch.testing.assert_close(ssim, of_flips.amax(0))
    for axes in ([2], [3], [2, 3]):
        torch.testing.assert_close(posed_ssim(x.flip(axes), y), ssim)


def test_a_constant_image_is_like_none(phantoms):
    ssim = posed_ssim(pose(torch.full((1, 1, 136, 112), 0.5)), pose(phantoms))
    assert ssim.isfinite().all()
    assert ssim.max() < 0.1
