"""Colour to grey, for pictures and for DICOM."""

from __future__ import annotations

import numpy as np

__all__ = ["colour_to_grey"]

_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1


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
