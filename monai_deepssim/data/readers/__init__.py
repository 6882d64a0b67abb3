"""File formats. To add one: a file here with a subclass of Reader, and a line in READERS below."""

from __future__ import annotations

from pathlib import Path

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.content import describe_content, first_bytes
from monai_deepssim.data.readers.dicom import DicomReader
from monai_deepssim.data.readers.dicom_classes import PASSED_OVER_CLASSES, PASSED_OVER_TYPES, SECONDARY_CAPTURES
from monai_deepssim.data.readers.dicom_codecs import COMPRESSED_SYNTAXES
from monai_deepssim.data.readers.itk import ItkReader
from monai_deepssim.data.readers.jpeg2000 import Jpeg2000Reader, is_jpeg2000_compiled_in
from monai_deepssim.data.readers.mgh import MghReader
from monai_deepssim.data.readers.nifti import NiftiPairReader, NiftiReader
from monai_deepssim.data.readers.numpy_arrays import NumpyReader
from monai_deepssim.data.readers.pictures import PictureReader
from monai_deepssim.data.readers.png import PngReader
from monai_deepssim.data.readers.tiff import TiffReader

__all__ = [
    "COMPRESSED_SYNTAXES",
    "PASSED_OVER_CLASSES",
    "PASSED_OVER_TYPES",
    "READERS",
    "SECONDARY_CAPTURES",
    "Reader",
    "describe_file",
    "format_names",
    "reader_of",
    "supported_suffixes",
    "unread_suffixes",
]

#: The formats that are read. A package with a format of its own appends its reader.
READERS: list[Reader] = [
    PngReader(),
    PictureReader("JPEG", (".jpg", ".jpeg", ".jfif"), "one image, 8 bits"),
    TiffReader(),
    PictureReader("BMP", (".bmp", ".dib"), "one image"),
    PictureReader("WebP", (".webp",), "one image; several frames are refused"),
    PictureReader("GIF", (".gif",), "one image; several frames are refused"),
    *([Jpeg2000Reader()] if is_jpeg2000_compiled_in() else []),
    NumpyReader(),
    NiftiReader(),
    NiftiPairReader(),
    MghReader(),
    ItkReader(),
    DicomReader(),
]

# Of images for which there may be no reader.
_IMAGE_SUFFIXES = (
    *(".bmp", ".gif", ".webp", ".jp2", ".j2k", ".jls", ".jxl", ".jxr", ".avif", ".heic", ".heif"),
    *(".pgm", ".ppm", ".pnm", ".pcx", ".tga", ".exr", ".psd", ".dng", ".svg"),
    *(".npy", ".npz", ".h5", ".hdf5", ".zarr", ".fits"),
    *(".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr", ".img", ".mnc", ".par", ".rec"),
    *(".gipl", ".vtk", ".vti"),
    *(".svs", ".ndpi", ".czi", ".lif", ".nd2"),
)


def reader_of(path: Path) -> Reader | None:
    """Return the reader of a file, or ``None`` where it is not an image that this package reads.

    The content goes before the suffix: a DICOM file named ``scan.png`` is DICOM, and scanners name files ``IM0001`` or
    ``1.2.840.113619``. What no reader recognizes is left to the suffix, so that a damaged ``scan.png`` is reported as a
    damaged image and not passed over.

    Args:
        path: The file.

    Example:
        >>> reader_of(Path("patient/t1.nii.gz")).name, reader_of(Path("notes.txt"))
        ('NIfTI', None)
    """
    name = path.name.lower()
    named = next((reader for reader in READERS if name.endswith(reader.suffixes)), None)
    head = first_bytes(path)
    if not head or (named is not None and named.recognizes(head) is not False):
        return named
    return next((reader for reader in READERS if reader.recognizes(head)), named)


def describe_file(path: Path) -> str:
    """Say what a file holds by its first bytes, ``""`` where they do not tell: for messages about what is not read.

    Args:
        path: The file.
    """
    return describe_content(first_bytes(path))


def supported_suffixes() -> tuple[str, ...]:
    """Return the suffixes that are read, in lower case."""
    return tuple(suffix for reader in READERS for suffix in reader.suffixes)


def unread_suffixes() -> tuple[str, ...]:
    """Return suffixes of images that are not read.

    In a folder such a file is an image that cannot be used, and is reported so: an audit that passed over it would be
    smaller than asked for.
    """
    return tuple(suffix for suffix in _IMAGE_SUFFIXES if suffix not in supported_suffixes())


def format_names(conjunction: str = "or") -> str:
    """Name the formats that are read, for a message.

    Example:
        >>> format_names().startswith("PNG, JPEG, TIFF")
        True
    """
    *names, last = (reader.name for reader in READERS)
    return f"{', '.join(names)} {conjunction} {last}"
