"""In a Compose that MONAI inverts, no transform of ours leaves a step in the trace that is taken for another."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from monai_deepssim.transforms import (
    SUPPORTED_PERTURBATIONS,
    FitImageSized,
    GradedVariantsd,
    Perturbationd,
    RandStructurePreservingd,
)


@pytest.fixture
def image():
    return torch.rand(1, 48, 40, generator=torch.Generator().manual_seed(0))


def inverted(transform, image):
    """What Invertd makes of an image that was flipped and then changed."""
    forward = Compose([Flipd("image", spatial_axis=0), transform])
    changed = forward({"image": image})
    changed = changed if isinstance(changed, dict) else changed[-1]
    assert len(changed["image"].applied_operations) == 1  # the flip's
    changed["pred"] = changed["image"].clone()
    return changed["image"], Invertd("pred", forward, orig_keys="image", nearest_interp=False)(changed)["pred"]


@pytest.mark.parametrize(
    "transform",
    [
        RandStructurePreservingd("image", prob=1.0, shift_pixels=3.0, zoom=0.1),
        GradedVariantsd("image", num_variants=1),
        FitImageSized("image", (60, 64)),
        FitImageSized("image", (24, 40)),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_what_came_before_is_inverted_and_the_change_is_not(transform, image):
    changed, pred = inverted(transform, image)
    assert torch.equal(pred.as_tensor(), changed.as_tensor().flip(1))


@pytest.mark.parametrize("name", SUPPORTED_PERTURBATIONS)
def test_no_perturbation_leaves_a_trace(name, image):
    item = {"image": MetaTensor(image), "partner": MetaTensor(image.flip(1))}
    changed = Perturbationd("image", name).set_random_state(0)(item)["image"]
    assert not changed.applied_operations
    flipped = Flipd("image", spatial_axis=1)(item)
    assert len(Perturbationd("image", name).set_random_state(0)(flipped)["image"].applied_operations) == 1
    assert len(flipped["image"].applied_operations) == 1


def test_the_affine_follows_a_flip_although_the_trace_does_not(image):
    image = MetaTensor(image, affine=torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0])))
    flip = RandStructurePreservingd("image", prob=0.0, flip_prob=1.0)
    changed = flip({"image": image})["image"]
    # The first pixel is where the last one was.
    corner = torch.tensor([47.0, 39.0, 0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(changed.affine.double()[:, 3], image.affine.double() @ corner)
