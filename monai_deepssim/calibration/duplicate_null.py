"""Training images that the training set holds twice, which would make every copy look usual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_deepssim.calibration.mutual_pairs import rows_of_measurements
from monai_deepssim.calibration.unexplained import find_unexplained
from monai_deepssim.calibration.vectors import Vector, as_flags, as_scores

__all__ = ["LeftOut", "leave_out_duplicates"]


@dataclass(frozen=True)
class LeftOut:
    """The null images that are left out, because the training set holds a duplicate of them.

    Attributes:
        flags: ``(n,)`` booleans.
        num_kept_duplicates: images that score as duplicates and stay in the null all the same.
        sentence: what was done, and why; empty where no image scores as a duplicate.
    """

    flags: np.ndarray
    num_kept_duplicates: int
    sentence: str

    @property
    def count(self) -> int:
        """How many are left out."""
        return int(self.flags.sum())


def leave_out_duplicates(
    scores: Vector,
    duplicate_threshold: float,
    is_identical: Vector | None = None,
    level: float = 0.05,
    partners: np.ndarray | None = None,
) -> LeftOut:
    """Say which training images must not stand in for images that are not copies: those that have a duplicate.

    The null asks how close an image comes that is *not* a copy. A training image that is there twice, under another
    patient's name, scores what a copy scores, and a few of them are enough for no copy to stand out. It is no member of
    the null, so it is left out. Were the threshold too low for these images, though, leaving out what scores above it
    would cut off the null's own upper end, and every p-value would be too small. So it is done only where the images
    above the threshold are parted from the others by a gap that chance does not explain, as in
    :func:`find_unexplained` (the gap may lie below the threshold). Otherwise they stay: p-values are then too
    large, copies may go undiscovered, and the sentence says so. Images known to be identical, by their content, are
    left out in any case.

    Args:
        scores: ``(n,)``, of each null image, its highest similarity to a training image of another patient.
        duplicate_threshold: score above which a pair is a duplicate.
        is_identical: ``(n,)``, images of which the training set holds an identical one.
        level: accepted probability of a gap by chance.
        partners: ``(n,)``, position of the image that is the nearest of each and whose nearest it is, as
            :func:`find_partners` gives it; -1 for none. The two have one score, which twice in a row would make every
            other gap look wide.

    Returns:
        The images that are left out, and what to say about it.

    Example:
        >>> strangers = 0.5 + 0.03 * np.random.default_rng(0).standard_normal(100)
        >>> left_out = leave_out_duplicates([*strangers, 0.97, 0.97], duplicate_threshold=0.86)
        >>> left_out.count, left_out.sentence
        (2, '2 of 102 training images have a duplicate in the training set and were left out of the null.')
        >>> leave_out_duplicates(strangers, duplicate_threshold=0.5).count
        0
    """
    null = as_scores(scores, "scores")
    identical = np.zeros(len(null), bool) if is_identical is None else as_flags(is_identical, "is_identical")
    is_above = (null > duplicate_threshold) & ~identical
    rows = rows_of_measurements(null, partners)
    lowest_apart = find_unexplained(null[rows], [], is_explained=identical[rows], level=level).threshold
    apart = null >= (np.inf if lowest_apart is None else lowest_apart)
    is_apart = bool((apart | ~is_above).all())
    flags = identical | (is_above & is_apart)
    num_kept = 0 if is_apart else int(is_above.sum())
    sentences = []
    if flags.any():
        sentences.append(
            f"{int(flags.sum())} of {len(null)} training images have a duplicate in the training set and were left out "
            "of the null."
        )
    if num_kept:
        sentences.append(
            f"{num_kept} of {len(null)} training images score above the threshold of a duplicate, and no gap parts "
            "them from the others. They stay in the null, which can hide copies: deduplicate the training set, or give "
            "held-out images."
        )
    return LeftOut(flags, num_kept, " ".join(sentences))
