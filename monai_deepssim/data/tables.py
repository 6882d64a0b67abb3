"""Rows of CSV files, with the line each came from, content of JSON files, and the files that either names."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.csv_cells import plain_cell
from monai_deepssim.data.folders import is_inside
from monai_deepssim.errors import UnusableInputError

__all__ = ["Table", "path_inside", "read_json", "read_table", "refuse_link_out", "why_missing"]

# Excel writes the separator into a line of its own where it is another than that of the system's language.
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file.

    Args:
        path: path of the file.
        columns: names in the header, lower case.
        rows: line number in the file and cells by column, both stripped of blanks.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[int, dict[str, str]]]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        return iter(self.rows)


def read_table(path: Path) -> Table:
    r"""Read a CSV file that is separated by commas, semicolons or tabs, whichever its header has.

    A first line such as ``sep=;`` names another separator, as Excel writes it. Columns without a name, such as the
    index of a pandas table, are not read.

    Args:
        path: the file, in UTF-8, or in UTF-16 with a byte order mark.

    Returns:
        Its rows, in the order of the file, without empty lines. An apostrophe that keeps a spreadsheet from reading a
        formula (:func:`~monai_deepssim.csv_cells.safe_cell`) is taken off.

    Raises:
        UnusableInputError: the file is missing, no text, without rows, names a column twice, or a row is shorter or
            longer than the header.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "list.csv")
        >>> _ = path.write_text("sep=|\nimage|patient_id\na.png|7\n")
        >>> list(read_table(path))
        [(3, {'image': 'a.png', 'patient_id': '7'})]
    """
    text = _read_text(path)
    separator_line = _SEPARATOR_LINE.match(text)
    text = text[separator_line.end() :] if separator_line else text
    header = text.splitlines()[0] if text else ""
    separator = separator_line[1] if separator_line else max(",;\t", key=header.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        columns = tuple(plain_cell(name.strip().lower()) for name in next(reader, []))
        _check_columns(path, columns)
        rows = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num + (separator_line is not None)
            if len(cells) != len(columns):
                raise UnusableInputError(
                    f"{path}, line {line}: the row has {len(cells)} cells, and the header names "
                    f"{len(columns)} columns. Repair the row; a cell that contains the separator needs quotes."
                )
            texts = (plain_cell(cell.strip()) for cell in cells)
            rows.append((line, {name: text for name, text in zip(columns, texts, strict=True) if name}))
    except csv.Error as error:
        raise UnusableInputError(f"{path}: the file cannot be read as CSV ({error}). Export it again.") from error
    if not rows:
        raise UnusableInputError(f"{path}: the CSV has no rows below its header. Fill it, or give another file.")
    return Table(path, tuple(filter(None, columns)), rows)


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableInputError(f"{path}: the file does not exist. Check the path.") from error
    except OSError as error:
        raise UnusableInputError(f"{path}: the file cannot be read ({error.strerror}).") from error
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UnusableInputError(
            f"{path}, line {line}: there is a NUL character, so the file is no text, or UTF-16 without a byte order "
            "mark. Save it as UTF-8."
        )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnusableInputError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8; it may be Latin-1 or "
            'Windows-1252. Save the file as UTF-8 (in Excel: "CSV UTF-8").'
        ) from error


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    repeated = [name for name, count in Counter(columns).items() if name and count > 1]
    if repeated:
        raise UnusableInputError(
            f"{path}: the header names the column {repeated[0]} {columns.count(repeated[0])} times (capitals do not "
            "count). Rename or remove all but one."
        )


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UnusableInputError: it cannot be read, is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise UnusableInputError(f"{path}: the JSON is nested too deeply to be a list of images.") from None
    except (OSError, ValueError) as error:
        raise UnusableInputError(f"{path}: the file cannot be read as JSON ({error}). Export it again.") from error


def path_inside(folder: Path, name: str, where: str) -> Path:
    """Return the file that ``name`` means in ``folder``, and refuse one that lies outside of it.

    A list of files can come with a downloaded data set; it must not be able to make an audit read, and show in a
    report, what lies elsewhere on the machine.

    Args:
        folder: folder that ``name`` is relative to.
        name: the name as it was written.
        where: names the row for the message, such as ``"train.csv, line 3"``.

    Raises:
        UnusableInputError: the file lies outside of the folder.
    """
    base = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(base, name))
    if _WINDOWS_DRIVE.match(name) and os.sep == "/":
        raise UnusableInputError(
            f"{where}: {name!r} is a path of a Windows drive, and this is another system. Write the names relative to "
            f"{folder}, with '/' between folders."
        )
    if not name or "\0" in name or not Path(path).is_relative_to(base) or path == base:
        raise UnusableInputError(
            f"{where}: {name!r} does not name a file inside {folder}, and nothing outside of that folder is read. Move "
            "the list to a folder that holds the images, and write the names relative to it."
        )
    return folder / os.path.relpath(path, base)


def refuse_link_out(folder: Path, path: Path, where: str) -> None:
    """Refuse a file of a list that lies outside of the list's folder once links are resolved.

    Args:
        folder: folder of the list.
        path: the file.
        where: names the row for the message.

    Raises:
        UnusableInputError: it does.
    """
    if not is_inside(path, folder):
        raise UnusableInputError(
            f"{where}: {path} is, or lies behind, a symbolic link that leads out of {folder}, and nothing outside of "
            "that folder is read. Copy the file, or follow links with --follow_links true."
        )


def why_missing(path: Path) -> str:
    """Say why a path that a list names is no file, for a sentence that begins with it.

    Example:
        >>> why_missing(Path("images\\\\a.png"))
        "does not exist: a backslash separates folders on Windows only, write '/'"
    """
    if path.exists():
        return "is a pipe, a socket or a device, which is not opened"
    if path.is_symlink():
        return "is a link that leads nowhere"
    remedy = ": a backslash separates folders on Windows only, write '/'" if "\\" in path.name else ""
    return f"does not exist{remedy}"
