"""What the comparisons of an aligned pair are made of: the changed image, smoothing and correlation."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_deepssim.similarity.aligned_ssim import deform_onto
from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.batched import change_images
from monai_deepssim.similarity.threads import map_in_threads

__all__ = ["REFERENCE_ROWS", "change_onto", "correlate", "smooth", "to_array"]

#: Widths are stated in pixels of an image with so many rows.
REFERENCE_ROWS = 136


def change_onto(x: Tensor, y: Tensor, alignments: Sequence[Alignment]) -> Tensor:
    """Each y as it was found to fit its x, of its shape and where it is, float32."""
    if y.is_cuda and y.ndim == 4:
        changed = change_images(y, alignments)
    else:
        changed = torch.stack(map_in_threads(lambda i: alignments[i].apply(y[i]), len(y))) if len(y) else y
    deformed = [i for i, alignment in enumerate(alignments) if alignment.deformation_pixels]
    if deformed:
        changed[deformed] = deform_onto(x[deformed], changed[deformed])
    return changed


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two vectors about 0; 0 where one of them is 0."""
    return float(first @ second) / max(float(np.sqrt((first @ first) * (second @ second))), 1e-12)


def smooth(image: np.ndarray, deviation: float) -> np.ndarray:
    """Blur an image or a volume by a Gaussian of this standard deviation in pixels, mirrored at its borders."""
    if image.ndim == 3:
        return gaussian_filter(image, deviation, mode="reflect")
    return cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REFLECT)


def to_array(pixels: Tensor) -> np.ndarray:
    """Copy a tensor of any device to a float32 array of the same shape."""
    return pixels.cpu().numpy().astype(np.float32)
