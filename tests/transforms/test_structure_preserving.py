"""Structure-preserving augmentation."""

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from scipy.ndimage import rotate

from monai_deepssim.transforms import RandStructurePreserving, RandStructurePreservingd

OFF = {f"{change}_prob": 0.0 for change in ("flip", "rotation", "gamma", "shift", "zoom")}


def only(change, **options):
    return RandStructurePreserving(**{**OFF, f"{change}_prob": 1.0, **options})


def test_the_defaults_are_the_published_training_values():
    change = RandStructurePreserving()
    assert set(change.probs.values()) == {0.33}
    assert (change.rotation_radians, change.gamma, change.shift_pixels, change.zoom) == (0.17, (0.5, 1.5), 0.0, 0.0)


@pytest.mark.parametrize("prob", [0.33, 0.8])
def test_each_change_comes_with_its_own_probability(prob):
    change = RandStructurePreserving(prob=prob).set_random_state(0)
    drawn = []
    for _ in range(2000):
        change.randomize(2)
        drawn.append([0 in change._flips, 1 in change._flips, change._rotation[0] != 0, change._gamma != 1])
    drawn = np.array(drawn)
    np.testing.assert_allclose(drawn.mean(0), prob, atol=0.04)
    # Independent: no two of them come together more often than by chance.
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(4), atol=0.08)


def test_the_drawn_numbers_fill_their_ranges_and_no_more():
    change = RandStructurePreserving(prob=1.0, rotation_radians=0.2, shift_pixels=4, zoom=0.05).set_random_state(0)
    drawn = []
    for _ in range(500):
        change.randomize(2)
        drawn.append([change._rotation[0], change._gamma, change._shift[0], change._zoom])
    low, high = np.min(drawn, 0), np.max(drawn, 0)
    np.testing.assert_allclose(low, [-0.2, 0.5, -4, 0.95], atol=0.1)
    np.testing.assert_allclose(high, [0.2, 1.5, 4, 1.05], atol=0.1)
    assert (low >= [-0.2, 0.5, -4, 0.95]).all()
    assert (high <= [0.2, 1.5, 4, 1.05]).all()


def test_flips_are_exact(phantoms):
    assert torch.equal(only("flip")(phantoms[0]).as_tensor(), phantoms[0].flip([1, 2]))


def test_the_rotation_is_that_of_scipy(phantoms):
    change = only("rotation", rotation_radians=0.3).set_random_state(1)
    rotated = change(phantoms[0]).as_tensor()[0].numpy()
    degrees = np.rad2deg(change._rotation[0])
    candidates = [rotate(phantoms[0][0].numpy(), sign * degrees, reshape=False, order=1) for sign in (1, -1)]
    assert min(np.abs(rotated - candidate).mean() for candidate in candidates) < 1e-3
    assert np.abs(rotated - phantoms[0][0].numpy()).mean() > 0.02  # it did turn


def test_gamma_keeps_the_range_and_follows_the_formula(phantoms):
    change = only("gamma").set_random_state(1)
    image = phantoms[0] * 0.6 + 0.2
    changed = change(image).as_tensor()
    torch.testing.assert_close(changed, ((image - 0.2) / 0.6) ** change._gamma * 0.6 + 0.2, atol=1e-4, rtol=0)


def test_a_shift_moves_by_pixels_and_a_zoom_above_1_enlarges():
    image = torch.zeros(1, 65, 65)
    image[0, 30:35, 30:35] = 1
    change = only("shift", shift_pixels=6.0).set_random_state(0)
    moved = change(image).as_tensor()[0]
    centre = torch.nonzero(moved > 0.5).float().mean(0) - 32
    np.testing.assert_allclose(centre.abs().numpy(), np.abs(change._shift), atol=0.5)
    zoom = only("zoom", zoom=0.5).set_random_state(0)
    area = zoom(image).as_tensor().sum().item()
    assert area == pytest.approx(25 * zoom._zoom**2, rel=0.1)


def test_the_same_seed_gives_the_same_result_and_another_another(phantoms):
    def run(seed):
        return RandStructurePreserving(prob=0.8).set_random_state(seed)(phantoms[0])

    assert torch.equal(run(5), run(5))
    assert not torch.equal(run(5), run(6))


def test_probability_zero_leaves_the_image_as_it_is(phantoms):
    assert torch.equal(RandStructurePreserving(prob=0.0)(phantoms[0]), phantoms[0])


def test_volumes_are_turned_about_every_axis_and_keep_their_shape():
    volume = torch.rand(1, 24, 20, 16)
    change = only("rotation").set_random_state(0)
    assert change(volume).shape == volume.shape
    assert len(change._rotation) == 3
    assert all(change._rotation)


def test_metadata_stay_with_the_image(phantoms):
    image = MetaTensor(phantoms[0], meta={"filename_or_obj": "patient.nii.gz"})
    changed = RandStructurePreserving(prob=1.0)(image)
    assert isinstance(changed, MetaTensor)
    assert changed.meta["filename_or_obj"] == "patient.nii.gz"
    assert torch.equal(image.as_tensor(), phantoms[0])  # and the original is not touched


def test_the_dictionary_version_changes_all_keys_alike_and_nothing_else(phantoms):
    change = RandStructurePreservingd(["image", "label"], prob=0.9).set_random_state(2)
    item = change({"image": phantoms[0], "label": phantoms[0].clone(), "patient_id": "a"})
    assert torch.equal(item["image"], item["label"])
    assert not torch.equal(item["image"], phantoms[0])
    assert item["patient_id"] == "a"


def test_every_epoch_of_a_loader_with_workers_draws_anew(phantoms):
    dataset = Dataset([{"image": phantoms[0]}] * 4, RandStructurePreservingd("image", prob=0.9))
    loader = DataLoader(dataset, batch_size=4, num_workers=1)
    first, second = (next(iter(loader))["image"] for _ in range(2))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "wrong", [{"prob": 1.2}, {"flip_prob": -0.1}, {"gamma": (0, 1)}, {"zoom": 1.0}, {"shift_pixels": -1}]
)
def test_values_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match="want"):
        RandStructurePreserving(**wrong)


def test_an_image_without_its_channel_axis_is_an_error():
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        RandStructurePreserving()(torch.rand(8, 8))


def test_a_volume_is_flipped_along_each_of_its_three_axes():
    volume = torch.arange(8.0).view(1, 2, 2, 2)
    change = RandStructurePreserving(prob=0.0, flip_prob=0.5).set_random_state(0)
    seen = {tuple(change(volume).flatten().tolist()) for _ in range(60)}
    assert len(seen) == 8
