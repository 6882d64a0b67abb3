"""Groups of training files that are duplicates of each other, and the one of each that is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_deepssim.audit.clean_up.file_units import FileUnit, connected_groups
from monai_deepssim.audit.clean_up.self_search import SelfSearch

__all__ = ["DuplicateGroup", "Duplicates", "group_duplicates"]


@dataclass(frozen=True)
class DuplicateGroup:
    """Files that duplicates connect.

    Attributes:
        kept: number of the file that stands for them.
        left_out: numbers of the others, ascending.
        pairs: the duplicates among them, the highest score first; each pair of images once, as a row of the table of
            :meth:`SelfSearch.find`.
        patients: ``same`` when all files are of one known patient, ``different`` when they are of several, ``unknown``
            when there is none known, or one and unknown ones.
    """

    kept: int
    left_out: tuple[int, ...]
    pairs: list[Any]
    patients: str

    @property
    def members(self) -> tuple[int, ...]:
        """All files, in the order of the list."""
        return tuple(sorted((self.kept, *self.left_out)))


@dataclass(frozen=True)
class Duplicates:
    """What a search of a set in itself has found.

    Attributes:
        groups: those with duplicates of different patients first, then those of unknown, then of the same patients;
            among these the highest score first.
        nearest: for the row of each image its nearest image of another file; a single image has none.
        rounds: number of searches until no two files that are kept were found to be duplicates.
    """

    groups: list[DuplicateGroup]
    nearest: dict[int, Any]
    rounds: int


def group_duplicates(search: SelfSearch, units: Sequence[FileUnit], patients: Sequence[str]) -> Duplicates:
    """Group the files of a set by their duplicates.

    Every image is compared with its nearest images of other files; files with a duplicate between them are connected,
    and the connected components are the groups. Of a group the file with the most duplicates among the others is kept,
    of several the first in the order of the list. An image may have more duplicates than neighbours that were looked
    at, so those that were kept and had an image that was left out among their neighbours are searched again, among what
    was kept, until nothing new is found.

    Args:
        search: over the embedded set.
        units: its files.
        patients: patient of each file; an empty string is an unknown patient.

    Returns:
        The groups.
    """
    unit_of = search.units
    usable = set(unit_of.tolist())
    alive = np.ones(len(unit_of), dtype=bool)
    rows = np.arange(len(unit_of))
    lists: dict[int, list[Any]] = {}
    nearest: dict[int, Any] = {}
    duplicates: dict[tuple[int, int], Any] = {}
    kept = usable
    rounds = 0
    while len(rows):
        rounds += 1
        lists |= {row: [] for row in rows.tolist()}
        for pair in search.find(rows, alive).itertuples(index=False):
            lists[pair.query].append(pair)
            if rounds == 1:
                nearest.setdefault(pair.query, pair)
            key = (min(pair.query, pair.training), max(pair.query, pair.training))
            if pair.label == "duplicate" and (key not in duplicates or pair.score > duplicates[key].score):
                duplicates[key] = pair
        edges = sorted({_edge(pair, unit_of) for pair in duplicates.values()})
        counts = Counter(unit for edge in edges if kept.issuperset(edge) for unit in edge)
        kept = {
            _representative([unit for unit in group if unit in kept], counts)
            for group in connected_groups(len(units), edges)
            if usable.intersection(group)
        }
        alive = np.isin(unit_of, sorted(kept))
        crowded = [
            row for row in np.flatnonzero(alive).tolist() if any(not alive[pair.training] for pair in lists[row])
        ]
        rows = np.array(crowded, dtype=np.int64)
    return Duplicates(_groups(units, patients, duplicates, kept, unit_of), nearest, rounds)


def _edge(pair: Any, unit_of: np.ndarray) -> tuple[int, int]:
    first, second = sorted((int(unit_of[pair.query]), int(unit_of[pair.training])))
    return first, second


def _representative(members: Sequence[int], counts: Mapping[int, int]) -> int:
    """The member with the most duplicates; the first of several."""
    return min(members, key=lambda unit: (-counts.get(unit, 0), unit))


def _groups(
    units: Sequence[FileUnit],
    patients: Sequence[str],
    duplicates: dict[tuple[int, int], Any],
    kept: set[int],
    unit_of: np.ndarray,
) -> list[DuplicateGroup]:
    by_unit: dict[int, list[Any]] = {}
    for pair in duplicates.values():
        by_unit.setdefault(int(unit_of[pair.query]), []).append(pair)
    edges = sorted({_edge(pair, unit_of) for pair in duplicates.values()})
    groups = []
    for members in connected_groups(len(units), edges):
        if len(members) == 1:
            continue
        pairs = [pair for unit in members for pair in by_unit.get(unit, [])]
        pairs.sort(key=lambda pair: (-pair.score, pair.query, pair.training))
        (representative,) = kept.intersection(members)
        left_out = tuple(unit for unit in members if unit != representative)
        groups.append(DuplicateGroup(representative, left_out, pairs, _patients([patients[unit] for unit in members])))
    order = ("different", "unknown", "same")
    return sorted(groups, key=lambda group: (order.index(group.patients), -group.pairs[0].score, group.kept))


def _patients(patients: Sequence[str]) -> str:
    known = {patient for patient in patients if patient}
    if len(known) > 1:
        return "different"
    return "same" if known and all(patients) else "unknown"
