"""What MONAI's transforms lack: structure-preserving augmentation, graded variants, one size, named perturbations."""

from monai_deepssim.transforms.control_changes import CONTROL_CHANGES, VOLUME_CONTROL_CHANGES, ControlChange
from monai_deepssim.transforms.fit_image_size import FitImageSize, FitImageSized, resize_antialiased
from monai_deepssim.transforms.graded_variants import GradedVariants, GradedVariantsd
from monai_deepssim.transforms.perturbation_geometry import RandCropResize, RandWarp
from monai_deepssim.transforms.perturbation_intensity import JPEGCompression
from monai_deepssim.transforms.perturbations import (
    PART_PERTURBATIONS,
    PARTNER_PERTURBATIONS,
    SUPPORTED_PERTURBATIONS,
    Perturbation,
    Perturbationd,
)
from monai_deepssim.transforms.planes import lay_out_planes, orthogonal_planes
from monai_deepssim.transforms.structure_preserving import RandStructurePreserving, RandStructurePreservingd

__all__ = [
    "CONTROL_CHANGES",
    "PARTNER_PERTURBATIONS",
    "PART_PERTURBATIONS",
    "SUPPORTED_PERTURBATIONS",
    "VOLUME_CONTROL_CHANGES",
    "ControlChange",
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
    "lay_out_planes",
    "orthogonal_planes",
    "resize_antialiased",
]
