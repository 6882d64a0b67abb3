"""``files.csv``: the files that an audit judged, each with the hash of its content."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from monai_deepssim.csv_cells import csv_text, plain_cell
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import write_text

__all__ = ["FILE_COLUMNS", "FILE_KINDS", "FILE_LIST", "FileRecord", "read_file_list", "write_file_list"]

#: The name of the list in the folder of an audit.
FILE_LIST = "files.csv"

#: What a file was to the audit: an image, a volume of which slices were judged, a file that repeats another one and was
#: judged with it, or a file that could not be used.
FILE_KINDS = ("image", "volume", "repeat", "skipped")

FILE_COLUMNS = ("file", "kind", "num_images", "size_bytes", "sha256")


@dataclass(frozen=True)
class FileRecord:
    """One file of the synthetic side of an audit.

    Attributes:
        file: POSIX path, relative to the folder that was audited.
        kind: one of :data:`FILE_KINDS`.
        num_images: how many images, or slices, of it were judged; a slice of a DICOM series counts for all its files.
        size_bytes: its size.
        sha256: SHA-256 of its content.
    """

    file: str
    kind: str
    num_images: int
    size_bytes: int
    sha256: str

    @property
    def was_judged(self) -> bool:
        """Whether the verdict covers it."""
        return self.kind != "skipped"


def write_file_list(path: Path, records: Iterable[FileRecord]) -> None:
    """Write the list, in the order of the names.

    Args:
        path: path of the CSV file.
        records: the files, each once.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    rows = [
        [getattr(record, name) for name in FILE_COLUMNS] for record in sorted(records, key=lambda record: record.file)
    ]
    write_text(path, csv_text([FILE_COLUMNS, *rows]))


def read_file_list(path: Path) -> dict[str, FileRecord]:
    r"""Read the list.

    Args:
        path: path of the CSV file.

    Returns:
        The files by their names, which are taken as they are: a blank or a line break in one is part of it.

    Raises:
        UnusableInputError: if it is missing or damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "files.csv")
        >>> write_file_list(path, [FileRecord("a\n.png", "image", 1, 3, "ba7816bf")])
        >>> read_file_list(path)["a\n.png"].size_bytes
        3
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if tuple(rows[0]) != FILE_COLUMNS:
            raise ValueError(f"its columns are {', '.join(rows[0])}")
        records = [
            FileRecord(plain_cell(file), kind, int(num_images), int(size), sha256)
            for file, kind, num_images, size, sha256 in rows[1:]
        ]
        if any(record.kind not in FILE_KINDS for record in records):
            raise ValueError(f"it has another kind of file than {', '.join(FILE_KINDS)}")
        if len({record.file for record in records}) < len(records):
            raise ValueError("it names a file twice")
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UnusableInputError(
            f"{path}: the list of the files that were audited is missing or damaged ({error}). Run the audit again."
        ) from error
    return {record.file: record for record in records}
