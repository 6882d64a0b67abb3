"""Variants of an image whose SSIM to it fills a range: the teaching material between "same" and "unrelated"."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms.perturbation_geometry import sampling_grid
from monai_deepssim.transforms.pixel_transforms import RandWrapper, pixels_of, replace_pixels

__all__ = ["GradedVariants", "GradedVariantsd"]

_EVALUATIONS = 8  # of SSIM, at most, to find the strength of a warp; five are usual
_TOLERANCE = 0.01  # in SSIM


class GradedVariants(Randomizable, Transform):
    """An image, one unchanged copy of it, and warped variants whose SSIM to it fills a range evenly.

    Unrelated slices have an SSIM of 0.30 in the median (0.14 to 0.46 in 98 % of the pairs:
    ``benchmarks/pose_blind_error.py``), so a batch of unrelated images teaches an embedder nothing of the range in
    which copies are told from look-alikes. A variant is the image warped by a smooth random displacement; its target
    is drawn from its own part of the range (n equal parts, one per variant) and the strength of the warp that gives
    this SSIM is found by regula falsi, to 0.01. Where no warp is strong enough, the strongest is taken.

    Args:
        num_variants: how many variants, 0 or more.
        ssim_range: smallest and largest SSIM to the image.
        scale_pixels: smallest and largest size of the bumps of the displacement, in pixels.

    Returns:
        A list of ``num_variants + 2`` images of the input's shape: the image, its copy, and the variants from the
        closest on. MONAI's DataLoader makes one batch of the lists of several items.

    Raises:
        ValueError: when the range is not within 0 to 1 or a number is too small.

    Example:
        >>> from monai_deepssim.similarity import pairwise_ssim, standardize
        >>> image = F.avg_pool2d(torch.rand(1, 96, 96, generator=torch.Generator().manual_seed(0)), 5, 1, 2)
        >>> variants = GradedVariants(num_variants=2).set_random_state(0)(image)
        >>> ssim = pairwise_ssim(standardize(torch.stack(variants)))[0]
        >>> ssim[:2].tolist(), bool(0.75 < ssim[2] < 1), bool(0.5 < ssim[3] < 0.75)
        ([1.0, 1.0], True, True)
    """

    def __init__(
        self,
        num_variants: int = 2,
        ssim_range: Sequence[float] = (0.5, 1.0),
        scale_pixels: Sequence[float] = (5.0, 20.0),
    ) -> None:
        low, high = ssim_range
        if num_variants < 0 or not 0 < low < high <= 1 or not 2 <= min(scale_pixels) <= max(scale_pixels):
            raise ValueError(
                f"got num_variants={num_variants}, ssim_range={tuple(ssim_range)}, scale_pixels={tuple(scale_pixels)}, "
                "want at least 0 variants, 0 < low < high <= 1 and scales of at least 2 pixels"
            )
        self.num_variants = num_variants
        self.ssim_range = (low, high)
        self.scale_pixels = (min(scale_pixels), max(scale_pixels))
        self._targets: list[float] = []
        self._displacements: list[Tensor] = []

    def randomize(self, data: Tensor) -> None:
        """Draw the target SSIM and the displacement of each variant for the image ``data``."""
        low, high = self.ssim_range
        edges = np.linspace(high, low, self.num_variants + 1)
        self._targets = [self.R.uniform(below, above) for above, below in pairwise(edges)]
        self._displacements = [self._draw_displacement(data) for _ in self._targets]

    def __call__(self, img: NdarrayOrTensor) -> list[Tensor]:
        """Make the variants of one image ``(1, H, W)`` or ``(1, H, W, D)``."""
        image = convert_to_tensor(img, track_meta=get_track_meta(), dtype=torch.float32)
        if image.ndim not in (3, 4) or image.shape[0] != 1:
            raise ValueError(f"got an image of shape {tuple(image.shape)}, want (1, H, W) or (1, H, W, D)")
        self.randomize(image)
        pairs = zip(self._targets, self._displacements, strict=True)
        return [image, image.clone(), *(_warp_to_ssim(image, displacement, target) for target, displacement in pairs)]

    def _draw_displacement(self, image: Tensor) -> Tensor:
        """A smooth random displacement ``(spatial axes, *spatial size)`` with bumps of 1 pixel's standard deviation."""
        spatial = image.shape[1:]
        scale = self.R.uniform(*self.scale_pixels)
        coarse = [max(4, round(side / scale)) for side in spatial]
        noise = torch.from_numpy(self.R.standard_normal((1, len(spatial), *coarse))).float().to(image.device)
        mode = "bicubic" if len(spatial) == 2 else "trilinear"
        field = F.interpolate(noise, size=tuple(spatial), mode=mode, align_corners=False)[0]
        return field / field.std()


def _warp_to_ssim(image: Tensor, displacement: Tensor, target: float) -> Tensor:
    """The image warped along ``displacement`` so far that its SSIM to the unwarped one is ``target``."""
    # Constant images have no variants: every warp of them is the image itself.
    if image.max() == image.min():
        return image.clone()
    plain = pixels_of(image)[None]
    reference = standardize(plain)
    identity, direction = sampling_grid(displacement.to(plain))
    best = plain
    best_gap = 1.0 - target

    def gap_at(strength: float) -> float:
        nonlocal best, best_gap
        warped = F.grid_sample(plain, identity + strength * direction, padding_mode="border", align_corners=False)
        gap = pairwise_ssim(reference, standardize(warped)).item() - target
        if abs(gap) < abs(best_gap):
            best, best_gap = warped, gap
        return gap

    _find_root(gap_at, low=0.0, low_value=1.0 - target, high=4.0 * (1.0 - target) + 0.2)
    return replace_pixels(image, best[0])


def _find_root(function: Callable[[float], float], low: float, low_value: float, high: float) -> None:
    """Evaluate a falling function closer and closer to its root, by regula falsi (the Illinois variant)."""
    high_value = function(high)
    evaluations = 1
    while high_value > _TOLERANCE and evaluations < _EVALUATIONS:
        low, low_value, high = high, high_value, 2 * high
        high_value = function(high)
        evaluations += 1
    side = 0
    while evaluations < _EVALUATIONS and high_value < -_TOLERANCE and low_value > _TOLERANCE:
        middle = (low * high_value - high * low_value) / (high_value - low_value)
        value = function(middle)
        evaluations += 1
        if abs(value) <= _TOLERANCE:
            return
        if value > 0:
            low, low_value = middle, value
            high_value = high_value / 2 if side == 1 else high_value
            side = 1
        else:
            high, high_value = middle, value
            low_value = low_value / 2 if side == -1 else low_value
            side = -1


class GradedVariantsd(RandWrapper, MapTransform):
    """Dictionary version of :class:`GradedVariants`: an item becomes a list of items that share all other entries.

    Args:
        keys: keys of the images; each key gets variants of its own.
        allow_missing_keys: whether a key may be missing.
        **kwargs: further arguments of :class:`GradedVariants`.

    Returns:
        A list of ``num_variants + 2`` dictionaries.

    Example:
        >>> items = GradedVariantsd("image", num_variants=1)({"image": torch.rand(1, 64, 64), "patient_id": "7"})
        >>> [item["patient_id"] for item in items]
        ['7', '7', '7']
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs: Any) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.wrapped: GradedVariants = GradedVariants(**kwargs)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        items = [dict(data) for _ in range(self.wrapped.num_variants + 2)]
        for key in self.key_iterator(dict(data)):
            for item, image in zip(items, self.wrapped(data[key]), strict=True):
                item[key] = image
        return items
