"""How far a change goes that an alignment looks for, where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["fill_in_bounds"]

# Largest rotation in degrees, largest shift (in pixels, and as a share of a volume's longest side), zoom, and gammas.
_IMAGES = (12.0, 4.0, 0.05, (0.5, 1.5))
_VOLUMES = (15.0, 1 / 8, 0.2, (0.4, 2.5))


def fill_in_bounds(
    size: Sequence[int],
    rotation_degrees: float | None = None,
    shift_pixels: float | None = None,
    zoom: float | None = None,
    gamma: Sequence[float] | None = None,
) -> tuple[float, float, float, Sequence[float]]:
    """Take the usual bounds of an image's or a volume's change for those that are not given.

    Example:
        >>> fill_in_bounds((64, 64, 64), zoom=0.1)
        (15.0, 8.0, 0.1, (0.4, 2.5))
    """
    rotation, shift, factor, exponents = _IMAGES if len(size) == 2 else _VOLUMES
    shift = shift if len(size) == 2 else shift * max(size)
    return (
        rotation if rotation_degrees is None else rotation_degrees,
        shift if shift_pixels is None else shift_pixels,
        factor if zoom is None else zoom,
        exponents if gamma is None else gamma,
    )
