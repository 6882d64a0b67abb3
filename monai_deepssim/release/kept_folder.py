"""The folder that gets the files that are kept: written whole or not at all, and never over anything."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from monai_deepssim.csv_cells import csv_text
from monai_deepssim.data import path_inside, read_table
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder, open_private, unwritable, write_text

__all__ = ["check_kept_folder", "is_occupied", "write_kept_files"]

_IMAGE_COLUMNS = ("image", "path", "filename")
_SLICE_COLUMNS = ("slice", "slice_axis")


def check_kept_folder(folder: Path, manifest: Path, columns: list[str]) -> None:
    """Refuse a folder of the user's, before an hour is spent on what would go there.

    Args:
        folder: folder for the files that are kept.
        manifest: the CSV file beside it, which an earlier run has written if the folder is one of ours.
        columns: columns that such a manifest has.

    Raises:
        UnusableInputError: if the folder has files and no such manifest is there, or another file has its name.
    """
    if manifest.exists():
        header = ""
        if manifest.is_file():
            with manifest.open(encoding="utf-8", errors="replace") as file:
                header = file.readline().strip()
        if header != ",".join(columns):
            raise UnusableInputError(
                f"--output_dir: {manifest} is not one of this workflow's files and would be overwritten. Give "
                "another --output_dir."
            )
    elif is_occupied(folder):
        raise UnusableInputError(
            f"--output_dir: {folder} exists and is not empty, and nothing is ever deleted or overwritten. "
            "Give another --output_dir, or move it away."
        )


def is_occupied(folder: Path) -> bool:
    """Whether there is anything in a folder, or something else of its name."""
    if not folder.exists() and not folder.is_symlink():
        return False
    return not folder.is_dir() or any(folder.iterdir())


def write_kept_files(
    folder: Path, files: Mapping[str, str], mode: str, source: Path, *, names_only: bool = False
) -> bool:
    """Copy or link files into a new folder.

    The files themselves are only read, and copies are their owner's alone. A source that is a CSV or JSON list is
    written there, too, with the rows of the files that were kept.

    Args:
        folder: folder for the files; written under another name and renamed at the end, so that a part of it is never
            taken for the whole.
        files: path in the folder, and the file that goes there.
        mode: ``copy``; ``symlink``, to the absolute path; or ``hardlink``.
        source: what the user named.
        names_only: whether a list keeps nothing but files and slices: what is given away should not say of which
            patient, or in which other files, something is.

    Returns:
        Whether they were written; ``False`` where an earlier run has written the very same.

    Raises:
        UnusableInputError: if the folder holds anything else, or cannot be written.
    """
    wanted = dict(files)
    list_text = _kept_list(source, set(files), names_only) if _is_list(source) else None
    if is_occupied(folder):
        _check_same(folder, wanted, list_text, source.name)
        return False
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        make_folder(partial)
        for relative, file in wanted.items():
            make_folder((partial / relative).parent)
            _place(Path(file), partial / relative, mode)
        if list_text is not None:
            write_text(partial / source.name, list_text)
        if folder.exists():
            folder.rmdir()  # it is empty, and some systems rename onto no folder
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise unwritable(folder, error) from error
        raise
    return True


def _place(file: Path, target: Path, mode: str) -> None:
    try:
        if mode == "symlink":
            target.symlink_to(os.path.abspath(file))
        elif mode == "hardlink":
            os.link(os.path.realpath(file), target)
        else:
            with file.open("rb") as source, open_private(target) as copy:
                shutil.copyfileobj(source, copy)
            times = file.stat()
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    except OSError as error:
        if mode == "copy":
            raise
        raise UnusableInputError(
            f"--files {mode}: {file} cannot be linked from {target.parent} ({error.strerror or error}). Give --files "
            "copy, or an --output_dir on the same disk."
        ) from error


def _check_same(folder: Path, wanted: Mapping[str, str], list_text: str | None, list_name: str) -> None:
    """Refuse a folder that is not, file by file, what would be written."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    expected = set(wanted) | ({list_name} if list_text is not None else set())
    different = sorted(found ^ expected)
    if not different:
        different = [name for name, file in wanted.items() if not _is_same_file(file, folder / name)]
    if (
        not different
        and list_text is not None
        and (folder / list_name).read_bytes() != list_text.encode("utf-8", "surrogateescape")
    ):
        different = [list_name]
    if different:
        raise UnusableInputError(
            f"--output_dir: {folder} is there already and differs from what would be written now, such as in "
            f"{different[0]}. Nothing is ever deleted or written over: give another --output_dir, or move it away."
        )


def _is_same_file(first: str, second: Path) -> bool:
    return second.exists() and (os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False))


def _is_list(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() in (".csv", ".json")


def _kept_list(source: Path, kept: set[str], names_only: bool) -> str:
    """A CSV or JSON list with those of its rows that name a file that was kept, or a folder with such a file."""
    named = kept | {parent.as_posix() for file in kept for parent in Path(file).parents}

    def new_name(name: str) -> str | None:
        relative = Path(os.path.relpath(path_inside(source.parent, name, str(source)), source.parent)).as_posix()
        return relative if relative in named else None

    if source.suffix.lower() == ".json":
        content = json.loads(source.read_text(encoding="utf-8"))
        entries = content["training"] if isinstance(content, dict) else content
        rows = [{**entry, "image": name} for entry in entries if (name := new_name(str(entry["image"])))]
        if names_only:
            rows = [{key: entry[key] for key in ("image", *_SLICE_COLUMNS) if key in entry} for entry in rows]
            content = {"training": rows} if isinstance(content, dict) else rows
        return json.dumps({**content, "training": rows} if isinstance(content, dict) else rows, indent=2) + "\n"
    table = read_table(source)
    column = next(name for name in _IMAGE_COLUMNS if name in table.columns)
    cells = [{**row, column: name} for _, row in table if (name := new_name(row[column]))]
    columns = [name for name in table.columns if not names_only or name in (column, *_SLICE_COLUMNS)]
    lines = [columns, *([row[name] for name in columns] for row in cells)]
    return csv_text(lines)
