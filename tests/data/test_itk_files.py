"""MetaImage and NRRD lie as NIfTI does, and no header makes ITK fall over, read elsewhere or unpack for ever."""

import gzip
import re
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from monai_deepssim.data import list_images, load_slice, scan_images

SimpleITK = pytest.importorskip("SimpleITK")
LPS = np.diag([-1.0, -1.0, 1.0])
NAMES = ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"]


def write(path, image, compressed=False):
    """Write a nibabel image with SimpleITK."""
    itk_image = SimpleITK.GetImageFromArray(np.ascontiguousarray(np.asarray(image.dataobj).T))
    spacing = nib.affines.voxel_sizes(image.affine)
    itk_image.SetSpacing(spacing.tolist())
    itk_image.SetDirection((LPS @ image.affine[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(itk_image, str(path), compressed)


@pytest.fixture
def image(lopsided):
    return nib.Nifti1Image(lopsided, np.eye(4))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "RPI", "ARS", "SPL", "PIR", "ILA"])
@pytest.mark.parametrize("compressed", [False, True])
def test_each_format_shows_what_nifti_shows(tmp_path, lopsided, codes, compressed):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, :3] = nib.eulerangles.euler2mat(0.1, -0.2, 0.15) @ affine[:3, :3]  # oblique
    image = nib.Nifti1Image(lopsided, affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes))))
    nib.save(image, tmp_path / "z.nii")
    for number, suffix in enumerate((".mha", ".mhd", ".nrrd", ".nhdr")):
        write(tmp_path / f"{number}{suffix}", image, compressed)
    for slice_axis in range(3):
        items = list_images(tmp_path, slices="1:3", slice_axis=slice_axis)
        assert len(items) == 10
        *others, nifti = (torch.cat([load_slice(item) for item in items[n : n + 2]]) for n in range(0, 10, 2))
        assert all(torch.allclose(shown, nifti, atol=1e-6) for shown in others)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_every_type_of_voxels_keeps_its_values(tmp_path, shows, lopsided, dtype, name):
    volume = (lopsided % 127).astype(dtype)
    write(tmp_path / name, nib.Nifti1Image(volume, np.eye(4), dtype=volume.dtype))
    shows(tmp_path / name, volume[:, :, 4].T[::-1, ::-1])


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_two_dimensions_are_an_image_as_stored(tmp_path, shows, lopsided, name):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(lopsided[:, :, 0]), str(tmp_path / name))
    shows(tmp_path / name, lopsided[:, :, 0])


def test_colours_complex_numbers_and_more_dimensions_are_refused(tmp_path, refusal):
    for array, is_vector, message in [
        (np.zeros((4, 5, 3), np.uint8), True, "colours"),
        (np.zeros((4, 5, 6), np.complex64), False, "Save the file with one number per voxel"),
        (np.zeros((2, 4, 5, 3), np.uint8), False, "4 dimensions"),
    ]:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=is_vector), str(tmp_path / "a.mha"))
        assert message in refusal(tmp_path / "a.mha")


def test_a_header_and_its_voxels_are_one_volume_and_voxels_alone_are_missed(tmp_path, refusal, image):
    write(tmp_path / "a.mhd", image)
    write(tmp_path / "b.nhdr", image, compressed=True)
    (tmp_path / "c.raw").write_bytes(bytes(100))
    listing = scan_images(tmp_path)
    assert [item["path"] for item in listing.items] == ["a.mhd", "b.nhdr", "c.raw"]
    assert not listing.ignored
    assert "does not begin with the header" in refusal(tmp_path / "c.raw")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compressed", [False, True])
