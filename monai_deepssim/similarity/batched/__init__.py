"""The alignment of many 2-D pairs at once, in torch operations: what runs on a GPU in the place of the kernels."""

from monai_deepssim.similarity.batched.alignment import AlignedBatch, align_batch, deform_batch
from monai_deepssim.similarity.batched.changed_images import change_images
from monai_deepssim.similarity.batched.structure import band_of, correlate_bands

__all__ = ["AlignedBatch", "align_batch", "band_of", "change_images", "correlate_bands", "deform_batch"]
