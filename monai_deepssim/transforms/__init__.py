"""What MONAI's transforms lack: structure-preserving augmentation, graded variants, and one size with aspect kept."""

from .fit_image_size import FitImageSize, FitImageSized
from .graded_variants import GradedVariants, GradedVariantsd
from .structure_preserving import RandStructurePreserving, RandStructurePreservingd

__all__ = [
    "FitImageSize",
    "FitImageSized",
    "GradedVariants",
    "GradedVariantsd",
    "RandStructurePreserving",
    "RandStructurePreservingd",
]
