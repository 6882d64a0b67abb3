"""The chest cohort, random shapes, and cohorts by organ."""

import numpy as np
import pytest
import torch

from monai_deepssim.data import (
    PHANTOM_ORGANS,
    GenerateChestd,
    PhantomChestDataset,
    PhantomShapesDataset,
    make_phantom_cohort,
)
from monai_deepssim.data.phantom_chest_anatomy import ray_lengths
from monai_deepssim.data.phantom_chest_form import draw_chest
from monai_deepssim.data.phantom_tubes import Tubes
from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms import RandStructurePreservingd


def cohort(num_subjects, seed, kind=PhantomChestDataset, **options):
    return kind(num_subjects=num_subjects, seed=seed, progress=False, **options)


def stack(dataset):
    return torch.stack([item["image"].as_tensor() for item in dataset])


@pytest.fixture(scope="module")
def lengths():
    """Ray lengths of twelve chests, 2 mm a pixel: y from -60 to 400 mm, x from -180 to 180."""
    y, x = np.mgrid[-60:400:230j, -180:180:180j]
    chests = [draw_chest(np.random.default_rng(seed)) for seed in range(12)]
    return chests, [ray_lengths(chest, x, y) for chest in chests]


@pytest.mark.parametrize("organ", PHANTOM_ORGANS)
def test_an_item_of_each_organ_is_an_image_in_the_packages_form(organ):
    item = make_phantom_cohort(organ, num_subjects=2, seed=3, image_size=(72, 64), progress=False)[1]
    assert item["image"].shape == (1, 72, 64)
    assert item["image"].dtype == torch.float32
    assert (item["image"].min(), item["image"].max()) == (0, 1)
    assert item["patient_id"].endswith("-3-1")
    assert item["path"].startswith(item["patient_id"])


def test_an_organ_that_no_cohort_has_is_an_error_with_the_names():
    with pytest.raises(ValueError, match="got organ='knee', want one of brain, chest, shapes"):
        make_phantom_cohort("knee", num_subjects=2, seed=3)


@pytest.mark.parametrize("kind", [PhantomChestDataset, PhantomShapesDataset])
def test_a_subject_follows_from_seed_and_number_alone(kind):
    two, four, other = (
        stack(cohort(number, seed, kind, image_size=(64, 64))) for number, seed in ((2, 5), (4, 5), (2, 6))
    )
    assert torch.equal(two, four[:2])
    assert not torch.equal(two, other)
    assert torch.equal(four, stack(cohort(4, 5, kind, image_size=(64, 64), cache_rate=0.0)))


def test_subjects_differ_as_people_do():
    # Chest X-rays of different patients are alike in their large structures and not in the rest.
    ssim = pairwise_ssim(standardize(stack(cohort(30, seed=8))))
    between = ssim[~torch.eye(30, dtype=torch.bool)]
    assert 0.1 < between.median() < 0.5
    assert between.max() < 0.8


def test_the_lungs_are_dark_the_spine_is_bright_and_the_heart_lies_to_the_patients_left(lengths):
    for chest, tissues in zip(*lengths, strict=True):
        lung = tissues["lung"]
        rows = slice(int((60 + 0.35 * chest.lung_height) / 2), int((60 + 0.6 * chest.lung_height) / 2))
        right, middle, left = lung[rows, 30:70], lung[rows, 85:95], lung[rows, 110:150]
        assert middle.mean() < 0.75 * right.mean()
        assert left.mean() < 1.2 * right.mean()
        assert tissues["bone"][rows, 75:105].max(1).mean() > 5
        assert lung[int((160 + chest.lung_height) / 2) :, 60:120].max() < 0.1 * lung.max()  # the abdomen
        assert lung[:25].max() == 0  # above the apex
    low = [tissues["lung"][int((60 + 0.8 * chest.lung_height) / 2)] for chest, tissues in zip(*lengths, strict=True)]
    assert np.mean([row[100:120].mean() for row in low]) < np.mean([row[60:80].mean() for row in low])


def test_tissues_never_overlap_and_add_up_to_a_body(lengths):
    for _, tissues in zip(*lengths, strict=True):
        assert all((length >= 0).all() for length in tissues.values())
        assert 120 < (tissues["soft"] + tissues["lung"]).max() < 480


def test_a_tube_has_the_volume_of_a_cylinder_and_marrow_makes_it_lighter():
    y, x = np.mgrid[0.0:40:0.5, 0.0:40:0.5]
    solid, bone = Tubes(x, y), Tubes(x, y)
    line = np.stack([np.linspace(10, 30, 41), np.linspace(12, 27, 41)], -1)
    solid.add(line, 4.0)
    bone.add(line, 4.0, hollow=0.8)
    volume = np.pi * 4**2 * 25
    assert solid.thickness.sum() * 0.5**2 == pytest.approx(volume, rel=1e-3)
    assert bone.thickness.sum() * 0.5**2 == pytest.approx((1 - 0.75 * 0.8**2) * volume, rel=0.05)


def test_a_tube_along_the_beam_is_a_bright_spot():
    y, x = np.mgrid[0.0:40, 0.0:40]
    across, along = Tubes(x, y), Tubes(x, y)
    steps = np.linspace(-10, 10, 41)
    across.add(np.stack([20 + steps, 20 + 0 * steps, 0 * steps], -1), 3.0)
    along.add(np.stack([20 + 0.1 * steps, 20 + 0 * steps, steps], -1), 3.0)
    assert along.thickness.max() > 2 * across.thickness.max()


def test_a_transform_of_the_user_comes_after_and_is_drawn_anew():
    dataset = cohort(1, seed=0, image_size=(64, 64), transform=RandStructurePreservingd("image", prob=0.9))
    assert not torch.equal(dataset[0]["image"], dataset[0]["image"])


@pytest.mark.parametrize("wrong", [{"num_subjects": 0}, {"seed": -1}])
def test_values_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match="want"):
        PhantomChestDataset(**{"num_subjects": 1, "seed": 0, "progress": False, **wrong})


def test_a_chest_has_the_same_proportions_in_an_image_of_any_size():
    small, large = (GenerateChestd((side, side))({"subject": (2, 4)})["image"].as_tensor() for side in (64, 256))
    halved = torch.nn.functional.avg_pool2d(large, 4)
    assert torch.corrcoef(torch.stack([small.flatten(), halved.flatten()]))[0, 1] > 0.9
