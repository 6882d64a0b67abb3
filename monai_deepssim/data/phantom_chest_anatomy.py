"""One chest that nobody has, as line integrals: how much soft tissue, lung and bone a ray passes at each pixel.

Lengths are in millimetres: x towards the image's right, which is the patient's left, from the midline; y downwards from
the apex of the lungs. A thickness is along the beam. Sizes are those of adults, as atlases of radiographic anatomy draw
them, with a spread of about a tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["Chest", "draw_chest", "ray_lengths"]

_RIBS = range(11)  # the twelfth is hidden behind the abdomen


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
    half_width = float(np.clip(rng.normal(136, 11), 108, 165))
    female = rng.random() < 0.5
    long_axis = float(np.clip(rng.normal(76, 10), 58, 110))
    return Chest(
        lung_height=float(np.clip(rng.normal(235, 26), 165, 300)),
        half_width=half_width,
        half_depth=float(np.clip(rng.normal(88, 10), 64, 115)),
        wall=float(np.clip(rng.gamma(4, 6), 10, 60)),
        breast=float(rng.uniform(10, 55)) if female else 0.0,
        shape=float(rng.uniform(1.9, 3.0)),
        curve=(float(rng.normal(0, 4)), float(rng.normal(0, 3))),
        left_dome=float(rng.normal(10, 8)),
        rib_drop=float(np.clip(rng.normal(85, 18), 35, 130)),
        rib_size=float(rng.uniform(5.2, 7.2)),
        heart=(long_axis, long_axis * float(rng.uniform(0.68, 0.85)), float(rng.uniform(0.55, 1.05))),
        seed=int(rng.integers(2**31)),
    )


def ray_lengths(chest: Chest, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Compute how far rays run through each tissue.

    Args:
        chest: The chest.
        x: ``(rows, columns)``, mm; a regular grid, which may be turned.
        y: Likewise.

    Returns:
        ``soft``, ``lung`` and ``bone`` in mm of the tissue, ``(rows, columns)`` each, and ``metal``.

    Example:
        >>> y, x = np.mgrid[-60:310:32j, -190:190:32j]
        >>> lengths = ray_lengths(draw_chest(np.random.default_rng(0)), x, y)
        >>> 100 < lengths["lung"].max() < 240
        True
    """
    rng = np.random.default_rng(chest.seed)
    x, y = x.astype(np.float32), y.astype(np.float32)
    u = x - chest.midline(y)
    cage = _cage(chest, u, y)
    lung = cage * _above_diaphragm(chest, rng, u, y)
    lung = np.maximum(lung - _mediastinum(chest, rng, u, y) * np.clip(cage / 60, 0, 1), 0)
    vessels = _Tubes(x, y)
    _add_vessels(chest, rng, vessels)
    filled = vessels.thickness * np.clip(lung / (0.9 * chest.half_depth), 0, 1.3)
    filled += lung * (_opacities(chest, rng, u, y) + _texture(rng, x.shape))
    lung = lung - np.clip(filled, 0, lung)
    airway = _Tubes(x, y)
    _add_airway(chest, rng, airway)
    soft = np.maximum(_body(chest, rng, u, y) - lung - airway.thickness - _bowel_gas(chest, rng, u, y), 0)
    bones = _Tubes(x, y)
    _add_ribs(chest, rng, bones)
    _add_shoulders(chest, rng, bones)
    devices = _Tubes(x, y)
    if rng.random() < 0.25:
        _add_devices(chest, rng, devices)
    bone = bones.thickness + _spine(chest, rng, u, y)
    return {"soft": soft, "lung": lung, "bone": bone, "metal": devices.thickness}


