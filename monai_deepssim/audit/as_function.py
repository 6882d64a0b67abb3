"""An audit, a filter and a deduplication, each as one function."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from monai_deepssim.audit.clean_up.deduplication_outputs import write_deduplication_files
from monai_deepssim.audit.clean_up.deduplication_steps import DeduplicationResult, perform_deduplication
from monai_deepssim.audit.clean_up.filter_outputs import write_filter_summary
from monai_deepssim.audit.clean_up.filter_steps import FILTER_SUMMARY, FilterResult, perform_filter
from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, FilterOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.sources import Side, check_sides_apart, list_side, make_side
from monai_deepssim.audit.steps import perform_audit
from monai_deepssim.data import list_in_memory, patient_id_text, scan_images
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.folder_lock import locked_folder
from monai_deepssim.options import option_names, read_options, unknown_option
from monai_deepssim.progress import quiet
from monai_deepssim.stores import IN_MEMORY

__all__ = ["find_copies", "find_duplicates", "remove_copies"]

_SIDES = ("training_dir", "synthetic_dir", "holdout_dir")
Options = TypeVar("Options", bound=SearchOptions)
PatientIds = str | Sequence[str] | Mapping[str, Sequence[str]] | None


def find_copies(
    training: Any,
    synthetic: Any,
    *,
    holdout: Any = None,
    patient_ids: PatientIds = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> AuditResult:
    """Find the synthetic images that are copies of the images that trained their generator.

    Each side is a folder (searched with its subfolders), a pattern such as ``images/*/training.png``, a CSV, a MONAI
    data list, a list of paths, images ``(N, 1, H, W)`` in [0, 1] as a tensor or an array, a list or a dataset of such
    images ``(1, H, W)``, or of dictionaries with one under ``image``. With ``volumes="true"`` each volume is one image,
    compared in 3-D: files of volumes, or ``(N, 1, X, Y, Z)`` in RAS order.

    Args:
        training: images that trained the generator.
        synthetic: images that it made.
        holdout: real images of other patients, which the generator never saw: they tell how high an image scores that
            is not a copy. Without them the training images are compared with each other.
        patient_ids: patient of each training image, one per image; for several sides a dictionary with ``training`` and
            ``holdout``; or a regular expression whose group finds the patient in an image's path, or ``folder``.
        output_dir: folder for ``matches.csv``, ``report.html``, ``summary.json`` and the others. An audit of the same
            images that is there is continued. By default nothing is written.
        progress: whether progress and warnings are shown on the terminal.
        options: others of :class:`~monai_deepssim.audit.options.AuditOptions`, such as ``image_size``,
            ``max_copy_fraction``, ``device`` or ``report_images``.

    Returns:
        What was found. A gate that is not passed is a part of it, and no error.

    Raises:
        UnusableInputError: naming the option or the image that cannot be used, what was found and what is wanted.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis, WACV
        2026, arXiv 2509.16582.

    Example:
        >>> import torch
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> phantoms = PhantomBrainDataset(12, seed=5, progress=False)
        >>> images = torch.stack([phantom["image"].as_tensor() for phantom in phantoms])
        >>> result = find_copies(images[:8], torch.cat([images[2:4].flip(3), images[8:]]), controls=None)
        >>> copies = result.matches[result.matches["label"] == "duplicate"].sort_index()
        >>> copies[["synthetic_path", "training_path"]].values.tolist()
        [['synthetic[0]', 'training[2]'], ['synthetic[1]', 'training[3]']]
    """
    sources = {"training": training, "synthetic": synthetic, "holdout": holdout}
    with _prepared(AuditOptions, sources, patient_ids, output_dir, progress, options) as (checked, sides):
        return perform_audit(checked, sides=sides, write=output_dir is not None)


def remove_copies(
    training: Any,
    synthetic: Any,
    *,
    holdout: Any = None,
    patient_ids: PatientIds = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> FilterResult:
    """Find the synthetic images that can be kept: all but the copies of training images.

    Args:
        training: images that trained the generator; each side is given as to :func:`find_copies`.
        synthetic: images that it made.
        holdout: real images of other patients, which the generator never saw.
        patient_ids: as for :func:`find_copies`.
        output_dir: folder for ``filtered/`` with the files that are kept, ``manifest.csv`` and the audits. By default
            nothing is written; images in memory are not files and cannot be.
        progress: whether progress and warnings are shown on the terminal.
        options: others of :class:`~monai_deepssim.audit.options.FilterOptions`, such as ``leave_out`` or ``files``.

    Returns:
        What was found: ``files`` says of each file whether it is kept, and why; ``kept`` are the positions of the
        images that are; ``before`` and ``after`` are the audits of the whole set and of what is kept.

    Raises:
        UnusableInputError: naming the option or the image that cannot be used, what was found and what is wanted.

    Example:
        >>> import torch
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> phantoms = PhantomBrainDataset(12, seed=5, progress=False)
        >>> images = torch.stack([phantom["image"].as_tensor() for phantom in phantoms])
        >>> synthetic = torch.cat([images[2:4].flip(3), images[8:]])
        >>> result = remove_copies(images[:8], synthetic, controls=None)
        >>> result.kept, len(synthetic[result.kept])
        ([2, 3, 4, 5], 4)
    """
    sources = {"training": training, "synthetic": synthetic, "holdout": holdout}
    with _prepared(FilterOptions, sources, patient_ids, output_dir, progress, options) as (checked, sides):
        if output_dir is not None:
            _refuse_memory(sides[1])
        result = perform_filter(checked, sides=sides, write=output_dir is not None)
        if output_dir is not None:
            write_filter_summary(checked.output_dir / FILTER_SUMMARY, result)
        return result


def find_duplicates(
    images: Any,
    *,
    patient_ids: PatientIds = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> DeduplicationResult:
    """Find the images that a training set holds more than once, in one file or another.

    Args:
        images: the set, given as a side of :func:`find_copies`.
        patient_ids: patients of the images, given as for :func:`find_copies`.
        output_dir: folder for ``deduplicated/`` with one file of each group, ``manifest.csv``, ``report.html`` and the
            others. By default nothing is written; images in memory are not files and cannot be.
        progress: whether progress and warnings are shown on the terminal.
        options: others of :class:`~monai_deepssim.audit.options.DeduplicationOptions`.

    Returns:
        What was found: ``groups`` of files that duplicates connect, ``nearest`` images of each, ``files`` with what
        becomes of each and why, and ``kept``, the positions of the images that stand for their group or for themselves.

    Raises:
        UnusableInputError: naming the option or the image that cannot be used, what was found and what is wanted.

    Example:
        >>> import torch
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> phantoms = PhantomBrainDataset(6, seed=5, progress=False)
        >>> images = torch.stack([phantom["image"].as_tensor() for phantom in phantoms])
        >>> result = find_duplicates(torch.cat([images, images[4:5].flip(3)]))
        >>> result.groups[["kept", "left_out"]].values.tolist()
        [['training[4]', ['training[6]']]]
    """
    sources = {"training": images}
    with _prepared(DeduplicationOptions, sources, patient_ids, output_dir, progress, options) as (checked, sides):
        if output_dir is not None:
            _refuse_memory(sides[0])
        result = perform_deduplication(checked, side=sides[0], write=output_dir is not None)
        if output_dir is not None:
            write_deduplication_files(result)
        return result


@contextmanager
def _prepared(
    kind: type[Options],
    sources: Mapping[str, Any],
    patient_ids: PatientIds,
    output_dir: str | os.PathLike[str] | None,
    progress: bool,
    options: dict[str, Any],
) -> Iterator[tuple[Options, list[Side]]]:
    """Check the options, list the sides and lock the folder; without one, all stays in memory."""
    names = [name for name in option_names(kind) if name not in _SIDES]
    for name in options:
        if name not in names:
            raise unknown_option(name, names)
    if isinstance(patient_ids, str):
        options = {**options, "patient_id_pattern": patient_ids}
    given = {name: source for name, source in sources.items() if source is not None}
    for name in sources:
        if name not in given and name != "holdout":
            raise UnusableInputError(
                f"{name}: got None, want images: a folder, a pattern, a list, or (N, 1, H, W) in [0, 1]."
            )
    known_ids = {} if patient_ids is None or isinstance(patient_ids, str) else _known_ids(patient_ids, given)
    directories = {f"{name}_dir": _source_path(source, name) for name, source in given.items()}
    values = {**options, **directories, "output_dir": IN_MEMORY if output_dir is None else output_dir}
    with quiet(not progress), ExitStack() as stack:
        checked = read_options(kind, values)
        if output_dir is not None:
            stack.enter_context(locked_folder(checked.output_dir))
        sides = [_side(name, source, known_ids.get(name), checked) for name, source in given.items()]
        check_sides_apart(sides)
        yield checked, sides


def _known_ids(patient_ids: Any, sides: Iterable[str]) -> dict[str, list[str]]:
    """The patients of each image, by side."""
    by_side = patient_ids if isinstance(patient_ids, Mapping) else {"training": patient_ids}
    for side, patients in by_side.items():
        if side not in sides:
            raise UnusableInputError(f"patient_ids: got {side!r}, want sides that are given: {', '.join(sides)}.")
        if isinstance(patients, str) or not isinstance(patients, Iterable):
            raise UnusableInputError(
                f"patient_ids: got {type(patients).__name__} for the {side} images, want one for each."
            )
    return {side: [patient_id_text(patient) for patient in patients] for side, patients in by_side.items()}


def _refuse_memory(side: Side) -> None:
    if any(isinstance(item["image"], torch.Tensor) for item in side.items):
        raise UnusableInputError(
            f"output_dir: the {side.name} images are in memory, and no files that could be copied into it. Leave it "
            "out, and take the images at the positions that the result calls kept."
        )


def _source_path(source: Any, name: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"{name} images in memory"


def _side(name: str, source: Any, patient_ids: Sequence[str] | None, options: SearchOptions) -> Side:
    if isinstance(source, (str, os.PathLike)):
        side = list_side(name, Path(source).expanduser(), options)
    elif isinstance(source, (list, tuple)) and source and not _holds_images(source):
        entries = [entry if isinstance(entry, Mapping) else {"image": entry} for entry in source]
        listing = scan_images(entries, **options.listing, keep_repeats=True)
        side = Side(name, Path(_source_path(source, name)), listing.items, listing.ignored, in_memory=True)
    else:
        items = list_in_memory(source, name, volumes=options.volumes != "none")
        side = Side(name, Path(_source_path(source, name)), items, [], in_memory=True)
    items = side.all_items
    if patient_ids is not None:
        if len(patient_ids) != len(items):
            raise UnusableInputError(
                f"patient_ids: got {len(patient_ids)} for the {len(items)} {name} images, want one for each."
            )
        items = [{**item, "patient_id": patient} for item, patient in zip(items, patient_ids, strict=True)]
    return make_side(replace(side, items=items, repeats=[]), options)


def _holds_images(source: Sequence[Any]) -> bool:
    """Whether a list is a dataset with pixels rather than a data list or a list of paths."""
    image = source[0].get("image") if isinstance(source[0], Mapping) else source[0]
    return not isinstance(image, (str, os.PathLike))
