"""File formats. To add one: a file here with a subclass of Reader, and a line in READERS below."""

from __future__ import annotations

from pathlib import Path

from monai_deepssim.data.readers.base import Reader
from monai_deepssim.data.readers.dicom import DicomReader
from monai_deepssim.data.readers.dicom_classes import PASSED_OVER_CLASSES, PASSED_OVER_TYPES, SECONDARY_CAPTURES
from monai_deepssim.data.readers.dicom_codecs import COMPRESSED_SYNTAXES
from monai_deepssim.data.readers.nifti import NiftiReader
from monai_deepssim.data.readers.pictures import PictureReader

__all__ = [
    "COMPRESSED_SYNTAXES",
    "PASSED_OVER_CLASSES",
    "PASSED_OVER_TYPES",
    "READERS",
    "SECONDARY_CAPTURES",
    "Reader",
    "format_names",
    "reader_of",
    "supported_suffixes",
    "unread_suffixes",
]

#: The formats that are read. A package with a format of its own appends its reader.
READERS: list[Reader] = [
    PictureReader("PNG", (".png",), "one image, 8 or 16 bits"),
    PictureReader("JPEG", (".jpg", ".jpeg"), "one image, 8 bits"),
    PictureReader("TIFF", (".tif", ".tiff"), "one image, integers or floats"),
    NiftiReader(),
    DicomReader(),
]

# Of images for which there may be no reader.
_IMAGE_SUFFIXES = (
    *(".bmp", ".gif", ".webp", ".jp2", ".npy"),
    *(".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".img", ".mnc", ".par"),
)


def reader_of(path: Path) -> Reader | None:
    """Return the reader of a file, or ``None`` where it is not an image that this package reads.

    A known suffix decides, so that a broken ``scan.png`` is reported as a broken image and not passed over. Any other
    file is shown to the readers with its first bytes: scanners name DICOM files ``IM0001`` or ``1.2.840.113619``.

    Args:
        path: The file.

    Example:
        >>> reader_of(Path("patient/t1.nii.gz")).name, reader_of(Path("notes.txt"))
        ('NIfTI', None)
    """
    name = path.name.lower()
    for reader in READERS:
        if name.endswith(reader.suffixes):
            return reader
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return None
    return next((reader for reader in READERS if reader.recognizes(head)), None)


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
