"""Windows of computed tomography: the range of Hounsfield units that a picture shows, given or found by grey levels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

__all__ = [
    "NAMED_WINDOWS",
    "STANDARD_WINDOWS",
    "FittedWindow",
    "NamedWindow",
    "fit_window",
    "level_distance",
    "resolve_window",
    "window_ends",
    "window_text",
]


@dataclass(frozen=True)
class NamedWindow:
    """A window that is asked for by its name.

    Attributes:
        center: In Hounsfield units.
        width: Likewise.
        shows: What it is for.
        source: Who uses it.
    """

    center: float
    width: float
    shows: str
    source: str


#: Windows that options, CSVs and :func:`~monai_deepssim.data.list_images` take by name. radiopaedia.org has them under
#: "Typical window width and level values", OHIF in ``defaultWindowLevelPresets.ts``, the Stone web viewer in its
#: ``configuration.json``; Shmilovich et al. call 200, 1000 the default of coronary CT angiography.
NAMED_WINDOWS: Mapping[str, NamedWindow] = {
    "brain": NamedWindow(40, 80, "grey and white matter", 'radiopaedia.org, "Windowing (CT)"'),
    "soft": NamedWindow(40, 400, "organs and muscle", "the presets of the OHIF viewer"),
    "lung": NamedWindow(-600, 1500, "lungs", 'radiopaedia.org, "Windowing (CT)"'),
    "bone": NamedWindow(300, 1500, "bone", "the presets of Orthanc's Stone web viewer"),
    "coronary": NamedWindow(
        200, 1000, "vessels with contrast medium and their plaques", "Shmilovich et al., Academic Radiology 21(6), 2014"
    ),
}
#: Center and width in Hounsfield units of the windows that viewers offer (radiopaedia.org, "Windowing (CT)") and of the
#: ranges that networks are often trained on.
STANDARD_WINDOWS: Mapping[str, tuple[float, float]] = {
    "soft tissue": (40, 400),
    "abdomen": (50, 400),
    "mediastinum": (50, 350),
    "liver": (30, 150),
    "spine": (50, 250),
    "brain": (40, 80),
    "brain, wide": (50, 100),
    "stroke": (40, 40),
    "subdural": (75, 215),
    "lung": (-600, 1500),
    "lung, narrow": (-500, 1400),
    "bone": (300, 1500),
    "bone, wide": (400, 1800),
    "temporal bone": (600, 2800),
    "coronary": (200, 1000),
    "-1000 to 1000": (0, 2000),
    "-1000 to 400": (-300, 1400),
    "-200 to 300": (50, 500),
    "-100 to 240": (70, 340),
}

# Images are taken at this size, and their grey levels, in so many tiles along a side, at so many quantiles.
_SIDE, _TILES, _NUM_QUANTILES = 128, 32, 65
# Levels below this share of the range are background, of which pictures show more or less.
_BACKGROUND, _DARKEST = 0.04, 0.05
# A simpler choice is taken where it fits as well as another, but for this.
_AS_GOOD, _AS_GOOD_AGAIN = 0.006, 1.3
_NARROWEST = 10.0


@dataclass(frozen=True)
class FittedWindow:
    """The window that makes pictures of slices in Hounsfield units.

    Attributes:
        center: In Hounsfield units; ``None`` where each slice is shown in its own full range.
        width: Likewise.
        name: What the window is called; ``""`` for one without a name.
        distance: Mean distance of the grey levels from those of the pictures, in shares of the range.
    """

    center: float | None
    width: float | None
    name: str
    distance: float

    @property
    def text(self) -> str:
        """The window as items have it: ``"center,width"``, or ``""`` for the full range."""
        return "" if self.center is None or self.width is None else window_text(self.center, self.width)


def window_text(center: float, width: float) -> str:
    """Write a window as items have it.

    Example:
        >>> window_text(40.0, 400)
        '40,400'
    """
    return f"{center:g},{width:g}"


def resolve_window(window: str) -> str:
    """Turn what a user wrote for a window into what items have.

    Args:
        window: name out of :data:`NAMED_WINDOWS`, or ``"center,width"`` in Hounsfield units; ``""`` for none.

    Returns:
        ``"center,width"``, or ``""``.

    Raises:
        ValueError: when it is neither, with the names.

    Example:
        >>> resolve_window("lung"), resolve_window(" 40, 400"), resolve_window("")
        ('-600,1500', '40,400', '')
    """
    named = NAMED_WINDOWS.get(window.strip().lower())
    if named is not None:
        return window_text(named.center, named.width)
    ends = window_ends(window)
    return "" if ends is None else window_text((ends[0] + ends[1]) / 2, ends[1] - ends[0])


def window_ends(window: str) -> tuple[float, float] | None:
    """Read a window as items have it.

    Args:
        window: ``"center,width"`` in Hounsfield units; ``""`` for none.

    Returns:
        The lowest and the highest value that it shows; ``None`` for none.

    Raises:
        ValueError: when it is neither.

    Example:
        >>> window_ends("40,400"), window_ends("")
        ((-160.0, 240.0), None)
    """
    if not window:
        return None
    parts = re.split(r"\s*,\s*", window.strip())
    numbers = [float(part) for part in parts]  # ValueError of what is no number
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or numbers[1] <= 0:
        raise ValueError(f"got the window {window!r}, want center and a width above 0, such as '40,400'")
    center, width = numbers
    return center - width / 2, center + width / 2


def level_distance(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """How far the grey levels of two sets of images are apart: Wasserstein's distance of their mean distributions.

    The levels are those of 32 x 32 tiles, so that blur and noise count little, without background, of which pictures
    show more or less.

    Args:
        first: ``(rows, columns)`` each, in [0, 1].
        second: others.

    Returns:
        0 for the same levels, at most 1.

    Example:
        >>> images = np.zeros((4, 64, 64))
        >>> images[:, 16:48] = 0.8
        >>> round(level_distance(images, images / 2), 3)
        0.4
    """
    return _distance(_mean_levels(_sampled(first)), _mean_levels(_sampled(second)))


def fit_window(
    slices: Sequence[np.ndarray],
    pictures: Sequence[np.ndarray],
    *,
    further: Sequence[tuple[float, float]] = (),
) -> FittedWindow:
    """Find the window by which slices in Hounsfield units have the grey levels of pictures of other slices.

    Windows with a name are tried, those of the files, and the full range of each slice; from the best of them the ends
    are fitted. The full range is taken unless another one is clearly better, and one with a name
    unless the fitted one is.

    Args:
        slices: ``(rows, columns)`` each, in Hounsfield units without padding.
        pictures: ``(rows, columns)`` each, in [0, 1].
        further: center and width of windows that files name.

    Returns:
        The window, and how well it fits.

    Example:
        >>> random = np.random.default_rng(0)
        >>> slices = [random.normal(40, 100, (64, 64)) - 900 * (random.random((64, 64)) < 0.4) for _ in range(12)]
        >>> pictures = [np.clip((image + 160) / 400, 0, 1) for image in slices[:6]]
        >>> fit_window(slices[6:], pictures).text
        '40,400'
    """
    values, target = _sampled(slices), _mean_levels(_sampled(pictures))

    def distance_of(center: float, width: float) -> float:
        return _distance(_mean_levels(_scale(np.clip(values, center - width / 2, center + width / 2))), target)

    full = FittedWindow(None, None, "full range", _distance(_mean_levels(_scale(values)), target))
    names = {**{(float(c), float(w)): "" for c, w in further}, **{cw: name for name, cw in STANDARD_WINDOWS.items()}}
    named = [FittedWindow(*window, name or "of the files", distance_of(*window)) for window, name in names.items()]
    ranked = sorted([full, *named], key=lambda window: window.distance)
    fitted = min((_refine(distance_of, window) for window in ranked[:2] if window.center is not None), **_BY_DISTANCE)
    enough = _AS_GOOD_AGAIN * min(fitted.distance, ranked[0].distance) + _AS_GOOD
    return next((window for window in (full, ranked[0]) if window.distance <= enough), fitted)


_BY_DISTANCE: dict = {"key": lambda window: window.distance, "default": FittedWindow(None, None, "full range", 1.0)}


def _refine(distance_of: Callable[[float, float], float], start: FittedWindow) -> FittedWindow:
    assert start.center is not None
    assert start.width is not None
    result = minimize(
        lambda ends: distance_of(ends[0], max(_NARROWEST, float(np.exp(ends[1])))),
        [start.center, np.log(start.width)],
        method="Nelder-Mead",
        options={
            "initial_simplex": [
                [start.center, np.log(start.width)],
                [start.center + start.width / 5, np.log(start.width)],
                [start.center, np.log(start.width) + 0.3],
            ],
            "maxfev": 60,
            "xatol": 0.02,
            "fatol": 1e-4,
        },
    )
    center, width = float(result.x[0]), max(_NARROWEST, float(np.exp(result.x[1])))
    digits = max(0, 2 - int(np.log10(width)))
    return FittedWindow(round(center, digits), round(width, digits), "", float(result.fun))


def _sampled(images: Sequence[np.ndarray]) -> np.ndarray:
    """Bring images to 128 x 128 pixels by leaving out or repeating some: ``(N, 128, 128)``, float32."""
    grids = [np.ix_(*(np.arange(_SIDE) * side // _SIDE for side in image.shape)) for image in images]
    return np.stack([image[grid] for image, grid in zip(images, grids, strict=True)]).astype(np.float32)


def _scale(values: np.ndarray) -> np.ndarray:
    """Each image to [0, 1] by its own lowest and highest value, as images are when they are read."""
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    return (values - low) / np.maximum(high - low, 1e-6)


def _mean_levels(images: np.ndarray) -> np.ndarray:
    """Quantiles of the tiles of each image without its background, and their mean over the images."""
    shares = np.linspace(0, 1, _NUM_QUANTILES)
    side = _SIDE // _TILES
    tiles = images.reshape(len(images), _TILES, side, _TILES, side).mean(axis=(2, 4)).reshape(len(images), -1)
    contents = [levels[levels > np.quantile(levels, _DARKEST) + _BACKGROUND] for levels in tiles]
    return np.mean([np.quantile(levels, shares) if len(levels) else 0 * shares for levels in contents], axis=0)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())
