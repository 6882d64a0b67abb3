"""Which window each set of images gets: the one that was asked for, or the one that makes it look like the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.data.items import files_of
from monai_deepssim.data.loading import read_intensities
from monai_deepssim.data.readers import reader_of
from monai_deepssim.data.windows import FittedWindow, fit_window, resolve_window
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import say

__all__ = ["WindowChoice", "choose_windows"]

# Images that are looked at to tell Hounsfield units, and to find a window.
_FEW, _MANY, _SEED = 8, 24, 0
_Item = Mapping[str, Any]


@dataclass(frozen=True)
class WindowChoice:
    """The window of a set of images.

    Attributes:
        window: ``"center,width"`` in Hounsfield units, ``""`` for none.
        reason: Why, in a sentence or two; ``""`` where there was nothing to choose.
    """

    window: str = ""
    reason: str = ""

    def give(self, items: Sequence[_Item]) -> list[dict[str, Any]]:
        """Give the window to items that have none of their own."""
        return [{**item, "window": item.get("window") or self.window} for item in items]


def choose_windows(sides: Mapping[str, Sequence[_Item]], window: str | Mapping[str, str]) -> dict[str, WindowChoice]:
    """Choose the window of each set of images.

    With ``auto``, sets in Hounsfield units get one where another set holds pictures: the window by which their grey
    levels are those of the pictures, out of windows with a name, those that the files name, and others
    (:func:`~monai_deepssim.data.windows.fit_window`). A few images of each set are read to tell.

    Args:
        sides: items of each set by its name.
        window: ``"auto"``, ``"none"``, ``"center,width"`` or a name out of
            :data:`~monai_deepssim.data.NAMED_WINDOWS`; by the name of the set, or for all. A set that is not named has
            ``"auto"``.

    Returns:
        The window of each set.

    Example:
        >>> choose_windows({"training": [], "synthetic": []}, "40,400")["training"]
        WindowChoice(window='40,400', reason='')
        >>> choose_windows({"training": [], "synthetic": []}, {"training": "lung"})["training"].window
        '-600,1500'
    """
    asked = {name: window if isinstance(window, str) else window.get(name, "auto") for name in sides}
    choices = {
        name: WindowChoice("" if text in ("auto", "none") else resolve_window(text)) for name, text in asked.items()
    }
    if len(sides) < 2 or "auto" not in asked.values():
        return choices
    looks = {name: _look_at(items, _FEW) for name, items in sides.items()}
    hounsfield = [name for name, look in looks.items() if look.slices and asked[name] == "auto"]
    pictures = [name for name, look in looks.items() if look.pictures]
    if not hounsfield or not any(set(pictures) - {name} or looks[name].pictures for name in hounsfield):
        return choices
    looks = {name: _look_at(items, _MANY) for name, items in sides.items()}
    fitted = fit_window(
        [image for name in hounsfield for image in looks[name].slices],
        [image for name in pictures for image in looks[name].pictures],
        further=[one for name in hounsfield for one in looks[name].windows],
    )
    reason = _reason(hounsfield, pictures, fitted)
    say(reason)
    return {**choices, **{name: WindowChoice(fitted.text, reason) for name in hounsfield}}


@dataclass(frozen=True)
class _Look:
    """Some images of a set: those in Hounsfield units, the others scaled to [0, 1], and windows that files name."""

    slices: list[np.ndarray]
    pictures: list[np.ndarray]
    windows: list[tuple[float, float]]


def _look_at(items: Sequence[_Item], number: int) -> _Look:
    look = _Look([], [], [])
    for position in np.random.default_rng(_SEED).permutation(len(items))[:number].tolist():
        item = items[position]
        try:
            clean, *_ = read_intensities({**item, "window": ""})
        except UnusableInputError:  # is told when the images are read for good
            continue
        # Of a volume the middle axial slice.
        pixels = clean.pixels if clean.pixels.ndim == 2 else clean.pixels[..., clean.pixels.shape[2] // 2]
        low, high = float(pixels.min()), float(pixels.max())
        if clean.is_hounsfield and not item.get("window"):
            look.slices.append(pixels)
            files = files_of(item)
            look.windows.extend(reader_of(Path(files[0])).viewing_windows(files))  # type: ignore[union-attr]
        elif np.isfinite(low + high) and low < high:
            look.pictures.append((pixels - low) / (high - low))
    return look


def _reason(hounsfield: Sequence[str], pictures: Sequence[str], fitted: FittedWindow) -> str:
    which, rest = " and ".join(hounsfield), " and ".join(name for name in pictures if name not in hounsfield)
    others = f"the {rest} images are not" if rest else "others among them are not"
    what = f"the window {fitted.text.replace(',', ', ')} (center, width" + (f": {fitted.name})" if fitted.name else ")")
    if not fitted.text:
        what = "their full range, without a window,"
    return (
        f"The {which} images are in Hounsfield units, {others}. The grey levels agree best with {what}: they differ by "
        f"{fitted.distance:.1%} of the range. Option window takes another one."
    )
