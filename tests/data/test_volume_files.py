"""NIfTI, NIfTI pairs, Analyze and MGH: what their headers say is done, or refused in words."""

import bz2
import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from monai_deepssim.data import files_of, list_images, load_slice, scan_images

DIMENSIONS, DATA_TYPE, OFFSET, SLOPE, CODES, SFORM, MAGIC = 40, 70, 108, 112, 252, 280, 344  # bytes of nifti1.h


def viewed(volume, axis=2, index=None):
    """A slice of a volume in RAS order as a radiologist sees it."""
    return np.take(volume, volume.shape[axis] // 2 if index is None else index, axis).T[::-1, ::-1]


def edited(content, offset, layout, *values):
    """The bytes of a file with some of them replaced."""
    changed = bytearray(content)
    struct.pack_into(layout, changed, offset, *values)
    return bytes(changed)


@pytest.fixture
def nifti(lopsided):
    """The bytes of a NIfTI file."""
    return nib.Nifti1Image(lopsided, np.eye(4)).to_bytes()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", "<>")
def test_every_type_of_voxels_keeps_its_values(tmp_path, shows, lopsided, dtype, kind, endianness):
    volume = (lopsided % 127).astype(dtype)
    content = kind(volume, np.eye(4), kind.header_class(endianness=endianness), dtype=volume.dtype).to_bytes()
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    shows(tmp_path / "a.nii", viewed(volume))
    shows(tmp_path / "a.nii.gz", viewed(volume))


@pytest.mark.parametrize("slope", [0, np.nan, np.inf, -np.inf, 1e-38])
def test_a_slope_that_means_nothing_is_none(tmp_path, shows, lopsided, nifti, slope):
    (tmp_path / "a.nii").write_bytes(edited(nifti, SLOPE, "<ff", slope, 0))
    shows(tmp_path / "a.nii", viewed(lopsided))


def test_an_intercept_that_is_no_number_is_refused(tmp_path, refusal, nifti):
    (tmp_path / "a.nii").write_bytes(edited(nifti, SLOPE, "<ff", 2, np.nan))
    assert "invalid intercept" in refusal(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress, "gzip.nii"),
        (bytes, "plain.nii.gz"),
        (bz2.compress, "a.nii.bz2"),
        (bz2.compress, "bzip2.nii"),
        (gzip.compress, "without_suffix"),
        (bytes, "scan.png"),
        (lambda nifti: gzip.compress(nifti[:500]) + gzip.compress(nifti[500:]), "two_members.nii.gz"),
        (lambda nifti: gzip.compress(nifti + bytes(1000)), "padded.nii.gz"),
    ],
)
def test_what_is_compressed_is_known_by_its_content(tmp_path, shows, lopsided, nifti, content, name):
    (tmp_path / name).write_bytes(content(nifti))
    shows(tmp_path / name, viewed(lopsided))


