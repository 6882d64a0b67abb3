"""Compressed DICOM pixels: as they were before, or a message that names the transfer syntax and what to install."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder, get_encoder

from monai_deepssim.data import load_slice
from monai_deepssim.data.readers import dicom_codecs
from monai_deepssim.errors import UnusableInputError

INSTALL = r"pip install 'monai-deepssim\[dicom\]'"


def load(path) -> np.ndarray:
    return load_slice({"image": str(path)})[0].numpy()


def scaled(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.astype(np.float64)
    return ((pixels - pixels.min()) / (pixels.max() - pixels.min())).astype(np.float32)


def write_frames(path: Path, frames: list[bytes], syntax: uid.UID, **tags) -> Path:
    """Replace the pixels of a file by compressed ones."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def compressed(pixels: np.ndarray, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, image_format, **options)
    return stream.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(UnusableInputError) as caught:
        load(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def is_read(syntax: uid.UID) -> bool:
    try:
        return bool(get_decoder(syntax))
    except NotImplementedError:
        return False


def test_the_table_has_every_compressed_syntax_that_pydicom_decodes():
    of_pydicom = {syntax for syntax in uid.AllTransferSyntaxes if is_read(syntax)}
    assert set(dicom_codecs.COMPRESSED_SYNTAXES) == of_pydicom - set(uid.UncompressedTransferSyntaxes) | {
        uid.DeflatedExplicitVRLittleEndian
    }


@pytest.mark.parametrize(
    "syntax", [name for name, needs in dicom_codecs.COMPRESSED_SYNTAXES.items() if needs.startswith("`pip")]
)
def test_without_a_decoder_the_syntax_and_the_extra_are_named(tmp_path, brain_slice, write_dicom, monkeypatch, syntax):
    path = write_frames(write_dicom(tmp_path / "a.dcm", brain_slice), [b"\xff\xd8"], syntax)
    monkeypatch.setattr(type(get_decoder(syntax)), "is_available", property(lambda decoder: False))
    with pytest.raises(UnusableInputError, match=INSTALL) as caught:
        load(path)
    assert syntax.name in str(caught.value)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_bigendian.dcm"]
)
def test_one_image_in_several_syntaxes_is_one_image(name):
    path = get_testdata_file(name)
    if not get_decoder(pydicom.dcmread(path).file_meta.TransferSyntaxUID).is_available:
        pytest.skip("its decoder is not installed")
    assert np.array_equal(load(path), load(get_testdata_file("MR_small.dcm")))


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_what_was_compressed_without_loss_is_what_it_was(tmp_path, brain_slice, write_dicom, syntax, dtype):
    encoder = get_encoder(syntax)
    if not encoder.is_available:
        pytest.skip("its encoder is not installed")
    pixels = brain_slice.astype(dtype) * (1 if dtype == np.uint8 else 100) - (500 if dtype == np.int16 else 0)
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=int(pixels[0, 0]))
    dataset = pydicom.dcmread(path)
    dataset.compress(syntax, encoding_plugin=next(name for name in encoder.available_plugins if name != "gdcm"))
    dataset.save_as(tmp_path / "b.dcm")
    assert np.array_equal(load(tmp_path / "b.dcm"), load(path))


def test_jpeg_lossless_is_read():
    if not get_decoder(uid.JPEGLosslessSV1).is_available:
        pytest.skip("its decoder is not installed")
    assert np.array_equal(load(get_testdata_file("SC_rgb_jpeg_gdcm.dcm")), load(get_testdata_file("SC_rgb_rle.dcm")))


def test_a_picture_at_which_gdcm_ends_its_process_is_refused_and_the_next_one_read(tmp_path):
    if get_decoder(uid.JPEGLosslessSV1).available_plugins != ("gdcm",):
        pytest.skip("GDCM is not installed, or not needed")
    whole = get_testdata_file("SC_rgb_jpeg_gdcm.dcm")
    dataset = pydicom.dcmread(whole)
    code = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    (tmp_path / "a.dcm").write_bytes(Path(whole).read_bytes())
    code[17] ^= 0x10  # a damaged length, by which its components do not fit its colours
    path = write_frames(tmp_path / "a.dcm", [bytes(code)], uid.JPEGLosslessSV1)
    before = load(whole)
    assert "GDCM gave up at this picture" in refusal(path)
    assert np.array_equal(load(whole), before)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "YBR_FULL_422"])
