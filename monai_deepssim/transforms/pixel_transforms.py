"""Functions of an image's pixels as MONAI transforms, and where the foreground of an image lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Randomizable, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = [
    "PixelTransform",
    "RandPixelTransform",
    "RandWrapper",
    "as_image",
    "find_foreground",
    "find_foreground_box",
    "pixels_of",
    "replace_pixels",
    "with_trace_of",
]

_Wrapper = TypeVar("_Wrapper", bound="RandWrapper")

_FOREGROUND = 0.1  # of the range: noise and JPEG's ringing in the background of real MRI stay below
_SPECKS = 0.02  # a row or column with a smaller share of foreground is background


class PixelTransform(Transform):
    """Apply a function of the pixels to an image; a MetaTensor keeps its metadata.

    Args:
        function: Function that takes the pixels ``(1, H, W)``, float32, and returns pixels of that shape.
        **parameters: Passed on to the function.

    Example:
        >>> PixelTransform(torch.clamp, max=0.5)(torch.ones(1, 1, 2)).tolist()
        [[[0.5, 0.5]]]
    """

    def __init__(self, function: Callable[..., Tensor], **parameters: Any) -> None:
        self.function = function
        self.parameters = parameters

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Change one image ``(1, H, W)``."""
        image = as_image(img)
        return replace_pixels(image, self.function(pixels_of(image), **self.parameters))


class RandPixelTransform(Randomizable, PixelTransform):
    """Apply a function of the pixels and of a random state to an image; a MetaTensor keeps its metadata.

    Args:
        function: Function that takes the pixels ``(1, H, W)``, float32, those of a partner where one is given, and the
            random state, and returns pixels of that shape.
        **parameters: Passed on to the function.

    Example:
        >>> dim = RandPixelTransform(lambda pixels, random: pixels * random.random())
        >>> bool(dim.set_random_state(0)(torch.ones(1, 2, 2)).max() < 1)
        True
        >>> darker = RandPixelTransform(lambda pixels, partner, random: torch.minimum(pixels, partner))
        >>> darker(torch.ones(1, 1, 2), torch.zeros(1, 1, 2)).tolist()
        [[[0.0, 0.0]]]
    """

    def randomize(self, data: Any = None) -> None:
        """Do nothing: the function draws."""

    def __call__(self, img: NdarrayOrTensor, *partners: NdarrayOrTensor) -> Tensor:
        """Change one image ``(1, H, W)``, by another of its shape where one is given.

        Raises:
            ValueError: The partner has another shape.
        """
        image = as_image(img)
        others = [pixels_of(as_image(partner)).to(image.device) for partner in partners]
        for other in others:
            if other.shape != image.shape:
                raise ValueError(f"got a partner of shape {tuple(other.shape)}, want the image's, {tuple(image.shape)}")
        return replace_pixels(image, self.function(pixels_of(image), *others, self.R, **self.parameters))


class RandWrapper(Randomizable):
    """Base of random transforms that leave the drawing to another one, which follows their seed.

    Attributes:
        wrapped: The transform that draws.
    """

    wrapped: Randomizable

    def set_random_state(
        self: _Wrapper, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> _Wrapper:
        super().set_random_state(seed, state)
        self.wrapped.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Do nothing: the wrapped transform draws."""


def as_image(img: NdarrayOrTensor) -> Tensor:
    """Convert an image or a volume to float32.

    Args:
        img: ``(1, H, W)`` or ``(1, X, Y, Z)``.

    Returns:
        The image, with its metadata if it has some.

    Raises:
        ValueError: It has another shape.
    """
    image = convert_to_tensor(img, track_meta=get_track_meta(), dtype=torch.float32)
    if image.ndim not in (3, 4):
        raise ValueError(f"got an image of shape {tuple(image.shape)}, want (1, H, W) or (1, X, Y, Z)")
    return image


def pixels_of(image: NdarrayOrTensor) -> Tensor:
    """The pixels of an image, float32, without its metadata."""
    return convert_to_tensor(image, track_meta=False, dtype=torch.float32)


def replace_pixels(image: Tensor, pixels: Tensor) -> Tensor:
    """Give an image other pixels of the same shape and keep its metadata; the image itself is not changed."""
    changed = image.clone()
    changed[:] = convert_to_tensor(pixels, track_meta=False).to(changed.device)
    return changed


def with_trace_of(changed: Tensor, img: Any) -> Tensor:
    """Leave in a changed image the trace of MONAI transforms that the image had before.

    What is made of several of MONAI's transforms cannot be inverted step by step, neither alone nor as part of a
    ``Compose``: steps of it in the trace would be taken for those of other transforms.
    """
    if isinstance(changed, MetaTensor):
        changed.applied_operations = list(img.applied_operations) if isinstance(img, MetaTensor) else []
    return changed


def find_foreground(pixels: Tensor) -> Tensor:
    """Find the pixels that are not background: more than 10 % of the range above the minimum.

    Args:
        pixels: ``(1, H, W)``.

    Returns:
        bool ``(1, H, W)``; all pixels where the image is constant.

    Example:
        >>> find_foreground(torch.tensor([[[0.0, 0.05, 0.5, 1.0]]]))
        tensor([[[False, False,  True,  True]]])
    """
    low, high = pixels.min(), pixels.max()
    return pixels > low + _FOREGROUND * (high - low) if high > low else torch.ones_like(pixels, dtype=torch.bool)


def find_foreground_box(pixels: Tensor) -> tuple[int, int, int, int]:
    """Find the bounding box of the foreground, which single bright pixels do not enlarge.

    Args:
        pixels: ``(1, H, W)``.

    Returns:
        First row, row after the last, first column, column after the last.

    Example:
        >>> pixels = torch.zeros(1, 100, 100)
        >>> pixels[0, 20:60, 30:90] = 1
        >>> pixels[0, 5, 5] = 1
        >>> find_foreground_box(pixels)
        (20, 60, 30, 90)
    """
    foreground = find_foreground(pixels)[0].float()
    ends: list[int] = []
    for axis in (1, 0):
        inside = np.flatnonzero((foreground.mean(axis) > _SPECKS).cpu().numpy())
        side = foreground.shape[1 - axis]
        ends += [int(inside[0]), int(inside[-1]) + 1] if len(inside) else [0, side]
    return ends[0], ends[1], ends[2], ends[3]
