"""The Memorization Index of MRI-CORE's features, as published."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from torch import nn

from monai_deepssim.metrics.detectors.memorization_index import MemorizationIndexMetric
from monai_deepssim.networks import MRICoreEncoder

__all__ = ["MRICoreMemorizationIndexMetric"]


class MRICoreMemorizationIndexMetric(MemorizationIndexMetric):
    """Memorization Index of the blocks 3, 7 and 11 of MRI-CORE, as published.

    Args:
        embedder: an :class:`~monai_deepssim.networks.MRICoreEncoder`, or the path of a checkpoint that it takes.
        image_size: side of the square that images are resized to, in pixels, where ``embedder`` is a path.
        **kwargs: further arguments of :class:`MemorizationIndexMetric`.

    Raises:
        UnusableInputError: when timm is not installed or the checkpoint cannot be used.

    Example:
        >>> MRICoreMemorizationIndexMetric("mri_foundation.pth", image_size=240)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: mri_foundation.pth: no such file; give the path of ...
    """

    title: ClassVar[str] = "MI (MRI-CORE)"
    needs: ClassVar[str] = "a checkpoint of MRI-CORE, timm"
    shipped_weights: ClassVar[str | None] = None

    def __init__(self, embedder: nn.Module | str | os.PathLike[str], image_size: int = 1024, **kwargs: Any) -> None:
        encoder = embedder if isinstance(embedder, nn.Module) else MRICoreEncoder(image_size, embedder)
        super().__init__(encoder, **kwargs)
