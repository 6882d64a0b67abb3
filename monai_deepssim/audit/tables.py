"""``matches.csv`` and ``memorized.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai_deepssim.audit.files import write_text
from monai_deepssim.audit.verdict import Match, MemorizedImage

__all__ = ["MATCHES_COLUMNS", "MEMORIZED_COLUMNS", "write_matches", "write_memorized"]

#: All columns that a match will ever have, so that a reader of the file need not change: those that this version does
#: not compute are empty.
MATCHES_COLUMNS = [
    "synthetic_path",
    "training_path",
    "patient_id",
    "score",
    "deepssim",
    "aligned_ssim",
    "flip",
    "rotation_degrees",
    "shift_pixels",
    "gamma",
    "mi",
    "oni",
    "p_value",
    "q_value",
    "label",
]

MEMORIZED_COLUMNS = ["training_path", "patient_id", "num_copies", "max_score", "synthetic_paths"]


def write_matches(path: Path, matches: Sequence[Match]) -> None:
    """Write a row for each synthetic image, in the order of their paths.

    Args:
        path: of the CSV file.
        matches: each with its nearest training image.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = [
        {
            "synthetic_path": match.synthetic_path,
            "training_path": match.training_path,
            "patient_id": match.patient_id,
            "score": f"{match.score:.6f}",
            "deepssim": f"{match.score:.6f}",  # the score is DeepSSIM's cosine
            "label": match.label,
        }
        for match in sorted(matches, key=lambda match: match.synthetic_path)
    ]
    _write(path, MATCHES_COLUMNS, rows)


def write_memorized(path: Path, memorized: Sequence[MemorizedImage]) -> None:
    """Write a row for each training image that has a copy, the strongest first.

    Several synthetic paths are parted by ``|``, which file systems allow in a name but nobody uses.

    Args:
        path: of the CSV file.
        memorized: the training images.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = [
        {
            "training_path": image.training_path,
            "patient_id": image.patient_id,
            "num_copies": len(image.synthetic_paths),
            "max_score": f"{image.max_score:.6f}",
            "synthetic_paths": "|".join(image.synthetic_paths),
        }
        for image in memorized
    ]
    _write(path, MEMORIZED_COLUMNS, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
