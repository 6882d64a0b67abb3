"""The phantom cohort."""

import numpy as np
import pytest
import torch

from monai_deepssim.data import AXIAL_LEVELS_MM, GeneratePhantomd, PhantomBrainDataset
from monai_deepssim.data.phantom_variety import add_lesions, draw_view, vary_acquisition
from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms import RandStructurePreservingd


def cohort(num_subjects, seed, **options):
    return PhantomBrainDataset(num_subjects=num_subjects, seed=seed, progress=False, **options)


def stack(dataset):
    return torch.stack([item["image"].as_tensor() for item in dataset])


def test_an_item_is_an_image_in_the_packages_form():
    item = cohort(2, seed=3, image_size=(120, 100))[1]
    assert item["image"].shape == (1, 120, 100)
    assert item["image"].dtype == torch.float32
    assert (item["image"].min(), item["image"].max()) == (0, 1)
    assert (item["patient_id"], item["path"], item["level"]) == (
        "phantom-3-1",
        "phantom-3-1/basal_ganglia",
        "basal_ganglia",
    )


def test_the_same_seed_gives_the_same_subjects_in_a_cohort_of_any_size():
    assert torch.equal(stack(cohort(2, seed=5)), stack(cohort(4, seed=5))[:2])


def test_two_seeds_never_share_a_subject():
    # Seed 1, subject 23 and seed 12, subject 3 would be one where seeds were only strung together or added up.
    items = [
        {"subject": subject, "level": "basal_ganglia"} for subject in ((1, 23), (12, 3), (0, 24), (24, 0), (23, 1))
    ]
    images = torch.stack([GeneratePhantomd((136, 112))(item)["image"].as_tensor() for item in items])
    ssim = pairwise_ssim(standardize(images))
    assert ssim.fill_diagonal_(0).max() < 0.7


def test_subjects_differ_as_people_do():
    ssim = pairwise_ssim(standardize(stack(cohort(40, seed=8))))
    between = ssim[~torch.eye(40, dtype=torch.bool)]
    assert 0.2 < between.median() < 0.6
    assert between.max() < 0.75


def test_neighbouring_slices_of_a_subject_look_alike_and_distant_ones_do_not(monkeypatch):
    levels = {"here": 10.0, "next": 11.5, "far": 40.0}
    monkeypatch.setattr("monai_deepssim.data.phantom.AXIAL_LEVELS_MM", levels)
    draw = GeneratePhantomd((136, 112), level_jitter_mm=0.0, skull_fraction=0.0)
    images = torch.stack([draw({"subject": (2, 9), "level": level})["image"].as_tensor() for level in levels])
    here, following, far = pairwise_ssim(standardize(images))[0]
    assert here == pytest.approx(1, abs=1e-4)
    assert following > 0.6
    assert far < 0.5


def test_the_front_is_at_the_top_and_the_brain_in_the_middle():
    images = stack(cohort(30, seed=2, skull_fraction=0.0))
    mean = images.mean(0)[0]
    rows = torch.arange(136.0) - 67.5
    assert abs((mean.sum(1) * rows).sum() / mean.sum()) < 6
    # The two halves mirror each other, front and back do not.
    assert (mean - mean.flip(1)).abs().mean() < 0.5 * (mean - mean.flip(0)).abs().mean()
    assert (images[:, 0, :, :2].mean() + images[:, 0, :2].mean()) < 0.02


def test_the_share_with_a_skull_is_as_asked_and_a_skull_is_a_bright_ring():
    assert sum(item["skull"] for item in cohort(60, seed=1, skull_fraction=0.5)) in range(20, 41)
    bare, head = (stack(cohort(10, seed=1, skull_fraction=share)) for share in (0.0, 1.0))
    border = torch.zeros(136, 112, dtype=torch.bool)
    border[5:-5, 3:-3] = True
    border[18:-18, 14:-14] = False
    assert head[:, 0, border].mean() > bare[:, 0, border].mean() * 0.7
    assert (bare == 0).float().mean() > 0.3


def test_all_levels_can_be_had_and_belong_to_one_subject():
    items = list(cohort(2, seed=4, levels=tuple(AXIAL_LEVELS_MM)))
    assert [item["level"] for item in items] == list(AXIAL_LEVELS_MM) * 2
    assert len({item["patient_id"] for item in items}) == 2
    assert len({item["path"] for item in items}) == 8


def test_a_transform_of_the_user_comes_after_and_is_drawn_anew():
    dataset = cohort(1, seed=0, transform=RandStructurePreservingd("image", prob=0.9))
    first, second = dataset[0]["image"], dataset[0]["image"]
    assert not torch.equal(first, second)


def test_drawing_on_demand_gives_what_the_cache_holds():
    assert torch.equal(stack(cohort(3, seed=6)), stack(cohort(3, seed=6, cache_rate=0.0)))


WRONG = (
    *({"num_subjects": 0}, {"seed": -1}, {"skull_fraction": 1.5}, {"levels": ("toe",)}),
    *({"volume": True, "image_size": (64, 64)}, {"image_size": (64, 64, 64)}),
)


@pytest.mark.parametrize("wrong", WRONG)
def test_values_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match="want"):
        PhantomBrainDataset(**{"num_subjects": 1, "seed": 0, "progress": False, **wrong})


def test_without_nilearn_the_error_says_what_to_install(monkeypatch):
    from monai_deepssim.data import phantom_anatomy

    phantom_anatomy.icbm152_maps.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "nilearn", None)
    with pytest.raises(ImportError, match=r"monai-deepssim\[demo\]"):
        PhantomBrainDataset(num_subjects=1, seed=0, progress=False)
    monkeypatch.undo()
    phantom_anatomy.icbm152_maps.cache_clear()


