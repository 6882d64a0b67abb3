"""What all of this room takes: vectors of scores, of yes and no, and of patients."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

__all__ = ["Groups", "Vector", "as_flags", "as_group_codes", "as_scores"]

Vector: TypeAlias = np.ndarray | torch.Tensor | Sequence[float] | Sequence[bool]
Groups: TypeAlias = np.ndarray | torch.Tensor | Sequence[Hashable]


def as_scores(values: Vector, name: str) -> np.ndarray:
    """Take a vector of finite numbers, from any device, as float64 ``(N,)``."""
    scores = _as_array(values, name).astype(np.float64)
    if not np.isfinite(scores).all():
        position = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"got {name}[{position}] = {scores[position]}, want finite numbers")
    return scores


def as_flags(values: Vector, name: str) -> np.ndarray:
    """Take a vector of yes and no, as booleans or as 0 and 1, as bool ``(N,)``."""
    flags = _as_array(values, name)
    if flags.dtype != bool and not np.isin(flags, (0, 1)).all():
        raise ValueError(f"got {name} with values other than 0 and 1, want booleans")
    return flags.astype(bool)


def as_group_codes(groups: Groups, size: int, name: str = "groups") -> np.ndarray:
    """Number the groups from 0; an unknown one (empty, ``None`` or NaN) is a group of its own each time."""
    keys = groups.tolist() if isinstance(groups, np.ndarray | torch.Tensor) else list(groups)
    if len(keys) != size:
        raise ValueError(f"got {len(keys)} {name} for {size} scores or flags, want one each")
    numbers: dict[Any, int] = {}
    for position, key in enumerate(keys):
        unknown = key is None or key == "" or key != key
        # A tuple of this kind cannot be the name of a patient.
        numbers.setdefault((None, position) if unknown else key, len(numbers))
        keys[position] = numbers[(None, position) if unknown else key]
    return np.array(keys, dtype=np.int64)


def _as_array(values: Vector, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"got {name} of shape {array.shape}, want one value per image or pair, (N,)")
    return array
