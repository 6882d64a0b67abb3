"""What a source of images names, before any file is opened: files with what the source tells about them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from monai_deepssim.data.folders import find_image_files
from monai_deepssim.data.items import files_of
from monai_deepssim.data.readers import format_names, reader_of
from monai_deepssim.data.tables import path_inside, read_table
from monai_deepssim.data.windows import window_ends, window_text
from monai_deepssim.errors import UnusableInputError

__all__ = ["Entry", "ImageSource", "checked_slice_axis", "checked_window", "read_entries"]

ImageSource = str | os.PathLike | Sequence[Mapping[str, Any]]
"""A folder, pattern, image, CSV or JSON file, or a MONAI data list."""

_FILE_COLUMNS = ("image", "path", "filename")
_OWN_KEYS = frozenset({"image", "path", "patient_id", "slice", "slice_axis", "files", "window"})
_Ignored = list[dict[str, str]]


@dataclass(frozen=True)
class Entry:
    """One image or volume of a source.

    Attributes:
        files: Paths of its files: several of a DICOM series, else one.
        name: POSIX path that stands for it in reports.
        slice: The slice that the source names, ``None`` where it names none.
        slice_axis: 0 sagittal, 1 coronal, 2 axial; ``None`` where the source does not tell.
        hides_slice: Whether the slice that the source names does not stand in the path of the item.
        patient_id: ``""`` where the source does not tell.
        window: ``"center,width"`` in Hounsfield units, ``""`` where the source does not tell.
        extras: Columns and keys that are passed on.
    """

    files: tuple[str, ...]
    name: str
    slice: int | None = None
    slice_axis: int | None = None
    hides_slice: bool = False
    patient_id: str = ""
    window: str = ""
    extras: dict[str, Any] = field(default_factory=dict)


def checked_slice_axis(slice_axis: Any, where: str) -> int:
    """Return ``slice_axis`` if it is 0, 1 or 2.

    Raises:
        UnusableInputError: it is not; ``where`` names it.
    """
    if isinstance(slice_axis, bool) or slice_axis not in (0, 1, 2):
        raise UnusableInputError(f"{where} is {slice_axis!r}, wanted 0 (sagittal), 1 (coronal) or 2 (axial).")
    return int(slice_axis)


def checked_window(window: Any, where: str) -> str:
    """Return a window as items have it.

    Args:
        window: ``"center,width"`` in Hounsfield units; ``""`` or ``None`` for none.
        where: names it in the message.

    Raises:
        UnusableInputError: it is neither.

    Example:
        >>> checked_window("40, 400", "window")
        '40,400'
    """
    try:
        ends = window_ends("" if window is None else str(window))
    except ValueError:
        raise UnusableInputError(
            f"{where} is {window!r}, wanted center and a width above 0 in Hounsfield units, such as '40,400'."
        ) from None
    return "" if ends is None else window_text((ends[0] + ends[1]) / 2, ends[1] - ends[0])


def read_entries(source: ImageSource, extensions: Sequence[str] | None) -> tuple[list[Entry], _Ignored]:
    """Return the images that a source names, and the files of its folders that were passed over.

    Args:
        source: as :func:`~monai_deepssim.data.list_images` takes it.
        extensions: suffixes to keep in folders.

    Raises:
        UnusableInputError: the source cannot be read, or names files that do not exist.
    """
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Sequence) or isinstance(source, bytes):
            raise TypeError(
                f"source must be a path or a list of dictionaries with 'image', got {type(source).__name__}"
            )
        return _from_rows([(f"entry {n} of the data list", row) for n, row in enumerate(source)], None)
    path = Path(source).expanduser()
    if not path.is_file():
        return _from_folder(path, extensions)
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    if path.suffix.lower() == ".json":
        return _from_json(path)
    if reader_of(path) is None:
        raise UnusableInputError(
            f"{path}: the file is not a {format_names()} image, nor a CSV or JSON list of images. "
            "Give a folder, an image or a list."
        )
    return [Entry((str(path),), path.name)], []


def _from_folder(path: Path, extensions: Sequence[str] | None = None) -> tuple[list[Entry], _Ignored]:
    base, images, ignored = find_image_files(path, extensions)
    names = [files[0].relative_to(base).as_posix() for files in images]
    return [Entry(tuple(map(str, files)), name) for files, name in zip(images, names, strict=True)], ignored


def _from_csv(path: Path) -> tuple[list[Entry], _Ignored]:
    table = read_table(path)
    column = next((name for name in _FILE_COLUMNS if name in table.columns), None)
    if column is None:
        remedy = "Rename the column that holds the files."
        if {"real_key", "synth_key"} <= set(table.columns):
            remedy = "This is a list of pairs: give the folder of images here, and the pairs to labelled_pairs."
        raise UnusableInputError(
            f"{path}: the columns are {', '.join(table.columns)}, wanted one that is named image, path or filename. "
            f"{remedy}"
        )
    rows = [(f"{path}, line {line}", {**cells, "image": cells[column]}) for line, cells in table]
    return _from_rows(rows, path.parent)


def _from_json(path: Path) -> tuple[list[Entry], _Ignored]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableInputError(f"{path}: the file cannot be read as JSON ({error}). Export it again.") from error
    rows = content.get("training") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        found = f"an object with {', '.join(content)}" if isinstance(content, dict) else type(content).__name__
        raise UnusableInputError(
            f"{path}: the file holds {found}, wanted a list of objects with 'image', at its top or under 'training'."
        )
    return _from_rows([(f"{path}, entry {n}", row) for n, row in enumerate(rows)], path.parent)


def _from_rows(rows: Iterable[tuple[str, Any]], folder: Path | None) -> tuple[list[Entry], _Ignored]:
    """Return the files that rows name; relative to ``folder`` and inside of it, or free where that is ``None``."""
    entries: list[Entry] = []
    ignored: _Ignored = []
    missing: list[str] = []
    for where, row in rows:
        entry = _from_row(where, row, folder)
        path = Path(entry.files[0])
        if not path.exists():
            missing.append(f"{where}: {path} does not exist")
        elif path.is_dir():
            images, passed_over = _from_folder(path)
            entries += [replace(entry, files=image.files, name=f"{entry.name}/{image.name}") for image in images]
            ignored += [{**file, "path": f"{entry.name}/{file['path']}"} for file in passed_over]
        elif reader_of(path) is None:
            raise UnusableInputError(f"{where}: {path} is not a {format_names()} image. Convert it.")
        else:
            entries.append(entry)
    if missing:
        others = f", nor do the files of {len(missing) - 1} other rows" if len(missing) > 1 else ""
        raise UnusableInputError(f"{missing[0]}{others}. Correct the names, or restore the files.")
    return entries, ignored


def _from_row(where: str, row: Any, folder: Path | None) -> Entry:
    image = row.get("image") if isinstance(row, Mapping) else None
    if not isinstance(image, str | os.PathLike) or not str(image):
        raise UnusableInputError(f"{where}: {row!r} has no file under 'image'. Give each entry one file.")
    own_slice = _optional_integer(row.get("slice"), f"{where}: slice")
    own_axis = row.get("slice_axis")
    if isinstance(own_axis, str):
        own_axis = _optional_integer(own_axis, f"{where}: slice_axis")
    name, mark = PurePath(image if folder is None else os.path.normpath(image)).as_posix(), "#"
    if folder is None and isinstance(row.get("path"), str):  # an item of an earlier list keeps its path
        name, mark, _ = row["path"].partition("#")
    return Entry(
        files=files_of(row) if folder is None else (str(path_inside(folder, str(image), where)),),
        name=name,
        slice=own_slice,
        slice_axis=None if own_axis is None else checked_slice_axis(own_axis, f"{where}: slice_axis"),
        hides_slice=not mark,
        patient_id="" if row.get("patient_id") is None else str(row["patient_id"]),
        window=checked_window(row.get("window"), f"{where}: window"),
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
            f"{where} is {value!r}, wanted a whole number. Correct it, or leave it empty."
        ) from None
    return int(value)