def test_noise_and_contrast_differ_from_subject_to_subject():
    images = stack(cohort(20, seed=9, skull_fraction=0.0))
    assert np.std([image[image > 0].mean() for image in images]) > 0.02


def test_a_randomized_cohort_is_another_at_each_seed_and_the_same_at_one():
    first = stack(cohort(3, seed=5, randomized=True))
    assert torch.equal(first[:2], stack(cohort(2, seed=5, randomized=True)))
    assert not torch.equal(first, stack(cohort(3, seed=6, randomized=True)))
    assert not torch.equal(first, stack(cohort(3, seed=5)))


def test_randomized_phantoms_differ_more_in_what_is_seen_and_how_bright_it_is_than_others():
    plain = stack(cohort(24, seed=8, skull_fraction=0.0))
    randomized = stack(cohort(24, seed=8, randomized=True, skull_fraction=0.0))

    def foreground(images):
        return (images > 0.3).float().mean((1, 2, 3))

    assert foreground(randomized).std() > 2 * foreground(plain).std()
    assert randomized.mean((1, 2, 3)).std() > 2 * plain.mean((1, 2, 3)).std()
    assert randomized.flatten(1).amin(1).max() == 0
    assert randomized.flatten(1).amax(1).min() == 1


def test_the_levels_of_a_randomized_subject_are_slices_of_their_own():
    items = cohort(2, seed=9, randomized=True, levels=("midbrain", "basal_ganglia"))
    heights = {item["path"]: item["height_mm"] for item in items}
    assert len(heights) == len(set(heights.values())) == 4


def test_a_view_lies_within_the_head_in_each_plane():
    rng = np.random.default_rng(0)
    views = [draw_view(rng) for _ in range(200)]
    assert {view.plane for view in views} == {"axial", "coronal", "sagittal"}
    assert all(-90 <= view.height_mm <= 65 for view in views)
    sizes = np.array([view.pixel_size_mm for view in views])
    assert (sizes.mean(1) > 1.0).all()
    assert (sizes.mean(1) < 2.2).all()
    assert (abs(np.log(sizes[:, 0] / sizes[:, 1])) <= np.log(1.1) + 1e-9).all()


def test_a_lesion_lies_in_the_brain_and_an_image_without_one_stays():
    image, brain = np.full((96, 96), 0.5), np.zeros((96, 96))
    assert add_lesions(np.random.default_rng(0), image, brain, 1.5) is image
    brain[40:56, 40:56] = 1
    changed = [add_lesions(np.random.default_rng(seed), image, brain, 1.5) != image for seed in range(5)]
    assert all(change[30:66, 30:66].mean() > 0 for change in changed)
    constant = vary_acquisition(np.random.default_rng(1), np.zeros((32, 32)))
    assert np.isfinite(constant).all()


@pytest.mark.parametrize("randomized", [False, True])
def test_a_volume_is_one_head_in_ras_order_the_same_at_each_seed(randomized):
    options = {"volume": True, "image_size": (24, 32, 28), "randomized": randomized}
    items = list(cohort(2, seed=5, **options))
    assert items[0]["image"].shape == (1, 24, 32, 28)
    assert (items[0]["image"].dtype, items[0]["image"].min(), items[0]["image"].max()) == (torch.float32, 0, 1)
    assert (items[1]["path"], items[1]["patient_id"]) == ("phantom-5-1", "phantom-5-1")
    assert torch.equal(items[1]["image"], cohort(3, seed=5, cache_rate=0.0, **options)[1]["image"])
    assert not torch.equal(items[1]["image"], cohort(2, seed=6, **options)[1]["image"])
    assert items[0].keys() == cohort(1, seed=5)[0].keys()


def test_a_volume_shows_the_maps_it_was_made_from_where_its_affine_says():
    from nibabel.affines import apply_affine
    from scipy.ndimage import map_coordinates

    from monai_deepssim.data.phantom_anatomy import icbm152_maps

    _, _, mask, affine = icbm152_maps()
    for item in cohort(3, seed=1, volume=True, image_size=(32, 32, 32), skull_fraction=0.0):
        points = np.moveaxis(np.indices((32, 32, 32)), 0, -1).reshape(-1, 3)
        voxels = apply_affine(np.linalg.inv(affine) @ item["image"].affine.numpy(), points)
        expected = map_coordinates(mask, voxels.T, order=1).reshape(32, 32, 32) > 0.5
        shown = item["image"][0].numpy() > 0.1
        # Dice's overlap; a brain that lies back to front or upside down has 0.8 at most.
        assert 2 * (shown & expected).sum() / (shown.sum() + expected.sum()) > 0.85
        assert 2 * (shown & expected[:, ::-1, ::-1]).sum() / (shown.sum() + expected.sum()) < 0.85


def test_the_brains_of_volumes_differ_and_stay_inside():
    volumes = stack(cohort(6, seed=2, volume=True, image_size=(32, 32, 32), skull_fraction=0.5))
    ssim = pairwise_ssim(standardize(volumes))
    assert ssim.fill_diagonal_(0).max() < 0.8
    for axis in (2, 3, 4):
        assert volumes.movedim(axis, 0)[[0, -1]].mean() < 0.05 * volumes.mean() + 0.02


def test_a_lesion_of_a_volume_is_a_ball():
    brain = np.zeros((32, 32, 32))
    brain[15, 15, 15] = 1
    changed = add_lesions(np.random.default_rng(0), np.full(brain.shape, 0.5), brain, 3.0) - 0.5
    inside = abs(changed) > 0.01
    extents = [np.ptp(np.flatnonzero(inside.any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1))]
    assert min(extents) > 0.6 * max(extents) > 1
