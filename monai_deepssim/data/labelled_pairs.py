"""The published data set's lists of real and synthetic images."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_deepssim.data.folders import is_inside
from monai_deepssim.data.readers import supported_suffixes
from monai_deepssim.data.tables import path_inside, read_table
from monai_deepssim.errors import UnusableInputError

__all__ = ["labelled_pairs"]

_SEPARATOR = "___"
_AXIAL = 2
# A later release of the data set has the labels of three raters, and the one that they agreed on.
_OTHER_NAMES = {"final_label": "label"}
_WANTED = {
    "label": "a label, wanted 0 (different), 1 (duplicate) or 2 (similar)",
    "ssim": "an SSIM, wanted a number from -1 to 1",
    "split": "a split, wanted train or valid",
}


def labelled_pairs(csv_file: str | os.PathLike, images_dir: str | os.PathLike | None) -> list[dict[str, Any]]:
    """Read a list of (real, synthetic) pairs in the layout of the published DeepSSIM data set.

    A key ``<uid>___<name>``, such as ``IXI002___training`` or ``IXI002___gen-3``, is the file
    ``images_dir/<uid>/<name>.png``; where there is none, the same name with another suffix that this package reads is
    taken.

    Args:
        csv_file: path of a CSV with ``real_key, synth_key`` and ``label`` (the published test set; where three raters
            labelled it, the column is ``final_label``), or ``ssim, split`` (its training set).
        images_dir: the folder of the images; ``None`` where only the keys are wanted, as for score matrices.

    Returns:
        One dictionary per row, in the order of the rows: ``real`` and ``synthetic``, items that
        :func:`~monai_deepssim.data.load_slice` takes, with their ``key`` and the uid as ``patient_id``; and ``label``
        (0 different, 1 duplicate, 2 similar), or ``ssim`` (float) and ``split`` (``"train"`` or ``"valid"``).

    Raises:
        UnusableInputError: the CSV cannot be read or lacks a column, or a row names an image that is not there, lies
            outside of ``images_dir``, also by a link, or has another value than these. The message names the line.

    References:
        Scardace et al., *A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis*,
        arXiv 2509.16582.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = Path(folder, "IXI002")
        ...     images.mkdir()
        ...     _ = (images / "training.png").write_bytes(b"..."), (images / "gen-0.png").write_bytes(b"...")
        ...     _ = Path(folder, "test.csv").write_text(
        ...         "real_key,synth_key,label\\nIXI002___training,IXI002___gen-0,1\\n"
        ...     )
        ...     pairs = labelled_pairs(f"{folder}/test.csv", folder)
        >>> pairs[0]["real"]["path"], pairs[0]["synthetic"]["path"], pairs[0]["label"]
        ('IXI002/training.png', 'IXI002/gen-0.png', 1)
    """
    table = read_table(Path(csv_file))
    folder = None if images_dir is None else Path(images_dir)
    if folder is not None and not folder.is_dir():
        raise UnusableInputError(f"{folder}: there is no such folder of images. Check images_dir.")
    columns = {_OTHER_NAMES.get(name, name) for name in table.columns}
    if not ({"real_key", "synth_key", "label"} <= columns or {"real_key", "synth_key", "ssim", "split"} <= columns):
        raise UnusableInputError(
            f"{table.path}: the columns are {', '.join(table.columns)}, wanted 'real_key, synth_key, label' or "
            "'real_key, synth_key, ssim, split'. Rename them."
        )
    known: dict[str, dict[str, Any]] = {}
    pairs: list[dict[str, Any]] = []
    for line, cells in table:
        where = f"{table.path}, line {line}"
        cells = {**{_OTHER_NAMES[name]: text for name, text in cells.items() if name in _OTHER_NAMES}, **cells}
        pair: dict[str, Any] = {}
        for role, column in (("real", "real_key"), ("synthetic", "synth_key")):
            key = cells[column]
            if key not in known:
                known[key] = _item(folder, key, f"{where}, {column}")
            pair[role] = dict(known[key])
        for column in _WANTED:
            if column in columns:
                pair[column] = _value(column, cells[column], f"{where}, {column}")
        pairs.append(pair)
    return pairs


def _item(folder: Path | None, key: str, where: str) -> dict[str, Any]:
    uid, separator, name = key.rpartition(_SEPARATOR)
    if not (uid and separator and name):
        raise UnusableInputError(
            f"{where}: {key!r} is not a key, wanted <uid>{_SEPARATOR}<name>, as in IXI002___training."
        )
    if folder is None:
        return {"key": key, "patient_id": uid}
    wanted = path_inside(folder, f"{uid}/{name}.png", where)
    candidates = [wanted, *(wanted.with_name(f"{Path(name).name}{suffix}") for suffix in supported_suffixes())]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UnusableInputError(
            f"{where}: the image {key!r} is missing; {wanted} was looked for. Restore it, or remove the row."
        )
    if not is_inside(path, folder):
        raise UnusableInputError(
            f"{where}: {path} is, or lies behind, a symbolic link that leads out of {folder}, and nothing outside of "
            "that folder is read. Copy the file into it."
        )
    relative = path.relative_to(folder).as_posix()
    return {"image": str(path), "path": relative, "key": key, "patient_id": uid, "slice_axis": _AXIAL}


def _value(column: str, text: str, where: str) -> Any:
    """Return what a cell with a label, an SSIM or a split means."""
    if column == "label" and text in ("0", "1", "2"):
        return int(text)
    if column == "split" and text in ("train", "valid"):
        return text
    if column == "ssim":
        with suppress(ValueError):
            if -1 <= float(text) <= 1:
                return float(text)
    raise UnusableInputError(f"{where}: {text!r} is not {_WANTED[column]}.")