def test_voxels_that_are_cut_short_are_refused(tmp_path, refusal, image, name, compressed):
    write(tmp_path / name, image, compressed)
    data_file = next((file for file in tmp_path.iterdir() if file.name != name), tmp_path / name)
    data_file.write_bytes(data_file.read_bytes()[:-40])
    assert "cannot be read" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path, refusal, image, name):
    write(tmp_path / name, image, compressed=True)
    data_file = next((file for file in tmp_path.iterdir() if file.name != name), tmp_path / name)
    content = bytearray(data_file.read_bytes())
    content[-60] ^= 1
    data_file.write_bytes(content)
    assert "cannot be read" in refusal(tmp_path / name)


HEADERS = [
    *(("a.mhd", r"ElementDataFile = .*", f"ElementDataFile = {name}", "wanted one file in the same folder")
      for name in ("../a.raw", "/etc/hostname", "LIST\na.raw", "s%03d.raw 1 8 1")),
    *(("a.nhdr", r"data file: .*", f"data file: {name}", "wanted one file in the same folder")
      for name in ("../a.raw", "/etc/hostname", "LIST\na.raw", "s%03d.raw 1 8 1")),
    ("a.mhd", r"ElementDataFile = .*", "ElementDataFile = gone.raw", "gone.raw, is not beside it"),
    ("a.mhd", r"ElementDataFile = .*\n", "", "no ElementDataFile"),
    ("a.mhd", "NDims = 3", "NDims = 300000", "300000 dimensions, wanted 2 to 4"),
    ("a.mhd", "NDims = 3", "NDims = -1", "-1 dimensions"),
    ("a.mhd", "DimSize = .*", "DimSize = 100000 100000 100", "an axis may have 32,767 voxels"),
    ("a.mhd", "DimSize = .*", "DimSize = 30000 30000 3", "tells a size of 30000 x 30000"),
    ("a.mhd", "DimSize = .*", "DimSize = 1000000000000 7 6", "the size '1000000000000 7 6'"),
    ("a.mhd", "DimSize = .*", "DimSize = -6 7 8", "the size '-6 7 8'"),
    ("a.mhd", "DimSize = .*", "DimSize = 8 7", "the size '8 7'"),
    ("a.mhd", "CompressedData = False", "CompressedData = True\nCompressedDataSize = 9999999999", "CompressedDataSize"),
    ("a.mhd", "TransformMatrix = .*", "TransformMatrix = 0 0 0 0 0 0 0 0 0", "singular"),
    ("a.nhdr", "dimension: 3", "dimension: 99", "99 dimensions"),
    ("a.nhdr", "sizes: .*", "sizes: 2048 2048 1024", "bytes that a compressed volume may have"),
    ("a.nhdr", "encoding: .*", "encoding: gzip", "cannot be read"),
    ("a.nhdr", "encoding: .*", "encoding: " + "A" * 3000, "a line of its header"),  # teem ends the process
    ("a.nhdr", "kinds: .*", "kinds" + "A" * 3000, "a line of its header"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "pattern", "replacement", "message"), HEADERS)
def test_a_header_that_cannot_be_is_refused(tmp_path, refusal, image, name, pattern, replacement, message):
    write(tmp_path / name, image)
    (tmp_path / name).write_text(re.sub(pattern, lambda _: replacement, (tmp_path / name).read_text(), count=1))
    assert message in refusal(tmp_path / name)


def test_voxels_are_unpacked_no_further_than_the_header_says(tmp_path, refusal):
    nrrd = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 64 64 64\nencoding: gzip\n\n"
    (tmp_path / "a.nrrd").write_bytes(nrrd + gzip.compress(bytes(2**25)))
    meta = b"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = 64 64 64\nElementType = MET_UCHAR\n"
    (tmp_path / "a.mha").write_bytes(meta + b"ElementDataFile = LOCAL\n" + zlib.compress(bytes(2**25)))
    for name in ("a.nrrd", "a.mha"):
        assert "unpack to more than the 262,144 bytes" in refusal(tmp_path / name)


def test_without_simpleitk_the_extra_is_named(tmp_path, refusal, image, monkeypatch):
    write(tmp_path / "a.mha", image)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert "pip install 'monai-deepssim[itk]'" in refusal(tmp_path / "a.mha")
