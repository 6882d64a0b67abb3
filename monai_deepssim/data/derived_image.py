"""Images that are no files and are made of other images each time that they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["DerivedImage"]


@dataclass(frozen=True)
class DerivedImage:
    """The ``image`` of an item that is made of other items, so that many of them need no memory.

    Attributes:
        sources: the items that it is made of.
        make: makes the image of theirs, each ``(1, H, W)`` or ``(1, X, Y, Z)`` in [0, 1]; from the same images always
            the same one.
        identity: tells apart images that are made of the same sources.

    Example:
        >>> import torch
        >>> from monai_deepssim.data import load_slice
        >>> item = {"image": torch.arange(4.0).view(1, 2, 2) / 3, "path": "an image"}
        >>> flipped = {"image": DerivedImage((item,), lambda image: image.flip(2), "flipped"), "path": "another"}
        >>> torch.equal(load_slice(flipped), item["image"].flip(2))
        True
    """

    sources: tuple[Mapping[str, Any], ...]
    make: Callable[..., Tensor]
    identity: str
