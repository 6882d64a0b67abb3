"""The other direction of an audit: how close each training and each held-out image is to the synthetic images."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide, Strangers
from monai_deepssim.calibration import MemberComparison, compare_members
from monai_deepssim.engines import EmbeddedImages

__all__ = ["compare_with_members"]


def compare_with_members(
    training: EmbeddedSide, synthetic: EmbeddedSide, strangers: Strangers | None, detector: AuditDetector
) -> MemberComparison | None:
    """Score training and held-out images by their nearest synthetic image, and compare the two.

    The detector's own score is taken, in the same way for both: nothing is compared on the pixels.

    Args:
        training: the training side.
        synthetic: the synthetic side.
        strangers: held-out images that are no training images; ``None`` where all are.
        detector: the audit's detector, which stays fitted to the training images.

    Returns:
        The comparison; ``None`` where there are no held-out images.

    Raises:
        UnusableInputError: when the detector needs more images than there are synthetic ones.
    """
    if strangers is None:
        return None
    # The training images stay fitted: a copy of the detector is fitted to the synthetic ones.
    reverse = replace(detector, metric=copy.copy(detector.metric), engine="exact")
    reverse.fit(synthetic.images)

    def score(images: EmbeddedImages) -> np.ndarray:
        return reverse.search(images, 1)[0][:, 0]

    return compare_members(score(training.images), score(strangers.images), training.patients, strangers.patients)
