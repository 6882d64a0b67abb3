"""Bones of the chest, and what is put on and into it: ribs, shoulders, spine, lines and pacemakers."""

from __future__ import annotations

import numpy as np

from monai_deepssim.data.phantom_chest_form import Chest
from monai_deepssim.data.phantom_tubes import Tubes

__all__ = ["add_devices", "add_ribs", "add_shoulders", "spine_thickness"]

_RIBS = range(11)  # the twelfth is hidden behind the abdomen


def add_ribs(chest: Chest, rng: np.random.Generator, tubes: Tubes) -> None:
    """Ribs as half turns from the spine to the front, where cartilage that casts no shadow takes over."""
    spacing, first = chest.lung_height / rng.uniform(8.8, 10.6), rng.uniform(-4, 14)
    density = rng.uniform(1.0, 2.4)
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
            tubes.add(np.stack([x, y, depth], -1), radii, density - 0.4 * front.mean(), hollow=0.8)


def add_shoulders(chest: Chest, rng: np.random.Generator, tubes: Tubes) -> None:
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


def spine_thickness(chest: Chest, rng: np.random.Generator, u: np.ndarray, y: np.ndarray) -> np.ndarray:
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


def add_devices(chest: Chest, rng: np.random.Generator, tubes: Tubes) -> None:
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
