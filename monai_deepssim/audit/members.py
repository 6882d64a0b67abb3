"""The other direction of an audit: how close each training and each held-out image is to the synthetic images."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.engines import EmbeddedImages

__all__ = ["score_by_synthetic"]


def score_by_synthetic(images: EmbeddedImages, synthetic: EmbeddedSide, detector: AuditDetector) -> np.ndarray:
    """Score real images by their nearest synthetic image, all in the same way, whoever they are.

    The detector's score alone is taken, which is the same for training and held-out images; nothing is compared on the
    pixels.

    Args:
        images: embeddings of training or held-out images.
        synthetic: the synthetic side.
        detector: the audit's detector, which stays fitted to the training images.

    Returns:
        ``(N,)``, higher is closer.

    Raises:
        UnusableInputError: when the detector needs more images than there are synthetic ones.
    """
    reverse = replace(detector, metric=copy.copy(detector.metric))
    reverse.fit(synthetic.images)
    scores, _ = reverse.search(images, 1)
    return scores[:, 0]
