"""What a file really is, by its first bytes and whatever it is called."""

from __future__ import annotations

import re
import stat
from pathlib import Path

__all__ = ["HEAD_BYTES", "describe_content", "first_bytes"]

#: What a reader is shown of a file: the headers of NIfTI and DICOM lie in it, also behind gzip.
HEAD_BYTES = 1024

# Offset, bytes, and what they stand for. Those that say more come first.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer and not the file itself (run: git lfs pull)"),
    (0, b"/annex/objects/", "a git-annex pointer and not the file itself (run: git annex get)"),
    (0, b"outs:\n- md5:", "a DVC pointer and not the file itself (run: dvc pull)"),
    (128, b"DICM", "DICOM"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"II+\0", "a BigTIFF image"),
    (0, b"MM\0+", "a BigTIFF image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG2000 image"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftyp", "a video"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (344, b"n+1\0", "NIfTI"),
    (344, b"ni1\0", "the header of a NIfTI pair"),
    (4, b"n+2\0", "NIfTI"),
    (4, b"ni2\0", "the header of a NIfTI pair"),
    (0, b"NRRD000", "MetaImage/NRRD"),
    (0, b"ObjectType", "MetaImage/NRRD"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"CDF\x01", "NetCDF (MINC 1)"),
    (0, b"CDF\x02", "NetCDF (MINC 1)"),
    (0, b"MATLAB 5.0 MAT", "a MATLAB file"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"BM", "a BMP image"),
)
_HTML = re.compile(rb"<(!doctype html|html|head|body)[\s>]", re.IGNORECASE)
# Tabulator, line feed, form feed, carriage return and escape are the control characters of text.
_NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def first_bytes(path: Path) -> bytes:
    """Read the first :data:`HEAD_BYTES` of a file; none where it cannot be read or is no file, such as a pipe."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def describe_content(head: bytes) -> str:
    """Say what a file is by its first bytes, ``""`` where they do not tell.

    Args:
        head: As :func:`first_bytes` reads them.

    Example:
        >>> describe_content(b"<!DOCTYPE html><html><body>404 Not Found"), describe_content(b"BZh91AY&SY")
        ('an HTML page', 'bzip2 data')
        >>> describe_content(b"version https://git-lfs.github.com/spec/v1")
        'a Git LFS pointer and not the file itself (run: git lfs pull)'
    """
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    if head and not any(head):
        return "nothing but zeros"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text in UTF-16"
    if not head or _NOT_IN_TEXT.search(head):
        return ""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _HTML.match(text):
        return "an HTML page"
    if text.startswith(b"<"):
        return "an XML document" if b"<svg" not in text else "an SVG drawing"
    return "text"
