"""The size and form of one chest that nobody has.

Lengths are in millimetres: x towards the image's right, which is the patient's left, from the midline; y downwards from
the apex of the lungs. Sizes are those of adults, with a spread of about a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Chest", "draw_chest"]


@dataclass(frozen=True)
class Chest:
    """Size and form of one chest; lengths in millimetres."""

    #: Apex of the lungs to the right dome of the diaphragm.
    lung_height: float
    #: Half of the widest inside of the rib cage, across and along the beam.
    half_width: float
    half_depth: float
    #: Fat and muscle outside of the rib cage, and the breasts' thickness, 0 for none.
    wall: float
    breast: float
    #: How fast the cage widens from the apex down; 2 for an ellipse.
    shape: float
    #: Coefficients of the midline's curve, and by how much the left dome lies below the right one.
    curve: tuple[float, float]
    left_dome: float
    #: Drop of a rib from back to front, and its half height.
    rib_drop: float
    rib_size: float
    #: Long and short half axis of the heart, and its tilt in radians.
    heart: tuple[float, float, float]
    #: Seed of what is drawn along the way: vessels, ribs, shoulders, disease.
    seed: int

    def midline(self, y: np.ndarray) -> np.ndarray:
        """The x of the spine at each y."""
        turn = np.pi * y / self.lung_height
        return self.curve[0] * np.sin(turn) + self.curve[1] * np.sin(2 * turn)

    def width_at(self, y: np.ndarray) -> np.ndarray:
        """Half width of the inside of the rib cage at each y; 0 above the apex."""
        share = np.clip(y / (0.66 * self.lung_height), 0, 1)
        return self.half_width * np.sqrt(np.maximum(1 - (1 - share) ** self.shape, 0))


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw the size and form of a chest.

    Example:
        >>> 190 < draw_chest(np.random.default_rng(0)).lung_height < 300
        True
    """
    half_width = float(np.clip(rng.normal(136, 13), 105, 170))
    female = rng.random() < 0.5
    long_axis = float(np.clip(rng.normal(76, 13), 54, 120))
    return Chest(
        lung_height=float(np.clip(rng.normal(235, 32), 155, 310)),
        half_width=half_width,
        half_depth=float(np.clip(rng.normal(88, 10), 64, 115)),
        wall=float(np.clip(rng.gamma(3, 9), 8, 75)),
        breast=float(rng.uniform(10, 55)) if female else 0.0,
        shape=float(rng.uniform(1.6, 3.6)),
        curve=(float(rng.normal(0, 6)), float(rng.normal(0, 4))),
        left_dome=float(rng.normal(10, 11)),
        rib_drop=float(np.clip(rng.normal(85, 24), 25, 140)),
        rib_size=float(rng.uniform(5.2, 7.2)),
        heart=(long_axis, long_axis * float(rng.uniform(0.68, 0.85)), float(rng.uniform(0.55, 1.05))),
        seed=int(rng.integers(2**31)),
    )
