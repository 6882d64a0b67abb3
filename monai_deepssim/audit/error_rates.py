"""What the scores of an audit mean: the null that they are compared with, and the p- and q-values that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame

from monai_deepssim.calibration import (
    Discoveries,
    NullScores,
    find_discoveries,
    leave_one_out_null,
    leave_out_duplicates,
)

__all__ = ["NUM_NULL_IMAGES", "add_error_rates", "choose_null_images", "keep_strangers", "training_null"]

#: So many training images are scored for the null at most: with verification a score takes some pairs.
NUM_NULL_IMAGES = 200


def choose_null_images(num_images: int, seed: int = 0) -> np.ndarray:
    """Draw the training images that are scored for the null.

    Args:
        num_images: number of images.
        seed: seed of the draw.

    Returns:
        Rows of training images in ascending order, all of them where there are few.

    Example:
        >>> choose_null_images(3), len(choose_null_images(1000))
        (array([0, 1, 2]), 200)
    """
    if num_images <= NUM_NULL_IMAGES:
        return np.arange(num_images)
    return np.sort(np.random.default_rng(seed).choice(num_images, NUM_NULL_IMAGES, replace=False))


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


def training_null(
    pairs: DataFrame, patients: Sequence[str], duplicate_threshold: float, group_rule: str = "mean"
) -> NullScores | None:
    """The null of training images, each scored against those of other patients, without those that have a duplicate.

    Args:
        pairs: ``query``, ``training`` and ``score``: training images with those of other patients that are near them,
            and the scores that the verdict would rest on, the highest of each first.
        patients: patient of every training image.
        duplicate_threshold: score above which a pair is a duplicate.
        group_rule: how the images of a patient share its vote.

    Returns:
        The null; ``None`` where fewer than two patients are left.

    Example:
        >>> pairs = DataFrame(
        ...     [(0, 1, 0.5), (0, 2, 0.4), (1, 0, 0.5), (1, 2, 0.3), (2, 1, 0.3), (2, 0, 0.2)],
        ...     columns=["query", "training", "score"],
        ... )
        >>> training_null(pairs, ["", "", ""], duplicate_threshold=0.86).scores
        array([0.5, 0.5, 0.3])
    """
    nearest = pairs.drop_duplicates("query")
    left_out = leave_out_duplicates(nearest["score"].to_numpy(float), duplicate_threshold)
    kept = nearest[~left_out.flags]
    groups = [patients[row] for row in kept["query"]]
    if len({patient or row for patient, row in zip(groups, kept["query"], strict=True)}) < 2:
        return None
    return leave_one_out_null(
        kept["score"].to_numpy(float),
        kept["training"].to_numpy(),
        kept["query"].to_numpy(),
        groups,
        group_rule,
        num_left_out=left_out.count,
    )


def add_error_rates(matches: DataFrame, null: NullScores | None, fdr: float) -> tuple[DataFrame, Discoveries | None]:
    """Give each match its p-value and its q-value.

    Args:
        matches: matches of all synthetic images.
        null: scores of images that are not copies; ``None`` when there are none to be had.
        fdr: accepted share of wrong ones among those called copies.

    Returns:
        The matches, and the discoveries among them, in the same order.
    """
    if null is None:
        return matches, None
    found = find_discoveries(matches["score"].tolist(), null, fdr)
    return matches.assign(p_value=found.p_values, q_value=found.q_values), found
