"""The classes of a score: the thresholds that part them, where these come from, and which of them are copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from monai_deepssim.metrics import ALIGNED_SSIM_THRESHOLDS, DEEPSSIM_THRESHOLDS

__all__ = [
    "COPY_LABELS",
    "PUBLISHED_THRESHOLDS",
    "SMALL_VOLUME_THRESHOLDS",
    "VERIFIED_THRESHOLDS",
    "VOLUME_THRESHOLDS",
    "WHOLE_IMAGE_AREA",
    "Thresholds",
    "is_copy",
    "volume_thresholds",
]


@dataclass(frozen=True)
class Thresholds:
    """The scores that part the classes, which score they are of, and where they come from.

    Attributes:
        similar: a score above this is at least similar; ``None`` where a detector knows two classes only.
        duplicate: a score above this is a duplicate.
        score: name of the score, ``aligned_ssim`` or that of a detector.
        source: who says so.
    """

    similar: float | None
    duplicate: float
    score: str
    source: str

    def classify(self, score: float, copied_area: float | None = None) -> str:
        """Name the class of a score; a score on a threshold is of the class below it.

        Args:
            score: score of one image.
            copied_area: share of the image that was copied. Where it is known and below :data:`WHOLE_IMAGE_AREA`, a
                duplicate is a part copy.

        Example:
            >>> [PUBLISHED_THRESHOLDS.classify(score) for score in (0.60, 0.61, 0.86)]
            ['different', 'similar', 'duplicate']
            >>> PUBLISHED_THRESHOLDS.classify(0.9, copied_area=0.25)
            'part'
        """
        if score > self.duplicate:
            return "part" if copied_area is not None and copied_area < WHOLE_IMAGE_AREA else "duplicate"
        return "similar" if self.similar is not None and score > self.similar else "different"


#: Classes of images that are judged copies.
COPY_LABELS = ("duplicate", "part")

#: Share of an image below which what was copied is a part of it.
WHOLE_IMAGE_AREA = 0.6

PUBLISHED_THRESHOLDS = Thresholds(
    similar=DEEPSSIM_THRESHOLDS[0],
    duplicate=DEEPSSIM_THRESHOLDS[1],
    score="deepssim",
    source="published with DeepSSIM for its cosine (Scardace et al., arXiv 2509.16582); not calibrated on this data",
)
VERIFIED_THRESHOLDS = Thresholds(
    similar=ALIGNED_SSIM_THRESHOLDS[0],
    duplicate=ALIGNED_SSIM_THRESHOLDS[1],
    score="copy_score",
    source="chosen on phantoms and brain MRI kept for choosing, measured on others (docs/measured.md); "
    "not calibrated on this data",
)


#: Of the copy score of volumes in boxes of 48 x 48 x 48 and more; ``benchmarks/volume_thresholds.py``.
VOLUME_THRESHOLDS = Thresholds(
    similar=0.75,
    duplicate=0.8,
    score="copy_score",
    source="chosen on phantom volumes in boxes of 48 x 48 x 48 and 64 x 64 x 64, where other subjects have up to 0.79 "
    "and copies after mild changes 0.81 and more; not calibrated on this data",
)

#: In smaller boxes phantoms of other subjects have up to 0.856, as much as some copies (0.849 at half the resolution).
SMALL_VOLUME_THRESHOLDS = Thresholds(
    similar=0.8,
    duplicate=0.86,
    score="copy_score",
    source="chosen on phantom volumes in boxes of 32 x 32 x 32, where other subjects and some copies score alike, "
    "0.85: give a larger --image_size; not calibrated on this data",
)

# Voxels of the smallest box in which strangers and copies were seen to part.
_MEASURED_VOXELS = 48**3


def volume_thresholds(image_size: Sequence[int]) -> Thresholds:
    """The thresholds of volumes that are compared in a box.

    Args:
        image_size: its three sides.

    Example:
        >>> volume_thresholds((64, 64, 64)).duplicate, volume_thresholds((32, 32, 32)).duplicate
        (0.8, 0.86)
    """
    return VOLUME_THRESHOLDS if math.prod(image_size) >= _MEASURED_VOXELS else SMALL_VOLUME_THRESHOLDS


def is_copy(matches: pd.DataFrame) -> pd.Series:
    """Which images are judged copies, of a whole training image or of a part."""
    return matches["label"].isin(COPY_LABELS)
