"""Scores and how good they are: a function that does the arithmetic first, a MONAI metric around it where one fits."""

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.deepssim import DeepSSIMMetric, compute_deepssim
from monai_deepssim.metrics.detectors import SUPPORTED_DETECTORS, DeepSSIMDetector
from monai_deepssim.metrics.labelled_pairs import (
    CLASS_NAMES,
    DEEPSSIM_THRESHOLDS,
    LabelledPairsMetric,
    classify_scores,
    evaluate_pairs,
)
from monai_deepssim.metrics.retrieval import compute_retrieval_rank
from monai_deepssim.metrics.ssim_matching import (
    SSIMMatchingMetric,
    compute_ssim_matching_errors,
    compute_ssim_matching_table,
)

__all__ = [
    "CLASS_NAMES",
    "DEEPSSIM_THRESHOLDS",
    "SUPPORTED_DETECTORS",
    "CopyDetectionMetric",
    "DeepSSIMDetector",
    "DeepSSIMMetric",
    "LabelledPairsMetric",
    "SSIMMatchingMetric",
    "classify_scores",
    "compute_deepssim",
    "compute_retrieval_rank",
    "compute_ssim_matching_errors",
    "compute_ssim_matching_table",
    "evaluate_pairs",
]
