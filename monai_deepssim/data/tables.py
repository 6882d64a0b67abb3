"""Rows of CSV files, with the line each came from, and files that their cells name."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monai_deepssim.csv_cells import plain_cell
from monai_deepssim.errors import UnusableInputError

__all__ = ["Table", "path_inside", "read_table"]


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
    """Read a CSV file that is separated by commas, semicolons or tabs, whichever its header has.

    Args:
        path: the file, in UTF-8.

    Returns:
        Its rows, in the order of the file, without empty lines. An apostrophe that keeps a spreadsheet from reading a
        formula (:func:`~monai_deepssim.csv_cells.safe_cell`) is taken off.

    Raises:
        UnusableInputError: the file is missing, no text, without rows, or a row is shorter or longer than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            separator = max(",;\t", key=header.count)
            reader = csv.reader(file, delimiter=separator, strict=True)
            columns = tuple(plain_cell(name.strip().lower()) for name in next(reader, []))
            rows = []
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    raise UnusableInputError(
                        f"{path}, line {reader.line_num}: the row has {len(cells)} cells, and the header names "
                        f"{len(columns)} columns. Repair the row; a cell that contains the separator needs quotes."
                    )
                texts = (plain_cell(cell.strip()) for cell in cells)
                rows.append((reader.line_num, dict(zip(columns, texts, strict=True))))
    except FileNotFoundError as error:
        raise UnusableInputError(f"{path}: the file does not exist. Check the path.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableInputError(
            f"{path}: the file cannot be read as CSV in UTF-8 ({error}). Export it again."
        ) from error
    if not rows:
        raise UnusableInputError(f"{path}: the CSV has no rows below its header. Fill it, or give another file.")
    return Table(path, columns, rows)


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
    if not name or "\0" in name or os.path.commonpath([base, path]) != base or path == base:
        raise UnusableInputError(
            f"{where}: {name!r} does not name a file inside {folder}, and nothing outside of that folder is read. Move "
            "the list to a folder that holds the images, and write the names relative to it."
        )
    return folder / os.path.relpath(path, base)
