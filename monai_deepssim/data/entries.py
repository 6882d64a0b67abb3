"""What a source of images names, before any file is opened: files with what the source tells about them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from monai_deepssim.data.file_types import file_kind
from monai_deepssim.data.folders import find_image_files
from monai_deepssim.data.slices import SliceChoice
from monai_deepssim.data.tables import path_inside, read_table
from monai_deepssim.errors import UnusableInputError

__all__ = ["Entry", "ImageSource", "Wanted", "checked_slice_axis", "read_entries"]

ImageSource = str | os.PathLike | Sequence[Mapping[str, Any]]
"""A folder, pattern, image, CSV or JSON file, or a MONAI data list."""

_FILE_COLUMNS = ("image", "path", "filename")
_OWN_KEYS = frozenset({"image", "path", "patient_id", "slice", "slice_axis", "files"})
_Ignored = list[dict[str, str]]


@dataclass(frozen=True)
class Wanted:
    """The slices that were asked for where a row of a list does not say otherwise.

    Args:
        slices: as :func:`~monai_deepssim.data.slices.parse_slices` returns them.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
    """

    slices: SliceChoice
    slice_axis: int


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Args:
        path: of the file.
        name: the POSIX path that stands for it in reports.
        slices: of it, if it is a volume.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        shows_slice: its slices were asked for, so they stand in the paths of the items.
        patient_id: ``""`` where the source does not tell.
        may_be_ignored: the file was found in a folder, not named in a list: it may be no image, or part of a series.
        files: of the DICOM series that the item is known to be.
        extras: columns and keys that are passed on.
    """

    path: Path
    name: str
    slices: SliceChoice
    slice_axis: int
    shows_slice: bool
    patient_id: str = ""
    may_be_ignored: bool = False
    files: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)


def checked_slice_axis(slice_axis: Any, where: str) -> int:
    """Return ``slice_axis`` if it is 0, 1 or 2.

    Raises:
        UnusableInputError: it is not; ``where`` names it.
    """
    if isinstance(slice_axis, bool) or slice_axis not in (0, 1, 2):
        raise UnusableInputError(f"{where} is {slice_axis!r}: 0 (sagittal), 1 (coronal) or 2 (axial) is wanted.")
    return int(slice_axis)


def read_entries(source: ImageSource, wanted: Wanted, extensions: Sequence[str] | None) -> tuple[list[Entry], _Ignored]:
    """Return the files that a source names, and those of its folders that are no images.

    Args:
        source: as in :func:`~monai_deepssim.data.list_images`.
        wanted: the slices of volumes.
        extensions: suffixes to keep in folders.

    Raises:
        UnusableInputError: the source cannot be read, or names files that do not exist.
    """
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Sequence) or isinstance(source, bytes):
            raise TypeError(
                f"source must be a path or a list of dictionaries with 'image', and is {type(source).__name__}"
            )
        return _from_rows([(f"entry {n} of the data list", row) for n, row in enumerate(source)], None, wanted)
    path = Path(source).expanduser()
    if not path.is_file():
        return _from_folder(path, wanted, extensions)
    if path.suffix.lower() == ".csv":
        return _from_csv(path, wanted)
    if path.suffix.lower() == ".json":
        return _from_json(path, wanted)
    if file_kind(path) is None:
        raise UnusableInputError(
            f"{path}: the file is no PNG, JPEG, TIFF, NIfTI or DICOM image, nor a CSV or JSON list of images. "
            "Give a folder, an image or a list."
        )
    return [Entry(path, path.name, wanted.slices, wanted.slice_axis, wanted.slices is not None)], []


def _from_folder(path: Path, wanted: Wanted, extensions: Sequence[str] | None) -> tuple[list[Entry], _Ignored]:
    base, files, ignored = find_image_files(path, extensions)
    entries = [
        Entry(
            path=file,
            name=file.relative_to(base).as_posix(),
            slices=wanted.slices,
            slice_axis=wanted.slice_axis,
            shows_slice=wanted.slices is not None,
            may_be_ignored=True,
        )
        for file in files
    ]
    return entries, ignored


