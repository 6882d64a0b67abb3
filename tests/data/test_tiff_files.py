"""TIFF keeps the values of every type of numbers, or is refused in words."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

LUMA = np.array([0.299, 0.587, 0.114])
NUMBERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
LAYOUTS = {
    "one strip": {},
    "big-endian": {"byteorder": ">"},
    "tiled": {"tile": (16, 16)},
    "deflate": {"compression": "deflate", "rowsperstrip": 5},
    "differences": {"compression": "deflate", "predictor": True},
    "BigTIFF": {"bigtiff": True},
    "white is zero": {"photometric": "miniswhite"},
}


def numbers(dtype, shape=(32, 48)):
    """Values over the whole range of a type, but for 64 bits, far below which is a background."""
    kind, generator = np.dtype(dtype), np.random.default_rng(0)
    if kind.kind == "f":
        return (generator.random(shape) * 1000 - 300).astype(kind)
    limits = np.iinfo(kind)
    low, high = max(limits.min, -(2**31)), min(limits.max, 2**32 - 1)
    return generator.integers(low, high, shape, dtype=kind, endpoint=True)


def tiff(data, *, width=8, height=8, bits=8, compression=1, **others):
    """The smallest TIFF of one strip: a header, the strip, and the tags in their order."""
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags |= {int(name[1:]): value for name, value in others.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_type_and_layout_of_grey_keeps_its_values(tmp_path, shows, dtype, layout):
    if layout == "differences" and dtype not in ("u1", "i1", "u2", "i2", "u4", "i4"):
        pytest.skip("tifffile writes differences of floats and of 64 bits with imagecodecs alone")
    pixels = numbers(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, **{"photometric": "minisblack", **LAYOUTS[layout]})
    values = pixels.astype(float)
    shows(tmp_path / "a.tif", -values if layout == "white is zero" else values)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_every_type_of_colours_keeps_its_values(tmp_path, shows, dtype, planes):
    pixels = numbers(dtype, (32, 48, 3))
    stored = pixels if planes == "contig" else np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planes)
    shows(tmp_path / "a.tif", pixels.astype(float) @ LUMA)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_opacity_of_any_depth_is_laid_over_black(tmp_path, shows, dtype):
    pixels = numbers(dtype, (16, 24, 4))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    shows(tmp_path / "a.tif", pixels[..., :3] @ LUMA * (pixels[..., 3] / np.iinfo(dtype).max))


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
def test_numbers_that_fill_no_byte_keep_their_values(tmp_path, shows, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (8, 8))
    ones = (pixels[..., None] >> np.arange(bits)[::-1]) & 1
    (tmp_path / "a.tif").write_bytes(tiff(np.packbits(ones.astype(np.uint8)).tobytes(), bits=bits))
    shows(tmp_path / "a.tif", pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd", "packbits", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F", "P", "CMYK"])
def test_what_pillow_compresses_is_read(tmp_path, shows, compression, mode):
    grey = np.add.outer(np.arange(32) * 4, np.arange(48) * 2).astype(np.uint8)
    arrays = {
        "I;16": grey.astype(np.uint16) * 250,
        "I": grey.astype(np.int32) * -70000,
        "F": grey.astype(np.float32) / 7,
    }
    if compression == "jpeg" and mode in (*arrays, "P"):
        pytest.skip("JPEG has 8 bits and no palette")
    picture = Image.fromarray(arrays.get(mode, grey))
    if mode not in arrays:
        picture = (picture if mode == "P" else picture.convert("RGB")).convert(mode)
    picture.save(tmp_path / "a.tif", compression=compression)
    shows(tmp_path / "a.tif", arrays.get(mode, grey), 0.05 if compression == "jpeg" else 1e-6)


@pytest.mark.parametrize(("dtype", "shape"), [("i1", (9, 8)), ("u4", (9, 8)), ("u2", (9, 8, 3)), ("i2", (9, 8, 3))])
def test_what_pillow_would_wrap_or_cut_behind_lzw_is_refused_or_right(tmp_path, shows, refusal, dtype, shape):
    pixels = numbers(dtype, shape)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels)
    assert tifffile.TiffFile(tmp_path / "a.tif").pages[0].compression == tifffile.COMPRESSION.LZW
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        message = refusal(tmp_path / "a.tif")
        assert "compressed by LZW with predictor 2. Save it uncompressed" in message
        assert "or pip install imagecodecs" in message
    else:
        shows(tmp_path / "a.tif", pixels if len(shape) == 2 else pixels[..., ::-1] @ LUMA)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["float64", "lzw"])
def test_orientation_tags_are_followed_whoever_decodes(tmp_path, shows, orientation, kind):
    pixels = numbers("u1")
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "lzw":
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw", exif=exif)
    else:
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", pixels.astype(kind), photometric="minisblack", extratags=[tag])
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    shows(tmp_path / "a.tif", np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))))


def test_an_inverted_picture_behind_lzw_is_turned_back(tmp_path, shows):
    for pixels in (numbers("u2"), numbers("u1")):
        Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={262: 0})
        # Pillow itself inverts 8 bits when it writes.
        shows(tmp_path / "a.tif", pixels if pixels.dtype == np.uint8 else -pixels.astype(int))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 9, 8), {"photometric": "minisblack"}, "holds 3 pages"),
        ((5, 9, 8), {"imagej": True}, "holds 5 pages"),
        ((2, 9, 8), {"ome": True, "photometric": "minisblack"}, "holds 2 pages"),
        ((9, 8, 2), {"photometric": "minisblack", "planarconfig": "contig"}, "has 2 channels"),
        ((5, 9, 8), {"photometric": "minisblack", "planarconfig": "separate"}, "has 5 channels"),
        ((5, 9, 8), {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}, "volume of 5 slices"),
    ],
)
def test_what_is_more_than_one_image_is_refused(tmp_path, refusal, shape, options, message):
    tifffile.imwrite(tmp_path / "a.tif", numbers("u1", shape), **options)
    assert message in refusal(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path, refusal):
    tifffile.imwrite(tmp_path / "a.tif", numbers("f4").astype("c8"))
    assert "complex numbers" in refusal(tmp_path / "a.tif")


def test_a_strip_that_is_missing_is_not_filled(tmp_path, refusal):
    pixels = bytes(range(64))
    (tmp_path / "a.tif").write_bytes(tiff(pixels, _278=4))  # two strips of four rows, of which one is named
    assert "strips or tiles of the image are missing" in refusal(tmp_path / "a.tif")


def test_sizes_are_checked_before_anything_is_unpacked(tmp_path, refusal):
    (tmp_path / "a.tif").write_bytes(tiff(zlib.compress(bytes(10**6)), width=30000, height=30000, compression=8))
    assert "tells a size of 30000 x 30000" in refusal(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(tiff(zlib.compress(bytes(10**7)), compression=8))
    assert "a strip or tile unpacks to more than" in refusal(tmp_path / "a.tif")
