"""What becomes of every file: the manifest of a filtered or deduplicated set, and the folder that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from monai_deepssim.release import is_occupied, write_kept_files
from monai_deepssim.report import write_table

__all__ = ["write_manifest_and_files"]


def write_manifest_and_files(
    folder: Path,
    manifest: Path,
    files: pd.DataFrame,
    columns: Sequence[str],
    mode: str,
    source: Path,
    *,
    names_only: bool = False,
) -> None:
    """Write what becomes of every file, and those that are kept.

    Args:
        folder: folder that gets the files that are kept.
        manifest: the CSV file, a row per file.
        files: ``file``, ``location``, ``kept`` and what else is in the manifest.
        columns: columns of the manifest.
        mode: as for :func:`~monai_deepssim.release.write_kept_files`.
        source: as for :func:`~monai_deepssim.release.write_kept_files`.
        names_only: as for :func:`~monai_deepssim.release.write_kept_files`.

    Raises:
        UnusableInputError: if the folder holds anything else, or something cannot be written.
    """
    kept = files[files["kept"]].set_index("file")["location"].to_dict()
    if is_occupied(folder):
        # Refused unless it is the same: a folder keeps the manifest that it was written with.
        write_kept_files(folder, kept, mode, source, names_only=names_only)
    write_table(manifest, files[list(columns)].assign(kept=files["kept"].map({True: "yes", False: "no"})))
    if kept:
        write_kept_files(folder, kept, mode, source, names_only=names_only)
