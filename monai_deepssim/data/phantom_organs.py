"""Cohorts of phantoms by the organ that they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.data import CacheDataset

from monai_deepssim.data.phantom import PhantomBrainDataset
from monai_deepssim.data.phantom_chest import PhantomChestDataset
from monai_deepssim.data.phantom_shapes import PhantomShapesDataset

__all__ = ["PHANTOM_ORGANS", "make_phantom_cohort"]

#: The cohort of each organ; ``shapes`` shows none.
PHANTOM_ORGANS: Mapping[str, Callable[..., CacheDataset]] = {
    "brain": PhantomBrainDataset,
    "chest": PhantomChestDataset,
    "shapes": PhantomShapesDataset,
}


def make_phantom_cohort(organ: str = "brain", **options: Any) -> CacheDataset:
    """Make the cohort of an organ.

    Args:
        organ: a name of :data:`PHANTOM_ORGANS`.
        **options: arguments of the cohort, such as ``num_subjects`` and ``seed``.

    Returns:
        The cohort.

    Raises:
        ValueError: when there is no cohort of the organ, or an argument is out of its range.

    Example:
        >>> make_phantom_cohort("chest", num_subjects=2, seed=7, progress=False)[1]["path"]
        'chest-7-1'
    """
    if organ not in PHANTOM_ORGANS:
        raise ValueError(f"got organ={organ!r}, want one of {', '.join(PHANTOM_ORGANS)}")
    return PHANTOM_ORGANS[organ](**options)
