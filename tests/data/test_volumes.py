"""Whole volumes: one orientation and cubic voxels from every format, and what is refused in words."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import gaussian_filter, zoom

from monai_deepssim.data import (
    ImageDataset,
    LoadSliced,
    PhantomBrainDataset,
    Reader,
    digest_of_images,
    give_spacings,
    hash_items,
    list_images,
    list_in_memory,
    load_slice,
    load_volume,
    read_image,
    scan_images,
)
from monai_deepssim.data.cubic_voxels import make_cubes
from monai_deepssim.data.readers import reader_of
from monai_deepssim.data.readers.limits import MAX_VOXELS
from monai_deepssim.errors import UnusableInputError


def unit(volume):
    volume = volume.astype(np.float64)
    return (volume - volume.min()) / (volume.max() - volume.min())


def loaded(path, **item):
    return load_volume({"image": str(path), **item})[0].numpy()


def refusal(item):
    with pytest.raises(UnusableInputError) as caught:
        load_volume(item)
    return str(caught.value)


def turned(volume, codes):
    """A NIfTI image of a RAS volume of 1 mm, stored with other axes."""
    image = nib.Nifti1Image(volume, np.eye(4))
    return image.as_reoriented(ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes)))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
def test_every_orientation_of_nifti_mgh_nrrd_and_metaimage_is_one_volume(tmp_path, lopsided, codes):
    image = turned(lopsided, codes)
    nib.save(image, tmp_path / "plain.nii")
    nib.save(image, tmp_path / "packed.nii.gz")
    nib.save(nib.Nifti1Pair(image.dataobj, image.affine), tmp_path / "pair.hdr")
    nib.save(nib.MGHImage(np.asarray(image.dataobj).astype(np.float32), image.affine), tmp_path / "a.mgz")
    itk = SimpleITK.GetImageFromArray(np.asarray(image.dataobj).T)
    itk.SetDirection((np.diag([-1, -1, 1]) @ image.affine[:3, :3]).ravel().tolist())
    for name in ("a.nrrd", "b.mha", "c.mhd"):
        SimpleITK.WriteImage(itk, tmp_path / name)
    items = list_images(tmp_path, volumes=True)
    assert len(items) == 7
    for item in items:
        assert read_image(item)[0].numpy() == pytest.approx(unit(lopsided), abs=1e-6), item["path"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_dicom_series_of_any_plane_is_one_volume_and_one_item(tmp_path, lopsided, write_series, axis):
    write_series(tmp_path, lopsided, axis, [f"{index}.dcm" for index in range(lopsided.shape[axis])][::-1])
    (item,) = list_images(tmp_path, volumes=True)
    assert (item["volume"], item["slice"], item["slice_axis"], "#" in item["path"]) == (True, 0, 2, False)
    assert len(json.loads(item["files"])) == lopsided.shape[axis]
    assert read_image(item)[0].numpy() == pytest.approx(unit(lopsided), abs=1e-6)


def test_each_slice_of_a_volume_is_the_slice_that_is_read_alone(tmp_path, lopsided, write_series):
    write_series(tmp_path / "series", lopsided, 1, [f"{index}.dcm" for index in range(7)])
    nib.save(turned(lopsided, "PIR"), tmp_path / "a.nii.gz")
    for item in list_images(tmp_path, volumes=True):
        volume = load_volume(item)[0].numpy()
        for axis, index in ((0, 2), (1, 5), (2, 0)):
            alone = load_slice({**item, "slice": index, "slice_axis": axis})[0].numpy()
            assert alone == pytest.approx(unit(np.take(volume, index, axis).T[::-1, ::-1]), abs=1e-6)


def test_a_dicom_series_with_missing_slices_is_refused_and_evenly_thinned_ones_are_longer(
    tmp_path, lopsided, write_series
):
    files = write_series(tmp_path, lopsided, 2, [f"{index}.dcm" for index in range(8)])
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PixelSpacing = [1, 1]
        dataset.save_as(file)
    files[3].unlink()
    (item,) = list_images(tmp_path, volumes=True)
    assert "slices are missing" in refusal(item)
    for file in (files[1], files[5], files[7]):
        file.unlink()
    (item,) = list_images(tmp_path, volumes=True)
    assert load_volume(item).shape == (1, 6, 7, 8)


def test_the_spacing_of_the_header_makes_voxels_cubes(tmp_path):
    volume = np.random.default_rng(0).random((10, 12, 5)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 4.0, 1.0])), tmp_path / "a.nii")
    reader = reader_of(tmp_path / "a.nii")
    voxels, spacing = reader.read_volume([str(tmp_path / "a.nii")])
    assert (voxels.shape, spacing) == ((10, 12, 5), (1.0, 1.0, 4.0))
    assert np.array_equal(voxels, volume[::-1])
    dataset = ImageDataset(list_images(tmp_path, volumes=True), (32, 32, 32))
    assert loaded(tmp_path / "a.nii").shape == (10, 12, 20)
    assert (dataset[0]["resampled"], dataset[0]["original_size"], dataset[0]["problem"]) == (True, (10, 12, 5), "")
    assert dataset[0]["image"].shape == (1, 32, 32, 32)
    # Linear between the middles of slices, which are 4 mm apart.
    expected = zoom(volume[::-1], (1, 1, 4), order=1, mode="nearest", grid_mode=True)
    assert loaded(tmp_path / "a.nii") == pytest.approx(unit(expected), abs=1e-5)


def head(size=48):
    return PhantomBrainDataset(1, 3, (size,) * 3, volume=True, progress=False, skull_fraction=0.0)[0]["image"][
        0
    ].numpy()


def in_box(path, name, volume, spacing):
    nib.save(nib.Nifti1Image(volume, np.diag([*spacing, 1.0])), path / name)
    return ImageDataset(list_images(path / name, volumes=True), (32, 32, 32))[0]["image"][0].numpy()


def correlation(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def test_a_head_looks_alike_whatever_the_slices_it_is_stored_in(tmp_path):
    volume = head()
    whole = in_box(tmp_path, "whole.nii", volume, (1, 1, 1))
    thinned = in_box(tmp_path, "thinned.nii", volume[:, :, ::2], (1, 1, 2))
    thick = in_box(tmp_path, "thick.nii", volume.reshape(48, 48, 16, 3).mean(3), (1, 1, 3))
    fine = in_box(tmp_path, "fine.nii", zoom(volume, (1, 2, 1), order=1, grid_mode=True, mode="nearest"), (1, 0.5, 1))
    assert correlation(whole, thinned) > 0.98
    assert correlation(whole, thick) > 0.98
    assert correlation(whole, fine) > 0.99
    # A header that is silent about the lost slices makes another body of it.
    assert correlation(whole, in_box(tmp_path, "wrong.nii", volume[:, :, ::2], (1, 1, 1))) < 0.8


def test_too_many_voxels_become_fewer_that_are_averages_and_not_samples(monkeypatch):
    monkeypatch.setattr("monai_deepssim.data.cubic_voxels.MAX_CUBES", 16**3)
    noise = np.random.default_rng(0).standard_normal((64, 32, 32)).astype(np.float32)
    shrunk = make_cubes(noise, (0.5, 1.0, 1.0))
    assert shrunk.shape == (16, 16, 16)
    # The mean of 4 x 2 x 2 would leave 0.25 of the standard deviation, a sample all of it.
    assert shrunk.std() < 0.25
    assert make_cubes(noise[:16, :16, :16], None).base is noise


def test_two_sides_of_a_voxel_that_differ_by_more_than_50_are_refused(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(lopsided, np.diag([1.0, 1.0, 51.0, 1.0])), tmp_path / "a.nii")
    message = refusal({"image": str(tmp_path / "a.nii")})
    assert "a.nii" in message
    assert "sides of 1, 1, 51 mm" in message


def test_padding_stray_voxels_nan_borders_and_windows_are_those_of_slices(tmp_path):
    body = gaussian_filter(np.random.default_rng(1).random((12, 12, 12)), 1)
    clean = unit(body)
    padded = 1000 * clean
    padded[0] = -30000
    nib.save(nib.Nifti1Image(padded.astype(np.float32), np.eye(4)), tmp_path / "padded.nii")
    expected = clean.copy()
    expected[0] = clean[1:].min()
    assert loaded(tmp_path / "padded.nii") == pytest.approx(unit(expected), abs=1e-5)
    padded[0] = np.nan
    nib.save(nib.Nifti1Image(padded.astype(np.float32), np.eye(4)), tmp_path / "nan.nii")
    assert loaded(tmp_path / "nan.nii") == pytest.approx(unit(expected), abs=1e-5)
    padded[5, 5, 5] = np.nan
    nib.save(nib.Nifti1Image(padded.astype(np.float32), np.eye(4)), tmp_path / "hole.nii")
    assert "145 of 1728" in refusal({"image": str(tmp_path / "hole.nii")})
    hot = 100 * clean
    hot[3, 3, 3] = 65535
    nib.save(nib.Nifti1Image(hot.astype(np.float32), np.eye(4)), tmp_path / "hot.nii")
    sample = ImageDataset([{"image": str(tmp_path / "hot.nii"), "path": "hot.nii", "volume": True}], (12, 12, 12))[0]
    assert sample["clipped"]
    assert sample["image"].mean() > 0.2
    hounsfield = -1000 + 1500 * clean
    nib.save(nib.Nifti1Image(hounsfield.astype(np.int16), np.eye(4)), tmp_path / "ct.nii")
    windowed = np.clip(hounsfield.astype(np.int16), -160, 240)
    assert loaded(tmp_path / "ct.nii", window="40,400") == pytest.approx(unit(windowed), abs=1e-5)


def test_images_among_volumes_are_refused_with_their_file_and_alone_at_once(tmp_path, lopsided, write_dicom):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(lopsided[:, :, :1], np.eye(4)), tmp_path / "b.nii")
    np.save(tmp_path / "c.npy", lopsided[0])
    write_dicom(tmp_path / "d.dcm", lopsided[0])
    items = list_images(tmp_path, volumes=True)
    assert [item["path"] for item in items] == ["a.nii", "b.nii", "c.npy", "d.dcm"]
    messages = [sample["problem"] for sample in ImageDataset(items, (8, 8, 8))]
    assert messages[0] == ""
    for message, name in zip(messages[1:], ("b.nii", "c.npy", "d.dcm"), strict=True):
        assert name in message
        assert "whole volumes are wanted" in message
    (tmp_path / "a.nii").unlink()
    with pytest.raises(
        UnusableInputError, match=r"whole volumes are asked for, and all 3 files in it are images, such"
    ):
        list_images(tmp_path, volumes=True)


def test_what_is_damaged_or_four_dimensional_stays_in_the_list_and_is_refused_when_loaded(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(np.stack([lopsided] * 2, 3), np.eye(4)), tmp_path / "four.nii")
    (tmp_path / "damaged.nii").write_bytes((tmp_path / "four.nii").read_bytes()[:500])
    damaged, four = list_images(tmp_path, volumes=True)
    assert "4 dimensions" in refusal(four)
    assert "damaged.nii" in refusal(damaged)


def test_slices_and_volumes_cannot_be_asked_for_together(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UnusableInputError, match="slices and volumes"):
        scan_images(tmp_path, slices="3", volumes=True)
    (tmp_path / "list.csv").write_text("image,slice\na.nii,3\n")
    with pytest.raises(UnusableInputError, match=r"a\.nii: the list names slice 3"):
        list_images(tmp_path / "list.csv", volumes=True)


def test_lists_name_volumes_with_their_patients_and_windows(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "list.csv").write_text('image,patient_id,window\na.nii,p1,"40,400"\n')
    items = list_images(tmp_path / "list.csv", volumes=True)
    assert [(item["path"], item["patient_id"], item["window"], item["volume"]) for item in items] == [
        ("a.nii", "p1", "40,400", True)
    ]
    assert list_images(items, volumes=True)[0]["volume"] is True
    assert list_images(tmp_path)[0]["volume"] is False
    assert list_images(tmp_path)[0].keys() == items[0].keys()
    assert LoadSliced()(items[0])["image"].shape == (1, 6, 7, 8)
    assert read_image(hash_items(items)[0]).shape == (1, 6, 7, 8)


def test_an_array_is_a_volume_in_ras_order_without_spacing(tmp_path, lopsided):
    np.save(tmp_path / "a.npy", lopsided)
    np.savez_compressed(tmp_path / "b.npz", lopsided[None])
    for item in list_images(tmp_path, volumes=True):
        assert read_image(item)[0].numpy() == pytest.approx(unit(lopsided), abs=1e-6)
    assert reader_of(tmp_path / "a.npy").read_volume([str(tmp_path / "a.npy")])[1] is None
    with pytest.raises(UnusableInputError, match="wanted \\(rows, columns\\)"):
        load_slice({"image": str(tmp_path / "a.npy")})


def test_a_format_that_reads_slices_alone_gives_whole_volumes_too(tmp_path, lopsided):
    nib.save(turned(lopsided, "PIR"), tmp_path / "a.nii")
    files = [str(tmp_path / "a.nii")]
    nifti = reader_of(tmp_path / "a.nii")
    expected, spacing = nifti.read_volume(files)
    voxels, same_spacing = Reader.read_volume(nifti, files)
    assert np.array_equal(voxels, expected)
    assert same_spacing == pytest.approx(spacing)
    image = nib.Nifti1Image(lopsided, np.diag([2.0, 3.0, 5.0, 1.0]))
    nib.save(image, tmp_path / "a.nii")
    assert Reader.read_volume(nifti, files)[1] == pytest.approx((2, 3, 5))


def test_a_volume_that_is_too_large_is_refused_by_its_header(tmp_path, monkeypatch, lopsided):
    monkeypatch.setattr("monai_deepssim.data.readers.limits.MAX_VOXELS", lopsided.size - 1)
    np.save(tmp_path / "a.npy", lopsided)
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "b.nii")
    for name in ("a.npy", "b.nii"):
        assert "voxels that a whole volume may have" in refusal({"image": str(tmp_path / name)})
    assert MAX_VOXELS >= 512 * 512 * 1024


def test_tensors_are_volumes_where_volumes_are_asked_for():
    items = list_in_memory(torch.rand(2, 1, 6, 7, 8), "training", volumes=True)
    assert [(item["path"], item["volume"]) for item in items] == [("training[0]", True), ("training[1]", True)]
    assert ImageDataset(items, (8, 8, 8))[1]["original_size"] == (6, 7, 8)
    with pytest.raises(UnusableInputError, match=r"want \(N, 1, rows, columns\).*volumes"):
        list_in_memory(torch.rand(2, 1, 6, 7, 8), "training")
    with pytest.raises(UnusableInputError, match=r"want \(N, 1, x, y, z\)"):
        list_in_memory(torch.rand(2, 1, 6, 7), "training", volumes=True)
    with pytest.raises(ValueError, match="want three sides for volumes"):
        ImageDataset(items, (8, 8))


def test_volumes_that_tell_no_spacing_get_that_of_training_volumes_of_their_size(tmp_path, lopsided):
    for folder in ("training", "synthetic"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        nib.save(nib.Nifti1Image(lopsided, np.diag([-0.5, 0.5, 3.0, 1.0])), tmp_path / "training" / f"{name}.nii")
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "synthetic" / "a.nii")
    np.save(tmp_path / "synthetic" / "b.npy", np.repeat(np.repeat(np.repeat(lopsided, 2, 0), 2, 1), 2, 2))
    nib.save(nib.Nifti1Image(lopsided[:, :, ::2], np.diag([0.5, 0.5, 3.0, 1.0])), tmp_path / "synthetic" / "c.nii")
    nib.save(nib.Nifti1Image(lopsided[:, :, ::2], np.diag([0.5, 0.5, 6.0, 1.0])), tmp_path / "synthetic" / "d.nii")
    nib.save(nib.Nifti1Image(lopsided[:, :5], np.eye(4)), tmp_path / "synthetic" / "e.nii")
    training, synthetic = (list_images(tmp_path / name, volumes=True) for name in ("training", "synthetic"))
    given, reason = give_spacings(synthetic, training)
    assert [item["spacing"] for item in given] == ["0.5,0.5,3", "0.5,0.5,3", "0.5,0.5,6", "", ""]
    assert reason.startswith("3 of 5 volumes tell no spacing")
    assert [load_volume(item).shape[1:] for item in given[2:4]] == [(6, 7, 48), (6, 7, 48)]
    assert load_volume(given[0]).shape == (1, 6, 7, 48)
    assert digest_of_images(given[:1]) != digest_of_images(synthetic[:1])
    assert give_spacings(training, training)[1] == ""
    (tensor,) = list_in_memory(torch.rand(1, 1, 6, 7, 8), "synthetic", volumes=True)
    assert give_spacings([tensor], training)[0][0]["spacing"] == "0.5,0.5,3"


def test_a_list_may_tell_the_spacing_of_a_volume(tmp_path, lopsided):
    np.save(tmp_path / "a.npy", lopsided)
    (tmp_path / "list.csv").write_text('image,spacing\na.npy,"1,1,2"\n')
    (item,) = list_images(tmp_path / "list.csv", volumes=True)
    assert load_volume(item).shape == (1, 6, 7, 16)
    (tmp_path / "list.csv").write_text("image,spacing\na.npy,2\n")
    with pytest.raises(UnusableInputError, match=r"a\.npy: spacing is '2', wanted the sides of a voxel"):
        list_images(tmp_path / "list.csv", volumes=True)


def test_padding_of_a_dicom_series_gets_the_lowest_intensity_of_the_whole_volume(tmp_path, lopsided, write_series):
    files = write_series(tmp_path, lopsided, 2, [f"{index}.dcm" for index in range(8)])
    dataset = pydicom.dcmread(files[3])
    dataset.add_new("PixelPaddingValue", "SS", int(lopsided[2, 2, 3]))
    dataset.save_as(files[3])
    (item,) = list_images(tmp_path, volumes=True)
    expected = lopsided.copy()
    expected[2, 2, 3] = lopsided.min()
    assert read_image(item)[0].numpy() == pytest.approx(unit(expected), abs=1e-6)


def test_colours_are_no_volume(tmp_path, write_dicom):
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (6, 7, 3)).astype(np.uint8)
        write_dicom(tmp_path / f"{index}.dcm", pixels, series="1.2.3", position=(0, 0, index), photometric="RGB")
    (item,) = list_images(tmp_path, volumes=True)
    assert "the voxels are colours" in refusal(item)
