"""On a GPU the comparison on the pixels finds what it finds on the CPU."""

import pytest
import torch

from monai_deepssim.similarity import (
    canonicalize_pose,
    coarse_structure,
    copied_area,
    copy_score,
    extract_local_features,
    pairwise_ssim,
    pose,
    posed_ssim,
    standardize,
)
from monai_deepssim.transforms import RandStructurePreserving, RandWarp

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def pairs(phantoms):
    change = RandStructurePreserving(prob=0.9, shift_pixels=4.0, zoom=0.05).set_random_state(3)
    warp = RandWarp().set_random_state(5)
    copies = torch.stack([warp(change(image)).as_tensor() for image in phantoms])
    return torch.cat([copies, phantoms]), torch.cat([phantoms, phantoms.roll(1, 0)])


def test_copy_scores(pairs):
    expected, found = copy_score(*pairs), copy_score(*(side.cuda() for side in pairs))
    assert found.score.is_cuda
    torch.testing.assert_close(found.ssim.cpu(), expected.ssim, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.score.cpu(), expected.score, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.coarse_correlation.cpu(), expected.coarse_correlation, atol=5e-3, rtol=0)
    areas = [copied_area(pairs[0][0], pairs[1][0], result.alignments[0])[0] for result in (expected, found)]
    on_gpu, _ = copied_area(pairs[0][0].cuda(), pairs[1][0].cuda(), found.alignments[0])
    assert areas[1] == pytest.approx(areas[0], abs=0.01)
    assert on_gpu == pytest.approx(areas[1], abs=0.01)


def test_no_pair_is_given_up(pairs):
    sides = [side.cuda() for side in pairs]
    limited = copy_score(*sides, least_score=0.8)
    assert not limited.stopped.any()
    torch.testing.assert_close(limited.score, copy_score(*sides).score, atol=1e-5, rtol=0)


def test_poses(pairs):
    x, y = (pose(side) for side in pairs)
    on_gpu = [pose(side.cuda()) for side in pairs]
    torch.testing.assert_close(on_gpu[0].cpu(), x, atol=0.02, rtol=0)
    torch.testing.assert_close(posed_ssim(*on_gpu).cpu(), posed_ssim(x, y), atol=2e-3, rtol=0)
    canonical = canonicalize_pose(standardize(pairs[1]).cuda(), (128, 128))
    torch.testing.assert_close(canonical.cpu(), canonicalize_pose(standardize(pairs[1]), (128, 128)), atol=0.02, rtol=0)


def test_coarse_structure(pairs):
    torch.testing.assert_close(coarse_structure(pairs[0].cuda()).cpu(), coarse_structure(pairs[0]), atol=1e-3, rtol=0)


def test_constant_images_have_an_ssim(phantoms):
    images = torch.cat([phantoms[:2], torch.full_like(phantoms[:2], 0.5)])
    torch.testing.assert_close(pairwise_ssim(images.cuda()).cpu(), pairwise_ssim(images), atol=1e-5, rtol=0)


def test_local_features_of_an_image_that_is_there(phantoms):
    on_gpu, expected = extract_local_features(phantoms[0].cuda()), extract_local_features(phantoms[0])
    assert (on_gpu.points == expected.points).all()
