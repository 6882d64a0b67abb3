"""How often each training image of a generator is repeated, which is what provokes memorization."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.data import read_table
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators.conditioning import NAME_COLUMNS

__all__ = ["DUPLICATION_RANGES", "repetition_counts"]

#: Smallest and largest number of copies of a training image, by the name of the published setting (arXiv 2509.16582).
DUPLICATION_RANGES: Mapping[str, tuple[int, int]] = {"none": (1, 1), "low": (1, 4), "high": (1, 14)}

_COUNT_COLUMN = "copies"


def repetition_counts(
    items: Sequence[Mapping[str, Any]], duplication: str | os.PathLike[str] = "none", seed: int = 0
) -> list[int]:
    """Say how many times each image is in a generator's training set.

    Args:
        items: items with ``path``, the name of the image in the data list.
        duplication: ``"none"``, once each; ``"low"`` and ``"high"``, a number drawn for each image, evenly from 1 to 4
            and from 1 to 14; or a CSV with the columns ``path`` and ``copies``, where an image without a row is there
            once.
        seed: seed of the draw.

    Returns:
        A count of at least 1 for each item.

    Raises:
        UnusableInputError: ``duplication`` is no such name and no CSV, or a row of it names no image of the list, names
            one twice, or has no whole number of at least 1. The message names the line.

    References:
        Scardace et al., *A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis*,
        arXiv 2509.16582.

    Example:
        >>> items = [{"path": f"sub-{number}.png"} for number in range(1000)]
        >>> repetition_counts(items[:3])
        [1, 1, 1]
        >>> counts = repetition_counts(items, "high")
        >>> min(counts), max(counts)
        (1, 14)
    """
    if duplication in DUPLICATION_RANGES:
        low, high = DUPLICATION_RANGES[str(duplication)]
        return np.random.default_rng([seed, high]).integers(low, high, size=len(items), endpoint=True).tolist()
    path = Path(duplication).expanduser() if isinstance(duplication, str | os.PathLike) else None
    if path is None or path.suffix.lower() != ".csv":
        raise UnusableInputError(
            f"duplication is {duplication!r}, wanted none, low, high or a CSV with the columns path and copies."
        )
    given = _read_counts(path)
    names = [str(item["path"]) for item in items]
    for name, (line, _) in given.items():
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1) or names[:1]
            raise UnusableInputError(
                f"{path}, line {line}: {name!r} is not one of the {len(names)} training images; they are named like "
                f"{nearest[0]!r}. Correct the name, or remove the row."
            )
    return [given[name][1] if name in given else 1 for name in names]


def _read_counts(path: Path) -> dict[str, tuple[int, int]]:
    """Line and count of each image that the CSV names."""
    table = read_table(path)
    column = next((name for name in NAME_COLUMNS if name in table.columns), None)
    if column is None or _COUNT_COLUMN not in table.columns:
        raise UnusableInputError(
            f"{path}: the columns are {', '.join(table.columns)}, wanted path and copies. Rename them."
        )
    counts: dict[str, tuple[int, int]] = {}
    for line, cells in table:
        name, text = cells[column], cells[_COUNT_COLUMN]
        if name in counts:
            raise UnusableInputError(
                f"{path}, line {line}: {name!r} has a count in line {counts[name][0]} already. Remove one of them."
            )
        if not text.isdecimal() or int(text) < 1:
            raise UnusableInputError(
                f"{path}, line {line}: copies is {text!r}, wanted a whole number of at least 1. To leave an "
                "image out, leave it out of the images."
            )
        counts[name] = (line, int(text))
    return counts
