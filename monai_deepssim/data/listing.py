"""From a folder, a pattern, a file, a CSV or a MONAI data list to items that can be loaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_deepssim.data.dicom_files import DicomHeader, are_one_volume, dicom_volume_shape, read_dicom_header
from monai_deepssim.data.entries import Entry, ImageSource, Wanted, checked_slice_axis, read_entries
from monai_deepssim.data.file_types import file_kind
from monai_deepssim.data.nifti_files import nifti_volume_shape
from monai_deepssim.data.orientation import AXIS_LETTERS
from monai_deepssim.data.patient_ids import patient_id_rule
from monai_deepssim.data.slices import SliceSelection, parse_slices, selected_slices
from monai_deepssim.errors import UnusableInputError

__all__ = ["ImageListing", "list_images", "scan_images"]


@dataclass(frozen=True)
class ImageListing:
    """What was found in a source of images.

    Args:
        items: one a slice, as :func:`list_images` returns them.
        ignored: ``path`` and ``reason`` of everything in a folder that is not among the items.
    """

    items: list[dict[str, Any]]
    ignored: list[dict[str, str]]


def list_images(
    source: ImageSource,
    *,
    patient_id_pattern: str | None = None,
    slices: SliceSelection = None,
    slice_axis: int = 2,
    extensions: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    r"""List the slices that a source of images holds, as a MONAI data list.

    The source is one of

    - a folder, searched recursively for PNG, JPEG, TIFF, NIfTI and DICOM (with or without suffix);
    - a pattern, such as ``images/*/training.png`` for the real images of the published layout;
    - a single file;
    - a CSV with a column ``image``, ``path`` or ``filename``, relative to the CSV and inside its folder, and optionally
      ``patient_id`` and ``slice``;
    - a MONAI data list: dictionaries with ``image`` and optionally ``patient_id``, ``slice`` and ``slice_axis``, or a
      ``.json`` file with such a list, at its top or under ``training``. Other columns and keys are kept.

    A NIfTI volume, and DICOM files of one folder that share a SeriesInstanceUID and lie behind one another, give one
    item for each slice asked for. A NIfTI file with a single slice, and any other DICOM file, is an image.

    Args:
        source: see above.
        patient_id_pattern: how to tell the patient where no ``patient_id`` is given: a regular expression with a group,
            searched in the relative path, or ``"folder"`` for the first folder of it. By default only the
            published layout is known, ``<patient>/training.png`` and ``<patient>/gen-<i>.png``.
        slices: which slices of a volume: ``None`` for the middle, an index, indices, ``"all"`` or a range such as
            ``"60:100:2"``, in RAS order; see :func:`~monai_deepssim.data.slices.parse_slices`.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        extensions: keep only these suffixes of a folder or pattern, such as ``[".png"]``.

    Returns:
        Items in the order of their paths, or of the rows of a list. ``image``: the file. ``path``: its POSIX path
        relative to the source, with ``#z=90`` (``#x=``, ``#y=``) behind it where slices were asked for.
        ``patient_id``: ``""`` where unknown. ``slice``: the index in a volume, ``None`` for an image. ``slice_axis``.
        ``files``: of a DICOM volume, all its files.

    Raises:
        UnusableInputError: there is no such source or no image in it, a row names a file that is missing or outside of
            its folder, or an argument means nothing. Files that are damaged are listed, and refused when loaded.

    Warns:
        UserWarning: a folder holds files that are no images. :func:`scan_images` returns them instead.

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
) -> ImageListing:
    """List the slices of a source as :func:`list_images` does, together with the files that were passed over.

    Args:
        source: as in :func:`list_images`, like all other arguments.
        patient_id_pattern: how to tell the patient.
        slices: which slices of a volume.
        slice_axis: 0 sagittal, 1 coronal, 2 axial.
        extensions: keep only these suffixes.

    Returns:
        Items, and what was ignored for which reason.

    Raises:
        UnusableInputError: as in :func:`list_images`.
    """
    patient_of = patient_id_rule(patient_id_pattern)
    wanted = Wanted(parse_slices(slices), checked_slice_axis(slice_axis, "slice_axis"))
    entries, ignored = read_entries(source, wanted, extensions)
    items = _expand(entries, patient_of, ignored)
    if not items:
        what = f" ({len(ignored)} files ignored, such as {ignored[0]['path']})" if ignored else ""
        raise UnusableInputError(
            f"{source if isinstance(source, str | os.PathLike) else 'the data list'}: there are no images in it{what}. "
            "PNG, JPEG, TIFF, NIfTI and DICOM are read; check the path and the extensions asked for."
        )
    return ImageListing(items, ignored)


def _expand(
    entries: list[Entry], patient_of: Callable[[str], str], ignored: list[dict[str, str]]
) -> list[dict[str, Any]]:
    places: list[list[dict[str, Any]]] = [[] for _ in entries]  # keeps the order of the entries
    series: dict[tuple[Path, str], list[tuple[int, DicomHeader]]] = {}
    for place, entry in enumerate(entries):
        kind = file_kind(entry.path)
        if entry.files:
            places[place] = _slices(entry, patient_of, lambda files=entry.files: dicom_volume_shape(files))  # type: ignore[misc]
        elif kind is None or kind == "picture":  # of no kind: refused when loaded
            places[place] = [_item(entry, patient_of, None)]
        elif kind == "nifti":
            places[place] = _slices(entry, patient_of, lambda path=entry.path: nifti_volume_shape(path))  # type: ignore[misc]
        else:
            try:
                header = read_dicom_header(entry.path)
            except Exception:  # a damaged file stays in the list, and says what is wrong with it when it is loaded
                places[place] = [_item(entry, patient_of, None)]
                continue
            if header is None and entry.may_be_ignored:
                ignored.append({"path": entry.name, "reason": "DICOM without an image"})
            elif header is not None and header.series_uid and entry.may_be_ignored:
                series.setdefault((entry.path.parent, header.series_uid), []).append((place, header))
            else:
                places[place] = [_item(entry, patient_of, None)]
    for members in series.values():
        first = members[0][0]
        if are_one_volume([header for _, header in members]):
            files = tuple(header.path for _, header in members)
            entry = replace(entries[first], files=files)
            places[first] = _slices(entry, patient_of, lambda files=files: dicom_volume_shape(files))  # type: ignore[misc]
        else:
            for place, _ in members:
                places[place] = [_item(entries[place], patient_of, None)]
    return [item for items in places for item in items]


def _slices(
    entry: Entry, patient_of: Callable[[str], str], shape_of: Callable[[], tuple[int, int, int] | None]
) -> list[dict[str, Any]]:
    try:
        shape = shape_of()
    except Exception:  # as above: refused when loaded
        shape = None
    if shape is None:
        return [_item(entry, patient_of, None)]
    return [_item(entry, patient_of, index) for index in selected_slices(entry.slices, shape[entry.slice_axis])]


def _item(entry: Entry, patient_of: Callable[[str], str], index: int | None) -> dict[str, Any]:
    shown = index is not None and entry.shows_slice
    item = {
        **entry.extras,
        "image": str(entry.path),
        "path": f"{entry.name}#{AXIS_LETTERS[entry.slice_axis]}={index}" if shown else entry.name,
        "patient_id": entry.patient_id or patient_of(entry.name),
        "slice": index,
        "slice_axis": entry.slice_axis,
    }
    return {**item, "files": entry.files} if entry.files else item
