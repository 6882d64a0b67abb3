"""Contact sheets: many images in one picture, as ``torchvision.utils.save_image`` and figures of plots show them."""

from __future__ import annotations

import numpy as np

__all__ = ["is_contact_sheet"]

# A line of pixels lies between images where their deviation is at most this share of the picture's range. JPEG leaves
# 2 pixels of white between dark images with 0.04.
_MAX_DEVIATION = 0.05
# Captions, ticks and noise are shorter than this share of the longest stretch between such lines, or these pixels.
_LEAST_SHARE, _LEAST_PIXELS = 0.5, 8
# Images of a sheet lie at one distance, to this ratio, and fill this share of the side.
_MAX_PITCH_RATIO, _LEAST_COVERED = 1.15, 0.6
# Two images side by side are found by their keypoints, and two knees are one image.
_LEAST_IMAGES = 3


def is_contact_sheet(pixels: np.ndarray) -> bool:
    """Whether a picture shows at least three images in rows and columns.

    They are told by what lies between them: lines of pixels across the whole picture that have one value each, at equal
    distances. Images that touch and have no background of their own are not told.

    Args:
        pixels: ``(rows, columns)``.

    Example:
        >>> images = np.random.default_rng(0).random((6, 32, 32))
        >>> framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        >>> sheet = framed.reshape(2, 3, 34, 34).swapaxes(1, 2).reshape(68, 102)
        >>> is_contact_sheet(sheet), is_contact_sheet(images[0])
        (True, False)
    """
    deviation = _MAX_DEVIATION * float(np.ptp(pixels))
    return _count(pixels.std(axis=1) > deviation) * _count(pixels.std(axis=0) > deviation) >= _LEAST_IMAGES


def _count(is_filled: np.ndarray) -> int:
    """The images along an axis, 1 where what there is does not lie at equal distances."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_filled, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    lengths = stops - starts
    if not len(lengths):
        return 1
    is_image = lengths >= max(_LEAST_PIXELS, _LEAST_SHARE * lengths.max())
    pitches = np.diff((starts + stops)[is_image] / 2)
    if not len(pitches) or pitches.max() > _MAX_PITCH_RATIO * pitches.min():
        return 1
    return len(pitches) + 1 if (len(pitches) + 1) * pitches[0] >= _LEAST_COVERED * len(is_filled) else 1
