"""What kind of image a file is, told from its suffix or, for DICOM without one, from its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["FILE_KINDS", "UNREAD_SUFFIXES", "FileKind", "file_kind"]

FileKind = Literal["picture", "nifti", "dicom"]

FILE_KINDS: dict[str, FileKind] = {
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".tif": "picture",
    ".tiff": "picture",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
}
"""The suffixes that are read, in lower case, with the reader each belongs to."""

UNREAD_SUFFIXES = (
    *(".bmp", ".gif", ".webp", ".jp2", ".npy"),
    *(".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".img", ".mnc", ".par"),
)
"""Suffixes of images that are not read: in a folder such a file is an image that cannot be used, and is reported so,
since an audit that passed over it would be smaller than asked for."""


def file_kind(path: Path) -> FileKind | None:
    """Return which reader a file belongs to, or ``None`` where it is no image that this package reads.

    A known suffix decides, so that a broken ``scan.png`` is reported as a broken image and not passed over. Any other
    file is DICOM when it carries the mark ``DICM`` behind its preamble of 128 bytes: scanners name files ``IM0001`` or
    ``1.2.840.113619``.

    Args:
        path: the file.

    Returns:
        ``"picture"`` (PNG, JPEG, TIFF), ``"nifti"``, ``"dicom"`` or ``None``.

    Example:
        >>> file_kind(Path("patient/t1.nii.gz")), file_kind(Path("notes.txt"))
        ('nifti', None)
    """
    name = path.name.lower()
    for suffix, kind in FILE_KINDS.items():
        if name.endswith(suffix):
            return kind
    try:
        with path.open("rb") as file:
            return "dicom" if file.read(132)[128:] == b"DICM" else None
    except OSError:
        return None
