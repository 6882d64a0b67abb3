"""The tables of an audit: what each column means and how its numbers are written, said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_deepssim.csv_cells import csv_text
from monai_deepssim.files import write_text
from monai_deepssim.similarity import Alignment

__all__ = [
    "CONTROLS_COLUMNS",
    "HELD_OUT_COLUMNS",
    "MATCHES_COLUMNS",
    "MEMORIZED_COLUMNS",
    "PATIENTS_COLUMNS",
    "TABLES",
    "Column",
    "alignment_columns",
    "as_table",
    "write_table",
]

_PATH_SEPARATOR = "|"  # file systems allow it in a name, but nobody uses it


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        meaning: what the column holds, for the documentation.
        form: how a number in it is written.
    """

    meaning: str
    form: str = "{}"


# Enough digits of a q-value that it falls on the same side of a rate as in the audit itself.
_SIX_DIGITS, _NINE_DIGITS = "{:.6f}", "{:.9g}"

_PATIENT = Column("the patient of the training image; empty when unknown")
_SCORE = Column("the number that the verdict rests on; higher is closer", _SIX_DIGITS)

_MATCHES = {
    "synthetic_path": Column(
        "the synthetic image, relative to its folder; `#z=90` behind it names the slice where slices were asked for"
    ),
    "training_path": Column("its nearest training image, relative to its folder"),
    "patient_id": _PATIENT,
    "score": _SCORE,
    "deepssim": Column(
        "cosine of the two embeddings, an approximate SSIM; empty where another detector proposed candidates",
        _SIX_DIGITS,
    ),
    "aligned_ssim": Column(
        "SSIM of the two images after the best alignment found, less what its deformation costs; empty with "
        "`--verify false`, as what follows of the alignment",
        _SIX_DIGITS,
    ),
    "flip": Column(
        "how the training image was flipped; of a volume `left-right`, `back-front`, `feet-head`, and "
        "`left-right>feet-head` where that axis became this one"
    ),
    "rotation_degrees": Column(
        'by how many degrees it was rotated, clockwise; of a volume about its three axes, "x,y,z"', "{:.2f}"
    ),
    "shift_pixels": Column(
        'how far it was moved, "rows,columns" (down and right); of a volume "x,y,z" (right, front and up)'
    ),
    "gamma": Column("the exponent of its intensities", "{:.3f}"),
    "mi": Column("memorization index; filled by `--memorization_index true`", _NINE_DIGITS),
    "oni": Column("overfit/novelty index; filled by `--memorization_index true`, too", _NINE_DIGITS),
    "p_value": Column("conformal p-value: see [How sure are we?](how_sure_are_we.md)", _NINE_DIGITS),
    "q_value": Column("the false-discovery rate at which the image would be called a copy", _NINE_DIGITS),
    "label": Column("`duplicate`, `part`, `similar` or `different`"),
    "zoom": Column("the factor by which the training image was enlarged", "{:.4f}"),
    "deformation_pixels": Column(
        "length of the displacements by which it was deformed (root mean square), 0 where it was not", "{:.2f}"
    ),
    "stretch": Column("how much longer one axis was made than the other", "{:.4f}"),
    "inverted": Column("whether dark and bright were exchanged"),
    "inliers": Column("keypoints of the two images that agree on one transform; empty of volumes", "{:.0f}"),
    "copied_area": Column(
        "share of the synthetic image's structure that the training image shows; empty where the score is 0.5 or less, "
        "and of volumes",
        "{:.3f}",
    ),
    "coarse_correlation": Column(
        "*r*, correlation of the coarse structure of the two images after that alignment", _NINE_DIGITS
    ),
    "unexplained": Column(
        "whether it is no copy by the threshold and yet scores above every image that is not a copy, and apart from "
        "the other synthetic images"
    ),
    "twin_of": Column(
        "the synthetic copy that a similar image is a copy of, and with it of the same patient; empty where it is none"
    ),
    "twin_score": Column(
        "the score of a similar image with the closest synthetic copy of the training images that it resembles; above "
        "0.97 it is a twin. Empty where it was compared with none",
        _SIX_DIGITS,
    ),
}
_MEMORIZED = {
    "training_path": Column("the training image, relative to its folder"),
    "patient_id": Column("its patient; empty when unknown"),
    "num_copies": Column("how many synthetic images are copies of it"),
    "max_score": Column("the highest score among them", _SIX_DIGITS),
    "synthetic_paths": Column("these images, the strongest first, parted by a vertical bar"),
}
_HELD_OUT = {
    "holdout_path": Column("the held-out image"),
    "patient_id": Column("its patient"),
    "training_path": Column("its nearest training image"),
    "training_patient_id": Column("the patient of that one"),
    "score": _SCORE,
    "label": Column("as if it were a synthetic image; a `duplicate` is a false alarm"),
    "contamination": Column(
        "how it is known to be a training image: `content` (the same file), `score` (no other patient scores as high); "
        "empty where it is none. Such an image is in no other number"
    ),
}
_CONTROLS = {
    "change": Column("what the training image went through before it was planted"),
    "level": Column("how strongly, in the unit beside it", "{:g}"),
    "unit": Column("the unit of the level; empty where a change has no levels"),
    "training_path": Column("the training image that was planted, relative to its folder"),
    "patient_id": _PATIENT,
    "nearest_path": Column("the training image that it was found to be nearest to"),
    "score": _SCORE,
    "label": Column("as if it were a synthetic image: a control is found where it is a `duplicate` or a `part`"),
    "found": Column("whether it is called a copy, of this image or of another one of the same patient"),
}
_PATIENTS = {
    "patient_id": Column("the patient"),
    "num_training": Column("how many training images are the patient's"),
    "num_memorized": Column("how many of them have a copy"),
    "num_copies": Column("how many synthetic images are copies of them"),
    "max_score": Column("the highest score among these", _SIX_DIGITS),
    "training_paths": Column("the training images that have a copy, parted by a vertical bar"),
    "synthetic_paths": Column("the copies, the strongest first, parted by a vertical bar"),
}
#: Columns of the files of an audit, by the name of the file; those that an audit was not asked for are empty.
TABLES = {
    "matches": _MATCHES,
    "memorized": _MEMORIZED,
    "holdout": _HELD_OUT,
    "controls": _CONTROLS,
    "patients": _PATIENTS,
}
MATCHES_COLUMNS, MEMORIZED_COLUMNS, HELD_OUT_COLUMNS, CONTROLS_COLUMNS, PATIENTS_COLUMNS = map(list, TABLES.values())
_FORMS = {name: column.form for table in TABLES.values() for name, column in table.items()}


