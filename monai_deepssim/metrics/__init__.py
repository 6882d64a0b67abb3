"""Scores and how good they are: a function that does the arithmetic first, a MONAI metric around it where one fits."""

from monai_deepssim.metrics.auth_pct import compute_auth_pct
from monai_deepssim.metrics.compared_images import ComparedImages
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric, SearchStages
from monai_deepssim.metrics.copy_fractions import CopyFractions, compute_copy_fractions
from monai_deepssim.metrics.ct_score import compute_ct_score
from monai_deepssim.metrics.deepssim import DeepSSIMMetric, compute_deepssim
from monai_deepssim.metrics.detectors import SUPPORTED_DETECTORS, detector_arguments, make_detector
from monai_deepssim.metrics.detectors.aligned import AlignedDetector
from monai_deepssim.metrics.detectors.copy_detector import ContrastiveCopyDetector
from monai_deepssim.metrics.detectors.deepssim import DeepSSIMDetector
from monai_deepssim.metrics.detectors.deepssim_3d import DeepSSIM3DDetector
from monai_deepssim.metrics.detectors.local_features import LocalFeaturesDetector
from monai_deepssim.metrics.detectors.memorization_index import MemorizationIndexMetric
from monai_deepssim.metrics.detectors.mri_core import MRICoreMemorizationIndexMetric
from monai_deepssim.metrics.detectors.mse import MSEDetector
from monai_deepssim.metrics.detectors.ncc import NCCDetector
from monai_deepssim.metrics.detectors.open_clip import OpenCLIPDetector
from monai_deepssim.metrics.detectors.phash import PHashDetector
from monai_deepssim.metrics.detectors.slice_votes import SliceVotesDetector
from monai_deepssim.metrics.detectors.ssim import SSIMDetector
from monai_deepssim.metrics.detectors.torchscript import TorchScriptDetector
from monai_deepssim.metrics.fld import compute_fld_gap
from monai_deepssim.metrics.frechet import FID_WARNING, compute_fid, compute_linear_mmd, compute_mifid
from monai_deepssim.metrics.labelled_pairs import (
    ALIGNED_SSIM_THRESHOLDS,
    CLASS_NAMES,
    DEEPSSIM_THRESHOLDS,
    LabelledPairsMetric,
    classify_scores,
    evaluate_pairs,
)
from monai_deepssim.metrics.mean_memorization_index import MeanMemorizationIndexMetric
from monai_deepssim.metrics.memorization import MemorizationMetric
from monai_deepssim.metrics.memorization_index import MemorizationIndex, compute_memorization_index
from monai_deepssim.metrics.reconstruction_ssim import ReconstructionSSIMMetric, compute_reconstruction_ssim
from monai_deepssim.metrics.retrieval import compute_retrieval_rank
from monai_deepssim.metrics.set_scores import SUPPORTED_SET_SCORES, SetScoreMetric
from monai_deepssim.metrics.side_comparison import MIN_COMPARED_IMAGES, SideComparison, compare_sides
from monai_deepssim.metrics.side_differences import SIDE_DIFFERENCE_KINDS, SideDifference, name_reading_differences
from monai_deepssim.metrics.ssim_matching import (
    SSIMMatchingMetric,
    compute_ssim_matching_errors,
    compute_ssim_matching_table,
)
from monai_deepssim.metrics.verification import (
    NUM_SCREENED,
    find_local_matches,
    tabulate_candidates,
    verify_candidates,
)

__all__ = [
    "ALIGNED_SSIM_THRESHOLDS",
    "CLASS_NAMES",
    "DEEPSSIM_THRESHOLDS",
    "FID_WARNING",
    "MIN_COMPARED_IMAGES",
    "NUM_SCREENED",
    "SIDE_DIFFERENCE_KINDS",
    "SUPPORTED_DETECTORS",
    "SUPPORTED_SET_SCORES",
    "AlignedDetector",
    "ComparedImages",
    "ContrastiveCopyDetector",
    "CopyDetectionMetric",
    "CopyFractions",
    "DeepSSIM3DDetector",
    "DeepSSIMDetector",
    "DeepSSIMMetric",
    "LabelledPairsMetric",
    "LocalFeaturesDetector",
    "MRICoreMemorizationIndexMetric",
    "MSEDetector",
    "MeanMemorizationIndexMetric",
    "MemorizationIndex",
    "MemorizationIndexMetric",
    "MemorizationMetric",
    "NCCDetector",
    "OpenCLIPDetector",
    "PHashDetector",
    "ReconstructionSSIMMetric",
    "SSIMDetector",
    "SSIMMatchingMetric",
    "SearchStages",
    "SetScoreMetric",
    "SideComparison",
    "SideDifference",
    "SliceVotesDetector",
    "TorchScriptDetector",
    "classify_scores",
    "compare_sides",
    "compute_auth_pct",
    "compute_copy_fractions",
    "compute_ct_score",
    "compute_deepssim",
    "compute_fid",
    "compute_fld_gap",
    "compute_linear_mmd",
    "compute_memorization_index",
    "compute_mifid",
    "compute_reconstruction_ssim",
    "compute_retrieval_rank",
    "compute_ssim_matching_errors",
    "compute_ssim_matching_table",
    "detector_arguments",
    "evaluate_pairs",
    "find_local_matches",
    "make_detector",
    "name_reading_differences",
    "tabulate_candidates",
    "verify_candidates",
]
