"""The numbers that embeddings are stored in: float32, or half as many bytes where that changes no cosine by 0.001."""

from __future__ import annotations

import numpy as np

from monai_deepssim.errors import UnusableInputError

__all__ = ["PRECISIONS", "in_stored_precision"]

#: Types of the numbers in a store of embeddings.
PRECISIONS = ("float32", "float16")
# Of each of two embeddings: the cosine of the two then changes by less than twice as much. Half precision rounds a
# number by 2^-11 = 0.00049 at most, where it is neither too large for it nor too small.
_LARGEST_CHANGE = 0.0005


def in_stored_precision(embeddings: np.ndarray, precision: str) -> np.ndarray:
    """Bring embeddings into the numbers that they are stored in.

    With ``float16`` a row of unit length is off by 0.0005 at most, so that a cosine of two rows changes by less than
    0.001. Equal rows stay equal.

    Args:
        embeddings: ``(n, D)``, finite.
        precision: one of :data:`PRECISIONS`.

    Raises:
        UnusableInputError: when half precision changes a row by more.

    Example:
        >>> in_stored_precision(np.array([[0.1, 0.2]]), "float16").dtype
        dtype('float16')
    """
    rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    if precision == PRECISIONS[0]:
        return rows
    with np.errstate(over="ignore"):
        stored = rows.astype(np.float16)
    usable = np.isfinite(rows).all(axis=1)  # others are named by whoever compares them
    with np.errstate(invalid="ignore"):
        change = np.linalg.norm(stored.astype(np.float64) - rows, axis=1)
    changed = usable & ~(change <= _LARGEST_CHANGE * np.linalg.norm(rows.astype(np.float64), axis=1))
    if changed.any():
        row = rows[np.flatnonzero(changed)[0]]
        raise UnusableInputError(
            f"--embedding_precision float16: the numbers of an embedding lie between {row.min():.3g} and "
            f"{row.max():.3g}, which float16 changes too much. Give --embedding_precision float32."
        )
    return stored