def _from_csv(path: Path, wanted: Wanted) -> tuple[list[Entry], _Ignored]:
    table = read_table(path)
    column = next((name for name in _FILE_COLUMNS if name in table.columns), None)
    if column is None:
        remedy = "Rename the column that holds the files."
        if {"real_key", "synth_key"} <= set(table.columns):
            remedy = "This is a list of pairs: give the folder of images here, and the pairs to labelled_pairs."
        raise UnusableInputError(
            f"{path}: the columns are {', '.join(table.columns)}, and one named image, path or filename is wanted. "
            f"{remedy}"
        )
    rows = [(f"{path}, line {line}", {**cells, "image": cells[column]}) for line, cells in table]
    return _from_rows(rows, path.parent, wanted)


def _from_json(path: Path, wanted: Wanted) -> tuple[list[Entry], _Ignored]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableInputError(f"{path}: the file cannot be read as JSON ({error}). Export it again.") from error
    rows = content.get("training") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        found = f"an object with {', '.join(content)}" if isinstance(content, dict) else type(content).__name__
        raise UnusableInputError(
            f"{path}: the file holds {found}, and a list of objects with 'image' is wanted, at its top or under "
            "'training'."
        )
    return _from_rows([(f"{path}, entry {n}", row) for n, row in enumerate(rows)], path.parent, wanted)


def _from_rows(rows: Iterable[tuple[str, Any]], folder: Path | None, wanted: Wanted) -> tuple[list[Entry], _Ignored]:
    """Return the files that rows name; relative to ``folder`` and inside of it, or free where that is ``None``."""
    entries: list[Entry] = []
    ignored: _Ignored = []
    missing: list[str] = []
    for where, row in rows:
        entry = _from_row(where, row, folder, wanted)
        if not entry.path.exists():
            missing.append(f"{where}: {entry.path} does not exist")
        elif entry.path.is_dir():
            base, files, passed_over = find_image_files(entry.path)
            names = {file: f"{entry.name}/{file.relative_to(base).as_posix()}" for file in files}
            entries += [replace(entry, path=file, name=name, may_be_ignored=True) for file, name in names.items()]
            ignored += [{**file, "path": f"{entry.name}/{file['path']}"} for file in passed_over]
        elif file_kind(entry.path) is None:
            raise UnusableInputError(f"{where}: {entry.path} is no PNG, JPEG, TIFF, NIfTI or DICOM image. Convert it.")
        else:
            entries.append(entry)
    if missing:
        others = f", nor do the files of {len(missing) - 1} other rows" if len(missing) > 1 else ""
        raise UnusableInputError(f"{missing[0]}{others}. Correct the names, or restore the files.")
    return entries, ignored


def _from_row(where: str, row: Any, folder: Path | None, wanted: Wanted) -> Entry:
    image = row.get("image") if isinstance(row, Mapping) else None
    if not isinstance(image, str | os.PathLike) or not str(image):
        raise UnusableInputError(f"{where}: {row!r} has no file under 'image'. Give each entry one file.")
    own_slice = _optional_integer(row.get("slice"), f"{where}: slice")
    own_axis = row.get("slice_axis")
    if isinstance(own_axis, str):
        own_axis = _optional_integer(own_axis, f"{where}: slice_axis")
    name = PurePath(image if folder is None else os.path.normpath(image)).as_posix()
    shows_slice = own_slice is not None or wanted.slices is not None
    if folder is None and isinstance(row.get("path"), str):  # an item of an earlier list keeps its path
        name, mark, _ = row["path"].partition("#")
        shows_slice = bool(mark) if own_slice is not None else shows_slice
    return Entry(
        path=Path(image) if folder is None else path_inside(folder, str(image), where),
        name=name,
        slices=wanted.slices if own_slice is None else (own_slice,),
        slice_axis=wanted.slice_axis if own_axis is None else checked_slice_axis(own_axis, f"{where}: slice_axis"),
        shows_slice=shows_slice,
        patient_id="" if row.get("patient_id") is None else str(row["patient_id"]),
        files=() if folder else tuple(row.get("files") or ()),
        extras={key: value for key, value in row.items() if key not in _OWN_KEYS},
    )


def _optional_integer(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
    except (TypeError, ValueError):
        raise UnusableInputError(
            f"{where} is {value!r}, and a whole number is wanted. Correct it, or leave it empty."
        ) from None
    return int(value)
