"""On a GPU images are changed as on the CPU, and stay there."""

import pytest
import torch

from monai_deepssim.transforms import (
    PARTNER_PERTURBATIONS,
    SUPPORTED_PERTURBATIONS,
    FitImageSize,
    GradedVariants,
    JPEGCompression,
    Perturbation,
    RandCropResize,
    RandStructurePreserving,
    RandWarp,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CHANGES = {
    "fit": lambda: FitImageSize((96, 100)),
    "jpeg": lambda: JPEGCompression(40),
    "crop": lambda: RandCropResize().set_random_state(0),
    "warp": lambda: RandWarp().set_random_state(0),
    "structure": lambda: RandStructurePreserving(prob=1.0, shift_pixels=3.0, zoom=0.05).set_random_state(0),
}
# Of a compressed image whole grey levels move where one was rounded the other way.
SAME = {"jpeg": 0.03, "jpeg_30": 0.05, "jpeg_50": 0.05}


def assert_same(change, image, name, *partners):
    expected = change()(image, *partners)
    found = change()(image.cuda(), *(partner.cuda() for partner in partners))
    assert found.is_cuda
    torch.testing.assert_close(
        torch.as_tensor(found).cpu(), torch.as_tensor(expected), atol=SAME.get(name, 2e-3), rtol=0, check_dtype=False
    )


@pytest.mark.parametrize("name", CHANGES)
def test_each_transform(phantoms, name):
    assert_same(CHANGES[name], phantoms[0], name)


@pytest.mark.parametrize("name", SUPPORTED_PERTURBATIONS)
def test_each_perturbation(phantoms, name):
    partners = phantoms[1:2] if name in PARTNER_PERTURBATIONS else ()
    assert_same(lambda: Perturbation(name).set_random_state(7), phantoms[0], name, *partners)


def test_graded_variants(phantoms):
    change = GradedVariants(ssim_range=(0.4, 1.0))
    expected = change.set_random_state(3)(phantoms[0])
    found = change.set_random_state(3)(phantoms[0].cuda())
    assert all(variant.is_cuda for variant in found)
    torch.testing.assert_close(torch.stack(found).cpu(), torch.stack(expected), atol=0.02, rtol=0)