def test_extensions_are_passed_over(tmp_path, shows, lopsided):
    image = nib.Nifti1Image(lopsided, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment" * 99))
    content = edited(image.to_bytes(), 352, "<i", 0)  # a size that nibabel takes as "to the end of the file"
    (tmp_path / "a.nii").write_bytes(content)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    shows(tmp_path / "a.nii", viewed(lopsided))
    shows(tmp_path / "a.nii.gz", viewed(lopsided))


def test_a_volume_without_orientation_lies_as_in_analyze(tmp_path, shows, lopsided, nifti):
    (tmp_path / "a.nii").write_bytes(edited(nifti, CODES, "<hh", 0, 0))
    shows(tmp_path / "a.nii", viewed(lopsided[::-1]))


@pytest.mark.parametrize(
    ("offset", "layout", "values", "message"),
    [
        (OFFSET, "<f", [0], "voxels begin at byte 0, within its header"),
        (OFFSET, "<f", [100], "too low"),
        (OFFSET, "<f", [360], "cannot be read"),
        (OFFSET, "<f", [1e9], "begin at byte 1,000,000,000"),
        (OFFSET, "<f", [np.nan], "cannot be read"),
        (DIMENSIONS, "<4h", [3, 32767, 32767, 32767], "tells"),
        (DIMENSIONS, "<4h", [3, -6, 7, 8], "holds no image"),
        (DIMENSIONS, "<4h", [3, 6, 0, 8], "holds no image"),
        (DIMENSIONS, "<h", [0], "holds no image"),
        (DIMENSIONS, "<h", [99], "cannot be read"),
        (DIMENSIONS, "<6h", [5, 6, 7, 4, 1, 2], "has 5 dimensions (6, 7, 4, 1, 2)"),
        (DATA_TYPE, "<2h", [128, 24], "voxels are colours"),
        (DATA_TYPE, "<2h", [2304, 32], "voxels are colours"),
        (DATA_TYPE, "<2h", [32, 64], "voxels are complex numbers"),
        (DATA_TYPE, "<2h", [1, 1], "not supported"),
        (DATA_TYPE, "<h", [1234], "not recognized"),
        (MAGIC, "4s", [b"abcd"], "magic string"),
        (0, "<i", [349], "does not begin with 348 or 540"),
        (CODES, "<hh12x12x16x", [0, 2], "affine matrix is singular"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path, refusal, nifti, offset, layout, values, message):
    content = edited(nifti, SFORM, "<12f", *[0] * 12) if "singular" in message else nifti
    content = edited(content, offset, layout.partition("12x")[0], *values)
    for name, stored in [("a.nii", content), ("a.nii.gz", gzip.compress(content))]:
        (tmp_path / name).write_bytes(stored)
        assert message in refusal(tmp_path / name)


def test_a_plain_file_that_is_cut_short_says_how_long_it_is(tmp_path, refusal, nifti):
    (tmp_path / "a.nii").write_bytes(nifti[:-50])
    assert "has 974 bytes, and its header tells 1,024" in refusal(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii.bz2"])
def test_a_compressed_volume_is_unpacked_no_further_than_its_header_says(tmp_path, refusal, nifti, name):
    compress = gzip.compress if name.endswith(".gz") else bz2.compress
    large = edited(edited(nifti, DIMENSIONS, "<4h", 3, 2048, 2048, 1024), DATA_TYPE, "<2h", 2, 8)
    (tmp_path / name).write_bytes(compress(large[:352] + bytes(2**20)))
    assert "more than the 2,147,483,648 bytes that a compressed volume may have" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(compress(nifti + bytes(2**25)))
    assert "the file unpacks to more than" in refusal(tmp_path / name)


def test_a_header_that_claims_many_slices_does_not_list_them(tmp_path):
    image = nib.Nifti2Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    header = image.header.copy()
    header["dim"][3] = 10**12
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(100)))
    assert len(list_images(tmp_path, slices="all")) == 1


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(nib.Nifti1Pair, ""), (nib.Nifti2Pair, ""), (nib.Nifti1Pair, ".gz"), (nib.AnalyzeImage, "")],
)
def test_a_header_with_its_voxels_is_one_volume_by_either_name(tmp_path, shows, lopsided, kind, suffix):
    is_analyze = kind is nib.AnalyzeImage
    nib.save(kind(lopsided, np.diag([-1, 1, 1, 1]) if is_analyze else np.eye(4)), tmp_path / f"a.img{suffix}")
    listing = scan_images(tmp_path)
    assert [item["path"] for item in listing.items] == [f"a.hdr{suffix}"]
    assert not listing.ignored
    for name in (f"a.hdr{suffix}", f"a.img{suffix}"):
        shows(tmp_path / name, viewed(lopsided[::-1] if is_analyze else lopsided))


def test_a_half_of_a_pair_is_listed_and_refused(tmp_path, refusal, lopsided):
    for stem in ("a", "b"):
        nib.save(nib.Nifti1Pair(lopsided, np.eye(4)), tmp_path / f"{stem}.img")
    (tmp_path / "a.img").unlink()
    (tmp_path / "b.hdr").unlink()
    assert [item["path"] for item in list_images(tmp_path)] == ["a.hdr", "b.img"]
    assert "file with its voxels, of the same name with .img, is not beside it" in refusal(tmp_path / "a.hdr")
    assert "file with its header, of the same name with .hdr, is not beside it" in refusal(tmp_path / "b.img")


