"""A chest as line integrals: through how much soft tissue, lung, bone and metal the ray of each pixel runs.

A thickness is along the beam and in millimetres, as all lengths (:mod:`~monai_deepssim.data.phantom_chest_form`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_deepssim.data.phantom_chest_bones import add_devices, add_ribs, add_shoulders, spine_thickness
from monai_deepssim.data.phantom_chest_form import Chest
from monai_deepssim.data.phantom_tubes import Tubes

__all__ = ["ray_lengths"]


def ray_lengths(chest: Chest, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Compute how far rays run through each tissue.

    Args:
        chest: The chest.
        x: ``(rows, columns)``, mm; a regular grid, which may be turned.
        y: Likewise.

    Returns:
        ``soft``, ``lung`` and ``bone`` in mm of the tissue, ``(rows, columns)`` each, and ``metal``.

    Example:
        >>> from monai_deepssim.data.phantom_chest_form import draw_chest
        >>> y, x = np.mgrid[-60:310:32j, -190:190:32j]
        >>> lengths = ray_lengths(draw_chest(np.random.default_rng(0)), x, y)
        >>> bool(100 < lengths["lung"].max() < 240)
        True
    """
    rng = np.random.default_rng(chest.seed)
    x, y = x.astype(np.float32), y.astype(np.float32)
    u = x - chest.midline(y)
    cage = _cage(chest, u, y)
    lung = cage * _above_diaphragm(chest, rng, u, y)
    lung = np.maximum(lung - _mediastinum(chest, rng, u, y) * np.clip(cage / 60, 0, 1), 0)
    vessels = Tubes(x, y)
    _add_vessels(chest, rng, vessels)
    filled = vessels.thickness * np.clip(lung / (0.9 * chest.half_depth), 0, 1.3)
    filled += lung * (_opacities(chest, rng, u, y) + _texture(rng, x.shape))
    lung = lung - np.clip(filled, 0, lung)
    airway = Tubes(x, y)
    _add_airway(chest, rng, airway)
    soft = np.maximum(_body(chest, rng, u, y) - lung - airway.thickness - _bowel_gas(chest, rng, u, y), 0)
    bones = Tubes(x, y)
    add_ribs(chest, rng, bones)
    add_shoulders(chest, rng, bones)
    devices = Tubes(x, y)
    if rng.random() < 0.25:
        add_devices(chest, rng, devices)
    bone = bones.thickness + spine_thickness(chest, rng, u, y)
    return {"soft": soft, "lung": lung, "bone": bone, "metal": devices.thickness}


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


def _add_vessels(chest: Chest, rng: np.random.Generator, tubes: Tubes) -> None:
    """Branching vessels from both hila."""
    steps = np.linspace(0, 1, 16)
    full = rng.uniform(0.8, 2.4)
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


def _add_airway(chest: Chest, rng: np.random.Generator, tubes: Tubes) -> None:
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
