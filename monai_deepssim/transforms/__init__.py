"""What MONAI's transforms lack: structure-preserving augmentation, graded variants, one size, named perturbations."""

from .fit_image_size import FitImageSize, FitImageSized
from .graded_variants import GradedVariants, GradedVariantsd
from .perturbations import (
    SUPPORTED_PERTURBATIONS,
    JPEGCompression,
    Perturbation,
    Perturbationd,
    RandCropResize,
    RandWarp,
)
from .structure_preserving import RandStructurePreserving, RandStructurePreservingd

__all__ = [
    "SUPPORTED_PERTURBATIONS",
    "FitImageSize",
    "FitImageSized",
    "GradedVariants",
    "GradedVariantsd",
    "JPEGCompression",
    "Perturbation",
    "Perturbationd",
    "RandCropResize",
    "RandStructurePreserving",
    "RandStructurePreservingd",
    "RandWarp",
]
