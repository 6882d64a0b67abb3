"""DICOM files that form a volume, and those that only look as if they did."""

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import generate_uid

from monai_deepssim.data import files_of, list_images, load_slice, scan_images
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


def one_odd_file(folder, write_dicom, lopsided, kind: str, series: str):
    """Write a file of the series that is none of its slices."""
    plane = np.take(lopsided, 0, 2).T[::-1, ::-1]
    if kind == "another size":
        return write_dicom(folder / "odd.dcm", plane[:-1], series=series, position=(0, 0, 20))
    if kind == "localizer":
        return write_dicom(folder / "odd.dcm", plane, series=series, orientation=(1, 0, 0, 0, 0, -1))
    if kind == "repeated position":
        return write_dicom(folder / "zodd.dcm", plane, series=series, position=(0, 0, 3))
    return write_dicom(folder / "odd.dcm", plane, series=series, position=None)


@pytest.mark.parametrize("kind", ["another size", "localizer", "repeated position", "no position"])
def test_one_odd_file_is_an_image_and_the_rest_stays_a_volume(tmp_path, lopsided, write_series, write_dicom, kind):
    files = write_series(tmp_path, lopsided, 2, [f"s{index}.dcm" for index in range(8)])
    odd = one_odd_file(tmp_path, write_dicom, lopsided, kind, str(pydicom.dcmread(files[0]).SeriesInstanceUID))
    listing = scan_images(tmp_path, slices="all", slice_axis=0)
    items = {item["path"]: item for item in listing.items}
    assert listing.ignored == []
    assert sorted(items) == sorted([odd.name, *(f"s0.dcm#x={index}" for index in range(6))])
    assert files_of(items["s0.dcm#x=3"]) == tuple(map(str, files))
    assert torch.equal(load_slice(items["s0.dcm#x=3"]), expected(lopsided, 3, 0))
    assert load_slice(items[odd.name]).shape[2] == 6


def test_a_header_that_was_copied_with_other_positions_makes_no_volume(tmp_path, brain_slice, write_dicom):
    tags = {"series": generate_uid(), "SOPInstanceUID": generate_uid()}
    for index in range(6):
        write_dicom(tmp_path / f"{index}.dcm", brain_slice, position=(0, 0, index), InstanceNumber=index, **tags)
    assert [item["path"] for item in list_images(tmp_path)] == [f"{index}.dcm" for index in range(6)]


def test_an_item_of_a_series_tells_how_many_files_it_is_of(tmp_path, brain_slice, write_dicom):
    series = generate_uid()
    for index in range(6):
        write_dicom(tmp_path / f"{index}.dcm", brain_slice, series=series, position=(0, 0, index))
    (item,) = list_images(tmp_path)
    assert len(files_of(item)) == 6


def test_stacks_in_three_directions_in_one_series_are_three_volumes(tmp_path, brain_slice, write_dicom):
    series = generate_uid()
    for stack, orientation in enumerate([(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)]):
        direction = np.cross(orientation[:3], orientation[3:])
        for index in range(3):
            position = [float(value) for value in direction * index]
            name = tmp_path / f"{stack}{index}.dcm"
            write_dicom(name, brain_slice, series=series, position=position, orientation=orientation)
    assert [len(files_of(item)) for item in list_images(tmp_path)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        ([(0, 0, z) for z in (0, 1, 2, 5, 6)], "1 to 3 mm apart, so slices are missing"),
        ([(0, z / 4, z) for z in range(5)], r"shifted against one another by up to 1 pixels \(a tilted gantry\)"),
    ],
)
def test_uneven_and_tilted_slices_are_shown_as_acquired_and_not_across(
    tmp_path, brain_slice, write_dicom, positions, reason
):
    series = generate_uid()
    for index, position in enumerate(positions):
        write_dicom(tmp_path / f"{index}.dcm", brain_slice, series=series, position=position, PixelSpacing=[1, 1])
    (item,) = list_images(tmp_path)
    assert load_slice(item).shape == (1, 233, 197)
    with pytest.raises(UnusableInputError, match=reason):
        load_slice(list_images(tmp_path, slice_axis=1)[0])


def test_slices_of_an_uneven_brightness_keep_their_own_rescaling(tmp_path, lopsided, write_dicom):
    series = generate_uid()
    for index in range(8):
        plane = np.take(lopsided, index, 2).T[::-1, ::-1]
        tags = {"RescaleSlope": index + 1, "RescaleIntercept": -index}
        write_dicom(tmp_path / f"{index}.dcm", plane, series=series, position=(0, 0, index), **tags)
    scaled = lopsided * np.arange(1.0, 9.0) - np.arange(8)
    for item in list_images(tmp_path, slices="all", slice_axis=1):
        torch.testing.assert_close(load_slice(item), expected(scaled, item["slice"], 1), rtol=0, atol=1e-6)


def test_a_slice_that_changes_is_read_again(tmp_path, lopsided, write_series):
    files = write_series(tmp_path, lopsided, 2, [f"{index}.dcm" for index in range(8)])
    (item,) = list_images(tmp_path, slices=3)
    before = load_slice(item)
    dataset = pydicom.dcmread(files[3])
    dataset.PixelData = bytes(reversed(dataset.PixelData))
    dataset.save_as(files[3])
    assert not torch.equal(before, load_slice(item))