class _Tubes:
    """Tubes of one tissue, laid down on pixels that may be turned."""

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
        normal = np.stack([-steps[..., 1], steps[..., 0]], -1) / (
            np.hypot(steps[..., 0], steps[..., 1])[..., None] + 1e-6
        )
        radius = np.broadcast_to(radii, curves.shape[:-1])[..., 1:]
        across = np.linspace(-1, 1, 2 + int(np.ceil(2 * radius.max())))[:, None]
        profile = np.sqrt(np.maximum(1 - across**2, 0)) - 0.75 * np.sqrt(np.maximum(hollow**2 - across**2, 0)) * bool(
            hollow
        )
        # The volume of a piece of a tube, spread over its width as the rays see it.
        volume = np.sqrt((steps**2).sum(-1)) * 4 * radius**2 * density
        mass = volume[..., None, :] * profile / len(across)
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


def _ellipsoid(
    u: np.ndarray, y: np.ndarray, center: Sequence[float], axes: Sequence[float], tilt: float = 0.0
) -> np.ndarray:
    """Thickness of an ellipsoid of ``axes`` (across, down, along the beam), turned by ``tilt`` in the image."""
    across, down = u - center[0], y - center[1]
    cosine, sine = float(np.cos(tilt)), float(np.sin(tilt))
    first, second = (across * cosine + down * sine) / axes[0], (down * cosine - across * sine) / axes[1]
    return 2 * axes[2] * np.sqrt(np.maximum(1 - first * first - second * second, 0))


