"""DICOM files with a damaged or unusual header: read where they are DICOM, else refused with the cause."""

import time
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_deepssim.data import list_images, load_slice, scan_images
from monai_deepssim.data.readers import dicom_file, dicom_pixels, limits, reader_of
from monai_deepssim.errors import UnusableInputError


def load(path) -> np.ndarray:
    return load_slice({"image": str(path)})[0].numpy()


def refusal(path) -> str:
    with pytest.raises(UnusableInputError) as caught:
        load(list_images(path)[0]["image"])
    assert path.name in str(caught.value)
    return str(caught.value)


def raw_element(path, keyword: str, value: bytes) -> None:
    """Give an element of a file a value that pydicom would not write."""
    dataset, tag = pydicom.dcmread(path), pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = RawDataElement(tag, vr, len(value), value + b" " * (len(value) % 2), 0, False, True)
    dataset.save_as(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
@pytest.mark.parametrize("keeps_meta", [False, True])
def test_a_file_without_preamble_is_read(tmp_path, brain_slice, write_dicom, syntax, name, keeps_meta):
    path = write_dicom(tmp_path / name, brain_slice)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    whole, content = load(path), path.read_bytes()
    first_element = b"\x08\x00\x16\x00" if syntax.is_little_endian else b"\x00\x08\x00\x16"
    path.write_bytes(content[132 if keeps_meta else content.index(first_element) :])
    assert reader_of(path).name == "DICOM"
    assert np.array_equal(load(path), whole)


def test_a_file_without_transfer_syntax_is_read(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    whole, content = load(path), path.read_bytes()
    start = content.index(b"\x02\x00\x10\x00UI")
    end = start + 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    path.write_bytes(content[:start] + content[end:])
    assert np.array_equal(load(path), whole)


@pytest.mark.parametrize(
    "content", [b"<html><body>404</body></html>", b"DICM at the wrong place", bytes(500), b"\x08\x00", b" "]
)
def test_what_is_only_named_dicom_is_refused_in_words(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    assert "cannot be read as DICOM" in refusal(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("PixelSpacing", b"0.5", "PixelSpacing is '0.5', want 2 numbers"),
        ("PixelSpacing", b"0.5,0.5", "PixelSpacing is '0.5,0.5', want 2 numbers"),
        ("PixelSpacing", b"0.5\\0.5\\1", "want 2 numbers with a backslash between them"),
        ("PixelSpacing", b"one\\two", "want 2 numbers"),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\1", "want 6 numbers"),
        ("ImagePositionPatient", b"1\\nan\\3", "want 3 numbers"),
        ("NumberOfFrames", b"1A", "NumberOfFrames is '1A', want a number"),
        ("NumberOfFrames", b"-1", "NumberOfFrames is -1"),
        ("RescaleSlope", b"1,5", "RescaleSlope is no number"),
        ("RescaleSlope", b"1\\2", "RescaleSlope is no number"),
    ],
)
def test_an_element_that_makes_no_sense_is_named_with_its_value(
    tmp_path, brain_slice, write_dicom, keyword, value, message
):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    raw_element(path, keyword, value)
    assert message in refusal(path)


@pytest.mark.parametrize("value", [b"", b" "])
@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope"])
def test_an_empty_element_is_as_good_as_none(tmp_path, brain_slice, write_dicom, keyword, value):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    whole = load(path)
    raw_element(path, keyword, value)
    assert np.array_equal(load(path), whole)


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"])
def test_a_missing_element_is_named(tmp_path, brain_slice, write_dicom, keyword):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    dataset = pydicom.dcmread(path)
    delattr(dataset, keyword)
    dataset.save_as(path)
    assert keyword in refusal(path).replace("Bits Allocated", "BitsAllocated")
    assert scan_images(tmp_path).ignored == []


def test_a_header_without_pixels_is_refused(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert "it ends before its pixels" in refusal(path)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 466}, "the header promises 466 x 197 pixels of 8 bits, which are 91,802 bytes"),
        ({"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}, "pixels of 16 bits"),
        ({"Rows": 100}, "header promises 19,700"),
        ({"Rows": 0}, "Rows is 0"),
    ],
)
def test_a_size_that_does_not_fit_the_pixels_is_refused(tmp_path, brain_slice, write_dicom, tags, message):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    assert message in refusal(path)


def test_zeros_behind_the_pixels_do_no_harm(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    whole = load(path)
    dataset = pydicom.dcmread(path)
    dataset.PixelData += bytes(101)
    dataset.save_as(path)
    assert np.array_equal(load(path), whole)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, brain_slice, write_dicom):
    content = write_dicom(tmp_path / "whole.dcm", brain_slice).read_bytes()
    path = tmp_path / "a.dcm"
    for length in range(200, len(content) - 1, 1501):
        path.write_bytes(content[:length])
        assert "cannot be read" in refusal(path) or "no image" in refusal(path)
    path.write_bytes(content[:-3])
    assert "bytes are left for the" in refusal(path)


@pytest.mark.parametrize("frames", [1, 1000])
def test_a_header_that_promises_more_than_the_memory_holds_is_refused_unread(
    tmp_path, brain_slice, write_dicom, monkeypatch, frames
):
    path = write_dicom(tmp_path / "a.dcm", brain_slice, NumberOfFrames=frames)
    dataset = pydicom.dcmread(path)
    dataset.Rows = dataset.Columns = 65535 if frames == 1 else 8192
    dataset.save_as(path)
    monkeypatch.setattr(dicom_pixels, "read_dataset", None)
    assert f"more than the {limits.MAX_DICOM_PIXELS:,} pixels that are read" in refusal(path)


def test_an_element_that_claims_to_be_huge_takes_no_memory(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    raw_element(path, "PixelSpacing", b"1\\1")
    content = path.read_bytes()
    huge = b"\x28\x00\x30\x00OB\x00\x00\xf0\xff\xff\xff"
    path.write_bytes(content.replace(b"\x28\x00\x30\x00DS\x04\x00", huge))
    tracemalloc.start()
    assert "cannot be read" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_a_deflated_file_is_read_and_one_that_explodes_is_not(tmp_path, brain_slice, write_dicom, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    whole = load(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert np.array_equal(load(path), whole)
    content = path.read_bytes()
    start = content.index(str(DeflatedExplicitVRLittleEndian).encode()) + len(DeflatedExplicitVRLittleEndian)
    assert len(zlib.decompress(content[start:], -zlib.MAX_WBITS)) > brain_slice.size
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = bytes(2**20)
    monkeypatch.setattr(dicom_file, "MAX_INFLATED_BYTES", 2**24)
    bomb = b"".join(deflater.compress(piece) for _ in range(64)) + deflater.flush()
    path.write_bytes(content[:start] + bomb)
    before = time.perf_counter()
    assert "grows beyond 16,777,216" in refusal(path)
    assert time.perf_counter() - before < 5


def test_a_damaged_slice_is_an_image_of_its_own_beside_its_series(tmp_path, lopsided, write_series):
    files = write_series(tmp_path, lopsided, 2, [f"{index}.dcm" for index in range(8)])
    files[7].write_bytes(files[7].read_bytes()[:-30])
    volume, damaged = list_images(tmp_path)
    assert load_slice(volume).shape == (1, 7, 6)
    with pytest.raises(UnusableInputError, match=r"7\.dcm: .*cut short"):
        load_slice(damaged)
