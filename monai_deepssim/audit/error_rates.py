"""What the scores of an audit mean: the null that they are compared with, and the p- and q-values that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pandas import DataFrame

from monai_deepssim.calibration import Discoveries, NullScores, find_discoveries, random_halves_null

__all__ = ["NUM_NULL_IMAGES", "add_error_rates", "choose_null_images", "halves_null", "keep_strangers"]

#: So many training images are scored for the null at most: with verification a score takes some pairs.
NUM_NULL_IMAGES = 200


def choose_null_images(num_images: int, seed: int = 0) -> np.ndarray:
    """Draw the training images that are scored for the null.

    Args:
        num_images: how many there are.
        seed: of the draw.

    Returns:
        Rows of training images in ascending order, all of them where there are few.

    Example:
        >>> choose_null_images(3), len(choose_null_images(1000))
        (array([0, 1, 2]), 200)
    """
    if num_images <= NUM_NULL_IMAGES:
        return np.arange(num_images)
    return np.sort(np.random.default_rng(seed).choice(num_images, NUM_NULL_IMAGES, replace=False))


def keep_strangers(
    rows: np.ndarray, neighbors: np.ndarray, scores: np.ndarray, patients: Sequence[str], keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out of each training image's neighbours the image itself and all others of its patient.

    Args:
        rows: ``(n,)``, the training images.
        neighbors: ``(n, k)``, their nearest training images, themselves among them.
        scores: ``(n, k)``, descending.
        patients: of every training image; an empty one is unknown, and nobody else's.
        keep: how many neighbours of each are kept at most.

    Returns:
        Neighbours and scores, both ``(n, keep or fewer)``. Where an image has fewer of other patients than another one,
        its last is repeated.

    Example:
        >>> keep_strangers(np.array([0]), np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.4]]), ["a", "a", "b"], keep=2)
        (array([[2]]), array([[0.4]]))
    """
    kept_neighbors, kept_scores = [], []
    for row, near, values in zip(rows.tolist(), neighbors, scores, strict=True):
        patient = patients[row]
        strange = np.array([other != row and (not patient or patients[other] != patient) for other in near.tolist()])
        kept_neighbors.append(near[strange][:keep])
        kept_scores.append(values[strange][:keep])
    width = max(len(near) for near in kept_neighbors)
    full = [row for row, near in enumerate(kept_neighbors) if len(near)]
    if len(full) < len(kept_neighbors):
        return np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0))

    def fill(values: np.ndarray) -> np.ndarray:
        return np.pad(values, (0, width - len(values)), mode="edge")

    return np.stack([fill(near) for near in kept_neighbors]), np.stack([fill(values) for values in kept_scores])


def halves_null(rows: np.ndarray, neighbors: np.ndarray, scores: np.ndarray, patients: Sequence[str]) -> NullScores:
    """The null of training images scored against random halves of the training set.

    Args:
        rows: ``(n,)``, the training images that are scored.
        neighbors: ``(n, k)``, training images of other patients that are near them.
        scores: ``(n, k)``, the scores that the verdict would rest on.
        patients: of every training image.

    Returns:
        The null.

    Example:
        >>> neighbors, scores = np.array([[1, 2], [0, 2], [1, 0]]), np.array([[0.5, 0.4], [0.5, 0.3], [0.3, 0.4]])
        >>> sorted(set(halves_null(np.arange(3), neighbors, scores, ["", "", ""]).scores.tolist()))
        [0.3, 0.4, 0.5]
    """
    place = {row: position for position, row in enumerate(rows.tolist())}

    def score_between(indices: np.ndarray, searched: np.ndarray) -> np.ndarray:
        is_searched = np.zeros(len(patients), dtype=bool)
        is_searched[searched] = True
        positions = [place[index] for index in indices.tolist()]
        here = np.where(is_searched[neighbors[positions]], scores[positions], -np.inf)
        # None of the kept neighbours is in this half, at odds of 2 to the power of their number: take the farthest.
        return np.where(np.isfinite(here).any(1), here.max(1), scores[positions].min(1))

    return random_halves_null(score_between, len(patients), groups=list(patients), scored=rows)


def add_error_rates(matches: DataFrame, null: NullScores | None, fdr: float) -> tuple[DataFrame, Discoveries | None]:
    """Give each match its p-value and its q-value.

    Args:
        matches: of all synthetic images.
        null: scores of images that are not copies; ``None`` when there are none to be had.
        fdr: accepted share of wrong ones among those called copies.

    Returns:
        The matches, and the discoveries among them, in the same order.
    """
    if null is None:
        return matches, None
    found = find_discoveries(matches["score"].tolist(), null, fdr)
    return matches.assign(p_value=found.p_values, q_value=found.q_values), found
