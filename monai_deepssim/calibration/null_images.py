"""Which training images are scored for the null, and against which of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame

__all__ = ["choose_null_images", "keep_strangers", "num_null_images"]

# The fitted tail of the null takes 100 patients (calibration/score_tail.py) and is steadier with more. As many training
# images as synthetic ones at most double the time of the search.
_FEWEST_NULL, _MOST_NULL = 200, 2000


def num_null_images(num_training: int, num_synthetic: int) -> int:
    """How many training images are scored for the null: as many as there are synthetic ones, from 200 to 2,000.

    Example:
        >>> num_null_images(5000, 1000), num_null_images(5000, 20), num_null_images(50, 1000)
        (1000, 200, 50)
    """
    return min(num_training, max(_FEWEST_NULL, min(_MOST_NULL, num_synthetic)))


def choose_null_images(patients: Sequence[str], number: int, seed: int = 0) -> np.ndarray:
    """Draw the training images that are scored for the null: of as many patients as there are, then more of each.

    Args:
        patients: patient of every training image; an empty string is an unknown patient, shared with no other image.
        number: number of images, at most that of all.
        seed: seed of the draw.

    Returns:
        Rows of training images in ascending order.

    Example:
        >>> choose_null_images(["a", "a", "a", "b", ""], number=3)[1:].tolist()
        [3, 4]
    """
    order = np.random.default_rng(seed).permutation(len(patients))
    names = [patients[row] or f"image {row}" for row in order]
    turn = DataFrame({"patient": names}).groupby("patient").cumcount().to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")][:number])


def keep_strangers(pairs: DataFrame, patients: Sequence[str], keep: int) -> DataFrame:
    """Leave out of each training image's neighbours the image itself and all others of its patient.

    Args:
        pairs: ``query`` and ``training``, rows of training images, the nearest of each query first.
        patients: patient of every training image; an empty string is an unknown patient, shared with no other image.
        keep: number of neighbours of each that are kept at most.

    Returns:
        The pairs that are left; none where an image has no neighbour of another patient.

    Example:
        >>> pairs = DataFrame({"query": [0, 0, 0], "training": [0, 1, 2]})
        >>> keep_strangers(pairs, ["a", "a", "b"], keep=2)["training"].tolist()
        [2]
    """
    patient = np.array(patients, dtype=object)
    first, second = patient[pairs["query"]], patient[pairs["training"]]
    is_strange = (pairs["query"] != pairs["training"]) & ((first == "") | (first != second))
    kept = pairs[is_strange].groupby("query").head(keep)
    return kept if kept["query"].nunique() == pairs["query"].nunique() else kept.iloc[:0]
