"""Colour to grey, for pictures and for DICOM."""

from __future__ import annotations

import numpy as np

__all__ = ["colour_to_grey", "is_lost_in_grey"]

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1
# A pixel that is not black is coloured where its channels differ by this share of the largest; a picture is where this
# share of them are, which a contour or a label is not.
_BLACK, _LEAST_SATURATION, _LEAST_COLOURED = 0.1, 0.3, 0.4
# Share of the colours' variance that their luma leaves open: up to 0.007 for viridis, hot and others whose luma rises;
# 0.011 and more for jet, turbo, rainbow, twilight, and for three images in three channels.
_MOST_LEFT_OPEN, _NUM_LEVELS, _MOST_PIXELS = 0.01, 32, 512


def colour_to_grey(colours: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return one grey channel of an RGB image, and whether colour was lost by it.

    Equal channels are taken as they are. Real colour becomes the luma ``0.299 R + 0.587 G + 0.114 B`` of ITU-R BT.601.

    Args:
        colours: ``(rows, columns, 3)``.

    Returns:
        ``(rows, columns)`` as float64, and ``True`` where the channels differed.

    Example:
        >>> colour_to_grey(np.array([[[7, 7, 7]]]))
        (array([[7.]]), False)
        >>> colour_to_grey(np.array([[[255, 0, 0]]]))
        (array([[76.245]]), True)
    """
    channels = np.asarray(colours, dtype=np.float64)
    if (channels[..., :1] == channels[..., 1:]).all():
        return channels[..., 0], False
    return channels @ np.array(_LUMA_WEIGHTS), True


def is_lost_in_grey(colours: np.ndarray) -> bool:
    """Whether a picture is in colours that its luma does not tell apart.

    A colour map such as jet gives a dark and a bright tissue one luma, and so do channels that hold several images. A
    map whose luma rises with the intensity loses nothing, nor do coloured contours on a grey picture.

    Args:
        colours: ``(rows, columns, 3)``.

    Example:
        >>> levels = np.tile(np.linspace(0, 1, 64)[:, None], (64, 1, 1))
        >>> rainbow, hot = 1 - abs(levels * 2 - [2, 1, 0]), (levels * 3 - [0, 1, 2]).clip(0, 1)
        >>> is_lost_in_grey(rainbow), is_lost_in_grey(hot)
        (True, False)
    """
    steps = [-(-length // _MOST_PIXELS) for length in colours.shape[:2]]
    pixels = np.asarray(colours, dtype=np.float64)[:: steps[0], :: steps[1]].reshape(-1, 3)
    largest = pixels.max(axis=1)
    is_bright = largest > _BLACK * largest.max()
    saturation = 1 - pixels.min(axis=1)[is_bright] / largest[is_bright]
    if (saturation > _LEAST_SATURATION).mean() < _LEAST_COLOURED:
        return False
    luma = pixels @ np.array(_LUMA_WEIGHTS)
    levels = np.digitize(luma, np.linspace(luma.min(), luma.max(), _NUM_LEVELS + 1)[1:-1])
    counts = np.maximum(np.bincount(levels, minlength=_NUM_LEVELS), 1)
    means = np.stack([np.bincount(levels, channel, _NUM_LEVELS) / counts for channel in pixels.T], axis=1)
    left_open = ((pixels - means[levels]) ** 2).sum(axis=1).mean()
    return bool(left_open > _MOST_LEFT_OPEN * pixels.var(axis=0).sum())
