"""DICOM files that form a volume, and those that only look as if they did."""

import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.errors import UnusableInputError

NAMES = ["d", "a", "h", "c", "e", "b", "g", "f"]  # not in the order of space


def expected(volume: np.ndarray, index: int, axis: int) -> torch.Tensor:
    plane = np.take(volume, index, axis).T[::-1, ::-1].astype(np.float64)
    return torch.tensor((plane - plane.min()) / (plane.max() - plane.min()), dtype=torch.float32)[None]


@pytest.mark.parametrize("acquired", [0, 1, 2])
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_a_series_is_a_volume_ordered_in_space(tmp_path, lopsided, write_series, acquired, slice_axis):
    write_series(tmp_path / "P1", lopsided, acquired, NAMES[: lopsided.shape[acquired]])
    items = list_images(tmp_path, slices="all", slice_axis=slice_axis)
    assert [item["slice"] for item in items] == list(range(lopsided.shape[slice_axis]))
    assert items[0]["path"] == f"P1/a#{'xyz'[slice_axis]}=0"
    for item in items:
        assert torch.equal(load_slice(item), expected(lopsided, item["slice"], slice_axis))


def test_two_series_in_a_folder_and_one_in_two_folders_are_told_apart(tmp_path, lopsided, write_series):
    write_series(tmp_path / "P1", lopsided, 2, [f"a{i}.dcm" for i in range(8)])
    write_series(tmp_path / "P1", lopsided, 2, [f"b{i}.dcm" for i in range(8)])
    write_series(tmp_path / "P2", lopsided, 2, [f"a{i}.dcm" for i in range(8)])
    items = list_images(tmp_path)
    assert [item["path"] for item in items] == ["P1/a0.dcm", "P1/b0.dcm", "P2/a0.dcm"]
    assert [item["slice"] for item in items] == [4, 4, 4]


@pytest.mark.parametrize("header", ["one position", "no position", "turned", "sizes"])
def test_files_that_only_share_a_series_number_are_images(tmp_path, brain_slice, write_dicom, header):
    series = generate_uid()
    for index in range(3):
        pixels = brain_slice[: -index - 1] if header == "sizes" else brain_slice
        position = {"one position": (0, 0, 0), "no position": None}.get(header, (0, 0, index))
        turned = header == "turned" and index == 1
        orientation = (1, 0, 0, 0, 0, -1) if turned else (1, 0, 0, 0, 1, 0)
        write_dicom(tmp_path / f"{index}", pixels, series=series, position=position, orientation=orientation)
    items = list_images(tmp_path)
    assert [item["path"] for item in items] == ["0", "1", "2"]
    assert all(load_slice(item).shape[2] == 197 for item in items)


def test_several_images_at_one_place_of_a_volume_are_refused(tmp_path, brain_slice, write_dicom):
    series = generate_uid()
    for index in range(6):
        write_dicom(tmp_path / f"{index}", brain_slice, series=series, position=(0, 0, index // 2))
    (item,) = list_images(tmp_path, slices="all")
    with pytest.raises(UnusableInputError, match="several of the 6 images of its series lie at this position"):
        load_slice(item)


def test_a_damaged_file_beside_a_series_is_listed(tmp_path, lopsided, write_series):
    write_series(tmp_path, lopsided, 2, [f"{i}.dcm" for i in range(8)])
    (tmp_path / "9.dcm").write_bytes(b"damaged")
    volume, damaged = list_images(tmp_path)
    assert load_slice(volume).shape == (1, 7, 6)
    with pytest.raises(UnusableInputError, match=r"9\.dcm"):
        load_slice(damaged)


def test_a_slice_that_the_series_does_not_have_is_refused(tmp_path, lopsided, write_series):
    write_series(tmp_path, lopsided, 2, [f"{i}.dcm" for i in range(8)])
    with pytest.raises(UnusableInputError, match="slice 8 was asked for, and the volume has 8 axial slices"):
        load_slice(list_images(tmp_path, slices=8)[0])
