"""What a conditional generator is told beside the image: named variables, or the embedding of a text."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.data import read_table
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import read_checkpoint

__all__ = ["VariableScaling", "read_vectors", "variable_values"]

#: Columns that may name the image of a row, in this order.
NAME_COLUMNS = ("path", "image", "filename")


@dataclass(frozen=True)
class VariableScaling:
    r"""Brings every variable to [0, 1] by the range that it has in the training images.

    :math:`x' = (x - \min) / (\max - \min)`, with minimum and maximum over the training images, each counted once
    however often it is repeated. Values outside of that range, as held-out images may have them, leave [0, 1]; a
    variable that is the same in all training images becomes 0.

    Args:
        columns: names of the variables, in the order of the context.
        minimum: lowest value of each variable in the training images.
        maximum: highest value of each variable in the training images.

    Example:
        >>> scaling = VariableScaling.of(("age", "sex"), [[20.0, 0.0], [70.0, 1.0]])
        >>> scaling.context([45.0, 1.0])
        tensor([[0.5000, 1.0000]])
    """

    columns: tuple[str, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]

    @classmethod
    def of(cls, columns: Sequence[str], values: Sequence[Sequence[float]]) -> VariableScaling:
        """Measure the ranges.

        Args:
            columns: names of the variables.
            values: one row per training image, one value per variable.
        """
        table = np.asarray(values, dtype=np.float64)
        return cls(tuple(columns), tuple(table.min(0).tolist()), tuple(table.max(0).tolist()))

    def context(self, values: Sequence[float]) -> Tensor:
        """Scale the values of one image.

        Args:
            values: one value per column of ``columns``, in their order and own units.

        Returns:
            ``(1, number of columns)``, float32: a sequence of one token, as cross-attention takes it.

        Raises:
            ValueError: there are more or fewer values than columns.
        """
        if len(values) != len(self.columns):
            raise ValueError(f"got {len(values)} values, want {len(self.columns)}: {', '.join(self.columns)}")
        scaled = [
            (value - low) / (high - low) if high > low else 0.0
            for value, low, high in zip(values, self.minimum, self.maximum, strict=True)
        ]
        return torch.tensor([scaled], dtype=torch.float32)


def variable_values(
    items: Sequence[Mapping[str, Any]], columns: Sequence[str], source: object = "the images"
) -> list[list[float]]:
    """Take named numbers out of a data list.

    Args:
        items: items with ``path`` and the columns, as :func:`~monai_deepssim.data.list_images` passes on those of a
            CSV; upper and lower case are the same.
        columns: names of the variables.
        source: what the message names as the place of the images.

    Returns:
        One row per item, one value per column, in their own units.

    Raises:
        UnusableInputError: no columns were asked for, one is not there, or a cell is empty, no number, NaN or infinite.

    Example:
        >>> variable_values([{"path": "a.png", "age": "61", "sex": "0"}], ["age", "sex"])
        [[61.0, 0.0]]
    """
    if isinstance(columns, str) or not columns:
        raise UnusableInputError(
            f"conditioning_columns is {columns!r}, wanted a list of names for conditioning on variables, "
            "such as \"['age','sex']\"."
        )
    rows: list[list[float]] = []
    for item in items:
        cells = {str(key).lower(): value for key, value in item.items()}
        for column in columns:
            if column.lower() not in cells:
                own = sorted(set(cells) - {"image", "path", "patient_id", "slice", "slice_axis", "files", "subject"})
                raise UnusableInputError(
                    f"{source}: {item['path']} has no variable {column!r}; it has {', '.join(own) or 'none'}. Give a "
                    "CSV of the images with such a column, or correct conditioning_columns."
                )
        rows.append([_number(cells[column.lower()], column, item["path"], source) for column in columns])
    return rows


def _number(value: Any, column: str, path: object, source: object) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        found = "empty" if value in ("", None) else repr(value)
        raise UnusableInputError(
            f"{source}: {column} of {path} is {found}, wanted a finite number. Fill it in (write categories as "
            "numbers, such as 0 and 1), or leave the image out."
        )
    return number


def read_vectors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read vectors that were computed beforehand, such as embeddings of captions.

    Args:
        path: a CSV with a column ``path`` (or ``image``, ``filename``) and a column for each number; an ``.npz`` file
            whose arrays are named by the image; or a ``.pt`` file with a dictionary from image to tensor. Images are
            named as in the data list.

    Returns:
        A vector ``(1, C)``, float32, for each image.

    Raises:
        UnusableInputError: the file cannot be read, is not one of these, or a vector is not finite or not as long as
            the others.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/captions.npz", **{"sub-01/t1.png": np.ones(512)})
        ...     read_vectors(f"{folder}/captions.npz")["sub-01/t1.png"].shape
        torch.Size([1, 512])
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".npz", ".pt"):
        raise UnusableInputError(f"{path}: vectors are read from .csv, .npz and .pt files. Convert it.")
    if not path.is_file():
        raise UnusableInputError(f"{path}: the file does not exist. Check conditioning_file.")
    rows = _rows_of_csv(path) if suffix == ".csv" else _rows_of_archive(path)
    vectors = {name: torch.as_tensor(row, dtype=torch.float32).reshape(1, -1) for name, row in rows.items()}
    if not vectors:
        raise UnusableInputError(f"{path}: there are no vectors in it. Give one for each image, by its path.")
    size = next(iter(vectors.values())).shape[1]
    for name, vector in vectors.items():
        if vector.shape[1] != size or not torch.isfinite(vector).all():
            found = f"{vector.shape[1]} numbers" if vector.shape[1] != size else "NaN or infinite numbers"
            raise UnusableInputError(f"{path}: the vector of {name} has {found}, wanted {size} finite ones.")
    return vectors


def _rows_of_csv(path: Path) -> dict[str, Any]:
    table = read_table(path)
    column = next((name for name in NAME_COLUMNS if name in table.columns), None)
    if column is None:
        raise UnusableInputError(
            f"{path}: the columns are {', '.join(table.columns)}, wanted one that is named path. Rename it."
        )
    numbers = [name for name in table.columns if name not in (*NAME_COLUMNS, "patient_id")]
    return {
        cells[column]: [_number(cells[name], name, cells[column], f"{path}, line {line}") for name in numbers]
        for line, cells in table
    }


def _rows_of_archive(path: Path) -> dict[str, Any]:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name].astype(np.float32) for name in file}
        content = read_checkpoint(path)
        return {str(name): torch.as_tensor(vector).float() for name, vector in content.items()}
    except UnusableInputError:
        raise
    except Exception as error:  # NumPy raises many kinds on a file that is none of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnusableInputError(
            f"{path}: the file is not a dictionary of arrays ({reason}). Write it with np.savez or torch.save."
        ) from error
