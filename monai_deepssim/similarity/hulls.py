"""Convex hulls of keypoints: which points lie in one, and which pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["hull_mask", "in_hull"]

# Twice the area of the triangle with an edge of a hull, in pixels, up to which a point lies on the edge.
_ON_EDGE = 0.01


def in_hull(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Whether each point lies in the convex hull of others, ``(n,)``."""
    hull = cv2.convexHull(corners.astype(np.float32))
    edges = np.concatenate([hull[1:], hull[:1]]) - hull
    offsets = points - hull
    sides = edges[..., 0] * offsets[..., 1] - edges[..., 1] * offsets[..., 0]
    return (sides.min(axis=0) >= -_ON_EDGE) | (sides.max(axis=0) <= _ON_EDGE)


def hull_mask(points: np.ndarray, shape: Sequence[int], margin_share: float) -> np.ndarray:
    """The convex hull of points and what lies within a margin of it, a share of the longer side."""
    mask = np.zeros((shape[0], shape[1]), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.round().astype(np.int32)), 1)
    margin = round(margin_share * max(shape))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return cv2.dilate(mask, kernel) > 0
