"""An audit as one function."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.sources import Side, check_sides_apart, list_side
from monai_deepssim.audit.steps import perform_audit
from monai_deepssim.data import list_in_memory, scan_images
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import option_names, read_options, unknown_option
from monai_deepssim.progress import quiet

__all__ = ["find_copies"]

_SIDES = ("training_dir", "synthetic_dir", "holdout_dir")


def find_copies(
    training: Any,
    synthetic: Any,
    *,
    holdout: Any = None,
    patient_ids: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> AuditResult:
    """Find the synthetic images that are copies of the images that trained their generator.

    Each side is a folder (searched with its subfolders), a pattern such as ``images/*/training.png``, a CSV, a MONAI
    data list, a list of paths, images ``(N, 1, H, W)`` in [0, 1] as a tensor or an array, or a dataset of dictionaries
    with such an image ``(1, H, W)`` under ``image``.

    Args:
        training: images that trained the generator.
        synthetic: images that it made.
        holdout: real images of other patients, which the generator never saw: they tell how high an image scores that
            is not a copy. Without them the training images are compared with each other.
        patient_ids: of the training images, one for each; or of several sides, by ``training`` and ``holdout``; or a
            regular expression whose group finds the patient in an image's path, or ``folder``.
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
        >>> result = find_copies(images[:8], torch.cat([images[2:4].flip(3), images[8:]]))
        >>> copies = result.matches[result.matches["label"] == "duplicate"].sort_index()
        >>> copies[["synthetic_path", "training_path"]].values.tolist()
        [['synthetic[0]', 'training[2]'], ['synthetic[1]', 'training[3]']]
    """
    sources = {"training": training, "synthetic": synthetic, **({} if holdout is None else {"holdout": holdout})}
    for name in options:
        if name not in option_names(AuditOptions) or name in _SIDES:
            raise unknown_option(name, [entry for entry in option_names(AuditOptions) if entry not in _SIDES])
    if isinstance(patient_ids, str):
        options["patient_id_pattern"] = patient_ids
    known_ids: Mapping[str, Sequence[str]] = {}
    if patient_ids is not None and not isinstance(patient_ids, str):
        known_ids = patient_ids if isinstance(patient_ids, Mapping) else {"training": patient_ids}
    with quiet(not progress), tempfile.TemporaryDirectory() as scratch:
        directories = {f"{name}_dir": _source_path(source, name) for name, source in sources.items()}
        values = {**options, **directories, "output_dir": scratch if output_dir is None else output_dir}
        checked = read_options(AuditOptions, values)
        sides = [_side(name, source, known_ids.get(name), checked) for name, source in sources.items()]
        check_sides_apart(sides)
        result = perform_audit(checked, sides=sides, write=output_dir is not None)
        return result if output_dir is not None else _without_files(result)


def _source_path(source: Any, name: str) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"{name} images in memory"


def _side(name: str, source: Any, patient_ids: Sequence[str] | None, options: AuditOptions) -> Side:
    if isinstance(source, (str, os.PathLike)):
        side = list_side(name, Path(source).expanduser(), options)
    elif isinstance(source, (list, tuple)) and source and not _holds_images(source):
        entries = [entry if isinstance(entry, Mapping) else {"image": os.fspath(entry)} for entry in source]
        listing = scan_images(
            entries,
            patient_id_pattern=options.patient_id_pattern,
            slices=options.slices,
            slice_axis=options.slice_axis,
        )
        side = Side(name, Path(_source_path(source, name)), listing.items, listing.ignored)
    else:
        side = Side(name, Path(_source_path(source, name)), list_in_memory(source, name), [])
    if patient_ids is None:
        return side
    if len(patient_ids) != len(side.items):
        raise UnusableInputError(
            f"patient_ids: got {len(patient_ids)} for the {len(side.items)} {name} images, want one for each."
        )
    items = [{**item, "patient_id": str(patient)} for item, patient in zip(side.items, patient_ids, strict=True)]
    return replace(side, items=items)


def _holds_images(source: Sequence[Any]) -> bool:
    """Whether a list is a dataset with pixels rather than a data list or a list of paths."""
    return isinstance(source[0], Mapping) and not isinstance(source[0].get("image"), (str, os.PathLike))


def _without_files(result: AuditResult) -> AuditResult:
    """The result with its embeddings in memory, since their files go."""

    def load(part: Any) -> Any:
        return replace(part, images=replace(part.images, embeddings=[np.array(one) for one in part.images.embeddings]))

    holdout = None if result.holdout is None else load(result.holdout)
    return replace(result, training=load(result.training), synthetic=load(result.synthetic), holdout=holdout)
