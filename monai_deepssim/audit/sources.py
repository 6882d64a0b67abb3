"""The two sides of an audit, training and synthetic: which files they are, and that they are two."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.data import scan_images
from monai_deepssim.errors import UnusableInputError

__all__ = ["Side", "list_sides"]


@dataclass(frozen=True)
class Side:
    """One side of an audit.

    Attributes:
        name: ``training`` or ``synthetic``.
        source: the folder, pattern, CSV or data list that the user named.
        items: its images, as :func:`monai_deepssim.data.list_images` lists them.
        ignored: ``path`` and ``reason`` of the files found there that are no images.
    """

    name: str
    source: Path
    items: list[dict[str, Any]]
    ignored: list[dict[str, str]]


def list_sides(options: AuditOptions) -> tuple[Side, Side]:
    """List the training and the synthetic images.

    Args:
        options: of the audit; both directories are given.

    Returns:
        The training side and the synthetic side.

    Raises:
        UnusableInputError: if a source is missing or has no images, if the two share a file, or if the output folder
            lies in one of them.
    """
    assert options.training_dir is not None
    assert options.synthetic_dir is not None
    for name, source in (("training_dir", options.training_dir), ("synthetic_dir", options.synthetic_dir)):
        if source.is_dir() and options.output_dir.resolve().is_relative_to(source.resolve()):
            raise UnusableInputError(
                f"--output_dir: {options.output_dir} lies in --{name} {source}, so that what the audit writes would be "
                "audited too. Give an output folder outside of it."
            )
    training = _side("training", options.training_dir, options)
    synthetic = _side("synthetic", options.synthetic_dir, options)
    shared = _real_files(training.items) & _real_files(synthetic.items)
    if shared:
        raise UnusableInputError(
            f"--training_dir {training.source} and --synthetic_dir {synthetic.source} share {len(shared)} file(s), "
            f"such as {min(shared)}, which would be found to be copies of themselves. A folder is searched with its "
            "subfolders: give two of which none lies in the other, or patterns such as 'images/*/training.png'."
        )
    return training, synthetic


def _side(name: str, source: Path, options: AuditOptions) -> Side:
    listing = scan_images(
        source,
        patient_id_pattern=options.patient_id_pattern,
        slices=options.slices,
        slice_axis=options.slice_axis,
    )
    return Side(name, source, listing.items, listing.ignored)


def _real_files(items: Iterable[dict[str, Any]]) -> set[str]:
    return {os.path.realpath(file) for item in items for file in item.get("files") or [item["image"]]}
