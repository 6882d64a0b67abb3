"""Splits that keep the images of a patient together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.model_selection import GroupShuffleSplit

from monai_deepssim.errors import UnusableInputError

__all__ = ["split_by_patient"]


def split_by_patient(
    items: Sequence[dict[str, Any]], fraction: float, seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split a data list into a larger and a smaller part such that no patient is in both.

    An item whose ``patient_id`` is empty counts as a patient of its own, for want of knowing better.

    Args:
        items: items with ``patient_id`` and ``image``.
        fraction: share of the patients that goes into the smaller part, above 0 and below 1.
        seed: seed of the draw.

    Returns:
        The larger and the smaller part, each in the order of ``items``.

    Raises:
        UnusableInputError: when there are fewer than two patients, or the fraction leaves a part without any.

    Example:
        >>> items = [{"image": f"{patient}-{scan}.png", "patient_id": patient} for patient in "abcd" for scan in "12"]
        >>> larger, smaller = split_by_patient(items, fraction=0.25)
        >>> len(larger), [item["image"][2:] for item in smaller], len({item["patient_id"] for item in smaller})
        (6, ['1.png', '2.png'], 1)
    """
    groups = [str(item.get("patient_id") or f"item {position}") for position, item in enumerate(items)]
    if len(set(groups)) < 2:
        raise UnusableInputError(
            f"{len(items)} images of {len(set(groups))} patient cannot be split by patient: give images of two or more"
        )
    try:
        larger, smaller = next(GroupShuffleSplit(1, test_size=fraction, random_state=seed).split(groups, groups=groups))
    except ValueError as error:
        raise UnusableInputError(
            f"cannot set a share of {fraction} of {len(set(groups))} patients aside: {error}"
        ) from error
    return [items[i] for i in sorted(larger)], [items[i] for i in sorted(smaller)]
