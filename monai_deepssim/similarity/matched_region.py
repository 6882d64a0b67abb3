"""Where a pair agrees: the copied area, and what lies between the inliers of a match."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from monai_deepssim.similarity.aligned_ssim import AlignedSSIM
from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.found_changes import align_by_match
from monai_deepssim.similarity.hulls import hull_mask
from monai_deepssim.similarity.local_features import LocalMatch
from monai_deepssim.similarity.pairwise_ssim import pairwise_ssim
from monai_deepssim.similarity.standardize import standardize
from monai_deepssim.similarity.structure import REFERENCE_ROWS, change_onto, correlate, smooth, to_array

__all__ = ["copied_area", "keep_matches", "piece_certainty"]

# Pixels (standard deviations) of the bands in which a piece is compared.
_BANDS = ((0.6, 2.0), (1.0, 4.0))
# From where to where the correlation in these bands, and the density of the inliers, go from chance to a piece. Images
# of other patients that have both have few inliers.
_CORRELATION_OF_PIECE, _DENSITY_OF_PIECE = (0.85, 0.95), (0.3, 0.6)
# Inliers that prove a match, and the correlation of fine structure between them that the search from it may lose.
_PROVEN, _LOST = 17, 0.1
# The agreement map's window, in pixels (standard deviation), and the local correlation from which a place agrees.
_WINDOW, _AGREES = 3.0, 0.6
# Structure below this share of the image's own is none: there, two images agree by having nothing.
_FLAT = 0.05
# How far around its inliers a match speaks for the image, as a share of the longer side.
_MATCHED_MARGIN = 0.08


def copied_area(
    x: Tensor, y: Tensor, alignment: Alignment, points: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Find where an image shows what an aligned training image shows.

    A place agrees where the correlation of the two in a Gaussian window of 3 pixels, after smoothing by 1 pixel, is
    above 0.6, of either sign where dark and bright are exchanged. In a volume these are pixels of an image of 136 rows.
    With the points of a match, only what lies in their convex hull, or within 8 % of the side of it, counts.

    Args:
        x: image ``(1, H, W)`` or ``(1, H, W, D)`` that may be a copy.
        y: training image of the same shape.
        alignment: of y to x.
        points: columns and rows in x of the keypoints that agree, ``(n, 2)``.

    Returns:
        Share of the structure of x that agrees, 0 to 1, and a mask ``(H, W)`` or ``(H, W, D)`` of where that is.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> half = image.clone()
        >>> half[:, :, 32:] = torch.rand(1, 64, 32)
        >>> share, mask = copied_area(half, image, Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0))
        >>> 0.4 < share < 0.6, bool(mask[:, :24].mean() > 0.95 > 0.2 > mask[:, 40:].mean())
        (True, True)
    """
    # A volume has fewer voxels along an axis than an image has pixels.
    pixels = max(x.shape) / REFERENCE_ROWS if x.ndim == 4 else 1.0
    first, second = to_array(x[0]), to_array(change_onto(x[None], y[None], [alignment])[0, 0])
    first, second = (smooth(image, pixels) for image in (first, second))
    window = _WINDOW * pixels
    first_mean, second_mean = smooth(first, window), smooth(second, window)
    first_variance = np.maximum(smooth(first**2, window) - first_mean**2, 0)
    second_variance = np.maximum(smooth(second**2, window) - second_mean**2, 0)
    covariance = smooth(first * second, window) - first_mean * second_mean
    structured = first_variance > (_FLAT**2) * max(float(first_variance.max()), 1e-12)
    correlation = covariance / np.sqrt(np.maximum(first_variance * second_variance, 1e-16))
    agrees = structured & (correlation > _AGREES)
    if points is not None and len(points) >= 3:
        agrees &= hull_mask(points, agrees.shape, _MATCHED_MARGIN)
    if not structured.any():
        return 0.0, agrees
    return float(agrees.sum() / structured.sum()), agrees


def piece_certainty(x: Tensor, y: Tensor, match: LocalMatch) -> float:
    """How surely what lies between the inliers of a match is a piece of y, 0 to 1."""
    by_density = float(np.interp(match.density, _DENSITY_OF_PIECE, (0, 1)))
    if not by_density:
        return 0.0
    image, training = (to_array(pixels[0]) for pixels in (x, y))
    if match.inverted:
        training = -training
    moved = cv2.warpAffine(
        training, match.matrix, image.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    correlation = _correlate_bands(image, moved, hull_mask(match.core, image.shape, 0.0))
    return by_density * float(np.interp(correlation, _CORRELATION_OF_PIECE, (0, 1)))


def keep_matches(x: Tensor, y: Tensor, matches: Sequence[LocalMatch | None], aligned: AlignedSSIM) -> AlignedSSIM:
    """Go back to the transform of a match that many inliers prove where the search from it has left what they show.

    On a bright canvas, whose outside a training image cannot fill, no alignment has a high SSIM, and the highest one
    is anywhere.
    """
    ssim, alignments = aligned.ssim.clone(), list(aligned.alignments)
    for i, match in enumerate(matches):
        if match is None or match.num_inliers < _PROVEN:
            continue
        alone = align_by_match(match, x.shape[2:])
        image, found, matched = (
            to_array(pixels[0, 0])
            for pixels in (x[[i]], *(change_onto(x[[i]], y[[i]], [change]) for change in (alignments[i], alone)))
        )
        hull = hull_mask(match.core, image.shape, 0.0)
        if _correlate_bands(image, found, hull) < _correlate_bands(image, matched, hull) - _LOST:
            alignments[i] = alone
            ssim[i] = pairwise_ssim(standardize(x[[i]]), standardize(alone.apply(y[i])[None]))[0]
    return AlignedSSIM(ssim, alignments, aligned.stopped)


def _correlate_bands(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Mean correlation of the fine structure of two images within a mask."""
    correlations = []
    for fine, coarse in _BANDS:
        banded = ((smooth(pixels, fine) - smooth(pixels, coarse))[mask] for pixels in (first, second))
        correlations.append(correlate(*banded))
    return float(np.mean(correlations))
