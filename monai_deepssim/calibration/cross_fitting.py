"""Thresholds that tell members from non-members, chosen on other patients than they are judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_curve

from monai_deepssim.calibration.privacy_measures import epsilon_lower_bounds

__all__ = ["flag_by_halves", "flag_by_third", "split_patients"]

_NUM_HALVES = 2
_NUM_THIRDS = 3

#: Takes the rates of each threshold and the numbers of members and non-members, and gives each a value.
_Criterion = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


def split_patients(codes: np.ndarray, num_folds: int, generator: np.random.Generator) -> np.ndarray:
    """Deal patients into folds of equal number, to within one; all images of a patient are in one fold.

    Args:
        codes: int64 ``(N,)``, the patient of each image, numbered from 0.
        num_folds: number of folds.
        generator: source of the shuffle.

    Returns:
        int64 ``(N,)``, the fold of each image.

    Example:
        >>> folds = split_patients(np.array([0, 0, 1, 2, 3]), 2, np.random.default_rng(0))
        >>> bool(folds[0] == folds[1]), np.bincount(folds[1:]).tolist()
        (True, [2, 2])
    """
    num_patients = int(codes.max()) + 1
    folds = np.empty(num_patients, dtype=np.int64)
    folds[generator.permutation(num_patients)] = np.arange(num_patients) % num_folds
    return folds[codes]


def flag_by_halves(
    scores: tuple[np.ndarray, np.ndarray], codes: tuple[np.ndarray, np.ndarray], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flag the images that score as high as the threshold that tells the sides apart best among other patients.

    The patients of each side are halved. Each half is judged by the threshold chosen on the other, so every image
    counts, and none has a say in its own threshold: the difference of the rates has no bias towards an advantage. The
    threshold is that at which the difference is largest by its standard error, for the largest difference itself is
    mostly noise from the middle of the scores where few images are memorized. With more folds than two, thresholds
    are chosen on patients whom they share, and intervals hold less often than they say (92.5 % at five folds).

    Args:
        scores: of members and of non-members, ``(n,)`` and ``(m,)``.
        codes: patients of both, numbered from 0 on each side.
        generator: source of the halving.

    Returns:
        Flags of the members ``(n,)`` and of the non-members ``(m,)``.
    """
    folds = [split_patients(side, _NUM_HALVES, generator) for side in codes]
    flags = [np.zeros(len(side), dtype=bool) for side in scores]
    for fold in range(_NUM_HALVES):
        others = [side[of_image != fold] for side, of_image in zip(scores, folds, strict=True)]
        threshold = _best_threshold(others[0], others[1], _difference_by_standard_error)
        for side, of_image, flag in zip(scores, folds, flags, strict=True):
            flag[of_image == fold] = side[of_image == fold] >= threshold
    return flags[0], flags[1]


def flag_by_third(
    scores: tuple[np.ndarray, np.ndarray], codes: tuple[np.ndarray, np.ndarray], generator: np.random.Generator
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Choose the threshold with the highest bound on epsilon on a third of the patients, and flag all others by it.

    One threshold and one set of other patients: whatever was tried in choosing, limits of the rates hold exactly.

    Args:
        scores: as for :func:`flag_by_halves`.
        codes: patients of both.
        generator: source of the split.

    Returns:
        Flags of the members and of the non-members that did not choose, and the patients of both.
    """
    choosing_members, choosing_others = (split_patients(side, _NUM_THIRDS, generator) == 0 for side in codes)
    threshold = _best_threshold(scores[0][choosing_members], scores[1][choosing_others], epsilon_lower_bounds)
    flags = scores[0][~choosing_members] >= threshold, scores[1][~choosing_others] >= threshold
    return flags, (codes[0][~choosing_members], codes[1][~choosing_others])


def _best_threshold(members: np.ndarray, non_members: np.ndarray, criterion: _Criterion) -> float:
    is_member = np.arange(len(members) + len(non_members)) < len(members)
    scores = np.concatenate([members, non_members])
    fpr, tpr, thresholds = roc_curve(is_member, scores, drop_intermediate=False)
    return float(thresholds[np.argmax(criterion(tpr, fpr, len(members), len(non_members)))])


def _difference_by_standard_error(
    tpr: np.ndarray, fpr: np.ndarray, num_members: int, num_non_members: int
) -> np.ndarray:
    # One hit and one miss more, so that a threshold that nothing or everything passes has an error, too.
    share = (tpr * num_members + fpr * num_non_members + 1) / (num_members + num_non_members + 2)
    return (tpr - fpr) / np.sqrt(share * (1 - share))
