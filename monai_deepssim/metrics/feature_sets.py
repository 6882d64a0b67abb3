"""Sets of features, as the set-level scores take them."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.errors import UnusableInputError

__all__ = ["as_feature_sets"]


def as_feature_sets(minimum: int = 1, **sets: Tensor) -> tuple[Tensor, ...]:
    """Check sets of features, and bring them to the CPU in double precision.

    Args:
        minimum: smallest number of images that a set needs.
        sets: ``(N, D)`` by name, all of one D.

    Returns:
        The sets, in the order given.

    Raises:
        ValueError: when one is not ``(N, D)``, or they differ in D.
        UnusableInputError: when one has too few images, or a feature that is not finite.

    Example:
        >>> (training,) = as_feature_sets(training=torch.ones(3, 2))
        >>> training.dtype
        torch.float64
    """
    for name, features in sets.items():
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] == 0:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(f"got {name} features {got}, want a tensor (N, D), one row per image")
    if len({features.shape[1] for features in sets.values()}) > 1:
        widths = {name: features.shape[1] for name, features in sets.items()}
        raise ValueError(f"got sets that differ in their number of features, {widths}: use one network for all")
    plain = []
    for name, features in sets.items():
        if len(features) < minimum:
            raise UnusableInputError(f"{len(features)} {name} images are too few: this score wants at least {minimum}")
        rows = convert_to_tensor(features.detach(), dtype=torch.float64, track_meta=False, device="cpu")
        if not rows.isfinite().all():
            bad = (~rows.isfinite().all(1)).nonzero().flatten().tolist()
            raise UnusableInputError(
                f"the {name} features of image {bad[0]} are not finite ({len(bad)} such images): leave these images out"
            )
        plain.append(rows)
    return tuple(plain)
