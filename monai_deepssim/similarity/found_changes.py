"""What a search has found, and what a match of local features shows, as a change of an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.kernels import GAMMA, ROTATION, SHIFT_ROWS, ZOOM
from monai_deepssim.similarity.local_features import LocalMatch

__all__ = ["align_by_match", "describe_change", "transform_by_match"]


def describe_change(
    match: LocalMatch | None, size: Sequence[int], flips: int, change: np.ndarray, deformation: float
) -> Alignment:
    """What the search found as a change of y: flips and change, and before them the transform of the match, if any."""
    zoom, gamma = float(change[ZOOM]), float(change[GAMMA])
    if match is None:
        return Alignment(
            flips=tuple(axis for axis in range(2) if flips >> (axis + 1) & 1),  # the first bit is that of planes
            rotation_degrees=(float(np.rad2deg(change[ROTATION])),),
            shift_pixels=tuple((-zoom * change[SHIFT_ROWS:ZOOM]).tolist()),
            zoom=zoom,
            gamma=gamma,
            deformation_pixels=deformation,
        )
    linear, shift = _read_rows_first(match, size)
    cosine, sine = np.cos(change[ROTATION]), np.sin(change[ROTATION])
    # What follows reads position p at rotation @ (p / zoom + shift).
    following = zoom * np.array([[cosine, sine], [-sine, cosine]])
    return Alignment.from_matrix(
        following @ linear,
        tuple((following @ shift - zoom * change[SHIFT_ROWS:ZOOM]).tolist()),
        gamma=gamma,
        inverted=match.inverted,
        deformation_pixels=deformation,
    )


def align_by_match(match: LocalMatch, size: Sequence[int]) -> Alignment:
    """Describe the transform of a match alone, as a change of a training image of this size."""
    linear, (down, right) = _read_rows_first(match, size)
    return Alignment.from_matrix(linear, (float(down), float(right)), inverted=match.inverted)


def _read_rows_first(match: LocalMatch, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The transform of a match about the centre: OpenCV counts columns first, and from the corner."""
    exchange = np.array([[0.0, 1.0], [1.0, 0.0]])
    linear, shift = exchange @ match.matrix[:, :2] @ exchange, exchange @ match.matrix[:, 2]
    centre = (np.array(size) - 1) / 2
    return linear, linear @ centre + shift - centre


def transform_by_match(y: np.ndarray, match: LocalMatch) -> np.ndarray:
    """One plane in [0, 1] as the match shows it, zeros from outside."""
    size = (y.shape[2], y.shape[1])
    moved = cv2.warpAffine(y[0], match.matrix, size, flags=cv2.INTER_LINEAR)
    return np.clip(1 - moved if match.inverted else moved, 0, 1)[None]
