"""Inference in a smaller floating-point type on any device; MONAI's ``amp`` is for CUDA alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

__all__ = ["AutocastInferer"]


class AutocastInferer(SimpleInferer):
    """Call the network under ``torch.autocast``, on the device where the inputs are.

    Args:
        dtype: name of the type, ``bfloat16`` or ``float16``.
        enabled: whether to do so; ``False`` makes it MONAI's SimpleInferer.

    Example:
        >>> network = torch.nn.Linear(4, 2)
        >>> AutocastInferer()(torch.rand(3, 4), network).dtype
        torch.bfloat16
    """

    def __init__(self, dtype: str = "bfloat16", enabled: bool = True) -> None:
        super().__init__()
        self.dtype = getattr(torch, dtype)
        self.enabled = enabled

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(inputs.device.type, self.dtype, enabled=self.enabled):
            return super().__call__(inputs, network, *args, **kwargs)
