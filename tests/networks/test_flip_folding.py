"""Images folded along their middles."""

import pytest
import torch
from monai.transforms import AdjustContrast

from monai_deepssim.networks import fold_flips
from monai_deepssim.similarity import canonicalize_pose, standardize

FLIPS = [[2], [3], [2, 3]]


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (64, 49)])
def test_a_flip_changes_no_bit_of_a_folded_image(size):
    images = torch.randn(5, 1, *size, generator=torch.Generator().manual_seed(0))
    folded = fold_flips(images)
    assert folded.shape == (5, 7, size[0] // 2, size[1] // 2)
    for axes in FLIPS:
        assert torch.equal(fold_flips(images.flip(axes)), folded)


def test_another_image_folds_to_another_one(phantoms):
    folded = fold_flips(canonicalize_pose(standardize(phantoms), (128, 96))).flatten(1)
    distances = torch.cdist(folded, folded)
    assert distances[~torch.eye(len(folded), dtype=torch.bool)].min() > 0.1 * distances.max()


def test_nothing_but_the_signs_is_lost_where_the_sides_differ():
    """An image with one heavy corner tells its sides, so the quarters come back from the signed channels."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 48), indexing="ij")
    image = (1 + 4 * (1 - rows) * (1 - columns) + rows * (1 - columns))[None, None]
    folded = fold_flips(image)
    a = folded[:, 0] + folded[:, 4] + folded[:, 5] + folded[:, 6]
    torch.testing.assert_close(a, image[:, 0, :32, :24], atol=0.02, rtol=0)
    torch.testing.assert_close(folded[:, 4:].abs(), folded[:, 1:4], atol=0.01, rtol=0)


def test_a_symmetric_image_has_sums_alone():
    image = torch.ones(1, 1, 64, 64)
    image[:, :, 16:48, 16:48] = 3
    folded = fold_flips(image)
    assert torch.equal(folded[:, 1:], torch.zeros(1, 6, 32, 32))
    assert torch.equal(folded[:, :1], image[:, :, :32, :32])


def test_a_change_of_contrast_does_not_turn_a_sign_over(phantoms):
    plain = fold_flips(standardize(phantoms[:8]))
    changed = fold_flips(standardize(torch.stack([AdjustContrast(1.3)(image) for image in phantoms[:8]])))
    assert torch.nn.functional.cosine_similarity(plain.flatten(1), changed.flatten(1)).min() > 0.9


def test_gradients_pass():
    images = torch.randn(1, 1, 64, 64, requires_grad=True)
    fold_flips(images).pow(2).sum().backward()
    assert images.grad.abs().min() > 0


def test_images_of_several_channels_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        fold_flips(torch.zeros(1, 3, 64, 64))