def _cage(chest: Chest, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    width = np.maximum(chest.width_at(y), 1e-3)
    depth = 2 * chest.half_depth * (width / chest.half_width) ** 0.7
    return depth * np.sqrt(np.maximum(1 - np.abs(u / width) ** 2.4, 0)) * (y > 0)


def _above_diaphragm(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the cage's depth that lies above the diaphragm: behind a dome the lung reaches further down."""
    shares = []
    for left in (False, True):
        top = chest.lung_height + (chest.left_dome if left else 0)
        place, drop = rng.uniform(0.38, 0.55) * chest.half_width, rng.uniform(32, 58)
        side = u if left else -u
        offset = (side - place) / (chest.half_width - place)
        dome = top + drop * np.abs(offset) ** rng.uniform(2, 3) * np.where(offset > 0, 1, 0.35)
        if rng.random() < 0.12:  # an effusion: its level rises towards the wall
            level = rng.uniform(10, 90)
            dome = np.minimum(dome, top + 25 - level * np.clip(side / chest.half_width, 0, 1) ** 2)
        shares.append(np.clip(1 - np.sqrt(np.maximum(y - dome, 0) / rng.uniform(45, 75)), 0, 1))
    return np.where(u > 0, shares[1], shares[0])


def _mediastinum(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thickness of heart, great vessels and what is around them."""
    height, depth = chest.lung_height, chest.half_depth
    long_axis, short_axis, tilt = chest.heart
    low = height - rng.uniform(16, 38)
    thick = 0.72 * depth
    heart = _ellipsoid(u, y, (rng.uniform(20, 32), low), (long_axis, short_axis, thick), tilt)
    border = rng.uniform(30, 46)  # of the right atrium, from the midline
    atrium = _ellipsoid(u, y, (0, low - rng.uniform(0, 14)), (border, short_axis * rng.uniform(1.05, 1.4), thick))
    knob_size, knob_place = rng.uniform(14, 22), rng.uniform(0.26, 0.34) * height
    knob = _ellipsoid(u, y, (rng.uniform(12, 24), knob_place), (knob_size, knob_size * 1.2, 40))
    trunk = _ellipsoid(u, y, (rng.uniform(14, 24), 0.5 * height), (rng.uniform(20, 32), 46, 50), -0.3)
    aorta = _ellipsoid(u, y, (rng.uniform(2, 14), 0.66 * height), (rng.uniform(16, 24), 0.45 * height, 24))
    cava = _ellipsoid(u, y, (-rng.uniform(8, 16), 0.3 * height), (rng.uniform(14, 22), 0.3 * height, 40))
    band = rng.uniform(17, 25) * (1 + 0.15 * np.cos(2 * np.pi * (y / height - rng.uniform(0, 1))))
    band = band + 24 * np.clip(1 - y / (0.2 * height), 0, 1) ** 2
    middle = 1.7 * depth * np.sqrt(np.maximum(1 - np.abs((u + rng.uniform(-4, 4)) / band) ** 2, 0))
    parts = (heart, atrium, knob, trunk, aorta, cava, middle)
    return np.cbrt(sum(part * part * part for part in parts))


def _add_vessels(chest: Chest, rng: np.random.Generator, tubes: _Tubes) -> None:
    """Branching vessels from both hila."""
    steps = np.linspace(0, 1, 16)
    full = rng.uniform(0.7, 1.5)
    for side in (-1, 1):
        count = rng.integers(8, 12)
        angles = np.linspace(-1.35, 1.45, count) + rng.normal(0, 0.13, count)
        place = (0.44 - 0.03 * side) * chest.lung_height
        starts = np.stack([side * rng.normal(34, 4, count), place + rng.normal(0, 9, count)], -1)
        radii, lengths = rng.uniform(3.4, 6.0, count), rng.uniform(28, 48, count) * chest.lung_height / 235
        for _ in range(5):
            heading = angles[:, None] + rng.normal(0, 0.35, (len(angles), 1)) * steps
            paces = np.stack([side * np.cos(heading), np.sin(heading)], -1) * lengths[:, None, None] / len(steps)
            curves = starts[:, None] + np.cumsum(paces, axis=1)
            tubes.add(curves, radii[:, None] * (1 - 0.25 * steps), full)
            spread = rng.uniform(0.18, 0.6, (2, len(angles))) * np.array([[-1], [1]])
            starts, angles = np.tile(curves[:, -1], (2, 1)), (heading[:, -1] + spread).ravel()
            radii = np.tile(radii, 2) * rng.uniform(0.58, 0.8, 2 * len(radii))
            lengths = np.tile(lengths, 2) * rng.uniform(0.62, 0.95, 2 * len(lengths))


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Share of the lung that small vessels and septa fill, about their mean."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.2)
    return noise / noise.std() * rng.uniform(0.01, 0.045)


def _opacities(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the lung that is filled by disease, in two of five patients."""
    dense = np.zeros_like(u)
    if rng.random() > 0.4:
        return dense
    for _ in range(rng.integers(1, 5)):
        center = (
            int(rng.choice([-1, 1])) * rng.uniform(40, 0.85 * chest.half_width),
            rng.uniform(0.15, 0.95) * chest.lung_height,
        )
        size = float(np.exp(rng.uniform(np.log(7), np.log(60))))
        noise = gaussian_filter(rng.standard_normal(u.shape, dtype=np.float32), 0.02 * u.shape[0])
        distance = np.hypot(u - center[0], (y - center[1]) / rng.uniform(0.7, 1.6)) / size
        dense = np.maximum(
            dense,
            rng.uniform(0.1, 0.5) / (1 + np.exp(np.clip(6 * (distance - 1 + 0.25 * noise / noise.std()), -50, 50))),
        )
    return dense


def _add_airway(chest: Chest, rng: np.random.Generator, tubes: _Tubes) -> None:
    """Air in the trachea and the main bronchi."""
    y = np.linspace(-90, rng.uniform(0.3, 0.37) * chest.lung_height, 140)
    x = chest.midline(y) + rng.uniform(-6, 3) * np.clip(y / 60, 0, 1)
    tubes.add(np.stack([x, y], -1), rng.uniform(7.5, 9.5), 0.8)
    steps = np.linspace(0, 1, 40)
    for side, slope, length in ((-1, rng.uniform(1.0, 1.7), 32), (1, rng.uniform(0.5, 0.9), 48)):
        across = side * length * steps / np.hypot(1, slope)
        tubes.add(np.stack([x[-1] + across, y[-1] + slope * np.abs(across)], -1), 5.5, 0.8)


def _bowel_gas(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gas in the stomach and the bowel below the left dome, mm."""
    gas = np.zeros_like(u)
    for _ in range(rng.integers(0, 4)):
        size = rng.uniform(8, 30)
        center = (
            rng.uniform(15, 0.8 * chest.half_width),
            chest.lung_height + chest.left_dome + rng.uniform(1.1, 3) * size,
        )
        axes = size * rng.uniform(1, 1.6), size * rng.uniform(0.6, 1), size * rng.uniform(0.3, 0.9)
        gas = np.maximum(gas, _ellipsoid(u, y, center, axes, rng.normal(0, 0.4)))
    return gas


def _body(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thickness of the whole body: trunk, shoulders, neck, arms and breasts."""
    depth, wall = chest.half_depth + 0.8 * chest.wall + 12, chest.wall
    height = chest.lung_height
    below = np.clip((y - 0.35 * height) / height, 0, 1.2)
    width = chest.half_width + wall * 1.1 + 10 + 14 * np.exp(-((y - 0.1 * height) ** 2) / 4000) + wall * 0.35 * below
    rise = 1 / (1 + np.exp(-np.clip((y - 5) / 9, -30, 30)))
    trunk = (
        2
        * depth
        * np.sqrt(np.maximum(1 - np.abs(u / width) ** 2.3, 0))
        * (0.62 + 0.38 * np.clip((y + 30) / (0.45 * height), 0, 1))
        * rise
    )
    slope, neck_half = rng.uniform(0.9, 2.2), rng.uniform(48, 64)
    neck_width = neck_half + np.maximum(y + rng.uniform(35, 60), 0) * slope * 1.3
    neck = 2 * rng.uniform(52, 66) * np.sqrt(np.maximum(1 - np.abs(u / neck_width) ** 2.2, 0))
    parts = [trunk, neck * (y < 60)]
    lift = rng.uniform(-10, 25)
    for side in (-1, 1):
        center = side * (chest.half_width + wall * 0.5 + 38), 38 + lift
        parts.append(_ellipsoid(u, y, center, (62 + wall * 0.6, 56, 58), side * 0.35))
        arm = side * (u - side * (chest.half_width + wall + 62 + rng.uniform(0, 0.5) * np.maximum(y - 30, 0)))
        parts.append(2 * 42 * np.sqrt(np.maximum(1 - (arm / (38 + 0.3 * wall)) ** 2, 0)) * (y > 30 + lift))
    body = gaussian_filter(np.maximum.reduce(parts), 0.008 * u.shape[0])
    if chest.breast:
        size = rng.uniform(52, 70)
        for side in (-1, 1):
            center = side * rng.uniform(0.5, 0.62) * chest.half_width, height * rng.uniform(0.68, 0.85)
            fade = np.clip((y - center[1] + size) / (1.4 * size), 0, 1)
            body += fade * _ellipsoid(u, y, center, (size * 1.05, size, chest.breast / 2), side * -0.2)
    return body


def _add_ribs(chest: Chest, rng: np.random.Generator, tubes: _Tubes) -> None:
    """Ribs as half turns from the spine to the front, where cartilage that casts no shadow takes over."""
    spacing, first = chest.lung_height / rng.uniform(9.2, 10.2), rng.uniform(-2, 8)
    for side in (-1, 1):
        asymmetry = rng.normal(0, 2)
        for rib in _RIBS:
            back = first + rib * spacing + asymmetry + rng.normal(0, 1.2)
            drop = chest.rib_drop * min(1, 0.45 + 0.14 * rib) + rng.normal(0, 3)
            turn = np.linspace(-1.42, rng.uniform(0.7, 1.0) if rib < 9 else 0.1, 200)
            front = (np.sin(turn) + 1) / 2
            y = back + drop * front - 7 * np.exp(-(((turn + 1.1) / 0.25) ** 2))
            width = max(float(chest.width_at(np.array(back + drop / 2))) + 3, 38.0)
            x = chest.midline(y) + side * width * (np.cos(turn) + 0.02)
            depth = chest.half_depth * np.sin(turn) * (width / chest.half_width) ** 0.7
            radii = chest.rib_size * (0.85 + 0.3 * front) * rng.uniform(0.92, 1.08)
            tubes.add(np.stack([x, y, depth], -1), radii, rng.uniform(1.1, 1.5) - 0.4 * front.mean(), hollow=0.8)


def _add_shoulders(chest: Chest, rng: np.random.Generator, tubes: _Tubes) -> None:
    """Clavicles, shoulder blades and upper arms."""
    steps = np.linspace(0, 1, 120)
    inner, outer, lift = rng.uniform(18, 42), rng.uniform(-28, 18), rng.uniform(-10, 25)
    for side in (-1, 1):
        reach = chest.half_width + rng.uniform(18, 30)
        x = side * (14 + (reach - 14) * steps)
        y = inner + (outer - inner) * steps + rng.uniform(4, 11) * np.sin(2 * np.pi * steps + 0.4) + rng.normal(0, 3)
        tubes.add(np.stack([x, y], -1), rng.uniform(5.5, 7) * (1 + 0.35 * np.abs(2 * steps - 1) ** 3), 2.4, hollow=0.75)
        shoulder = np.array([side * (reach + 14), 22 + lift])
        around = 2 * np.pi * steps[:, None]
        tubes.add(shoulder + 12 * np.concatenate([np.cos(around), np.sin(around)], 1), 11.5, 0.6)
        tilt = side * rng.uniform(0.0, 0.5)
        tubes.add(shoulder + np.outer(np.linspace(0, 1, 300), [200 * tilt, 200]), 11.0, 1.8, hollow=0.75)
        below = side * (reach - rng.uniform(-15, 28)), shoulder[1] + rng.uniform(95, 125)
        inside = side * (reach - rng.uniform(35, 60)), shoulder[1] - rng.uniform(20, 32)
        neck, top = shoulder - [side * 18, 0], shoulder - [0, 24]
        for start, end, radius in ((neck, below, 3.6), (below, inside, 1.8), (inside, neck, 2.2), (inside, top, 4.0)):
            line = np.array(start) + np.outer(steps, np.subtract(end, start))
            tubes.add(line + np.outer(np.sin(np.pi * steps), rng.normal(0, 4, 2)), radius, 2.0)


def _spine(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Vertebrae with discs between them, their pedicles and spinous processes, mm of bone."""
    period = chest.lung_height / rng.uniform(9.2, 10.2)
    level = y / period + rng.uniform(0, 1)
    phase = level - np.floor(level)
    half = np.clip(13 + 0.02 * (y + 60), 11, 22) * rng.uniform(0.9, 1.1)
    half = half * (1 - 0.12 * np.sin(np.pi * phase))
    across = 1 / (1 + np.exp(np.clip((np.abs(u) - half) / 0.8, -30, 30)))
    body = np.clip(np.minimum(phase, 0.82 - phase) / 0.06, 0, 1)
    plates = np.exp(-(((phase - 0.05) / 0.035) ** 2)) + np.exp(-(((phase - 0.77) / 0.035) ** 2))
    pedicles = np.exp(-(((np.abs(u) - 0.66 * half) / 3) ** 2 + ((phase - 0.3) / 0.14) ** 2))
    process = np.exp(-((u / 2.6) ** 2 + ((phase - 0.75) / 0.16) ** 2))
    return across * (7 * body + 3 * plates) + 6 * pedicles + 6 * process


def _add_devices(chest: Chest, rng: np.random.Generator, tubes: _Tubes) -> None:
    """Lines, leads and electrodes, and a pacemaker in some."""
    steps = np.linspace(0, 1, 200)
    for _ in range(rng.integers(1, 5)):
        start, end = rng.uniform([-150, -40], [150, 60]), rng.uniform([-150, 60], [150, chest.lung_height])
        line = start + np.outer(steps, end - start)
        for wave in (1, 2, 3):
            line += np.outer(np.sin(wave * np.pi * steps), rng.normal(0, 18 / wave, 2))
        tubes.add(line, rng.uniform(0.5, 1.1))
        if rng.random() < 0.5:
            tubes.add(line[-1] + np.outer(steps - 0.5, [rng.uniform(5, 9), 0]), 4.0, 0.3)
    if rng.random() < 0.2:
        center = np.array([rng.choice([-1, 1]) * 0.7 * chest.half_width, 45.0])
        tubes.add(center + np.outer(steps - 0.5, [26, 6]), 15.0, 0.12)
