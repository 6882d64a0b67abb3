"""What is left of an image when the training image that it copies is taken away: where a second source shows."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from monai_deepssim.similarity.hulls import hull_mask
from monai_deepssim.similarity.local_features import LocalFeatures, LocalMatch, extract_local_features

__all__ = ["extract_rest"]

# Pixels (standard deviations) of the band in which the source is fitted to the image.
_BAND = (0.6, 4.0)
# Correlation with the source in this band from which on nothing is left of the image.
_NOTHING_LEFT = 0.95
# How far around its inliers a source is taken away, as a share of the longer side.
_MARGIN = 0.08


def extract_rest(image: Tensor, training: Tensor, match: LocalMatch) -> LocalFeatures | None:
    """Find the local features of an image that a training image does not explain.

    The training image is moved by the match, multiplied by what least squares find in a band of 0.6 to 4 pixels, and
    subtracted in the convex hull of the inliers and 8 % of the side around it. Of an average of two training images the
    other one is left, of an image that is pasted together what does not come from the first.

    Args:
        image: ``(1, H, W)``, any range.
        training: of the same shape.
        match: of the two, in their pixels.

    Returns:
        The features, or ``None`` where the training image explains the image: a correlation of 0.95.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.similarity import VERSIONS, match_local_features
        >>> first, second = (item["image"].as_tensor() for item in PhantomBrainDataset(2, seed=3, progress=False))
        >>> training = extract_local_features(first), extract_local_features(second)
        >>> average = (first + second) / 2
        >>> match = match_local_features(extract_local_features(average), training[0], VERSIONS[0])
        >>> rest = extract_rest(average, first, match)
        >>> match_local_features(rest, training[1], VERSIONS[0]).num_inliers > 60, extract_rest(first, first, match)
        (True, None)
    """
    pixels, source = (one[0].cpu().numpy().astype(np.float32) for one in (image, training))
    moved = cv2.warpAffine(source, match.matrix, pixels.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    hull = hull_mask(match.points, pixels.shape, _MARGIN)
    fine, coarse = ([cv2.GaussianBlur(one, (0, 0), sigma) for one in (pixels, moved)] for sigma in _BAND)
    first, second = ((a - b)[hull] for a, b in zip(fine, coarse, strict=True))
    product, squares = float(first @ second), float(second @ second)
    if not squares or product**2 > _NOTHING_LEFT**2 * squares * float(first @ first):
        return None
    return extract_local_features(pixels - np.where(hull, product / squares * moved, 0))
