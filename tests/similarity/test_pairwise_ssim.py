"""Pairwise SSIM against scikit-image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from skimage.metrics import structural_similarity

from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.similarity.pairwise_ssim import _ssim_torch


def smooth_images(count, size, seed=0):
    """Random images with structure: smoothed noise with an empty border, as a skull-stripped brain has."""
    noise = torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed))
    pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
    images = pool(noise, 5, 1, 2)
    images[..., :6] = 0
    return images


def reference(x, y, data_range=None, **options):
    def one(a, b):
        a, b = a.double().numpy(), b.double().numpy()
        return structural_similarity(
            a, b, data_range=a.max() - a.min() if data_range is None else data_range, **options
        )

    return torch.tensor([[one(a[0], b[0]) for b in y] for a in x], dtype=torch.float32)


@pytest.mark.parametrize("size", [(136, 112), (37, 64), (7, 9), (20, 24, 18)])
@pytest.mark.parametrize("data_range", [None, 2.5])
def test_every_entry_equals_scikit_image(size, data_range):
    x, y = standardize(smooth_images(3, size)), standardize(smooth_images(4, size, seed=1))
    torch.testing.assert_close(
        pairwise_ssim(x, y, data_range=data_range), reference(x, y, data_range), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("win_size", [3, 5, 11])
def test_other_windows_and_constants_equal_scikit_image(win_size):
    x = smooth_images(3, (48, 40))
    expected = reference(x, x, win_size=win_size, K1=0.02, K2=0.05)
    torch.testing.assert_close(pairwise_ssim(x, win_size=win_size, k1=0.02, k2=0.05), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (255.0, 0.0), (1.0, 1e4), (4095.0, -1000.0), (1e-6, 0.0)])
def test_the_range_of_the_values_does_not_cost_precision(scale, offset):
    x = smooth_images(3, (64, 64)).double() * scale + offset
    torch.testing.assert_close(pairwise_ssim(x), reference(x, x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_all_floating_types_are_taken_and_the_result_is_float32(dtype):
    x = smooth_images(3, (64, 64)).to(dtype)
    ssim = pairwise_ssim(x)
    assert ssim.dtype == torch.float32
    torch.testing.assert_close(ssim, reference(x, x), atol=1e-4, rtol=0)


def test_real_brain_slices_equal_scikit_image(icbm152_slices):
    x = standardize(icbm152_slices[::12])
    torch.testing.assert_close(pairwise_ssim(x), reference(x, x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(64, 48), (16, 18, 20)])
def test_the_path_of_other_devices_equals_the_compiled_one(size):
    x, y = smooth_images(3, size).double() * 50 + 7, smooth_images(5, size, seed=1).double() * 30
    axes = tuple(range(1, x.ndim))
    offsets = [images.mean(axes) for images in (x, y)]
    centred = [images - images.mean(axes, keepdim=True) for images in (x, y)]
    span = x.amax(axes) - x.amin(axes)
    ssim = _ssim_torch(centred[0], offsets[0], centred[1], offsets[1], (0.01 * span) ** 2, (0.03 * span) ** 2, 7)
    torch.testing.assert_close(ssim, pairwise_ssim(x, y), atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives():
    x = smooth_images(4, (136, 112))
    torch.testing.assert_close(pairwise_ssim(x.cuda()).cpu(), pairwise_ssim(x), atol=1e-5, rtol=0)


def test_one_thread_gives_what_two_give():
    x = smooth_images(9, (48, 48))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = pairwise_ssim(x)
        torch.set_num_threads(1)
        assert torch.equal(pairwise_ssim(x), two)
    finally:
        torch.set_num_threads(threads)


def test_a_constant_image_has_ssim_0_and_two_equal_constants_1():
    image = smooth_images(1, (32, 32))[0]
    x = torch.stack([image, torch.full_like(image, 0.5), torch.full_like(image, 0.5), torch.zeros_like(image)])
    expected = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(pairwise_ssim(x), expected, atol=1e-6, rtol=0)


def test_views_and_no_images_are_fine():
    x = smooth_images(4, (40, 40))
    torch.testing.assert_close(
        pairwise_ssim(x.transpose(2, 3)[::2]), pairwise_ssim(x[::2].transpose(2, 3).contiguous())
    )
    assert pairwise_ssim(x, x[:0]).shape == (4, 0)
    assert pairwise_ssim(x[:0], x).shape == (0, 4)


def test_no_gradient_flows_and_the_input_is_left_alone():
    x = smooth_images(2, (32, 32)).requires_grad_()
    before = x.detach().clone()
    assert not pairwise_ssim(x).requires_grad
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        (torch.rand(2, 32, 32), None, {}, "add the channel axis"),
        (torch.rand(2, 3, 32, 32), None, {}, "add the channel axis"),
        (torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 30), {}, "of one size"),
        (torch.rand(2, 1, 32, 32), None, {"win_size": 6}, "odd number"),
        (torch.rand(2, 1, 5, 32), None, {}, "odd number"),
        (torch.rand(2, 1, 32, 32), None, {"data_range": 0.0}, "positive"),
        (torch.full((2, 1, 32, 32), np.nan), None, {}, r"image \[0, 1\]"),
    ],
)
def test_what_cannot_be_compared_is_an_error_that_says_why(x, y, options, said):
    with pytest.raises(ValueError, match=said):
        pairwise_ssim(x, y, **options)


def test_whole_numbers_are_a_type_error():
    with pytest.raises(TypeError, match="float"):
        pairwise_ssim(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))


def test_standardize_is_the_population_z_score_and_a_constant_gives_zeros():
    x = smooth_images(3, (24, 20)) * 100 + 3
    x[1] = 7
    z = standardize(x)
    values = x[0, 0].double().numpy()
    np.testing.assert_allclose(z[0, 0].numpy(), (values - values.mean()) / values.std(), atol=1e-4)
    assert torch.equal(z[1], torch.zeros_like(z[1]))
    assert torch.isfinite(z).all()
    with pytest.raises(ValueError, match="add the missing axes"):
        standardize(torch.rand(4, 4))
