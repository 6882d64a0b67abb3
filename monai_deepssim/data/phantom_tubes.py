"""Tubes as rays see them: bones with marrow, vessels, airways and wires, laid down on the pixels of a radiograph."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["Tubes"]


class Tubes:
    """Tubes of one tissue.

    Args:
        x: ``(rows, columns)``, place of each pixel in mm; a regular grid, which may be turned.
        y: Likewise.

    Example:
        >>> y, x = np.mgrid[0.0:20, 0.0:20]
        >>> tubes = Tubes(x, y)
        >>> tubes.add(np.linspace([-9, 10], [29, 10], 77), 4.0)
        >>> round(float(tubes.thickness[8:13, 10].mean()), 1), float(tubes.thickness[0, 10])
        (7.1, 0.0)
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        down, right = (np.array([y[step] - y[0, 0], x[step] - x[0, 0]]) for step in ((1, 0), (0, 1)))
        self._to_pixels = np.linalg.inv(np.stack([down, right], 1))
        self._origin, self._shape = np.array([y[0, 0], x[0, 0]]), x.shape
        self._mass = np.zeros(x.size)

    def add(self, curves: np.ndarray, radii: np.ndarray | float, density: float = 1.0, hollow: float = 0.0) -> None:
        """Lay down tubes.

        Args:
            curves: ``(..., points, 2 or 3)``, x, y and depth in mm.
            radii: in mm, broadcast to ``(..., points)``.
            density: share of the tissue in the wall.
            hollow: radius of what is inside the wall, as a share of the tube's; it counts a quarter.
        """
        steps, middles = np.diff(curves, axis=-2), (curves[..., 1:, :2] + curves[..., :-1, :2]) / 2
        normal = np.stack([-steps[..., 1], steps[..., 0]], -1)
        normal = normal / (np.hypot(steps[..., 0], steps[..., 1])[..., None] + 1e-6)
        radius = np.broadcast_to(radii, curves.shape[:-1])[..., 1:]
        # Places across a tube, about two per mm, and the thickness of the tube there.
        across = np.linspace(-0.95, 0.95, 5 + int(np.ceil(4 * radius.max())))[:, None]
        full = np.sqrt(1 - across**2)
        profile = full - 0.75 * np.sqrt(np.maximum(hollow**2 - across**2, 0)) * bool(hollow)
        volume = np.sqrt((steps**2).sum(-1)) * np.pi * radius**2 * density
        mass = volume[..., None, :] * profile / full.sum()
        places = middles[..., None, :, :] + (normal * radius[..., None])[..., None, :, :] * across[..., None]
        pixels = np.rint((places[..., ::-1].reshape(-1, 2) - self._origin) @ self._to_pixels.T).astype(int)
        seen = ((pixels >= 0) & (pixels < self._shape)).all(1)
        index = pixels[seen, 0] * self._shape[1] + pixels[seen, 1]
        self._mass += np.bincount(index, mass.ravel()[seen], self._mass.size)

    @property
    def thickness(self) -> np.ndarray:
        """Length of a ray through the tubes, mm, ``(rows, columns)``."""
        area = 1 / abs(np.linalg.det(self._to_pixels))
        return gaussian_filter((self._mass / area).astype(np.float32).reshape(self._shape), 0.8)
