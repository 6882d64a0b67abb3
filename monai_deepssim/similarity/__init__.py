"""The pixel side: what two images share, measured on their pixels."""

from monai_deepssim.similarity.aligned_ssim import (
    ALIGNED_SSIM_VERSION,
    DEFORMATION_COST,
    MOST_GAINED,
    AlignedSSIM,
    aligned_ssim,
    deform_onto,
)
from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.canonical_pose import Pose, canonicalize_pose, measure_pose, move_to_pose
from monai_deepssim.similarity.compilation import compile_kernels, kernels_are_compiled
from monai_deepssim.similarity.copy_score import COPY_SCORE_VERSION, CopyScore, copy_score, fuse_scores
from monai_deepssim.similarity.local_features import (
    LOCAL_FEATURES_VERSION,
    VERSIONS,
    LocalFeatures,
    LocalMatch,
    Version,
    extract_local_features,
    fit_local_features,
    match_local_features,
)
from monai_deepssim.similarity.matched_region import copied_area
from monai_deepssim.similarity.pairwise_ssim import pairwise_ssim
from monai_deepssim.similarity.posed_ssim import coarse_structure, pose, posed_ssim, screen
from monai_deepssim.similarity.second_source import extract_rest
from monai_deepssim.similarity.standardize import standardize
from monai_deepssim.similarity.threads import map_in_threads
from monai_deepssim.similarity.volume_pose import VolumePose, canonicalize_volumes, measure_volume_pose
from monai_deepssim.similarity.volume_screen import match_coarsely, shrink_volumes

__all__ = [
    "ALIGNED_SSIM_VERSION",
    "COPY_SCORE_VERSION",
    "DEFORMATION_COST",
    "LOCAL_FEATURES_VERSION",
    "MOST_GAINED",
    "VERSIONS",
    "AlignedSSIM",
    "Alignment",
    "CopyScore",
    "LocalFeatures",
    "LocalMatch",
    "Pose",
    "Version",
    "VolumePose",
    "aligned_ssim",
    "canonicalize_pose",
    "canonicalize_volumes",
    "coarse_structure",
    "compile_kernels",
    "copied_area",
    "copy_score",
    "deform_onto",
    "extract_local_features",
    "extract_rest",
    "fit_local_features",
    "fuse_scores",
    "kernels_are_compiled",
    "map_in_threads",
    "match_coarsely",
    "match_local_features",
    "measure_pose",
    "measure_volume_pose",
    "move_to_pose",
    "pairwise_ssim",
    "pose",
    "posed_ssim",
    "screen",
    "shrink_volumes",
    "standardize",
]
