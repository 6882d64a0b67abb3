"""What MONAI's transforms lack: structure-preserving augmentation and graded variants."""

from .graded_variants import GradedVariants, GradedVariantsd
from .structure_preserving import RandStructurePreserving, RandStructurePreservingd

__all__ = ["GradedVariants", "GradedVariantsd", "RandStructurePreserving", "RandStructurePreservingd"]
