"""What tells one MONAI inferer from another, by its class and settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer

__all__ = ["identify_inferer"]


def identify_inferer(inferer: Inferer | None) -> str:
    """Name what embeddings depend on of the inferer that called the embedder: its class and its settings.

    Plain settings, and lists and dictionaries of them, are compared by value, tensors by content, functions and classes
    of a module by name. Of any other object nothing can be compared, so that the name is another one each time, and
    embeddings are never taken for those of an earlier run.

    Args:
        inferer: MONAI's or your own; ``None`` for MONAI's ``SimpleInferer``.

    Returns:
        The name; empty for ``SimpleInferer``.

    Example:
        >>> from monai.inferers import SlidingWindowInferer
        >>> identify_inferer(SlidingWindowInferer(64)) == identify_inferer(SlidingWindowInferer(64))
        True
        >>> identify_inferer(SlidingWindowInferer(64)) == identify_inferer(SlidingWindowInferer(96))
        False
    """
    if inferer is None or type(inferer) is SimpleInferer:
        return ""
    return f" by {type(inferer).__module__}.{type(inferer).__qualname__} {_identify_setting(vars(inferer))}"


def _identify_setting(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, Path, Enum, torch.dtype, torch.device)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{name!r}: {_identify_setting(entry)}" for name, entry in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_identify_setting, value)) + "]"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(value).detach().cpu()
        content = tensor.flatten().view(torch.uint8).numpy().tobytes()
        return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"
    name = getattr(value, "__qualname__", "<")
    return f"{value.__module__}.{name}" if "<" not in name else f"setting that cannot be compared {uuid4().hex}"
