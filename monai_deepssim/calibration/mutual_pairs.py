"""Two training images that are each other's nearest: their two scores are one measurement."""

from __future__ import annotations

import numpy as np

from monai_deepssim.calibration.vectors import Vector, as_scores

__all__ = ["find_partners", "rows_of_measurements"]


def find_partners(nearest: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Find the images that are each other's nearest.

    Args:
        nearest: ``(n,)``, row of the training image that is nearest to each.
        rows: ``(n,)``, rows of the images themselves.

    Returns:
        ``(n,)``, the position of each image's partner; -1 for none.

    Example:
        >>> find_partners(nearest=np.array([1, 0, 0]), rows=np.array([0, 1, 2]))
        array([ 1,  0, -1])
    """
    nearest, rows = np.asarray(nearest), np.asarray(rows)
    position = {int(row): index for index, row in enumerate(rows)}
    partners = np.array([position.get(int(row), -1) for row in nearest], dtype=np.int64)
    is_mutual = (partners >= 0) & (nearest[partners] == rows)
    return np.where(is_mutual, partners, -1)


def rows_of_measurements(scores: Vector, partners: np.ndarray | None) -> np.ndarray:
    """Find the scores that are one measurement each: of two partners that which scores higher.

    Args:
        scores: ``(n,)``.
        partners: ``(n,)``, as :func:`find_partners` gives them; ``None`` where no two scores are of one pair.

    Returns:
        Positions in order.

    Example:
        >>> rows_of_measurements([0.5, 0.5, 0.4], np.array([1, 0, -1])), rows_of_measurements([0.5, 0.5], None)
        (array([0, 2]), array([0, 1]))
    """
    values = as_scores(scores, "scores")
    rows = np.arange(len(values))
    if partners is None:
        return rows
    others = np.where(partners < 0, rows, partners)
    is_lower = (values < values[others]) | ((values == values[others]) & (others < rows))
    return rows[~is_lower]
