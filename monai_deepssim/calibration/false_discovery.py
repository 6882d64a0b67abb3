"""From p-values to the images that may be called copies while few of them are called so wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from monai_deepssim.calibration.null_scores import NullScores
from monai_deepssim.calibration.vectors import Vector, as_scores

__all__ = [
    "REALISTIC_COPY_FRACTION",
    "Discoveries",
    "benjamini_hochberg",
    "discoveries_at_fdr",
    "fewest_discoverable",
    "find_discoveries",
]

#: Share of copies that an audit should be able to call: published generators copied 0.03 % to some per cent of a set,
#: and gates are set at 1 %.
REALISTIC_COPY_FRACTION = 0.01

# The rate that is usually asked for, and the audit's default.
_USUAL_FDR = 0.05
# Conformal p-values are fractions, so q-values fall exactly on round levels, and must not be lost to rounding.
_ROUNDING = 1e-9


def benjamini_hochberg(p_values: Vector) -> np.ndarray:
    r"""Compute q-values: the lowest false-discovery rate at which each image would be called a copy.

    With the p-values in ascending order,

    .. math:: q_{(i)} = \min_{j \ge i} \min\big(1, \tfrac{m}{j} \, p_{(j)}\big)

    If all images with q <= a are called copies, the expected share of wrong ones among them is at most a (0 when none
    is called). It is an expectation over repetitions of the whole audit, not a promise for this one, and it is proven
    for p-values that are independent or positively dependent in a certain way; conformal p-values of independent
    synthetic images from independent held-out images are (Bates et al. 2023, theorem 2). Where held-out images are
    grouped by patient it is not proven but shown by simulation in the tests.

    Benjamini, Hochberg. *Controlling the false discovery rate.* Journal of the Royal Statistical Society B 57 (1995).
    Computed by :func:`scipy.stats.false_discovery_control`.

    Args:
        p_values: ``(m,)`` in [0, 1], of *all* images that were tested, not only of those that looked suspicious.

    Returns:
        ``(m,)`` q-values in [0, 1], each at least as large as its p-value.

    Raises:
        ValueError: when a p-value is outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, 0.02, 0.5, 0.04])
        array([0.04      , 0.04      , 0.5       , 0.05333333])
    """
    values = as_scores(p_values, "p_values")
    if len(values) == 0:
        return values
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"got p-values from {values.min()} to {values.max()}, want them in [0, 1]")
    return false_discovery_control(values, method="bh")


def discoveries_at_fdr(q_values: Vector, fdr: float = 0.05) -> np.ndarray:
    """Say which images may be called copies at a false-discovery rate: those with q <= fdr.

    Args:
        q_values: ``(m,)``, of :func:`benjamini_hochberg`.
        fdr: accepted share of wrong ones among those called, between 0 and 1.

    Returns:
        ``(m,)`` booleans.

    Example:
        >>> discoveries_at_fdr([0.04, 0.04, 0.5], fdr=0.05)
        array([ True,  True, False])
    """
    _check_fdr(fdr)
    return as_scores(q_values, "q_values") <= fdr * (1 + _ROUNDING)


def fewest_discoverable(num_images: int, smallest_p_value: float, fdr: float = 0.05) -> int:
    r"""Compute how many images must be called copies together, or none of them can be.

    .. math:: k = \lceil m \, p_{\min} / a \rceil

    A p-value is never below 1 / (n + 1). With few held-out patients a single copy among many synthetic images can
    therefore not be told from chance, however plain it is to the eye. A report must say so, or "no discovery" would
    read as "no copy".

    Args:
        num_images: number of synthetic images that are tested, m.
        smallest_p_value: 1 / (n + 1) with n held-out patients; see :class:`NullScores`.
        fdr: false-discovery rate a.

    Returns:
        A count of at least 1; above ``num_images`` nothing can be discovered at all.

    Example:
        >>> fewest_discoverable(1000, smallest_p_value=1 / 200, fdr=0.05)
        100
        >>> fewest_discoverable(1000, smallest_p_value=1 / 20000, fdr=0.05)
        1
    """
    _check_fdr(fdr)
    return max(1, math.ceil(num_images * smallest_p_value / fdr - _ROUNDING))


@dataclass(frozen=True)
class Discoveries:
    """The synthetic images that are closer to the training images than chance explains, and what that rests on.

    Which p-values decide: the refined ones, see :meth:`NullScores.refined_p_values`. They are the exact ones as long as
    an exact p-value can say how rare an image is, and those of the fitted tail only for images that score above every
    null score, where all exact p-values are the same. Discoveries made by exact p-values remain discoveries; what the
    tail adds rests on its assumption, so both are counted.

    Attributes:
        p_values: ``(N,)``, exact, see :func:`conformal_p_values`.
        tail_p_values: ``(N,)``, see :meth:`ScoreTail.p_values`; ``None`` where the tail must not be used.
        q_values: ``(N,)``, of the refined p-values, see :func:`benjamini_hochberg`.
        is_discovery: ``(N,)``, q-value at most ``fdr``.
        fdr: the false-discovery rate that was asked for.
        null: what the images were compared with.
        plain_copy_score: what an image scores that is identical to a training image.
    """

    p_values: np.ndarray
    tail_p_values: np.ndarray | None
    q_values: np.ndarray
    is_discovery: np.ndarray
    fdr: float
    null: NullScores
    plain_copy_score: float = 1.0

    @property
    def count(self) -> int:
        """How many discoveries there are."""
        return int(self.is_discovery.sum())

    @property
    def num_exact(self) -> int:
        """How many there are by the exact p-values alone, without the tail."""
        return int(discoveries_at_fdr(benjamini_hochberg(self.p_values), self.fdr).sum())

    @property
    def fewest_discoverable(self) -> int:
        """How many images must be discovered together, or none can be, if each is as close as an image can be."""
        return fewest_discoverable(len(self.p_values), self.plain_copy_p_value, self.fdr)

    @property
    def plain_copy_p_value(self) -> float:
        """The p-value of an image that is identical to a training image."""
        return float(self.null.refined_p_values([self.plain_copy_score])[0])

    def can_call_above(self, max_fraction: float | None) -> bool:
        """Whether plain copies would be called if they were just more than a share of the images.

        Args:
            max_fraction: the share, 0 to 1; ``None`` for :data:`REALISTIC_COPY_FRACTION`.
        """
        return self.fewest_discoverable <= self._count_above(max_fraction)

    def remedy_above(self, max_fraction: float | None) -> str:
        """Say from which number on plain copies would be called, and what would let fewer of them be called.

        Args:
            max_fraction: as for :meth:`can_call_above`.
        """
        images, count = len(self.p_values), self._count_above(max_fraction)
        remedies = [f"held-out images of {self._comparisons_for(count, votes=1):,} patients with --holdout_dir"]
        if self.fdr < _USUAL_FDR and fewest_discoverable(images, self.plain_copy_p_value, _USUAL_FDR) <= count:
            remedies.insert(0, f"--fdr {_USUAL_FDR:g}")
        return (
            f"With {self.null.num_groups:,} patients to compare with and --fdr {self.fdr:g}, {self._discoverable} "
            f"could be told from chance. To tell {_copies(count)}, give {' or '.join(remedies)}."
        )

    @property
    def _discoverable(self) -> str:
        """How many copies together could be discovered, in words."""
        fewest, images = self.fewest_discoverable, len(self.p_values)
        count = f"no fewer than {fewest:,} copies" if fewest <= images else "no number of copies"
        return f"{count} among {images:,} synthetic images"

    @property
    def can_call(self) -> bool:
        """Whether plain copies would be called if they were :data:`REALISTIC_COPY_FRACTION` of the images, or one."""
        return self.fewest_discoverable <= self._count_above(None)

    @property
    def comparisons_needed(self) -> int:
        """How many patients in the null would let exact p-values call that many copies, without any assumption."""
        return self._comparisons_for(self._count_above(None), votes=1 + self.null.extra_votes)

    def _comparisons_for(self, count: int, votes: int) -> int:
        return max(1, math.ceil(votes * len(self.p_values) / (self.fdr * count) - _ROUNDING) - 1)

    def _count_above(self, max_fraction: float | None) -> int:
        if max_fraction is None:
            return max(1, math.floor(REALISTIC_COPY_FRACTION * len(self.p_values)))
        return math.floor(max_fraction * len(self.p_values) + _ROUNDING) + 1

    @property
    def sentence(self) -> str:
        """What the null could have called."""
        count = self._count_above(None)
        compared = f"compared with images of {self.null.num_groups:,} patients"
        if self.can_call:
            rests_on = "" if self.plain_copy_p_value == self.null.smallest_p_value else ", which rests on a fitted tail"
            among = f"{_copies(count)} without any change among {len(self.p_values):,} synthetic images"
            return f"Scores alone are enough here: {compared}, {among} could be told from chance{rests_on}."
        return (
            f"Scores alone say little here: {compared}, {self._discoverable} could be told from chance. "
            f"To tell {_copies(count)}, images of {self.comparisons_needed:,} patients are needed."
        )

    def as_json(self) -> dict[str, Any]:
        """The entry ``discoveries`` of ``summary.json``, without the single images."""
        return {
            "fdr": self.fdr,
            "num_discoveries": self.count,
            "num_discoveries_exact": self.num_exact,
            "fewest_discoverable": self.fewest_discoverable,
            "can_call": self.can_call,
            "comparisons_needed": self.comparisons_needed,
            "null": self.null.source,
            "num_null_scores": len(self.null.scores),
            "num_null_patients": self.null.num_groups,
            "smallest_p_value": self.null.smallest_p_value,
            "plain_copy_p_value": self.plain_copy_p_value,
            "method": "conformal p-values, below the smallest of them a generalised Pareto tail; Benjamini-Hochberg"
            if self.null.tail.is_usable
            else "conformal p-values, Benjamini-Hochberg",
            "caveat": self.null.caveat,
        }

    def null_as_json(self) -> dict[str, Any]:
        """The entry ``null`` of ``summary.json``: what the images were compared with, and what it could have shown."""
        return {
            "source": self.null.source,
            "group_rule": self.null.group_rule,
            "num_scores": len(self.null.scores),
            "num_patients": self.null.num_groups,
            "smallest_p_value": self.null.smallest_p_value,
            "fewest_discoverable": self.fewest_discoverable,
            "num_duplicates_left_out": self.null.num_left_out,
            "tail": self.null.tail.as_json(),
            "can_call": self.can_call,
            "comparisons_needed": self.comparisons_needed,
            "sentence": self.sentence,
        }


def find_discoveries(scores: Vector, null: NullScores, fdr: float = 0.05, plain_copy_score: float = 1.0) -> Discoveries:
    """Find the synthetic images that may be called copies at a false-discovery rate.

    Args:
        scores: ``(N,)``, the highest similarity of each synthetic image to any training image.
        null: scores of images that are not copies, of held-out images or by :func:`leave_one_out_null`.
        fdr: accepted share of wrong ones among those called copies.
        plain_copy_score: what an image scores that is identical to a training image: the highest value of the score, 1
            for a cosine or an SSIM, 0 for a negative distance.

    Returns:
        p-values, q-values and who is called.

    Example:
        >>> import numpy as np
        >>> result = find_discoveries([0.99, 0.97, 0.62, 0.58], NullScores(np.linspace(0.4, 0.8, 99)), fdr=0.05)
        >>> result.is_discovery, result.count, result.fewest_discoverable
        (array([ True,  True, False, False]), 2, 1)
    """
    q_values = benjamini_hochberg(null.refined_p_values(scores))
    return Discoveries(
        p_values=null.p_values(scores),
        tail_p_values=null.tail.p_values(scores) if null.tail.is_usable else None,
        q_values=q_values,
        is_discovery=discoveries_at_fdr(q_values, fdr),
        fdr=fdr,
        null=null,
        plain_copy_score=plain_copy_score,
    )


def _copies(count: int) -> str:
    return "1 copy" if count == 1 else f"{count:,} copies"


def _check_fdr(fdr: float) -> None:
    if not 0 < fdr < 1:
        raise ValueError(f"got fdr={fdr}, want a share between 0 and 1, such as 0.05")
