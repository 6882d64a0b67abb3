"""The table of named changes: for each name what makes its transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from monai.transforms import (
    AdjustContrast,
    Affine,
    Compose,
    Flip,
    GaussianSmooth,
    Identity,
    OneOf,
    RandAffine,
    RandGaussianNoise,
    RandScaleIntensity,
    Transform,
)
from torch import Tensor

from monai_deepssim.transforms import perturbation_geometry as geometry
from monai_deepssim.transforms import perturbation_intensity as intensity
from monai_deepssim.transforms import perturbation_parts as parts
from monai_deepssim.transforms.pixel_transforms import PixelTransform, RandPixelTransform
from monai_deepssim.transforms.structure_preserving import RandStructurePreserving

__all__ = ["FACTORIES", "PARTNER_FACTORIES", "PIXEL_FACTORIES"]


def _affine(**parameters: Any) -> Affine:
    return Affine(**parameters, padding_mode="zeros", image_only=True)


def _rotation(degrees: float) -> Transform:
    return OneOf([_affine(rotate_params=float(np.deg2rad(angle))) for angle in (-degrees, degrees)])


def _shift(pixels: float) -> Transform:
    signs = (-pixels, pixels)
    return OneOf([_affine(translate_params=[rows, columns]) for rows in signs for columns in signs])


def _zoom_either_way(share: float) -> Transform:
    # Affine maps output positions to input positions: its scale is one over the zoom.
    return OneOf([_affine(scale_params=[1 / zoom] * 2) for zoom in (1 - share, 1 + share)])


def _noise(std: float, pixel_size: float) -> Transform:
    if pixel_size > 1:
        return RandPixelTransform(intensity.add_grain, std=std, size=pixel_size)
    return RandGaussianNoise(prob=1.0, std=std, sample_std=False)


def _zoom(*factors: float) -> Transform:
    return PixelTransform(geometry.zoom_centred, factors=factors)


def _anisotropic_zoom(factor: float) -> Transform:
    return OneOf([_zoom(*factors) for f in (factor, 1 / factor) for factors in ((f, 1.0), (1.0, f))])


_INTENSITIES: dict[str, Callable[[], Transform]] = {
    "window_20_80": lambda: PixelTransform(intensity.window_percentiles, low=20, high=80),
    "text": lambda: RandPixelTransform(intensity.burn_in_text, height=0.06),
    "frame": lambda: PixelTransform(intensity.draw_frame, width=0.02),
    "raised_background": lambda: PixelTransform(intensity.raise_background, level=0.15),
    "saturation": lambda: PixelTransform(intensity.clip_highest, percentile=85),
    "sharpen": lambda: PixelTransform(intensity.sharpen, sigma=0.01, amount=1.5),
    "salt": lambda: RandPixelTransform(intensity.add_salt, share=0.01),
    "inverted": lambda: PixelTransform(intensity.invert),
}


def _warp_by_share(displacement: float = 0.01) -> Transform:
    return RandPixelTransform(geometry.warp_by_share, displacement=displacement, scale=0.15)


def _two_at_once(pixels: Tensor, random: np.random.RandomState) -> Tensor:
    """Apply two changes after one another that are drawn, with their strengths, from those below."""
    zoom, crop, border = random.uniform(0.7, 1.4), random.uniform(0.05, 0.2), random.uniform(0.05, 0.2)
    changes: list[Callable[[], Transform]] = [
        lambda: _zoom(zoom),
        lambda: geometry.RandCropResize(crop),
        lambda: _zoom(1 - border),
        _warp_by_share,
        lambda: _anisotropic_zoom(1.1),
        *(_INTENSITIES[name] for name in ("window_20_80", "text", "frame", "raised_background", "sharpen", "inverted")),
    ]
    for position in random.choice(len(changes), size=2, replace=False):
        change = Compose([changes[position]()])
        change.set_random_state(seed=int(random.randint(2**31)))
        pixels = change(pixels).clamp(0, 1)  # type: ignore[union-attr]
    return pixels


#: What makes each change.
FACTORIES: dict[str, Callable[[], Transform]] = {
    "none": Identity,
    "rotation_3": lambda: _rotation(3),
    "rotation_5": lambda: _rotation(5),
    "rotation_10": lambda: _rotation(10),
    "flip_horizontal": lambda: Flip(spatial_axis=1),
    "flip_vertical": lambda: Flip(spatial_axis=0),
    "intensity": lambda: RandScaleIntensity(factors=0.1, prob=1.0),
    "gamma_0.5": lambda: AdjustContrast(0.5),
    "gamma_1.5": lambda: AdjustContrast(1.5),
    "mix": lambda: RandStructurePreserving(prob=0.8, rotation_radians=0.1745),
    "shift_3": lambda: _shift(3),
    "zoom_5": lambda: _zoom_either_way(0.05),
    "crop_5": lambda: geometry.RandCropResize(0.05),
    "warp": geometry.RandWarp,
    "jpeg_50": lambda: intensity.JPEGCompression(50),
    "rotation_15": lambda: _rotation(15),
    "rotation_45": lambda: _rotation(45),
    "rotation_any": lambda: RandAffine(prob=1.0, rotate_range=[(0.0, 2 * math.pi)], padding_mode="zeros"),
    "transpose": lambda: PixelTransform(geometry.transpose),
    "quarter_turn": lambda: RandPixelTransform(geometry.quarter_turn),
    "half_turn": lambda: Flip(spatial_axis=(0, 1)),
    "gamma_0.67": lambda: AdjustContrast(0.67),
    "gamma_2": lambda: AdjustContrast(2.0),
    "shift_5_percent": lambda: RandPixelTransform(geometry.shift_by_share, share=0.05),
    "shift_10_percent": lambda: RandPixelTransform(geometry.shift_by_share, share=0.1),
    "zoom_0.7": lambda: _zoom(0.7),
    "zoom_0.9": lambda: _zoom(0.9),
    "zoom_1.1": lambda: _zoom(1.1),
    "zoom_1.4": lambda: _zoom(1.4),
    "crop_10_percent": lambda: geometry.RandCropResize(0.1),
    "crop_20_percent": lambda: geometry.RandCropResize(0.2),
    "border_20_percent": lambda: _zoom(0.8),
    "anisotropic_zoom_10_percent": lambda: _anisotropic_zoom(1.1),
    "resampled": lambda: PixelTransform(geometry.resample, factor=0.8, mode="bicubic"),
    "bias_field": lambda: RandPixelTransform(intensity.add_bias_field, strength=0.35),
    **_INTENSITIES,
    "warp_1_percent": _warp_by_share,
    "warp_2_percent": lambda: _warp_by_share(0.02),
    "jpeg_30": lambda: intensity.JPEGCompression(30),
    "two_at_once": lambda: RandPixelTransform(_two_at_once),
    "square_15_percent": lambda: RandPixelTransform(parts.black_out_square, area=0.15),
}
#: What makes each change that is measured in pixels, from how many of the image's own pixels one is wide.
PIXEL_FACTORIES: dict[str, Callable[[float], Transform]] = {
    "noise_0.01": lambda pixel_size: _noise(0.01, pixel_size),
    "noise_0.02": lambda pixel_size: _noise(0.02, pixel_size),
    "noise_0.05": lambda pixel_size: _noise(0.05, pixel_size),
    "blur": lambda pixel_size: GaussianSmooth(sigma=1.0 * pixel_size),
    "blur_1.5": lambda pixel_size: GaussianSmooth(sigma=1.5 * pixel_size),
    "blur_2": lambda pixel_size: GaussianSmooth(sigma=2.0 * pixel_size),
    "blur_3": lambda pixel_size: GaussianSmooth(sigma=3.0 * pixel_size),
    "blur_2_noise": lambda pixel_size: Compose([GaussianSmooth(sigma=2.0 * pixel_size), _noise(0.01, pixel_size)]),
    "half_resolution": lambda pixel_size: PixelTransform(
        geometry.resample, factor=min(1.0, 0.5 / pixel_size), mode="bilinear"
    ),
}
#: What makes each change that needs another patient's image.
PARTNER_FACTORIES: dict[str, Callable[[], RandPixelTransform]] = {
    "half_replaced": lambda: RandPixelTransform(parts.replace_half),
    "quarter_pasted": lambda: RandPixelTransform(parts.paste_quarter),
    "average_of_two": lambda: RandPixelTransform(parts.blend, share=0.5),
    "blend_30_percent": lambda: RandPixelTransform(parts.blend, share=0.3),
}
