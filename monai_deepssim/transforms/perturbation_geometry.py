"""Changes of where an image's pixels lie: shift, zoom, border, crop, warp, and resampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.transforms import Affine, ResizeWithPadOrCrop
from torch import Tensor

from monai_deepssim.transforms.fit_image_size import FitImageSize, resize_antialiased
from monai_deepssim.transforms.pixel_transforms import RandPixelTransform, pixels_of

__all__ = [
    "RandCropResize",
    "RandWarp",
    "quarter_turn",
    "resample",
    "sampling_grid",
    "shift_by_share",
    "thin_out",
    "transpose",
    "warp_by_share",
    "zoom_centred",
]


class RandWarp(RandPixelTransform):
    """Displace the pixels of an image by a smooth random field, as another reconstruction of the same head might.

    The field is bicubic through white noise on a grid of ``scale_pixels``, trilinear in a volume; bilinear, zeros from
    outside.

    Args:
        displacement_pixels: Standard deviation of the displacement along each axis.
        scale_pixels: Distance of the grid's points.

    Raises:
        ValueError: A number is not above 0.

    Example:
        >>> image = torch.zeros(1, 64, 64)
        >>> image[:, 20:40, 20:40] = 1
        >>> warped = RandWarp().set_random_state(0)(image)
        >>> warped.shape, bool((warped - image).abs().max() > 0.5), bool((warped - image).abs().mean() < 0.05)
        (torch.Size([1, 64, 64]), True, True)
    """

    def __init__(self, displacement_pixels: float = 1.5, scale_pixels: int = 20) -> None:
        if displacement_pixels <= 0 or scale_pixels < 1:
            raise ValueError(f"got {displacement_pixels} and {scale_pixels} pixels, want a displacement and a scale")
        super().__init__(_warp, displacement=displacement_pixels, scale=scale_pixels)


class RandCropResize(RandPixelTransform):
    """Cut a window at a random place out of an image, and scale it to the image's size.

    Args:
        crop: Share of the rows and of the columns that is lost, at least 0 and below 1.

    Raises:
        ValueError: ``crop`` is out of its range.

    Example:
        >>> image = torch.arange(100.0).view(1, 1, 100).expand(1, 100, 100)
        >>> cropped = RandCropResize(0.05).set_random_state(0)(image)
        >>> cropped.shape, round(float(cropped.max() - cropped.min()))
        (torch.Size([1, 100, 100]), 94)
    """

    def __init__(self, crop: float = 0.05) -> None:
        if not 0 <= crop < 1:
            raise ValueError(f"got crop={crop}, want a share from 0 to below 1")
        super().__init__(_crop_and_resize, crop=crop)


def sampling_grid(displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Make what :func:`torch.nn.functional.grid_sample` takes: the grid of an unmoved image, and a displacement.

    Args:
        displacement: ``(spatial axes, *spatial size)`` in pixels, axes in the order of the image's.

    Returns:
        Both ``(1, *spatial size, spatial axes)``, to be added.
    """
    spatial = displacement.shape[1:]
    unmoved = torch.eye(len(spatial), len(spatial) + 1)[None].to(displacement)
    identity = F.affine_grid(unmoved, [1, 1, *spatial], align_corners=False)
    # grid_sample counts its last axis first, and the whole image as 2.
    return identity, displacement.flip(0).movedim(0, -1)[None] * (2 / torch.tensor(spatial[::-1]).to(displacement))


