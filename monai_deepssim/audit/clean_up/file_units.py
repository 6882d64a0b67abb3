"""Which files stand and fall together: the slices of a volume, and the files of a DICOM series."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from monai_deepssim.audit.sources import Side
from monai_deepssim.data import Repeat, files_of, source_folder
from monai_deepssim.errors import UnusableInputError

__all__ = ["FileUnit", "connected_groups", "file_units", "locations_of", "relative_to_source", "source_root"]


@dataclass(frozen=True)
class FileUnit:
    """Files that are kept, or left out, as a whole.

    Attributes:
        files: absolute paths: one image, one volume, or all files of a DICOM series.
        indices: positions of its slices in the list of images, ascending.
    """

    files: tuple[str, ...]
    indices: tuple[int, ...]


def connected_groups(size: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Part numbers into the connected components of a graph.

    Args:
        size: number of nodes; they are counted from 0.
        pairs: pairs of nodes that are connected.

    Returns:
        The components, each ascending, in the order of their first members; a number without a pair is one of its own.

    Example:
        >>> connected_groups(5, [(3, 0), (3, 4)])
        [[0, 3, 4], [1], [2]]
    """
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(size, size))
    groups: dict[int, list[int]] = {}
    for number, label in enumerate(connected_components(graph, directed=False)[1].tolist()):
        groups.setdefault(label, []).append(number)
    return list(groups.values())


def file_units(items: Sequence[Mapping[str, Any]], repeats: Sequence[Repeat] = ()) -> list[FileUnit]:
    """Gather the slices of a list by the files that hold them.

    Args:
        items: as :func:`monai_deepssim.data.list_images` lists them.
        repeats: images that were taken out of the list; their files are judged with those that they repeat.

    Returns:
        The units, in the order of their first slices. No file is in two of them.

    Example:
        >>> items = [{"image": "/a.nii", "slice": 3}, {"image": "/b.png"}, {"image": "/a.nii", "slice": 4}]
        >>> [unit.indices for unit in file_units(items)]
        [(0, 2), (1,)]
    """
    numbers: dict[str, int] = {}
    pairs = []
    index_of = {item["path"]: index for index, item in enumerate(items)} if repeats else {}
    repeated = [(index_of[repeat.first], repeat.item) for repeat in repeats]
    for index, item in [*enumerate(items), *repeated]:
        for file in locations_of(item):
            number = numbers.setdefault(file, len(numbers))
            pairs.append((index, len(items) + number))
    names = list(numbers)
    units = []
    for group in connected_groups(len(items) + len(names), pairs):
        files = tuple(names[member - len(items)] for member in group if member >= len(items))
        units.append(FileUnit(files, tuple(member for member in group if member < len(items))))
    return units


def locations_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The absolute paths of the files that hold an item, several of a DICOM series; its name where it is in memory.

    Example:
        >>> locations_of({"image": "/data/../a.png", "path": "a.png"})
        ('/a.png',)
    """
    # Not resolved: two links to one file are two files of the set.
    return tuple(os.path.abspath(file) for file in files_of(item)) or (item["path"],)


def source_root(side: Side) -> Path | None:
    """The folder that the files of a side are relative to: the folder itself, that of a list or an image, or the part
    of a pattern that has no wildcard; of a list of paths their common folder; none of images in memory."""
    if not side.in_memory:
        return source_folder(side.source)
    folders = [os.path.dirname(file) for item in side.items for file in locations_of(item) if os.path.isabs(file)]
    return Path(os.path.commonpath(folders)) if folders else None


def relative_to_source(file: str, root: Path | None) -> str:
    """The path of a file inside of its source, with ``/``; the name of an image in memory.

    Raises:
        UnusableInputError: if the file lies outside of it, so that there is no place for it in a folder of its own.

    Example:
        >>> relative_to_source("/data/patient/a.png", Path("/data"))
        'patient/a.png'
    """
    if root is None:
        return file
    relative = os.path.relpath(file, os.path.abspath(root))
    if relative.split(os.sep)[0] == os.pardir:
        raise UnusableInputError(f"{file}: lies outside of {root}, so its place in a new folder is unknown. Move it.")
    return Path(relative).as_posix()
