"""Pixels of DICOM files in every encoding: the values that were stored, padding as background, or words."""

import numpy as np
import pydicom
import pytest
import torch
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, generate_uid

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.data.loading import read_item
from monai_deepssim.errors import UnusableInputError


def scaled(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.astype(np.float64)
    return ((pixels - pixels.min()) / (pixels.max() - pixels.min())).astype(np.float32)


def load(path) -> np.ndarray:
    return load_slice({"image": str(path)})[0].numpy()


def change(path, **tags):
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def refusal(path) -> str:
    with pytest.raises(UnusableInputError) as caught:
        load(path)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.fixture
def body() -> np.ndarray:
    """A disc of soft tissue in air, in HU, and padding in the corners, as a CT scanner writes it."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(rows, columns)
    noise = np.random.default_rng(0).integers(-20, 20, (64, 64))
    return np.where(radius > 32, -2000, np.where(radius > 20, -1000, 40) + noise).astype(np.int16)


def without_padding(body: np.ndarray) -> np.ndarray:
    return np.where(body == -2000, body[body > -2000].min(), body)


# Padding --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-2000, 63536])
@pytest.mark.parametrize("rescale", [(1, 0), (1, -1024), (0.5, 3)])
def test_padding_gets_the_minimum_of_the_rest(tmp_path, body, write_dicom, value, rescale):
    path = write_dicom(tmp_path / "a.dcm", body, RescaleSlope=rescale[0], RescaleIntercept=rescale[1])
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    dataset.save_as(path)
    assert np.array_equal(load(path), scaled(without_padding(body)))


def test_padding_of_unsigned_pixels_may_be_written_with_a_sign(tmp_path, body, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", body.view(np.uint16).clip(0, 65535))
    body = body.view(np.uint16).astype(int)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.save_as(path)
    assert np.array_equal(load(path), scaled(np.where(body == 63536, body[body != 63536].min(), body)))


@pytest.mark.parametrize("limits", [(-2000, -1500), (-1500, -2000)])
def test_a_range_of_padding_is_padding(tmp_path, body, write_dicom, limits):
    body[0, 0] = -1600
    path = write_dicom(tmp_path / "a.dcm", body, PixelPaddingValue=limits[0], PixelPaddingRangeLimit=limits[1])
    body[0, 0] = -2000
    assert np.array_equal(load(path), scaled(without_padding(body)))


@pytest.mark.parametrize("padding", [0, 4095])
def test_padding_of_an_inverted_image_is_dark_too(tmp_path, brain_slice, write_dicom, padding):
    pixels = 1000 + brain_slice.astype(np.uint16)
    pixels[:30] = padding
    path = tmp_path / "a.dcm"
    write_dicom(path, pixels, photometric="MONOCHROME1", PixelPaddingValue=padding)
    inverted = -pixels.astype(int)
    inverted[:30] = inverted[30:].min()
    assert np.array_equal(load(path), scaled(inverted))


def test_bright_padding_becomes_dark(tmp_path, brain_slice, write_dicom):
    pixels = brain_slice.astype(np.uint16)
    pixels[:30] = 65535
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=65535)
    pixels[:30] = 0
    assert np.array_equal(load(path), scaled(pixels))


def test_a_padding_of_zero_that_is_black_anyway_changes_nothing(tmp_path, brain_slice, write_dicom):
    pixels = np.where(brain_slice > 0, 300 + brain_slice.astype(np.uint16), 0).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=0)
    assert np.array_equal(load(path), scaled(pixels))


def test_padding_across_a_volume_is_the_darkest_of_the_plane(tmp_path, write_dicom):
    volume = np.random.default_rng(0).permutation(8 * 9 * 10).astype(np.int16).reshape(8, 9, 10)
    volume[:, :3] = -2000
    series = generate_uid()
    for index in range(8):
        position = (0, 0, index)
        write_dicom(tmp_path / f"{index}", volume[index], series=series, position=position, PixelPaddingValue=-2000)
    plane = volume[:, :, 4].copy()
    plane[:, :3] = plane[:, 3:].min()
    (item,) = list_images(tmp_path, slice_axis=0, slices=5)
    assert torch.equal(load_slice(item)[0], torch.from_numpy(scaled(plane)[::-1].copy()))


def test_an_image_of_padding_alone_is_refused(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", np.full((8, 8), -2000, np.int16), PixelPaddingValue=-2000)
    assert "every pixel is -2000" in refusal(path)


# Encodings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("syntax", ["explicit", ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_numbers_of_every_type_and_byte_order_are_read(tmp_path, brain_slice, write_dicom, dtype, syntax):
    limits = np.iinfo(dtype)
    pixels = (brain_slice.astype(np.float64) / 255 * (limits.max - limits.min) + limits.min).round()
    pixels = pixels.clip(limits.min, limits.max).astype(dtype)
    path = write_dicom(tmp_path / "a.dcm", pixels)
    if syntax != "explicit":
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = pixels.byteswap().tobytes()
            dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    assert np.array_equal(load(path), scaled(pixels))


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_floats_are_read_and_their_padding(tmp_path, brain_slice, write_dicom, keyword, dtype):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    pixels = (brain_slice / 7 - 3).astype(dtype)
    pixels[:30] = -1e10
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    for name in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, name)
    setattr(dataset, keyword, pixels.tobytes())
    setattr(dataset, keyword.replace("Data", "PaddingValue"), float(pixels[0, 0]))
    dataset.save_as(path)
    assert np.array_equal(load(path), scaled(np.where(brain_slice >= 0, pixels, 0).clip(pixels[30:].min())))


def test_one_bit_per_pixel_is_read(tmp_path, brain_slice, write_dicom):
    mask = (brain_slice[:, :-5] > 50).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", mask)
    packed = np.packbits(mask.reshape(-1), bitorder="little").tobytes()
    change(path, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=packed + b"\0" * (len(packed) % 2))
    assert np.array_equal(load(path), mask.astype(np.float32))


def test_twelve_of_sixteen_bits_are_read_with_their_sign(tmp_path, brain_slice, write_dicom):
    signed = brain_slice.astype(np.int16) * 8 - 1000
    bits = {"BitsStored": 12, "HighBit": 11}
    extended = change(write_dicom(tmp_path / "a.dcm", signed), **bits)
    plain = change(write_dicom(tmp_path / "b.dcm", signed & 0xFFF), **bits)
    assert np.array_equal(load(extended), scaled(signed))
    assert np.array_equal(load(plain), scaled(signed))


def test_an_overlay_in_the_unused_bits_is_not_seen(tmp_path, brain_slice, write_dicom):
    pixels = brain_slice.astype(np.uint16)
    overlaid = pixels.copy()
    overlaid[20:40, 20:40] |= 0x8000
    path = change(write_dicom(tmp_path / "a.dcm", overlaid), BitsStored=12, HighBit=11)
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    dataset.save_as(path)
    assert np.array_equal(load(path), scaled(pixels))


def test_values_that_do_not_fit_the_stored_bits_are_refused(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice.astype(np.uint16) * 200)
    change(path, BitsStored=12, HighBit=11)
    assert "BitsStored is 12, and pixels have values from 0 to 51000" in refusal(path)


def test_padding_may_lie_outside_of_the_stored_bits(tmp_path, body, write_dicom):
    pixels = np.where(body == -2000, 63536, body.astype(int) + 1024).astype(np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=63536, RescaleSlope=1, RescaleIntercept=-1024)
    change(path, BitsStored=12, HighBit=11)
    assert np.array_equal(load(path), scaled(without_padding(body)))


# Colours --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def colours(brain_slice) -> np.ndarray:
    rows = brain_slice[:100, :100]
    return np.stack([rows, rows[::-1], rows.T], axis=-1).copy()


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colours_are_red_green_and_blue_however_they_are_stored(tmp_path, colours, write_dicom, planar, photometric):
    stored = colours if photometric == "RGB" else convert_color_space(colours, "RGB", "YBR_FULL")
    path = write_dicom(tmp_path / "a.dcm", stored, photometric=photometric)
    if planar:
        change(path, PlanarConfiguration=1, PixelData=stored.transpose(2, 0, 1).tobytes())
    luma = colours @ np.array([0.299, 0.587, 0.114])
    loaded = read_item({"image": str(path)})
    assert loaded.converted
    assert np.abs(loaded.image[0].numpy() - scaled(luma)).max() < (1e-6 if photometric == "RGB" else 0.02)


def test_a_palette_gives_the_colours_of_its_entries(tmp_path, write_dicom):
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = write_dicom(tmp_path / "a.dcm", indices, photometric="PALETTE COLOR")
    dataset = pydicom.dcmread(path)
    palette = np.random.default_rng(0).integers(0, 65536, (3, 64)).astype(np.uint16)
    for name, entries in zip(("Red", "Green", "Blue"), palette, strict=True):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [64, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", entries.tobytes())
    dataset.save_as(path)
    luma = np.array([0.299, 0.587, 0.114]) @ palette
    assert np.abs(load(path) - scaled(luma.reshape(8, 8))).max() < 1e-5


@pytest.mark.parametrize("photometric", ["CMYK", "YBR_PARTIAL_422", "HSV", ""])
def test_colours_that_are_not_read_are_named(tmp_path, colours, write_dicom, photometric):
    path = write_dicom(tmp_path / "a.dcm", colours, photometric=photometric)
    assert f"PhotometricInterpretation is {photometric!r}" in refusal(path)
