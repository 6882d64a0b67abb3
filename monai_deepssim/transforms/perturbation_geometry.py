"""Changes of where an image's pixels lie: shift, zoom, border, crop, warp, and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.config import NdarrayOrTensor
from monai.transforms import Affine, Randomizable, ResizeWithPadOrCrop, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.transforms.fit_image_size import FitImageSize
from monai_deepssim.transforms.pixel_transforms import as_image

__all__ = [
    "RandCropResize",
    "RandWarp",
    "quarter_turn",
    "resample",
    "shift_by_share",
    "transpose",
    "warp_by_share",
    "zoom_centred",
]


class RandWarp(Randomizable, Transform):
    """Displace the pixels of an image by a smooth random field, as another reconstruction of the same head might.

    The field is bicubic through white noise on a grid of ``scale_pixels``; bilinear, zeros from outside.

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
        self.displacement_pixels = displacement_pixels
        self.scale_pixels = scale_pixels
        self._field = torch.empty(0)

    def randomize(self, data: Tensor) -> None:
        """Draw the displacement in pixels ``(1, 2, H, W)``, rows first, for the image ``data``."""
        rows, columns = data.shape[1:]
        coarse = self.R.standard_normal((1, 2, max(2, rows // self.scale_pixels), max(2, columns // self.scale_pixels)))
        field = F.interpolate(torch.from_numpy(coarse).float(), size=(rows, columns), mode="bicubic")
        self._field = self.displacement_pixels * field / field.std()

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Warp one image ``(C, H, W)``."""
        image = as_image(img)
        self.randomize(image)
        plain = convert_to_tensor(image, track_meta=False, dtype=torch.float32)[None]
        rows, columns = plain.shape[2:]
        grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, rows, columns], align_corners=False)
        # grid_sample counts columns first, and the whole image as 2.
        grid = grid + self._field.flip(1).permute(0, 2, 3, 1) * torch.tensor([2 / columns, 2 / rows])
        warped = image.clone()
        warped[:] = F.grid_sample(plain, grid.to(plain), align_corners=False)[0]
        return warped


class RandCropResize(Randomizable, Transform):
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
        self.crop = crop
        self._corner = (0.0, 0.0)

    def randomize(self, data: Any = None) -> None:
        """Draw where the window lies, as shares of what is lost."""
        self._corner = (self.R.random(), self.R.random())

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Crop one image ``(C, H, W)``."""
        image = as_image(img)
        self.randomize()
        sizes = [max(1, round(side * (1 - self.crop))) for side in image.shape[1:]]
        places = zip(self._corner, image.shape[1:], sizes, strict=True)
        starts = [round(share * (side - size)) for share, side, size in places]
        window = image[:, starts[0] : starts[0] + sizes[0], starts[1] : starts[1] + sizes[1]]
        plain = convert_to_tensor(window, track_meta=False, dtype=torch.float32)[None]
        resized = image.clone()
        resized[:] = F.interpolate(plain, size=tuple(image.shape[1:]), mode="bilinear", align_corners=False)[0]
        return resized


def warp_by_share(pixels: Tensor, random: np.random.RandomState, displacement: float, scale: float) -> Tensor:
    """Warp an image by :class:`RandWarp`, with sizes that are shares of its longer side.

    Args:
        pixels: ``(1, H, W)``.
        random: State that the field is drawn from.
        displacement: Standard deviation of the displacement along each axis.
        scale: Size of the bumps of the field.

    Returns:
        ``(1, H, W)``.
    """
    side = max(pixels.shape[1:])
    warp = RandWarp(displacement * side, max(1, round(scale * side)))
    warp.set_random_state(state=random)
    return warp(pixels)


def shift_by_share(pixels: Tensor, random: np.random.RandomState, share: float) -> Tensor:
    """Shift an image along both axes by a share of its side, in a random direction; bilinear, zeros from outside."""
    shift = [side * share * random.choice([-1, 1]) for side in pixels.shape[1:]]
    shifted = Affine(translate_params=shift, padding_mode="zeros", image_only=True)(pixels)
    return convert_to_tensor(shifted, track_meta=False)


def zoom_centred(pixels: Tensor, factors: Sequence[float]) -> Tensor:
    """Scale an image about its centre on a canvas of the same size; bilinear with antialiasing, zeros from outside.

    Args:
        pixels: ``(1, H, W)``.
        factors: Factors of the rows and of the columns; above 1 the image is enlarged, and its edges are lost.

    Returns:
        ``(1, H, W)``.

    Example:
        >>> zoom_centred(torch.ones(1, 10, 10), (0.8, 1.0)).sum()
        tensor(80.)
    """
    size = [max(1, round(side * factor)) for side, factor in zip(pixels.shape[1:], factors, strict=True)]
    scaled = F.interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0]
    return convert_to_tensor(ResizeWithPadOrCrop(list(pixels.shape[1:]))(scaled), track_meta=False)


def resample(pixels: Tensor, factor: float, mode: str) -> Tensor:
    """Scale an image down with antialiasing, and up to its size again.

    Args:
        pixels: ``(1, H, W)``.
        factor: Size of the small image, 0 to 1.
        mode: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        ``(1, H, W)``.
    """
    size = tuple(pixels.shape[1:])
    small = [max(1, round(side * factor)) for side in size]
    return F.interpolate(F.interpolate(pixels[None], size=small, mode=mode, antialias=True), size=size, mode=mode)[0]


def transpose(pixels: Tensor) -> Tensor:
    """Exchange rows and columns; an image that is not square is then scaled to fit its former size, and padded."""
    return _fit(pixels.transpose(1, 2), pixels)


def quarter_turn(pixels: Tensor, random: np.random.RandomState) -> Tensor:
    """Turn an image by 90 or 270 degrees; one that is not square is then scaled to fit its former size, and padded."""
    return _fit(pixels.rot90(int(random.choice([1, 3])), (1, 2)), pixels)


def _fit(turned: Tensor, pixels: Tensor) -> Tensor:
    return FitImageSize(tuple(pixels.shape[1:]))(turned.contiguous())
