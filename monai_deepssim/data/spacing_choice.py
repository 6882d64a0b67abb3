"""Which spacing volumes get whose files do not tell one: that of the training volumes that they are as large as."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from monai_deepssim.data.cubic_voxels import are_cubes
from monai_deepssim.data.items import files_of
from monai_deepssim.data.readers import reader_of
from monai_deepssim.errors import UnusableInputError

__all__ = ["checked_spacing", "give_spacings", "spacing_of", "spacing_text"]

# What programs write that know of no spacing.
_UNTOLD = (1.0, 1.0, 1.0)
# Rounding of headers, and of a number of slices that was divided; one slice in four at most is kept.
_TOLERANCE, _LARGEST_STEP = 0.01, 4

_Item = Mapping[str, Any]
Triple = tuple[float, float, float]


class _Grid(NamedTuple):
    """The size of a volume, and the sides of its voxels in millimetres, ``None`` where its file does not tell."""

    shape: tuple[int, int, int]
    spacing: Triple | None


def spacing_text(spacing: Sequence[float]) -> str:
    """Write a spacing as items have it.

    Example:
        >>> spacing_text((0.5, 0.5, 3.0))
        '0.5,0.5,3'
    """
    return ",".join(f"{side:.6g}" for side in spacing)


def checked_spacing(spacing: Any, where: str) -> str:
    """Return a spacing as items have it.

    Args:
        spacing: ``"x,y,z"`` in millimetres, or three numbers; ``""`` or ``None`` for none.
        where: names it in the message.

    Raises:
        UnusableInputError: it is neither.

    Example:
        >>> checked_spacing([1, 1, 5], "spacing")
        '1,1,5'
    """
    text = "" if spacing is None else str(spacing).strip("[]() ")
    try:
        sides = [float(side) for side in text.split(",") if text]
    except ValueError:
        sides = [math.nan]
    if sides and (len(sides) != 3 or not all(0 < side < math.inf for side in sides)):
        raise UnusableInputError(
            f"{where} is {spacing!r}, wanted the sides of a voxel along x, y and z in mm: '1,1,5'."
        )
    return spacing_text(sides)


def spacing_of(item: _Item) -> Triple | None:
    """Read the spacing that an item has in place of that of its file.

    Example:
        >>> spacing_of({"spacing": "0.5,0.5,3"}), spacing_of({})
        ((0.5, 0.5, 3.0), None)
    """
    sides = [float(side) for side in str(item.get("spacing") or "").split(",") if side]
    return (sides[0], sides[1], sides[2]) if sides else None


def give_spacings(items: Sequence[_Item], training: Sequence[_Item]) -> tuple[list[dict[str, Any]], str]:
    r"""Give volumes the spacing that their files do not tell, where their size shows that it is the training volumes'.

    Generators give arrays, and programs save them with an identity matrix, or with the matrix of a training volume
    although slices were left out. The training volumes of the most frequent size :math:`S` and spacing :math:`s` tell
    what is meant. A volume of size :math:`T` gets a spacing where

    - its file tells none, or 1 x 1 x 1 mm, and its sides are as those of the training volumes,
      :math:`T \propto S`: it gets :math:`s`;
    - its file tells none, 1 x 1 x 1 mm or :math:`s`, and along one axis it has a half, a third or a quarter of the
      slices, :math:`T_i = S_i / k`, and as many along the others: it gets :math:`s` with :math:`k s_i`.

    Args:
        items: volumes of another side, as :func:`~monai_deepssim.data.list_images` lists them.
        training: the training volumes.

    Returns:
        The items, some with ``spacing``; and how many got one and why, in a sentence, ``""`` for none.

    Example:
        >>> give_spacings([], [])
        ([], '')
    """
    grids = Counter(grid for grid in map(_grid_of, training) if grid is not None)
    if not grids:
        return [dict(item) for item in items], ""
    reference = grids.most_common(1)[0][0]
    given, examples = [], []
    for item in items:
        spacing = None if item.get("spacing") else _meant_spacing(_grid_of(item), reference)
        given.append({**item, "spacing": spacing_text(spacing)} if spacing else dict(item))
        examples += [f"{item['path']} ({spacing_text(spacing).replace(',', ' x ')} mm)"] if spacing else []
    if not examples:
        return given, ""
    return given, (
        f"{len(examples)} of {len(items)} volumes tell no spacing of their own, and are as large as the training "
        "volumes, or have a half, a third or a quarter of their slices. They are taken to have the spacing of these, "
        f"such as {examples[0]}. A header with another spacing, or a column spacing, says otherwise."
    )


def _meant_spacing(grid: _Grid | None, reference: _Grid) -> Triple | None:
    """The spacing that a volume gets; ``None`` where that of its file stays."""
    if grid is None:
        return None
    spacing = reference.spacing or _UNTOLD
    is_untold = grid.spacing is None or _are_close(grid.spacing, _UNTOLD)
    ratios = [whole / side for whole, side in zip(reference.shape, grid.shape, strict=True)]
    if max(ratios) <= (1 + _TOLERANCE) * min(ratios):
        return spacing if is_untold and not are_cubes(spacing) else None
    if not is_untold and not _are_close(grid.spacing or _UNTOLD, spacing):
        return None
    steps = [_step(whole, side) for whole, side in zip(reference.shape, grid.shape, strict=True)]
    if sorted(step > 1 for step in steps) != [False, False, True] or 0 in steps:
        return None
    return spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2]


def _step(whole: int, side: int) -> int:
    """One slice in how many was kept; 0 where it cannot be."""
    return next((k for k in range(1, _LARGEST_STEP + 1) if side in (whole // k, math.ceil(whole / k))), 0)


def _are_close(first: Triple, second: Triple) -> bool:
    return all(math.isclose(one, other, rel_tol=_TOLERANCE) for one, other in zip(first, second, strict=True))


def _grid_of(item: _Item) -> _Grid | None:
    """Read it from the header; ``None`` where that is damaged, which is told when the volume is read."""
    if not item.get("volume"):
        return None
    image = item["image"]
    if isinstance(image, torch.Tensor):
        return _Grid((image.shape[1], image.shape[2], image.shape[3]), spacing_of(item))
    files = files_of(item)
    reader = reader_of(Path(files[0])) if files else None
    try:
        shape = None if reader is None else reader.whole_shape(files)
        if reader is None or shape is None:
            return None
        spacing = spacing_of(item) or reader.whole_spacing(files)
    except Exception:
        return None
    return _Grid(shape, None if spacing is None else (round(spacing[0], 4), round(spacing[1], 4), round(spacing[2], 4)))
