"""Copy detectors by name. To add one: a file here with a subclass of CopyDetectionMetric, and a line below."""

from __future__ import annotations

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.detectors.deepssim import DeepSSIMDetector

__all__ = ["SUPPORTED_DETECTORS", "DeepSSIMDetector"]

#: Detectors by the name that ``--detector`` takes.
SUPPORTED_DETECTORS: dict[str, type[CopyDetectionMetric]] = {
    "deepssim": DeepSSIMDetector,
}
