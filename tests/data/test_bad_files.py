"""Files that cannot be used end in a message that names them, never in a picture that is partly black."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from pydicom.data import get_testdata_file

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.errors import UnusableInputError


def refusal(path: Path, **item) -> str:
    with pytest.raises(UnusableInputError) as caught:
        load_slice({"image": str(path), **item})
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["a.png", "a.jpg", "a.tif", "lzw.tif", "a.nii", "a.nii.gz", "v.nii", "v.nii.gz", "a.dcm"])
def whole_file(request, tmp_path, brain_slice, write_dicom) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".dcm":
        return write_dicom(path, brain_slice)
    if ".nii" in path.name:
        volume = np.stack([brain_slice] * (1 if path.name.startswith("a") else 3), axis=-1)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    else:
        Image.fromarray(brain_slice).save(path, compression="tiff_lzw" if path.name == "lzw.tif" else None)
    return path


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("pillow_fills_up", [False, True])
def test_a_file_that_is_cut_short_is_refused_or_whole(whole_file, tmp_path, monkeypatch, pillow_fills_up):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", pillow_fills_up)
    whole = load_slice({"image": str(whole_file)})
    content = whole_file.read_bytes()
    cut = tmp_path / "cut" / whole_file.name
    cut.parent.mkdir()
    messages = []
    for length in [1, 4, 100, 200, 400, *range(1000, len(content), len(content) // 12), len(content) - 40]:
        cut.write_bytes(content[:length])
        try:
            image = load_slice(list_images(cut)[0])
        except UnusableInputError as error:
            messages.append(str(error))
        else:  # what is missing may lie behind the pixels
            assert torch.equal(image, whole), length
    assert len(messages) > 12
    assert all(str(cut) in message for message in messages)
    assert pillow_fills_up is ImageFile.LOAD_TRUNCATED_IMAGES


def test_an_empty_file_is_named(whole_file):
    whole_file.write_bytes(b"")
    assert "empty (0 bytes)" in refusal(whole_file)
    assert "empty (0 bytes)" in refusal(Path(list_images(whole_file)[0]["image"]))


def test_a_file_with_other_content_than_its_suffix_is_named(whole_file):
    whole_file.write_text("<html>404 Not Found</html>")
    assert "cannot be read" in refusal(whole_file)


def test_a_compressed_file_with_flipped_bits_is_refused(tmp_path, brain_slice):
    content = bytearray(gzip.compress(nib.Nifti1Image(np.stack([brain_slice] * 3, -1), np.eye(4)).to_bytes()))
    content[len(content) // 2] ^= 255
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert "cannot be read" in refusal(tmp_path / "a.nii.gz")


def test_missing_files_and_broken_links_are_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "gone.png")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "not_fetched.nii.gz")
    (item,) = list_images(tmp_path)  # git-annex leaves such links: they must be missed, not overlooked
    assert "broken link" in refusal(Path(item["image"]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.tif"])
def test_pixels_that_are_no_numbers_are_counted(tmp_path, brain_slice, value, name):
    pixels = brain_slice.astype(np.float32)
    pixels[5, 6:9] = value
    if name == "a.tif":
        Image.fromarray(pixels).save(tmp_path / name)
    else:
        nib.save(nib.Nifti1Image(pixels, np.eye(4)), tmp_path / name)
    assert f"3 of {pixels.size} pixels are NaN or infinite" in refusal(tmp_path / name)


def test_a_constant_image_is_refused_with_its_value(tmp_path):
    Image.new("L", (64, 64), 17).save(tmp_path / "a.png")
    assert "every pixel is 17" in refusal(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9)), np.eye(4)), tmp_path / "v.nii")
    assert "slice 3: every pixel is 0" in refusal(tmp_path / "v.nii", slice=3)


def test_a_stack_of_pages_is_refused_and_not_read_as_its_first(tmp_path, brain_slice):
    page = Image.fromarray(brain_slice)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    assert "3 pages" in refusal(tmp_path / "a.tif")


def test_nifti_files_that_are_no_image_or_volume_are_refused(tmp_path):
    for shape, message in [((8, 8, 8, 5), "4 dimensions"), ((8,), "no image"), ((8, 8, 1, 1, 3), "5 dimensions")]:
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random(shape), np.eye(4)), tmp_path / "a.nii")
        assert message in refusal(tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(np.ones((8, 8), np.complex64), np.eye(4)), tmp_path / "a.nii")
    assert "complex" in refusal(tmp_path / "a.nii")
    colours = np.zeros((8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    assert "colours" in refusal(tmp_path / "a.nii")


def test_a_fourth_axis_of_length_one_does_no_harm(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(lopsided[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "b.nii")
    a, b = (load_slice(item) for item in list_images(tmp_path))
    assert torch.equal(a, b)


def test_an_affine_without_directions_is_refused(tmp_path, lopsided):
    image = nib.Nifti1Image(lopsided, np.eye(4))
    image.header["qform_code"], image.header["sform_code"] = 0, 1
    image.header["srow_x"] = 0
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    broken = bytearray((tmp_path / "a.nii").read_bytes())
    broken[280:296] = bytes(16)
    (tmp_path / "a.nii").write_bytes(broken)
    assert "affine matrix is singular" in refusal(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "cannot be read"),
        ("examples_ybr_color.dcm", "30 frames"),
        ("rtplan.dcm", "holds no image"),
    ],
)
def test_dicom_files_that_cannot_be_used_are_named(name, message):
    assert message in refusal(Path(get_testdata_file(name)))
