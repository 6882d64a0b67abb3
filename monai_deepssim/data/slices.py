"""Which slices of a volume are meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from monai_deepssim.errors import UnusableInputError

__all__ = ["SliceChoice", "SliceSelection", "parse_slices", "selected_slices"]

SliceSelection = int | Sequence[int] | str | None
"""What a user may write: see :func:`parse_slices`."""

SliceChoice = Literal["all"] | tuple[int, ...] | slice | None
"""What :func:`parse_slices` makes of it."""

_WANTED = (
    'want an index (90), indices (60,70,80), "all" or a range with an excluded end (60:100 or 60:100:2), counted '
    "from 0 at the patient's left, back or feet; negative numbers count from the other end"
)
# An index with more digits is of no volume.
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_LARGEST_INDEX = 10**18


def parse_slices(slices: SliceSelection) -> SliceChoice:
    """Return the meaning of the override ``slices``, before any volume is known.

    Args:
        slices: ``None`` for the middle slice; an index; indices; ``"all"``; or text such as ``"90"``, ``"60,70,80"``,
            ``"60:100"`` and ``"60:100:2"`` with the end excluded. Index 0 is the slice farthest to the patient's left,
            back or feet, and negative indices count from the other end. Fractions are not taken.

    Returns:
        ``None``, ``"all"``, the indices, or a ``slice``.

    Raises:
        UnusableInputError: none of these was given.

    Example:
        >>> parse_slices("60:100:2"), parse_slices([3, 4]), parse_slices("-1")
        (slice(60, 100, 2), (3, 4), (-1,))
    """
    refusal = UnusableInputError(f"slices={slices!r} names no slices: {_WANTED}.")
    if slices is None:
        return None
    if isinstance(slices, str):
        text = slices.replace(" ", "")
        if text.lower() == "all":
            return "all"
        if ":" in text:
            return _parse_range(text, refusal)
        parts = text.strip("[]()").split(",")
        if not all(_INTEGER.fullmatch(part) for part in parts):
            raise refusal
        return tuple(int(part) for part in parts)
    indices = [slices] if isinstance(slices, int) else slices
    if not isinstance(indices, Sequence) or not indices:
        raise refusal
    if any(isinstance(index, bool) or not isinstance(index, int) or abs(index) > _LARGEST_INDEX for index in indices):
        raise refusal
    return tuple(indices)


def _parse_range(text: str, refusal: UnusableInputError) -> slice:
    parts = text.split(":")
    if len(parts) > 3 or not all(part == "" or _INTEGER.fullmatch(part) for part in parts):
        raise refusal
    start, stop, step = (int(part) if part else None for part in [*parts, ""][:3])
    same_end = start is not None and stop is not None and (start < 0) == (stop < 0)
    if (step is not None and step < 1) or (same_end and start >= stop):  # type: ignore[operator]
        raise refusal
    return slice(start, stop, step)


def selected_slices(choice: SliceChoice, num_slices: int) -> list[int]:
    """Return the indices that a choice means in one volume.

    A slice that was named and does not exist stays in the list, once a volume: it is reported when it is loaded,
    whereas a volume that is left out would not be missed by anyone. One that is named twice is meant once.

    Args:
        choice: as :func:`parse_slices` returns it.
        num_slices: number of slices of the volume.

    Returns:
        Indices from 0; one that is outside of the volume is left as it was written.

    Example:
        >>> selected_slices(parse_slices("4:20:2"), 9), selected_slices(None, 9), selected_slices((-1, 30), 9)
        ([4, 6, 8, 10], [4], [8, 30])
    """
    if choice is None:
        return [num_slices // 2]
    if choice == "all":
        return list(range(num_slices))
    if isinstance(choice, tuple):
        return list(dict.fromkeys(index + num_slices if -num_slices <= index < 0 else index for index in choice))
    start, stop = choice.start or 0, num_slices if choice.stop is None else choice.stop
    start, stop = (limit + num_slices if limit < 0 else limit for limit in (start, stop))
    if start < 0:
        return [choice.start]
    step = choice.step or 1
    inside = list(range(start, min(stop, num_slices), step))
    first_outside = inside[-1] + step if inside else start
    return inside + ([first_outside] if first_outside < stop or not inside else [])