def test_a_pair_that_is_named_by_one_file_is_hashed_and_copied_with_both(tmp_path, lopsided):
    nib.save(nib.Nifti1Pair(lopsided, np.eye(4)), tmp_path / "a.img")
    (tmp_path / "list.csv").write_text("image\na.img\n")
    pair = tuple(str(tmp_path / name) for name in ("a.hdr", "a.img"))
    for source in (tmp_path / "a.hdr", tmp_path / "list.csv", [{"image": str(tmp_path / "a.hdr")}]):
        (item,) = list_images(source)
        assert files_of(item) == pair


def test_a_link_beside_a_header_is_not_followed_unless_it_was_listed(tmp_path, shows, refusal, lopsided):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").mkdir()
    nib.save(nib.Nifti1Pair(lopsided, np.eye(4)), tmp_path / "set" / "a.img")
    (tmp_path / "set" / "a.img").rename(tmp_path / "elsewhere" / "a.img")
    (tmp_path / "set" / "a.img").symlink_to(tmp_path / "elsewhere" / "a.img")
    assert "is a link" in refusal(tmp_path / "set" / "a.hdr")
    (item,) = scan_images(tmp_path / "set").items
    assert "is a link" in refusal(tmp_path / "set" / "a.hdr", files=item["files"])
    (item,) = scan_images(tmp_path / "set", follow_links=True).items
    shows(tmp_path / "set" / "a.hdr", viewed(lopsided), files=item["files"])


def test_voxels_that_begin_like_gzip_are_voxels(tmp_path, shows, lopsided):
    volume = (lopsided % 100).astype(np.uint8)
    volume[0, 0, 0], volume[1, 0, 0] = 0x1F, 0x8B
    nib.save(nib.Nifti1Pair(volume, np.eye(4)), tmp_path / "a.img")
    shows(tmp_path / "a.hdr", viewed(volume, index=0), slice=0)


def test_an_analyze_volume_of_another_orientation_is_refused(tmp_path, refusal, lopsided):
    nib.save(nib.AnalyzeImage(lopsided, np.diag([-1, 1, 1, 1])), tmp_path / "a.img")
    (tmp_path / "a.hdr").write_bytes(edited((tmp_path / "a.hdr").read_bytes(), 252, "B", 2))
    assert "not axial (orient is 2" in refusal(tmp_path / "a.hdr")
    nib.save(nib.Spm99AnalyzeImage(lopsided, np.eye(4)), tmp_path / "b.img")
    assert "orientation of this Analyze volume is in b.mat" in refusal(tmp_path / "b.hdr")


@pytest.mark.parametrize("codes", ["RAS", "LIA", "PSR"])
@pytest.mark.parametrize(("suffix", "dtype"), [(".mgh", "i2"), (".mgz", "f4"), (".mgh", "u1"), (".mgh.gz", "i4")])
def test_mgh_shows_what_nifti_shows(tmp_path, lopsided, codes, suffix, dtype):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    image = nib.Nifti1Image((lopsided % 200).astype(dtype), affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes))))
    nib.save(image, tmp_path / "b.nii")
    content = nib.MGHImage(np.asarray(image.dataobj), image.affine).to_bytes()
    (tmp_path / f"a{suffix}").write_bytes(content if suffix == ".mgh" else gzip.compress(content))
    for slice_axis in range(3):
        mgh, nifti = list_images(tmp_path, slices="1:", slice_axis=slice_axis), []
        mgh, nifti = mgh[: len(mgh) // 2], mgh[len(mgh) // 2 :]
        assert all(torch.equal(load_slice(a), load_slice(b)) for a, b in zip(mgh, nifti, strict=True))


def test_an_mgh_header_that_cannot_be_is_refused(tmp_path, refusal, lopsided):
    content = nib.MGHImage(lopsided, np.eye(4)).to_bytes()
    for offset, values, message in [
        (0, [2], "does not begin with version 1"),
        (4, [60000, 60000, 60000], "has 976 bytes, and its header tells"),
        (4, [-1, 7, 8], "holds no image"),
        (20, [77], "cannot be read"),
    ]:
        (tmp_path / "a.mgh").write_bytes(edited(content, offset, f">{len(values)}i", *values))
        assert message in refusal(tmp_path / "a.mgh")
    (tmp_path / "a.mgz").write_bytes(gzip.compress(edited(content, 4, ">3i", 60000, 60000, 60000)))
    assert "an axis may have 32,767 voxels" in refusal(tmp_path / "a.mgz")
