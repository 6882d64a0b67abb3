"""A call of each kernel with tiny images, for which numba compiles it: images of other sizes run the same code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from monai_deepssim.similarity import kernels
from monai_deepssim.similarity.kernels.changed_ssim import WINDOW, Reference

__all__ = ["call_unclaimed"]

_SIDE = 16
_CHANGE = np.array([0.0, 0.0, 0.0, 1.0, 1.0])


def call_unclaimed(names: Sequence[str], claims: str) -> None:
    """Call kernels as the functions of the pixel side call them, but for those that another process calls.

    Args:
        names: of the kernels.
        claims: a folder, where each process makes one with the name of a kernel before it calls that.
    """
    for name in names:
        with suppress(FileExistsError):
            os.mkdir(os.path.join(claims, name))
            globals()[f"_{name}"]()


def _image() -> np.ndarray:
    return np.linspace(0, 1, _SIDE * _SIDE, dtype=np.float32)


def _reference() -> Reference:
    windows = np.ones((_SIDE - WINDOW + 1) ** 2, np.float32)
    return Reference(_image(), windows, windows, 0.01, 0.03)


def _volume() -> np.ndarray:
    return np.linspace(0, 1, _SIDE**3, dtype=np.float32).reshape((_SIDE,) * 3)


def _align_pair() -> None:
    bounds = (_CHANGE - 0.1, _CHANGE + 0.1, np.full(5, 0.01))
    search = kernels.Search(*bounds, np.zeros(1), 1, 0, np.array([0]))
    kernels.align_pair(_reference(), _image(), _image(), (_SIDE, _SIDE), search, -2.0, _CHANGE.copy())


def _scan_cells() -> None:
    blocks, inverse = np.zeros((1, 128, kernels.DESCRIPTORS_AT_ONCE), np.uint8), np.zeros((1, 64), np.float32)
    places = np.zeros(1, np.int64)
    found = np.zeros((1, 1), np.float32), np.full((1, 1), -1)
    kernels.scan_cells(blocks, inverse, np.arange(2), np.zeros((1, 128), np.float32), places, places, *found)


def _deform_pair() -> None:
    kernels.deform_pair(_reference(), _image(), (_SIDE, _SIDE), 0, _CHANGE, True, _image())


def _window_means() -> None:
    mean, variance = np.empty((1, 1, 10, 10), np.float32), np.empty((1, 1, 10, 10), np.float32)
    kernels.window_means(_image().astype(np.float64).reshape(1, 1, _SIDE, _SIDE), 1, WINDOW, mean, variance)


def _fill_ssim() -> None:
    image, windows, numbers = _image().reshape(1, 1, _SIDE, _SIDE), np.ones((1, 1, 10, 10), np.float32), np.ones(1)
    side = (image, windows, windows, numbers)
    kernels.fill_ssim(*side, *side, numbers, numbers, 1, WINDOW, 0, 1, np.empty((1, 1), np.float32))


def _sum_least_squares() -> None:
    products = np.empty((kernels.NUM_TERMS, kernels.NUM_TERMS))
    kernels.sum_least_squares(_volume(), _volume(), np.eye(3), np.zeros(3), np.full(3, 7.5), 1.0, products)


def _volume_ssim() -> None:
    windows = np.ones((_SIDE - WINDOW + 1,) * 3, np.float32)
    kernels.volume_ssim(_volume(), windows, windows, 0.01, 0.03, _volume(), 1.0, 2.0)


def _warp_volume() -> None:
    kernels.warp_volume(_volume(), np.eye(3), np.zeros(3), np.full(3, 7.5), 1.0, _volume())


def _deform_volume() -> None:
    kernels.deform_volume(_volume(), _volume(), np.ones(3), _volume(), _volume())
