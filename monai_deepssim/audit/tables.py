"""``matches.csv`` and ``memorized.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_deepssim.audit.verdict import Match, MemorizedImage
from monai_deepssim.files import write_text
from monai_deepssim.similarity import Alignment

__all__ = [
    "HOLDOUT_COLUMNS",
    "MATCHES_COLUMNS",
    "MEMORIZED_COLUMNS",
    "alignment_columns",
    "write_holdout",
    "write_matches",
    "write_memorized",
    "write_table",
]

#: All columns that a match can have, so that a reader of the file need not change: those that an audit was not asked
#: for are empty.
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
    "zoom",
    "deformation_pixels",
    "stretch",
    "inverted",
    "inliers",
    "copied_area",
    "coarse_correlation",
]

HOLDOUT_COLUMNS = ["holdout_path", "patient_id", "training_path", "training_patient_id", "score", "label"]

MEMORIZED_COLUMNS = ["training_path", "patient_id", "num_copies", "max_score", "synthetic_paths"]


def write_matches(path: Path, matches: Sequence[Match], detector: str) -> None:
    """Write a row for each synthetic image, in the order of their paths.

    Args:
        path: of the CSV file.
        matches: each with its nearest training image.
        detector: name of the detector; its similarity has a column only if it is DeepSSIM's.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = [
        {
            "synthetic_path": match.synthetic_path,
            "training_path": match.training_path,
            "patient_id": match.patient_id,
            "score": f"{match.score:.6f}",
            "deepssim": f"{match.detector_score:.6f}" if detector == "deepssim" else "",
            **alignment_columns(match.alignment, match.aligned_ssim),
            "inliers": "" if match.inliers is None else match.inliers,
            "copied_area": "" if match.copied_area is None else f"{match.copied_area:.3f}",
            "coarse_correlation": _number(match.coarse_correlation),
            "mi": _number(match.mi),
            "oni": _number(match.oni),
            "p_value": _number(match.p_value),
            "q_value": _number(match.q_value),
            "label": match.label,
        }
        for match in sorted(matches, key=lambda match: match.synthetic_path)
    ]
    write_table(path, MATCHES_COLUMNS, rows)


def alignment_columns(alignment: Alignment | None, ssim: float | None) -> dict[str, str]:
    """The cells that tell how one image was changed to fit another one, by column; none where nothing was aligned.

    Args:
        alignment: the change.
        ssim: what it reaches, less what a deformation costs; wanted with an alignment.

    Example:
        >>> alignment_columns(Alignment((1,), (6.5,), (0.0, 2.0), 1.0, 1.2), 0.9)["flip"]
        'left-right'
    """
    if alignment is None:
        return {}
    names = ("top-bottom", "left-right")
    return {
        "aligned_ssim": "" if ssim is None else f"{ssim:.6f}",
        "flip": " ".join(names[axis] for axis in alignment.flips),
        "rotation_degrees": f"{alignment.rotation_degrees[0]:.2f}",
        "shift_pixels": ",".join(f"{shift:.2f}" for shift in alignment.shift_pixels),
        "gamma": f"{alignment.gamma:.3f}",
        "zoom": f"{alignment.zoom:.4f}",
        "deformation_pixels": f"{alignment.deformation_pixels:.2f}",
        "stretch": f"{alignment.stretch:.4f}",
        "inverted": "true" if alignment.inverted else "false",
    }


def _number(value: float | None) -> str:
    # Enough digits that a q-value compared with a rate falls on the same side as in the audit itself.
    return "" if value is None else f"{value:.9g}"


def write_holdout(path: Path, strangers: Sequence[Match], items: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each held-out image, the highest score first.

    Args:
        path: of the CSV file.
        strangers: each held-out image with its nearest training image.
        items: the list of held-out images.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    rows = [
        {
            "holdout_path": match.synthetic_path,
            "patient_id": items[match.synthetic_index]["patient_id"],
            "training_path": match.training_path,
            "training_patient_id": match.patient_id,
            "score": f"{match.score:.6f}",
            "label": match.label,
        }
        for match in strangers
    ]
    write_table(path, HOLDOUT_COLUMNS, rows)


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
    write_table(path, MEMORIZED_COLUMNS, rows)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a CSV file, whole or not at all.

    Args:
        path: of the file.
        columns: in their order.
        rows: cells by column; a cell that a row does not have is empty.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
