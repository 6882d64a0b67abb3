"""What options of images take: patterns of their names, the size that they are brought to, and windows of HU."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import Check, Names, is_list, read_names, unusable_option

__all__ = ["image_sides", "patterns", "windows"]


def _read_patterns(name: str, value: Any) -> tuple[str, ...]:
    """Read patterns of file names, one or several.

    Example:
        >>> patterns.read("ignore", "*.log, thumbnails/*")
        ('*.log', 'thumbnails/*')
    """
    if value is None:
        return ()
    entries = value.split(",") if isinstance(value, str) else list(value) if is_list(value) else [value]
    if not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise unusable_option(name, value, "patterns of file names, such as '*.log, thumbnails/*'")
    return tuple(entry.strip() for entry in entries)


#: Take patterns of file names: a list, or a text in which they are parted by commas.
patterns = Check(_read_patterns, "patterns", is_text=True)


def _read_window(name: str, value: Any, names: Sequence[str]) -> str:
    wanted = f"center and width in Hounsfield units, such as 40,400, {', '.join(names)}, auto or none"
    if isinstance(value, str) and value.strip().lower() in names:
        return value.strip().lower()
    if value is None or (isinstance(value, str) and value.strip().lower() in ("auto", "none")):
        return "auto" if value is None else value.strip().lower()
    numbers = value.strip(" ()[]").split(",") if isinstance(value, str) else list(value) if is_list(value) else []
    try:
        center, width = (float(number) for number in numbers if not isinstance(number, bool))
    except (TypeError, ValueError):
        raise unusable_option(name, value, wanted) from None
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        raise unusable_option(name, value, f"{wanted}; the width is above 0")
    return f"{center:g},{width:g}"


def windows(sides: Sequence[str], names: Names = ()) -> Check:
    """Take a window of Hounsfield units, by numbers or by its name: for all sides, or one for each.

    Example:
        >>> windows(["training", "synthetic"]).read("window", [40, 400])
        '40,400'
        >>> windows(["training", "synthetic"], ["lung"]).read("window", "training=lung,synthetic=none")
        {'training': 'lung', 'synthetic': 'none'}
    """

    def read(name: str, value: Any) -> str | dict[str, str]:
        if isinstance(value, str) and "=" in value:
            parts = re.split(r",(?=\s*\w+\s*=)", value)
            value = {key.strip(): text for key, _, text in (part.partition("=") for part in parts)}
        if not isinstance(value, Mapping):
            return _read_window(name, value, read_names(names))
        for side in value:
            if side not in sides:
                raise UnusableInputError(f"--{name}: {side!r} is no side. The sides are: {', '.join(sides)}.")
        return {side: _read_window(f"{name} of {side}", window, read_names(names)) for side, window in value.items()}

    return Check(read, "center,width, a name, auto, none, or by side", is_text=True)


def image_sides(smallest: int, smallest_of_volume: int | None = None) -> Check:
    """Take rows and columns in pixels, or the three sides of a volume in voxels, too.

    Example:
        >>> image_sides(64).read("image_size", [136, 112]), image_sides(64, 32).read("image_size", [32, 40, 32])
        ((136, 112), (32, 40, 32))
    """
    wanted = f"rows and columns of at least {smallest} pixels each, such as '[136, 112]'"
    if smallest_of_volume is not None:
        wanted += f", or with --volumes three sides of at least {smallest_of_volume} voxels, such as '[64, 64, 64]'"

    def read(name: str, value: Any) -> tuple[int, ...]:
        sides = list(value) if is_list(value) else []
        least = {2: smallest, 3: smallest_of_volume}.get(len(sides))
        if least is None or not all(isinstance(side, Integral) and int(side) >= least for side in sides):
            raise unusable_option(name, value, wanted)
        return tuple(map(int, sides))

    return Check(read, "rows, columns" if smallest_of_volume is None else "rows, columns or three sides")