def as_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], index: Sequence[int] | None = None
) -> pd.DataFrame:
    """Make a table of rows.

    Args:
        rows: cells by column; a missing one is empty.
        columns: those of the table, in their order.
        index: index of the rows; counted from 0 by default.

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
    is_volume = len(alignment.shift_pixels) == 3
    names = ("left-right", "back-front", "feet-head") if is_volume else ("top-bottom", "left-right")
    exchanged = [f"{names[axis]}>{names[place]}" for place, axis in enumerate(alignment.axes) if axis != place]
    stretches = alignment.stretches or (1.0,)
    return {
        "flip": " ".join([*exchanged, *(names[axis] for axis in alignment.flips)]),
        "rotation_degrees": _join(alignment.rotation_degrees) if is_volume else alignment.rotation_degrees[0],
        "shift_pixels": _join(alignment.shift_pixels),
        "gamma": alignment.gamma,
        "zoom": alignment.zoom,
        "deformation_pixels": alignment.deformation_pixels,
        "stretch": max(stretches) / min(stretches) if is_volume else alignment.stretch,
        "inverted": "true" if alignment.inverted else "false",
    }


def _join(numbers: Sequence[float]) -> str:
    return ",".join(f"{round(number, 2) + 0.0:.2f}" for number in numbers)  # + 0.0: no -0.00


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file, whole or not at all.

    Args:
        path: path of the file.
        table: a cell that is missing is empty, a list is joined by ``|``, and no text is a formula to a spreadsheet.

    Raises:
        UnusableInputError: if the file cannot be written.
    """

    def write_cell(value: Any, form: str) -> str:
        if isinstance(value, (list, tuple)):
            return _PATH_SEPARATOR.join(map(str, value))
        if isinstance(value, str):
            return value  # three numbers of a volume
        return "" if value is None or pd.isna(value) else form.format(value)

    cells = {name: [write_cell(value, _FORMS.get(name, "{}")) for value in table[name]] for name in table.columns}
    write_text(path, csv_text([table.columns, *zip(*cells.values(), strict=True)]))
