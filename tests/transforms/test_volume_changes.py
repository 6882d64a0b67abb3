"""The changes of controls of volumes."""

import pytest
import torch

from monai_deepssim.data import list_in_memory, plant_controls
from monai_deepssim.transforms import VOLUME_CONTROL_CHANGES

SIZE = (24, 20, 16)
NAMES = [change.name for change in VOLUME_CONTROL_CHANGES]


def smooth_volume() -> torch.Tensor:
    noise = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, SIZE, mode="trilinear")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_change_keeps_the_shape_and_follows_its_seed(name: str) -> None:
    change = next(change for change in VOLUME_CONTROL_CHANGES if change.name == name)
    volume = smooth_volume()
    first, again = (change.apply(volume, None, seed=3, image_size=SIZE) for _ in range(2))
    assert first.shape == volume.shape
    assert torch.equal(first, again)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, volume) == (name == "none")


@pytest.mark.parametrize("seed", range(6))
def test_half_of_the_slices_along_one_axis_stay_when_every_second_is_dropped(seed: int) -> None:
    change = next(change for change in VOLUME_CONTROL_CHANGES if change.name == "slices_dropped")
    volume = smooth_volume()
    same = change.apply(volume, None, seed=seed, image_size=SIZE) == volume
    stay = [same.flatten(1).all(1), *(same[0].movedim(axis, 0).flatten(1).all(1) for axis in range(3))][1:]
    assert sorted(int(kept.sum()) for kept in stay)[:2] == [0, 0]
    assert any(2 * int(kept.sum()) == len(kept) for kept in stay)


def test_controls_of_volumes_are_made_in_the_box_in_which_they_are_compared() -> None:
    items = list_in_memory(torch.rand(3, 1, 20, 20, 20), "training", volumes=True)
    controls = plant_controls(items, 2, (24, 24, 24))
    assert len(controls) == 2 * len(VOLUME_CONTROL_CHANGES)
    assert all(control["volume"] for control in controls)