def _warp(pixels: Tensor, random: np.random.RandomState, displacement: float, scale: int) -> Tensor:
    size = tuple(pixels.shape[1:])
    grid = [max(2, side // scale) for side in size]
    coarse = torch.from_numpy(random.standard_normal((1, len(size), *grid))).float()
    field = F.interpolate(coarse, size=size, mode="bicubic" if len(size) == 2 else "trilinear")
    identity, moved = sampling_grid((displacement * field / field.std())[0].to(pixels))
    return F.grid_sample(pixels[None], identity + moved, align_corners=False)[0]


def warp_by_share(pixels: Tensor, random: np.random.RandomState, displacement: float, scale: float) -> Tensor:
    """Warp an image as :class:`RandWarp` does, with sizes that are shares of its longest side.

    Args:
        pixels: ``(1, H, W)`` or ``(1, X, Y, Z)``.
        random: State that the field is drawn from.
        displacement: Standard deviation of the displacement along each axis.
        scale: Size of the bumps of the field.

    Returns:
        The same shape.
    """
    side = max(pixels.shape[1:])
    return _warp(pixels, random, displacement * side, max(1, round(scale * side)))


def _crop_and_resize(pixels: Tensor, random: np.random.RandomState, crop: float) -> Tensor:
    window, size = pixels, tuple(pixels.shape[1:])
    for axis, side in enumerate(size, start=1):
        length = max(1, round(side * (1 - crop)))
        window = window.narrow(axis, round(random.random() * (side - length)), length)
    return resize_antialiased(window, size)


def shift_by_share(pixels: Tensor, random: np.random.RandomState, share: float) -> Tensor:
    """Shift an image along each axis by a share of its side, in a random direction; bilinear, zeros from outside."""
    shift = [side * share * random.choice([-1, 1]) for side in pixels.shape[1:]]
    shifted = Affine(translate_params=shift, padding_mode="zeros", image_only=True)(pixels)
    return pixels_of(shifted)  # type: ignore[arg-type]


def zoom_centred(pixels: Tensor, factors: Sequence[float]) -> Tensor:
    """Scale an image about its centre on a canvas of the same size; bilinear with antialiasing, zeros from outside.

    Args:
        pixels: ``(1, H, W)`` or ``(1, X, Y, Z)``.
        factors: One factor per axis, or one for all; above 1 the image is enlarged, and its edges are lost.

    Returns:
        The same shape.

    Example:
        >>> zoom_centred(torch.ones(1, 10, 10), (0.8, 1.0)).sum()
        tensor(80.)
    """
    sides = tuple(pixels.shape[1:])
    per_axis = tuple(factors) * (len(sides) if len(factors) == 1 else 1)
    size = [max(1, round(side * factor)) for side, factor in zip(sides, per_axis, strict=True)]
    return pixels_of(ResizeWithPadOrCrop(list(sides))(resize_antialiased(pixels, size)))


def resample(pixels: Tensor, factor: float, mode: str) -> Tensor:
    """Scale an image down with antialiasing, and up to its size again.

    Args:
        pixels: ``(1, H, W)``; with ``"bilinear"`` also ``(1, X, Y, Z)``.
        factor: Size of the small image, 0 to 1.
        mode: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        The same shape.
    """
    size = tuple(pixels.shape[1:])
    small = [max(1, round(side * factor)) for side in size]
    if len(size) == 3:
        return resize_antialiased(resize_antialiased(pixels, small), size)
    return F.interpolate(F.interpolate(pixels[None], size=small, mode=mode, antialias=True), size=size, mode=mode)[0]


def thin_out(pixels: Tensor, random: np.random.RandomState, step: int) -> Tensor:
    """Keep one slice of ``step`` along an axis that is drawn, and interpolate linearly between those that are left."""
    axis = 1 + int(random.randint(pixels.ndim - 1))
    kept = pixels.index_select(axis, torch.arange(0, pixels.shape[axis], step, device=pixels.device))
    return resize_antialiased(kept, pixels.shape[1:])


def transpose(pixels: Tensor) -> Tensor:
    """Exchange rows and columns; an image that is not square is then scaled to fit its former size, and padded."""
    return _fit(pixels.transpose(1, 2), pixels)


def quarter_turn(pixels: Tensor, random: np.random.RandomState) -> Tensor:
    """Turn an image by 90 or 270 degrees; one that is not square is then scaled to fit its former size, and padded."""
    return _fit(pixels.rot90(int(random.choice([1, 3])), (1, 2)), pixels)


def _fit(turned: Tensor, pixels: Tensor) -> Tensor:
    return FitImageSize(tuple(pixels.shape[1:]))(turned.contiguous())