def test_jpeg_is_read_in_its_colours(tmp_path, brain_slice, write_dicom, photometric):
    pixels = np.stack([brain_slice, brain_slice[::-1], 255 - brain_slice], axis=-1)
    pixels = brain_slice if photometric == "MONOCHROME2" else pixels
    path = write_dicom(tmp_path / "a.dcm", pixels, photometric=photometric)
    write_frames(path, [compressed(pixels, "JPEG", quality=98, subsampling=0)], uid.JPEGBaseline8Bit)
    luma = pixels if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(load(path) - scaled(luma)).max() < 0.05
    assert np.abs(load(path) - scaled(luma)).mean() < 0.01


@pytest.mark.parametrize("photometric", ["YBR_RCT", "RGB"])
def test_colours_in_jpeg_2000_are_read(tmp_path, brain_slice, write_dicom, photometric):
    pixels = np.stack([brain_slice, brain_slice[::-1], 255 - brain_slice], axis=-1)
    path = write_dicom(tmp_path / "a.dcm", pixels, photometric=photometric)
    code = compressed(pixels, "JPEG2000", no_jp2=True, mct=int(photometric == "YBR_RCT"))
    write_frames(path, [code], uid.JPEG2000Lossless)
    assert np.abs(load(path) - scaled(pixels @ np.array([0.299, 0.587, 0.114]))).max() < 1e-6


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.RLELossless])
def test_a_compressed_frame_that_is_cut_short_is_refused(tmp_path, brain_slice, write_dicom, syntax):
    path = write_dicom(tmp_path / "a.dcm", brain_slice)
    if syntax == uid.RLELossless:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, encoding_plugin="pydicom")
        code = get_frame(dataset.PixelData, 0, number_of_frames=1)
    else:
        code = compressed(brain_slice, "JPEG") if syntax == uid.JPEGBaseline8Bit else None
        code = code or compressed(brain_slice, "JPEG2000", no_jp2=True)
    write_frames(path, [code], syntax)
    assert load(path).shape == brain_slice.shape
    for length in (2, 30, len(code) // 2, len(code) - 200):
        write_frames(path, [code[:length]], syntax)
        assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("image_format", ["JPEG", "JPEG2000"])
def test_a_picture_of_another_size_is_refused_before_it_is_decoded(
    tmp_path, brain_slice, write_dicom, monkeypatch, image_format
):
    syntax = uid.JPEGBaseline8Bit if image_format == "JPEG" else uid.JPEG2000Lossless
    options = {"no_jp2": True} if image_format == "JPEG2000" else {}
    path = write_dicom(tmp_path / "a.dcm", brain_slice[:9, :9])
    write_frames(path, [compressed(brain_slice, image_format, **options)], syntax)
    monkeypatch.setattr(dicom_codecs, "pixel_array", None)
    assert "the header promises 9 x 9 pixels of 8 bits, and the " in refusal(path)


def test_films_that_are_compressed_as_video_are_named(tmp_path, brain_slice, write_dicom):
    path = write_frames(write_dicom(tmp_path / "a.dcm", brain_slice), [b"\0\0"], uid.MPEG4HP41)
    assert "MPEG-4 AVC/H.264 High Profile / Level 4.1, which is not read" in refusal(path)


def test_twelve_bits_of_jpeg_name_the_package_that_is_missing():
    if any("libjpeg" in name for name in get_decoder(uid.JPEGExtended12Bit).available_plugins):
        pytest.skip("its decoder is installed")
    assert "pip install pylibjpeg pylibjpeg-libjpeg (GPL)" in refusal(Path(get_testdata_file("JPGExtended.dcm")))


def test_pixels_that_are_compressed_and_do_not_say_so_are_refused(tmp_path, brain_slice, write_dicom):
    path = write_frames(write_dicom(tmp_path / "a.dcm", brain_slice), [b"\xff\xd8"], uid.JPEGBaseline8Bit)
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0")
    path.write_bytes(content)
    assert "the header does not say how" in refusal(path)
