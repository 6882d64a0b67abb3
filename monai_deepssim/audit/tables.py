"""The tables of an audit: one column per line here, as a data frame and as a CSV file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.files import write_text
from monai_deepssim.similarity import Alignment

__all__ = [
    "HELD_OUT_COLUMNS",
    "MATCHES_COLUMNS",
    "MEMORIZED_COLUMNS",
    "alignment_columns",
    "as_table",
    "write_table",
]

_PATH_SEPARATOR = "|"  # file systems allow it in a name, but nobody uses it
# How the numbers of a column are written. Enough digits of a q-value that it falls on the same side of a rate as in the
# audit itself.
_SIX_DIGITS, _NINE_DIGITS = "{:.6f}", "{:.9g}"
_FORMATS = {
    "score": _SIX_DIGITS,
    "max_score": _SIX_DIGITS,
    "deepssim": _SIX_DIGITS,
    "aligned_ssim": _SIX_DIGITS,
    "rotation_degrees": "{:.2f}",
    "gamma": "{:.3f}",
    "zoom": "{:.4f}",
    "stretch": "{:.4f}",
    "deformation_pixels": "{:.2f}",
    "inliers": "{:.0f}",
    "copied_area": "{:.3f}",
    **dict.fromkeys(["coarse_correlation", "mi", "oni", "p_value", "q_value"], _NINE_DIGITS),
}

#: Columns of ``matches.csv``; those that an audit was not asked for are empty.
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

#: Columns of ``memorized.csv``.
MEMORIZED_COLUMNS = ["training_path", "patient_id", "num_copies", "max_score", "synthetic_paths"]

#: Columns of ``holdout.csv``.
HELD_OUT_COLUMNS = ["holdout_path", "patient_id", "training_path", "training_patient_id", "score", "label"]


def as_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], index: Sequence[int] | None = None
) -> pd.DataFrame:
    """Make a table of rows.

    Args:
        rows: cells by column; a missing one is empty.
        columns: those of the table, in their order.
        index: of the rows; counted from 0 by default.

    Example:
        >>> as_table([{"training_path": "a.png", "num_copies": 2}], MEMORIZED_COLUMNS)["num_copies"].tolist()
        [2]
    """
    return pd.DataFrame(list(rows), columns=list(columns), index=index)


def alignment_columns(alignment: Alignment | None) -> dict[str, Any]:
    """The cells that tell how a training image was changed to fit, by column; none where nothing was aligned.

    Args:
        alignment: the change.

    Example:
        >>> alignment_columns(Alignment((1,), (6.5,), (0.0, 2.0), 1.0, 1.2))["flip"]
        'left-right'
    """
    if alignment is None:
        return {}
    names = ("top-bottom", "left-right")
    return {
        "flip": " ".join(names[axis] for axis in alignment.flips),
        "rotation_degrees": alignment.rotation_degrees[0],
        "shift_pixels": ",".join(f"{shift:.2f}" for shift in alignment.shift_pixels),
        "gamma": alignment.gamma,
        "zoom": alignment.zoom,
        "deformation_pixels": alignment.deformation_pixels,
        "stretch": alignment.stretch,
        "inverted": "true" if alignment.inverted else "false",
    }


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file, whole or not at all.

    Args:
        path: of the file.
        table: a cell that is missing is empty, and a list is joined by ``|``.

    Raises:
        UnusableInputError: if the file cannot be written.
    """

    def write_cell(value: Any, form: str) -> str:
        if isinstance(value, (list, tuple)):
            return _PATH_SEPARATOR.join(map(str, value))
        return "" if value is None or pd.isna(value) else form.format(value)

    cells = {name: [write_cell(value, _FORMATS.get(name, "{}")) for value in table[name]] for name in table.columns}
    text = io.StringIO(newline="")
    pd.DataFrame(cells, columns=table.columns).to_csv(text, index=False, lineterminator="\r\n")
    write_text(path, text.getvalue())
