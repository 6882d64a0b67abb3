"""Graded variants."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms import GradedVariants, GradedVariantsd


def ssim_to_first(images):
    return pairwise_ssim(standardize(torch.stack([image.as_tensor() for image in images])))[0]


def test_each_variant_reaches_its_target_within_a_hundredth(phantoms):
    variants = GradedVariants(num_variants=4).set_random_state(0)
    for image in phantoms[:4]:
        ssim = ssim_to_first(variants(image))
        assert ssim[:2].tolist() == pytest.approx([1, 1], abs=1e-4)
        np.testing.assert_allclose(ssim[2:], variants._targets, atol=0.0101)


def test_the_variants_fill_the_range_evenly(phantoms):
    variants = GradedVariants(num_variants=5).set_random_state(1)
    ssim = torch.cat([ssim_to_first(variants(image))[2:] for image in phantoms])
    counts = torch.histc(ssim, bins=5, min=0.5, max=1.0)
    assert counts.sum() >= 0.95 * len(ssim)
    assert counts.min() >= 9  # of 12 in each fifth


def test_a_range_of_ones_own_is_kept(phantoms):
    variants = GradedVariants(num_variants=3, ssim_range=(0.8, 0.9)).set_random_state(0)
    ssim = ssim_to_first(variants(phantoms[0]))[2:]
    assert ((ssim > 0.785) & (ssim < 0.915)).all()


def test_the_first_is_the_image_and_the_second_an_unchanged_copy(phantoms):
    image, copy, _ = GradedVariants(num_variants=1)(phantoms[0])
    assert torch.equal(image, phantoms[0])
    assert torch.equal(copy, phantoms[0])
    copy.zero_()
    assert torch.equal(image, phantoms[0])


def test_volumes_have_variants_too():
    volume = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 32, 32, 24), 5, 1, 2)[0]
    variants = GradedVariants(num_variants=2).set_random_state(0)(volume)
    ssim = ssim_to_first(variants)
    assert [tuple(variant.shape) for variant in variants] == [(1, 32, 32, 24)] * 4
    assert 0.74 < ssim[2] < 1
    assert 0.49 < ssim[3] < 0.76


def test_a_constant_image_has_only_copies():
    variants = GradedVariants(num_variants=2)(torch.full((1, 40, 40), 0.3))
    assert all(torch.equal(variant.as_tensor(), torch.full((1, 40, 40), 0.3)) for variant in variants)


def test_the_same_seed_gives_the_same_variants_and_metadata_are_kept(phantoms):
    image = MetaTensor(phantoms[0], meta={"filename_or_obj": "patient.png"})
    first = GradedVariants().set_random_state(4)(image)
    second = GradedVariants().set_random_state(4)(image)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[2], first[3])
    assert all(variant.meta["filename_or_obj"] == "patient.png" for variant in first)


def test_a_loader_makes_one_batch_of_the_lists_also_in_a_forked_worker(phantoms):
    pairwise_ssim(standardize(phantoms))  # threads of the parent must not hang the worker
    dataset = Dataset([{"image": image, "patient_id": str(i)} for i, image in enumerate(phantoms[:4])])
    dataset.transform = GradedVariantsd("image", num_variants=2)
    batch = next(iter(DataLoader(dataset, batch_size=4, num_workers=1)))
    assert batch["image"].shape == (16, 1, 136, 112)
    assert batch["patient_id"] == [str(i) for i in range(4) for _ in range(4)]


@pytest.mark.parametrize("wrong", [{"num_variants": -1}, {"ssim_range": (0.9, 0.5)}, {"scale_pixels": (1, 5)}])
def test_values_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match="want"):
        GradedVariants(**wrong)


def test_a_colour_image_is_an_error():
    with pytest.raises(ValueError, match=r"\(1, H, W\)"):
        GradedVariants()(torch.rand(3, 32, 32))
