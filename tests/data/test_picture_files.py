"""PNG, JPEG, BMP, WebP, GIF and JPEG 2000 of every kind show what a viewer shows, or are refused in words."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from monai_deepssim.data.readers.jpeg2000 import is_jpeg2000_compiled_in

LUMA = np.array([0.299, 0.587, 0.114])
GREY, RGB, PALETTE, GREY_OPACITY, RGB_OPACITY = 0, 2, 3, 4, 6  # colour types, PNG specification 11.2.2
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_OPACITY: 2, RGB_OPACITY: 4}
DEPTHS = [
    *((GREY, depth) for depth in (1, 2, 4, 8, 16)),
    *((PALETTE, depth) for depth in (1, 2, 4, 8)),
    *((kind, depth) for kind in (RGB, GREY_OPACITY, RGB_OPACITY) for depth in (8, 16)),
]
# Start and step of the passes of an interlaced picture, PNG specification 8.2.
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)


@pytest.fixture
def smooth(grey):
    return cv2.GaussianBlur(cv2.resize(grey, (64, 48)), (0, 0), 4)


def png(pixels, colour_type, depth, *, chunks=(), interlaced=False):
    """Write a PNG file: ``pixels`` are ``(rows, columns, channels)``."""

    def rows(part):
        ones = (part[..., None] >> np.arange(depth)[::-1]) & 1
        return b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in ones.astype(np.uint8))

    parts = [pixels[y::dy, x::dx] for y, x, dy, dx in PASSES] if interlaced else [pixels]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour_type, 0, 0, interlaced)
    data = zlib.compress(b"".join(map(rows, parts)))
    content = b"\x89PNG\r\n\x1a\n"
    for name, chunk in [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]:
        content += struct.pack(">I", len(chunk)) + name + chunk + struct.pack(">I", zlib.crc32(name + chunk))
    return content


@pytest.mark.parametrize(("colour_type", "depth"), DEPTHS)
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
def test_every_depth_and_colour_type_of_png_keeps_its_values(
    tmp_path, shows, colour_type, depth, transparent, interlaced
):
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 2**depth, (17, 26, CHANNELS[colour_type]))
    pixels[0, :4] = np.arange(4)[:, None] % 2**depth
    values, chunks = pixels.astype(float), [(b"gAMA", struct.pack(">I", 100000))]
    if colour_type == PALETTE:
        palette = generator.integers(0, 256, (2**depth, 3))
        palette[:2] = [[9, 9, 9], [200, 100, 0]]
        values = palette[pixels[..., 0]].astype(float)
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
        if transparent:
            chunks.append((b"tRNS", b"\0"))
            values[pixels[..., 0] == 0] = 0
    elif CHANNELS[colour_type] in (2, 4):
        values = values[..., :-1] * values[..., -1:] / (2**depth - 1)
    elif transparent:
        colour = pixels[0, 1] if depth > 1 else np.zeros(1, dtype=int)
        chunks.append((b"tRNS", colour.astype(">u2").tobytes()))
        values[(pixels == colour).all(axis=2)] = 0
    (tmp_path / "a.png").write_bytes(png(pixels, colour_type, depth, chunks=chunks, interlaced=interlaced))
    shows(tmp_path / "a.png", values @ LUMA if values.shape[2] == 3 else values[..., 0])


def test_the_orientation_of_sixteen_bit_colours_is_followed(tmp_path, shows):
    pixels = np.random.default_rng(0).integers(0, 2**16, (12, 20, 3))
    exif = Image.Exif()
    exif[274] = 6
    chunks = [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))]
    (tmp_path / "a.png").write_bytes(png(pixels, RGB, 16, chunks=chunks))
    shows(tmp_path / "a.png", np.rot90(pixels @ LUMA, -1))


def test_sixteen_bit_colours_that_are_cut_short_are_refused(tmp_path, refusal):
    content = png(np.random.default_rng(0).integers(0, 2**16, (60, 80, 3)), RGB, 16)
    (tmp_path / "a.png").write_bytes(content[:-5000])
    assert "truncated" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.bmp", {}),
        ("a.dib", {"format": "BMP"}),
        ("a.gif", {}),
        ("a.webp", {"lossless": True}),
        *([("a.jp2", {"irreversible": False})] if is_jpeg2000_compiled_in() else []),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_formats_without_loss_show_the_same_picture(tmp_path, shows, grey, name, options, mode):
    Image.fromarray(grey).convert(mode).save(tmp_path / name, **options)
    shows(tmp_path / name, grey)
    (tmp_path / "without_suffix").write_bytes((tmp_path / name).read_bytes())
    shows(tmp_path / "without_suffix", grey)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_shows_what_opencv_shows(tmp_path, shows, smooth, options, mode):
    Image.fromarray(smooth).convert("RGB").convert(mode).save(tmp_path / "a.jfif", format="JPEG", quality=98, **options)
    shows(tmp_path / "a.jfif", cv2.imread(str(tmp_path / "a.jfif"), cv2.IMREAD_GRAYSCALE), 0.02)
    shows(tmp_path / "a.jfif", smooth, 0.1)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.jpg", "MPO")])
def test_several_frames_are_refused_and_the_first_is_not_taken(tmp_path, refusal, grey, name, kind):
    frames = [Image.fromarray(pixels).convert("RGB") for pixels in (grey, 255 - grey)]
    frames[0].save(tmp_path / name, format=kind, save_all=True, append_images=frames[1:])
    assert "holds 2 pages" in refusal(tmp_path / name)


def test_a_jpeg_of_twelve_bits_is_refused_with_the_reason(tmp_path, refusal, smooth):
    Image.fromarray(smooth).save(tmp_path / "a.jpg")
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    content[content.index(b"\xff\xc0") + 4] = 12  # precision of the frame, ITU-T T.81 B.2.2
    (tmp_path / "a.jpg").write_bytes(content)
    assert "12-bit" in refusal(tmp_path / "a.jpg")


@pytest.mark.skipif(not is_jpeg2000_compiled_in(), reason="this Pillow has no OpenJPEG")
def test_jpeg_2000_keeps_sixteen_bits_of_grey_and_refuses_those_of_colours(tmp_path, shows, refusal, smooth):
    Image.fromarray(smooth.astype(np.uint16) * 257).save(tmp_path / "a.jp2", irreversible=False)
    shows(tmp_path / "a.jp2", smooth)
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "a.jp2")
    content = bytearray((tmp_path / "a.jp2").read_bytes())
    sizes = content.index(b"\xff\x4f\xff\x51") + 42  # depths of the components, ISO/IEC 15444-1 A.5.1
    content[sizes : sizes + 9 : 3] = bytes([15, 15, 15])
    (tmp_path / "a.jp2").write_bytes(content)
    assert "3 channels of 16 bits" in refusal(tmp_path / "a.jp2")


def _claims(name, side):
    """The smallest header of a format that claims a picture of ``side`` x ``side``."""
    if name == "a.png":
        return png(np.zeros((1, 1, 1), dtype=int), GREY, 8).replace(
            b"IHDR" + struct.pack(">II", 1, 1), b"IHDR" + struct.pack(">II", side, side)
        )
    if name == "a.gif":
        size = struct.pack("<HH", side, side)
        return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\2\2L\1\0;"
    if name == "a.bmp":
        return b"BM" + struct.pack("<IIIIiiHHIIIIII", 1000, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    side = min(side, 2**14 - 1)  # of WebP
    canvas = struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    bits = struct.pack("<I", 20) + b"\x2f" + ((side - 1) | (side - 1) << 14).to_bytes(4, "little") + bytes(15)
    return b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + canvas + b"VP8L" + bits


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.webp"])
def test_a_picture_that_claims_a_huge_size_is_refused_by_its_header(tmp_path, refusal, name):
    content = _claims(name, 30000)
    if name == "a.png":  # the checksum of the changed header
        end = content.index(b"IHDR") + 17
        content = content[:end] + struct.pack(">I", zlib.crc32(content[end - 17 : end])) + content[end + 4 :]
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert "tells a size of 30000 x 30000" in message or "too large" in message
