"""What a source of images names, before any file is opened: files with what the source tells about them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from textwrap import shorten
from typing import Any

from monai_deepssim.data.folders import FolderRules, find_image_files, matches_any
from monai_deepssim.data.items import files_of
from monai_deepssim.data.orientation import AXIS_LETTERS
from monai_deepssim.data.patient_ids import patient_id_text
from monai_deepssim.data.readers import format_names, reader_of
from monai_deepssim.data.tables import path_inside, read_json, read_table, refuse_link_out, why_missing
from monai_deepssim.data.windows import NAMED_WINDOWS, resolve_window
from monai_deepssim.errors import UnusableInputError

__all__ = ["Entry", "ImageSource", "checked_slice_axis", "checked_window", "read_entries"]

ImageSource = str | os.PathLike | Sequence[Mapping[str, Any]]
"""A folder, pattern, image, CSV or JSON file, or a MONAI data list."""

_FILE_COLUMNS = ("image", "path", "filename")
_OWN_KEYS = frozenset({"image", "path", "patient_id", "slice", "slice_axis", "volume", "files", "window"})
_LARGEST_INDEX = 2**31
_LONGEST_NAME = 255  # NAME_MAX of Linux, of macOS and, in characters, of Windows
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
        window: ``"center,width"`` in Hounsfield units, or a name of
            :data:`~monai_deepssim.data.windows.NAMED_WINDOWS`; ``""`` or ``None`` for none.
        where: names it in the message.

    Raises:
        UnusableInputError: it is neither.

    Example:
        >>> checked_window("40, 400", "window"), checked_window("lung", "window")
        ('40,400', '-600,1500')
    """
    try:
        return resolve_window("" if window is None else str(window))
    except ValueError:
        raise UnusableInputError(
            f"{where} is {window!r}, wanted center and a width above 0 in Hounsfield units, such as '40,400', or one "
            f"of the names {', '.join(NAMED_WINDOWS)}."
        ) from None


def read_entries(source: ImageSource, rules: FolderRules) -> tuple[list[Entry], _Ignored]:
    """Return the images that a source names, and the files of its folders that were passed over.

    Args:
        source: as :func:`~monai_deepssim.data.list_images` takes it.
        rules: what is taken of folders; ``ignore`` holds for the rows of lists too.

    Raises:
        UnusableInputError: the source cannot be read, or names files that do not exist.
    """
    if not isinstance(source, str | os.PathLike):
        if not isinstance(source, Sequence) or isinstance(source, bytes):
            raise TypeError(
                f"source must be a path or a list of dictionaries with 'image', got {type(source).__name__}"
            )
        return _from_rows([(f"entry {n} of the data list", row) for n, row in enumerate(source)], None, rules)
    path = Path(source).expanduser()
    if not path.is_file():
        return _from_folder(path, rules)
    if path.suffix.lower() == ".csv":
        return _from_csv(path, rules)
    if path.suffix.lower() == ".json":
        return _from_json(path, rules)
    reader = reader_of(path)
    if reader is None:
        raise UnusableInputError(
            f"{path}: the file is not a {format_names()} image, nor a CSV or JSON list of images. "
            "Give a folder, an image or a list."
        )
    return [Entry(tuple(map(str, reader.files_with(path))), path.name)], []


def _from_folder(path: Path, rules: FolderRules) -> tuple[list[Entry], _Ignored]:
    content = find_image_files(path, rules)
    names = [files[0].relative_to(content.base).as_posix() for files in content.images]
    entries = [Entry(tuple(map(str, files)), name) for files, name in zip(content.images, names, strict=True)]
    return entries, content.ignored


def _from_csv(path: Path, rules: FolderRules) -> tuple[list[Entry], _Ignored]:
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
    return _from_rows(rows, path.parent, rules)


def _from_json(path: Path, rules: FolderRules) -> tuple[list[Entry], _Ignored]:
    content = read_json(path)
    rows = content.get("training") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        found = f"an object with {', '.join(content)}" if isinstance(content, dict) else type(content).__name__
        raise UnusableInputError(
            f"{path}: the file holds {found}, wanted a list of objects with 'image', at its top or under 'training'."
        )
    return _from_rows([(f"{path}, entry {n}", row) for n, row in enumerate(rows)], path.parent, rules)


