"""Inference in a smaller floating-point type on any device; MONAI's ``amp`` is for CUDA alone."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor

__all__ = ["AutocastInferer", "has_bfloat16"]


def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 faster than those of float32.

    That is so where it has units for it: AMX, or those of Apple's and other recent ARM processors. AVX512_BF16 alone is
    not enough: a ConvNeXt-Base then took 1.4 to 2 times as long as in float32 (``benchmarks/embedding.py``).
    """
    return getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() or platform.machine() == "arm64"


class AutocastInferer(SimpleInferer):
    """Call the network under ``torch.autocast``, on the device where the inputs are.

    On a processor without units for ``bfloat16``, where it is slower than float32, nothing is cast.

    Args:
        dtype: name of the type, ``bfloat16`` or ``float16``.
        enabled: whether to do so; ``False`` makes it MONAI's SimpleInferer.

    Example:
        >>> network = torch.nn.Linear(4, 2)
        >>> AutocastInferer()(torch.rand(3, 4), network).dtype == (torch.bfloat16 if has_bfloat16() else torch.float32)
        True
    """

    def __init__(self, dtype: str = "bfloat16", enabled: bool = True) -> None:
        super().__init__()
        self.dtype = getattr(torch, dtype)
        self.enabled = enabled

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        enabled = self.enabled and (inputs.device.type != "cpu" or has_bfloat16())
        with torch.autocast(inputs.device.type, self.dtype, enabled=enabled):
            return super().__call__(inputs, network, *args, **kwargs)
