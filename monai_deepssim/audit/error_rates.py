"""What the scores of an audit mean: the null that they are compared with, and the p- and q-values that follow."""

from __future__ import annotations

from collections import Counter

from pandas import DataFrame

from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.calibration import (
    Discoveries,
    NullScores,
    find_discoveries,
    find_partners,
    find_unexplained,
    is_copy,
    leave_one_out_null,
    leave_out_duplicates,
)

__all__ = [
    "CERTAIN_SCORE",
    "add_error_rates",
    "find_contamination",
    "null_of_pairs",
]

#: Copy score above which neighbouring slices of one patient were not seen; of the pairs at 0.86 to 0.90 they were a
#: third (docs/measured.md).
CERTAIN_SCORE = 0.97


def null_of_pairs(
    pairs: DataFrame, training: EmbeddedSide, duplicate_threshold: float, group_rule: str
) -> NullScores | None:
    """The null of training images, each scored against those of other patients; without those that are there twice.

    Args:
        pairs: ``query``, ``training`` and ``score``: training images with those of other patients that are near them,
            the highest score of each query first.
        training: the training side.
        duplicate_threshold: score above which a pair is a duplicate.
        group_rule: how the images of a patient vote.

    Returns:
        The null; ``None`` where fewer than two patients are left.
    """
    nearest = pairs.drop_duplicates("query").reset_index(drop=True)
    copies = Counter(training.usable_contents)
    is_identical = [copies[training.usable_contents[row]] > 1 for row in nearest["query"]]
    partners = find_partners(nearest["training"].to_numpy(), nearest["query"].to_numpy())
    left_out = leave_out_duplicates(nearest["score"].tolist(), duplicate_threshold, is_identical, partners=partners)
    kept = nearest[~left_out.flags]
    patients = [training.patients[row] for row in kept["query"]]
    if len({patient or f"image {row}" for row, patient in zip(kept["query"], patients, strict=True)}) < 2:
        return None
    return leave_one_out_null(
        kept["score"].tolist(),
        kept["training"].to_numpy(),
        kept["query"].to_numpy(),
        patients,
        group_rule,
        num_left_out=left_out.count,
    )


def find_contamination(holdout: EmbeddedSide, training: EmbeddedSide, pairs: DataFrame, verified: bool) -> list[str]:
    """Say which held-out images are training images, and how that is known.

    Args:
        holdout: the held-out side.
        training: the training side.
        pairs: pairs of the held-out images (``query``) with training images, the highest score of each query first.
        verified: whether the score is one of a comparison on the pixels, of which :data:`CERTAIN_SCORE` is known.

    Returns:
        For each held-out image ``content``, where it is a file of the training set byte for byte; ``score``, where no
        image of another patient was ever seen to score as high; or an empty string.
    """
    known = set(training.usable_contents)
    highest = pairs.groupby("query")["score"].first()
    return [
        "content" if content in known else "score" if verified and highest[row] > CERTAIN_SCORE else ""
        for row, content in enumerate(holdout.usable_contents)
    ]


def add_error_rates(
    matches: DataFrame, null: NullScores | None, fdr: float, plain_copy_score: float
) -> tuple[DataFrame, Discoveries | None]:
    """Give each match its p-value and its q-value, and say which stand apart unexplained.

    Args:
        matches: matches of all synthetic images.
        null: scores of images that are not copies; ``None`` when there are none to be had.
        fdr: accepted share of wrong ones among those called copies.
        plain_copy_score: what an image scores that is identical to a training image.

    Returns:
        The matches, and the discoveries among them, in the same order.
    """
    scores = matches["score"].tolist()
    unexplained = find_unexplained(scores, [] if null is None else null.measurements, is_copy(matches).tolist())
    matches = matches.assign(unexplained=unexplained.flags)
    if null is None:
        return matches, None
    discoveries = find_discoveries(scores, null, fdr, plain_copy_score)
    return matches.assign(p_value=discoveries.p_values, q_value=discoveries.q_values), discoveries