def _from_rows(
    rows: Iterable[tuple[str, Any]], folder: Path | None, rules: FolderRules
) -> tuple[list[Entry], _Ignored]:
    """Return the files that rows name; relative to ``folder`` and inside of it, or free where that is ``None``."""
    entries: list[Entry] = []
    ignored: _Ignored = []
    missing: list[str] = []
    for where, row in rows:
        entry = _from_row(where, row, folder)
        path = Path(entry.files[0])
        if folder is not None and not rules.follow_links:
            refuse_link_out(folder, path, where)
        if matches_any(entry.name, rules.ignore):
            ignored.append({"path": entry.name, "reason": "left out on purpose (--ignore)", "kind": "asked"})
        elif path.is_dir():
            images, passed_over = _from_folder(path, rules)
            entries += [replace(entry, files=image.files, name=f"{entry.name}/{image.name}") for image in images]
            ignored += [{**file, "path": f"{entry.name}/{file['path']}"} for file in passed_over]
        elif not path.is_file():
            missing.append(f"{where}: {path} {why_missing(path)}")
        elif (reader := reader_of(path)) is None:
            raise UnusableInputError(f"{where}: {path} is not a {format_names()} image. Convert it.")
        elif len(entry.files) == 1:
            entries.append(replace(entry, files=tuple(map(str, reader.files_with(path)))))
        else:
            entries.append(entry)
    if missing:
        others = f", nor do the files of {len(missing) - 1} other rows" if len(missing) > 1 else ""
        raise UnusableInputError(f"{missing[0]}{others}. Correct the names, or restore the files.")
    return entries, ignored


def _from_row(where: str, row: Any, folder: Path | None) -> Entry:
    image = row.get("image") if isinstance(row, Mapping) else None
    if not isinstance(image, str | os.PathLike) or not str(image):
        shown = shorten(repr(row), 200, placeholder="...")
        raise UnusableInputError(f"{where}: {shown} has no file under 'image'. Give each entry one file.")
    if max(len(part) for part in os.fsencode(image).split(b"/")) > _LONGEST_NAME:
        raise UnusableInputError(
            f"{where}: {str(image)[:40]!r}... is longer than the {_LONGEST_NAME} bytes of a name. Correct it."
        )
    # An item of an earlier list that is a volume has a slice as all items have.
    own_slice = None if row.get("volume") is True else _optional_integer(row.get("slice"), f"{where}: slice")
    own_axis = row.get("slice_axis")
    if isinstance(own_axis, str):
        own_axis = _optional_integer(own_axis, f"{where}: slice_axis")
    name, mark = PurePath(image if folder is None else os.path.normpath(image)).as_posix(), "#"
    if folder is None and isinstance(row.get("path"), str):  # an item of an earlier list keeps its path
        name, mark = _without_slice(row["path"], str(image), own_axis, own_slice)
    return Entry(
        files=_files_of(row, where) if folder is None else (str(path_inside(folder, str(image), where)),),
        name=name,
        slice=own_slice,
        slice_axis=None if own_axis is None else checked_slice_axis(own_axis, f"{where}: slice_axis"),
        hides_slice=not mark,
        patient_id=patient_id_text(row.get("patient_id")),
        window=checked_window(row.get("window"), f"{where}: window"),
        extras={key: value for key, value in row.items() if key not in _OWN_KEYS},
    )


def _files_of(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    try:
        return tuple(map(os.fspath, files_of(row)))
    except (TypeError, ValueError, RecursionError):
        raise UnusableInputError(
            f"{where}: files is {row['files']!r}, wanted paths, or a JSON list of them. Leave it out for one file."
        ) from None


def _without_slice(path: str, image: str, axis: int | None, index: int | None) -> tuple[str, str]:
    """Part the path of an item into the name of its file, which may have a ``#`` of its own, and its slice."""
    mark = "" if axis not in (0, 1, 2) or index is None else f"#{AXIS_LETTERS[axis]}={index}"
    if not mark or not path.endswith(mark) or PurePath(path).name == PurePath(image).name:
        return path, ""
    return path.removesuffix(mark), mark


def _optional_integer(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or int(value) != float(value) or abs(int(value)) >= _LARGEST_INDEX:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UnusableInputError(
            f"{where} is {value!r}, wanted a whole number. Correct it, or leave it empty."
        ) from None
    return int(value)
