"""Copy detectors by name. To add one: a file here with a subclass of CopyDetectionMetric, and a line below."""

from __future__ import annotations

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.detectors.aligned import AlignedDetector
from monai_deepssim.metrics.detectors.copy_detector import ContrastiveCopyDetector
from monai_deepssim.metrics.detectors.deepssim import DeepSSIMDetector
from monai_deepssim.metrics.detectors.local_features import LocalFeaturesDetector
from monai_deepssim.metrics.detectors.memorization_index import (
    MemorizationIndexMetric,
    MRICoreMemorizationIndexMetric,
)
from monai_deepssim.metrics.detectors.mse import MSEDetector
from monai_deepssim.metrics.detectors.ncc import NCCDetector
from monai_deepssim.metrics.detectors.open_clip import OpenCLIPDetector
from monai_deepssim.metrics.detectors.phash import PHashDetector
from monai_deepssim.metrics.detectors.ssim import SSIMDetector
from monai_deepssim.metrics.detectors.torchscript import TorchScriptDetector

__all__ = [
    "SUPPORTED_DETECTORS",
    "AlignedDetector",
    "ContrastiveCopyDetector",
    "DeepSSIMDetector",
    "LocalFeaturesDetector",
    "MRICoreMemorizationIndexMetric",
    "MSEDetector",
    "MemorizationIndexMetric",
    "NCCDetector",
    "OpenCLIPDetector",
    "PHashDetector",
    "SSIMDetector",
    "TorchScriptDetector",
]

#: Detectors by the name that ``--detector`` takes.
SUPPORTED_DETECTORS: dict[str, type[CopyDetectionMetric]] = {
    "deepssim": DeepSSIMDetector,
    "memorization_index": MemorizationIndexMetric,
    "mri_core": MRICoreMemorizationIndexMetric,
    "copy_detector": ContrastiveCopyDetector,
    "torchscript": TorchScriptDetector,
    "open_clip": OpenCLIPDetector,
    "local_features": LocalFeaturesDetector,
    "ssim": SSIMDetector,
    "ncc": NCCDetector,
    "mse": MSEDetector,
    "phash": PHashDetector,
}
