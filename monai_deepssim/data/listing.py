"""From a folder, a pattern, a file, a CSV or a MONAI data list to items that can be loaded."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_deepssim.data.entries import Entry, ImageSource, checked_slice_axis, checked_window, read_entries
from monai_deepssim.data.folders import FolderRules
from monai_deepssim.data.orientation import AXIS_LETTERS
from monai_deepssim.data.patient_ids import patient_id_rule
from monai_deepssim.data.readers import format_names, reader_of
from monai_deepssim.data.repeats import Repeat, file_keys, split_repeats
from monai_deepssim.data.slices import SliceChoice, SliceSelection, parse_slices, selected_slices
from monai_deepssim.data.spacing_choice import checked_spacing
from monai_deepssim.errors import UnusableInputError

__all__ = ["ImageListing", "list_images", "scan_images"]


@dataclass(frozen=True)
class ImageListing:
    """What was found in a source of images.

    Attributes:
        items: one per slice, as :func:`list_images` returns them.
        ignored: ``path``, ``reason`` and ``kind`` of everything in a folder that is not among the items; ``kind`` is
            one of :data:`~monai_deepssim.data.IGNORED_KINDS`.
        repeats: rows and files that are among the items already, under this name or another.
    """

    items: list[dict[str, Any]]
    ignored: list[dict[str, str]]
    repeats: list[Repeat] = field(default_factory=list)


def list_images(
    source: ImageSource,
    *,
    patient_id_pattern: str | None = None,
    slices: SliceSelection = None,
    slice_axis: int = 2,
    extensions: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    follow_links: bool = False,
    all_files: bool = False,
    window: str = "",
    volumes: bool = False,
) -> list[dict[str, Any]]:
    r"""List the slices that a source of images holds, as a MONAI data list.

    The source is one of

    - a folder, searched recursively for images of :data:`~monai_deepssim.data.READERS`;
    - a pattern, such as ``images/*/training.png`` for the real images of the published layout;
    - a single file;
    - a CSV with a column ``image``, ``path`` or ``filename``, relative to the CSV and inside its folder, and optionally
      ``patient_id``, ``slice``, ``window`` and ``spacing``;
    - a MONAI data list: dictionaries with ``image`` and optionally ``patient_id``, ``slice``, ``slice_axis``,
      ``window`` and ``spacing``, or a ``.json`` file with such a list, at its top or under ``training``. Other columns
      and keys are kept.

    A volume, which may be a DICOM series, gives one item for each slice asked for. The items have the same keys
    whatever they are of, so that torch's and MONAI's data loaders collate them. One file, or one slice of a volume, is
    one item, however many rows and links name it.

    Args:
        source: see above.
        patient_id_pattern: how to tell the patient where no ``patient_id`` is given: a regular expression with a group,
            searched in the relative path, or ``"folder"`` for the first folder of it. By default only the
            published layout is known, ``<patient>/training.png`` and ``<patient>/gen-<i>.png``.
        slices: which slices of a volume: ``None`` for the middle, an index, indices, ``"all"`` or a range such as
            ``"60:100:2"``, in RAS order; see :func:`~monai_deepssim.data.slices.parse_slices`.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        extensions: keep only these suffixes of a folder or pattern, such as ``[".png"]``.
        ignore: patterns of files and folders to leave out, such as ``["*.log", "thumbnails/*"]``: of their path in the
            source, where ``*`` stands for ``/`` too, or of their name.
        follow_links: whether symbolic links that lead out of the source are followed.
        all_files: whether files are listed that a reader passes over, such as DICOM's localizers.
        window: ``"center,width"`` in Hounsfield units, which is applied where the source names no window of its own;
            see :func:`~monai_deepssim.data.load_slice`.
        volumes: list whole volumes, one item each, in place of their slices.

    Returns:
        Items in the order of their paths, or of the rows of a list. ``image``: the file. ``path``: its POSIX path
        relative to the source, with ``#z=90`` (``#x=``, ``#y=``) behind it where slices were asked for.
        ``patient_id``: ``""`` where unknown. ``slice``: the index in a volume, 0 for an image or a whole volume.
        ``slice_axis``. ``volume``: whether the whole volume is meant. ``files``: of a DICOM series, the paths of all
        its files as a JSON list, else ``""``; :func:`files_of` reads it. ``window``: ``"center,width"``, else ``""``.
        ``spacing``: the sides of a voxel in millimetres where a list tells them, ``"x,y,z"``, else ``""``.

    Raises:
        UnusableInputError: there is no such source or no image in it, a row names a file that is missing or outside of
            its folder, or an argument means nothing. Files that are damaged are listed, and refused when loaded, and so
            are images among volumes; images alone are refused here.

    Warns:
        UserWarning: a folder holds files that are not images. :func:`scan_images` returns them instead.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("sub-01_z90.png", "sub-02_z90.png"):
        ...         Image.new("L", (64, 64)).save(f"{folder}/{name}")
        ...     items = list_images(folder, patient_id_pattern=r"sub-(\d+)")
        >>> [(item["path"], item["patient_id"]) for item in items]
        [('sub-01_z90.png', '01'), ('sub-02_z90.png', '02')]
    """
    listing = scan_images(
        source,
        patient_id_pattern=patient_id_pattern,
        slices=slices,
        slice_axis=slice_axis,
        extensions=extensions,
        ignore=ignore,
        follow_links=follow_links,
        all_files=all_files,
        window=window,
        volumes=volumes,
    )
    if listing.ignored:
        examples = "; ".join(f"{file['path']} ({file['reason']})" for file in listing.ignored[:3])
        warnings.warn(f"{source}: {len(listing.ignored)} files were ignored: {examples}", stacklevel=2)
    return listing.items


def scan_images(
    source: ImageSource,
    *,
    patient_id_pattern: str | None = None,
    slices: SliceSelection = None,
    slice_axis: int = 2,
    extensions: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    follow_links: bool = False,
    all_files: bool = False,
    keep_repeats: bool = False,
    window: str = "",
    volumes: bool = False,
) -> ImageListing:
    """List the slices of a source as :func:`list_images` does, with what was passed over and what is there twice.

    Args:
        source: as in :func:`list_images`.
        patient_id_pattern: how to tell the patient.
        slices: which slices of a volume.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        extensions: keep only these suffixes.
        ignore: patterns of files and folders to leave out.
        follow_links: whether symbolic links that lead out of the source are followed.
        all_files: whether files are listed that a reader passes over.
        keep_repeats: whether rows and files that are there twice are items twice.
        window: as in :func:`list_images`.
        volumes: whether whole volumes are listed.

    Returns:
        Items, what was ignored for which reason, and what is an item already.

    Raises:
        UnusableInputError: as in :func:`list_images`.
    """
    patient_of = patient_id_rule(patient_id_pattern)
    choice = parse_slices(slices)
    slice_axis = checked_slice_axis(slice_axis, "slice_axis")
    patterns = [ignore] if isinstance(ignore, str) else ignore
    window = checked_window(window, "window")
    entries, ignored = read_entries(source, FolderRules(extensions, patterns, follow_links, all_files))
    if volumes:
        _check_volumes(source, entries, choice)
    items = [
        {**item, "window": item["window"] or window}
        for entry in entries
        for item in (
            [_item(entry, patient_of, is_volume=True)] if volumes else _slices(entry, choice, slice_axis, patient_of)
        )
    ]
    if not items:
        raise UnusableInputError(_why_empty(source, ignored))
    _check_names(items)
    kept, repeats = (items, []) if keep_repeats else split_repeats(items, file_keys(items))
    return ImageListing(kept, ignored, repeats)


def _why_empty(source: ImageSource, ignored: Sequence[dict[str, str]]) -> str:
    name = source if isinstance(source, str | os.PathLike) else "the data list"
    num_links = sum(file["kind"] == "link" for file in ignored)
    if num_links:
        return (
            f"{name}: {num_links} symbolic links in it, such as {ignored[0]['path']}, lead out of it and are not "
            "followed, as in a data set of git-annex, DataLad or DVC. Follow them with --follow_links true, or give "
            "the folder that they lead to."
        )
    what = f" ({len(ignored)} files ignored, such as {ignored[0]['path']}: {ignored[0]['reason']})" if ignored else ""
    return (
        f"{name}: there are no images in it{what}. {format_names('and')} are read; check the path and what was asked "
        "for."
    )


def _check_names(items: Sequence[dict[str, Any]]) -> None:
    """Refuse images that would be one in every table: a file named like a slice of another one."""
    files: dict[str, str] = {}
    for item in items:
        if files.setdefault(item["path"], item["image"]) != item["image"] and "#" in item["path"]:
            raise UnusableInputError(
                f"{item['image']}: has the name of a slice of {files[item['path']]}, {item['path']}. Rename it."
            )


def _check_volumes(source: ImageSource, entries: Sequence[Entry], choice: SliceChoice) -> None:
    """Refuse slices where whole volumes are asked for, and a source that holds images and no volumes."""
    if choice is not None:
        raise UnusableInputError("slices and volumes: whole volumes are asked for. Leave slices out, or volumes.")
    of_slice = next((entry for entry in entries if entry.slice is not None), None)
    if of_slice is not None:
        raise UnusableInputError(
            f"{of_slice.files[0]}: the list names slice {of_slice.slice} of it, and whole volumes are asked for. Leave "
            "slice out of the list, or the option volumes away."
        )
    for entry in entries:
        reader = reader_of(Path(entry.files[0]))
        try:
            if reader is None or reader.whole_shape(entry.files) is not None:
                return
        except Exception:  # a damaged file is refused with the reason when it is loaded
            return
    if entries:
        name = source if isinstance(source, str | os.PathLike) else "the data list"
        raise UnusableInputError(
            f"{name}: whole volumes are asked for, and {'all' if entries[1:] else 'there'} {len(entries)} "
            f"file{'s' * bool(entries[1:])} in it {'are images' if entries[1:] else 'is an image'}, such as "
            f"{entries[0].name}. Give volumes such as NIfTI or DICOM series, or leave the option volumes away."
        )


def _slices(
    entry: Entry, choice: SliceChoice, slice_axis: int, patient_of: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    """Yield an item for an image, and for a volume one for each slice that the entry or else the caller asks for."""
    axis = slice_axis if entry.slice_axis is None else entry.slice_axis
    reader, shape = reader_of(Path(entry.files[0])), None
    if reader is not None:
        with suppress(Exception):  # a damaged file stays in the list, and is refused with the reason when it is loaded
            shape = reader.volume_shape(entry.files)
    if entry.slice is not None:
        choice = (entry.slice,)
    is_shown = shape is not None and choice is not None and not (entry.slice is not None and entry.hides_slice)
    for index in [0] if shape is None else selected_slices(choice, shape[axis]):
        path = f"{entry.name}#{AXIS_LETTERS[axis]}={index}" if is_shown else entry.name
        yield _item(entry, patient_of) | {"path": path, "slice": index, "slice_axis": axis}


def _item(entry: Entry, patient_of: Callable[[str], str], *, is_volume: bool = False) -> dict[str, Any]:
    """Make an item. All have the same keys, and values that MONAI's and torch's data loaders collate."""
    spacing = entry.extras.get("spacing", "")
    return {
        **entry.extras,
        "image": entry.files[0],
        "path": entry.name,
        "patient_id": entry.patient_id or patient_of(entry.name),
        "slice": 0,
        "slice_axis": 2,
        "volume": is_volume,
        "files": json.dumps(entry.files) if len(entry.files) > 1 else "",
        "window": entry.window,
        "spacing": checked_spacing(spacing, f"{entry.name}: spacing") if is_volume else spacing,
    }
