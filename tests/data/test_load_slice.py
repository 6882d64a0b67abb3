"""One slice, one tensor: formats, orientations, depths and colours."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.transforms import Compose, RandFlipd
from PIL import Image
from pydicom.data import get_testdata_file

from monai_deepssim.data import LoadSliced, list_images, load_slice
from monai_deepssim.data.loading import read_item

CODES = ["RAS", "LPS", "LAS", "RPI", "ARS", "SPL", "PIR", "ILA"]


def load(path: Path, **item) -> np.ndarray:
    image = load_slice({"image": str(path), **item})
    assert image.dtype == torch.float32
    assert image.shape[0] == 1
    assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    assert not hasattr(image, "meta")
    return image[0].numpy()


def scaled(picture: np.ndarray) -> np.ndarray:
    values = picture.astype(np.float64)
    return ((values - values.min()) / (values.max() - values.min())).astype(np.float32)


def reoriented(volume: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(volume, affine)
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), wanted))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_slice_in_four_formats_gives_four_identical_tensors(tmp_path, brain_slice, write_dicom, dtype):
    picture = brain_slice.astype(dtype) * (1 if dtype == np.uint8 else 201)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).save(tmp_path / "a.tif")
    ras = picture[::-1, ::-1].T  # x to the right, y to the front
    nib.save(nib.Nifti1Image(ras[:, :, None], np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(ras[::-1], np.diag([-1.4, 1.4, 5, 1])), tmp_path / "two_dimensions.nii")
    volume = np.stack([np.flipud(ras), ras, ras * 0], axis=-1)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "volume.nii")
    write_dicom(tmp_path / "a.dcm", picture)
    write_dicom(tmp_path / "without_suffix", picture)
    expected = scaled(picture)
    items = list_images(tmp_path)
    assert len(items) == 7
    for item in items:
        assert np.array_equal(load_slice(item)[0].numpy(), expected), item["path"]


def test_an_axial_slice_has_the_front_up_and_the_patients_right_on_the_left(tmp_path, icbm152_file):
    image = nib.load(icbm152_file)
    volume = image.get_fdata(dtype=np.float32).copy()
    front, right = (
        np.round(np.linalg.inv(image.affine) @ (*point, 1))[:3].astype(int) for point in ((0, 80, 10), (70, 0, 10))
    )
    volume[tuple(slice(c - 3, c + 4) for c in front)] = 3 * volume.max()
    nib.save(nib.Nifti1Image(volume, image.affine), tmp_path / "front.nii")
    rows, columns = np.nonzero(load(tmp_path / "front.nii", slice=int(front[2])) > 0.9)
    assert rows.mean() < 0.2 * volume.shape[1]
    assert abs(columns.mean() - volume.shape[0] / 2) < 3
    volume = image.get_fdata(dtype=np.float32).copy()
    volume[tuple(slice(c - 3, c + 4) for c in right)] = 3 * volume.max()
    nib.save(nib.Nifti1Image(volume, image.affine), tmp_path / "right.nii")
    rows, columns = np.nonzero(load(tmp_path / "right.nii", slice=int(right[2])) > 0.9)
    assert columns.mean() < 0.25 * volume.shape[0]


@pytest.mark.parametrize(
    ("slice_axis", "up", "left"), [(2, "A", "R"), (1, "S", "R"), (0, "S", "A")], ids=["axial", "coronal", "sagittal"]
)
def test_each_plane_hangs_as_a_radiologist_hangs_it(tmp_path, slice_axis, up, left):
    axes = {"R": 0, "A": 1, "S": 2}
    for direction, is_dark in ((up, lambda picture: picture[0]), (left, lambda picture: picture[:, 0])):
        along = axes[direction]
        ramp = np.moveaxis(np.broadcast_to(np.arange(9, 0, -1), (8, 7, 9)), 2, along)  # least where R, A, S is farthest
        nib.save(nib.Nifti1Image(ramp.astype(np.int16), np.eye(4)), tmp_path / "ramp.nii")
        assert (is_dark(load(tmp_path / "ramp.nii", slice_axis=slice_axis)) == 0).all()


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_flipped_and_permuted_nifti_files_show_the_same_picture(tmp_path, lopsided, codes, slice_axis, suffix):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, :3] = affine[:3, :3] @ nib.eulerangles.euler2mat(0.1, -0.2, 0.15)  # oblique
    nib.save(reoriented(lopsided, affine, codes), tmp_path / f"volume{suffix}")
    expected = scaled(np.take(lopsided, 1, slice_axis).T[::-1, ::-1])
    assert np.array_equal(load(tmp_path / f"volume{suffix}", slice=1, slice_axis=slice_axis), expected)
    last = scaled(np.take(lopsided, -1, slice_axis).T[::-1, ::-1])
    assert np.array_equal(load(tmp_path / f"volume{suffix}", slice=-1, slice_axis=slice_axis), last)


@pytest.mark.parametrize("codes", ["RAS", "PIR", "SPL"])
@pytest.mark.parametrize("plane", [0, 1, 2])
def test_a_nifti_file_with_one_slice_shows_that_slice_whatever_axis_is_asked_for(tmp_path, lopsided, codes, plane):
    single = np.take(lopsided, [3], plane)
    nib.save(reoriented(single, np.eye(4), codes), tmp_path / "single.nii.gz")
    expected = scaled(np.take(lopsided, 3, plane).T[::-1, ::-1])
    for slice_axis in range(3):
        assert np.array_equal(load(tmp_path / "single.nii.gz", slice_axis=slice_axis), expected)


def test_a_compressed_nifti_file_with_a_scale_reads_as_the_uncompressed_one(tmp_path, lopsided):
    image = nib.Nifti1Image(lopsided, np.eye(4))
    image.header.set_slope_inter(-0.5, 100)  # a negative slope, as positive ones do not show in a scaled slice
    for name in ("a.nii", "a.nii.gz"):
        nib.save(image, tmp_path / name)
    assert nib.load(tmp_path / "a.nii").dataobj.slope == -0.5
    for name in ("a.nii", "a.nii.gz"):
        assert np.array_equal(load(tmp_path / name), scaled(-lopsided[:, :, 4].T[::-1, ::-1]))


@pytest.mark.parametrize("mode", ["L", "I;16", "I", "F", "1"])
def test_every_depth_of_a_picture_keeps_its_values(tmp_path, brain_slice, mode):
    dtype = {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32, "1": bool}[mode]
    factor = {"L": 1, "I;16": 250, "I": 100_000, "F": 0.37}.get(mode, 1)
    picture = brain_slice > 100 if mode == "1" else (brain_slice.astype(float) * factor).astype(dtype)
    Image.fromarray(picture).save(tmp_path / "a.tif")
    assert Image.open(tmp_path / "a.tif").mode == mode
    assert np.array_equal(load(tmp_path / "a.tif"), scaled(picture))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_in_which_white_is_zero_is_inverted(tmp_path, brain_slice, dtype):
    picture = brain_slice.astype(dtype)
    Image.fromarray(picture).save(tmp_path / "a.tif", tiffinfo={262: 0})
    if dtype == np.uint8:  # Pillow inverts when it writes 8 bits, too
        assert np.array_equal(load(tmp_path / "a.tif"), scaled(np.asarray(Image.open(tmp_path / "a.tif"))))
    else:
        assert np.allclose(load(tmp_path / "a.tif"), 1 - scaled(picture), atol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK"])
def test_colour_files_with_equal_channels_are_read_as_grey(tmp_path, brain_slice, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    grey = Image.fromarray(brain_slice)
    (grey if mode == "P" else grey.convert("RGB")).convert(mode).save(tmp_path / f"a.{suffix}")
    loaded = read_item({"image": tmp_path / f"a.{suffix}"})
    assert not loaded.converted
    assert np.array_equal(loaded.image[0].numpy(), scaled(brain_slice))


def test_a_jpeg_is_read_to_within_its_compression(tmp_path, brain_slice):
    Image.fromarray(brain_slice).save(tmp_path / "a.JPG", format="JPEG", quality=95)
    assert np.abs(load(tmp_path / "a.JPG") - scaled(brain_slice)).mean() < 0.01


def test_real_colour_is_converted_by_its_luma_and_flagged(tmp_path, brain_slice, write_dicom):
    colours = np.stack([brain_slice, brain_slice // 2, 255 - brain_slice], axis=-1)
    Image.fromarray(colours).save(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", colours, photometric="RGB")
    expected = scaled(colours @ np.array([0.299, 0.587, 0.114]))
    for name in ("a.png", "a.dcm"):
        loaded = read_item({"image": tmp_path / name})
        assert loaded.converted
        assert np.allclose(loaded.image[0].numpy(), expected, atol=1e-6)


def test_transparent_pixels_are_black(tmp_path):
    pixels = np.full((8, 8, 4), 255, dtype=np.uint8)
    pixels[:4, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert load(tmp_path / "a.png")[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_orientation_tags_are_followed_as_viewers_do(tmp_path, brain_slice, suffix):
    picture = Image.fromarray(brain_slice)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its left side: turn a quarter to the right
    picture.save(tmp_path / f"a.{suffix}", exif=exif)
    expected = scaled(np.rot90(brain_slice, -1))
    assert np.abs(load(tmp_path / f"a.{suffix}") - expected).mean() < 0.02


def test_monochrome1_is_inverted_and_the_rescale_slope_applied(tmp_path, brain_slice, write_dicom):
    write_dicom(tmp_path / "inverted.dcm", 255 - brain_slice, photometric="MONOCHROME1")
    assert np.array_equal(load(tmp_path / "inverted.dcm"), scaled(brain_slice))
    assert not read_item({"image": tmp_path / "inverted.dcm"}).converted
    write_dicom(tmp_path / "negative_slope.dcm", brain_slice, RescaleSlope=-2, RescaleIntercept=1000)
    assert np.array_equal(load(tmp_path / "negative_slope.dcm"), scaled(255 - brain_slice.astype(int)))


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"])
def test_dicom_files_from_scanners_are_shown_as_stored(name):
    path = get_testdata_file(name)
    assert np.array_equal(load(Path(path)), scaled(pydicom.dcmread(path).pixel_array))


def test_a_palette_in_dicom_becomes_grey():
    loaded = read_item({"image": get_testdata_file("examples_palette.dcm")})
    assert loaded.converted
    assert loaded.image.shape == (1, 350, 800)


def test_a_dicom_file_without_orientation_is_shown_as_stored(tmp_path, brain_slice, write_dicom):
    write_dicom(tmp_path / "a.dcm", brain_slice, orientation=None, position=None)
    assert np.array_equal(load(tmp_path / "a.dcm"), scaled(brain_slice))


def test_a_dicom_file_that_was_stored_upside_down_is_turned(tmp_path, brain_slice, write_dicom):
    write_dicom(tmp_path / "a.dcm", np.ascontiguousarray(brain_slice[::-1]), orientation=(1, 0, 0, 0, -1, 0))
    assert np.array_equal(load(tmp_path / "a.dcm"), scaled(brain_slice))


def test_load_sliced_heads_a_list_of_monai_transforms(tmp_path, brain_slice):
    Image.fromarray(brain_slice).save(tmp_path / "a.png")
    transforms = Compose([LoadSliced(), RandFlipd("image", prob=1.0, spatial_axis=0)])
    item = transforms(list_images(tmp_path)[0])
    assert np.array_equal(np.asarray(item["image"])[0], scaled(brain_slice)[::-1])
    assert item["path"] == "a.png"
