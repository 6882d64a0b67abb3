"""Synthetic images that are closer than any image that is not a copy, and apart from the rest, and yet not called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_deepssim.calibration.score_scale import stretch_scores
from monai_deepssim.calibration.vectors import Vector, as_flags, as_scores

__all__ = ["Unexplained", "find_unexplained"]

# Spacings below a gap that say how wide a gap is usual there. Few, because a tail is exponential only close to its top.
_MOST_SPACINGS, _FEWEST_SPACINGS = 20, 5
# With fewer null scores than this, a set of which most are copies cannot be told from one of which none is.
_FEWEST_NULL = 20


@dataclass(frozen=True)
class Unexplained:
    """The synthetic images that stand apart.

    Attributes:
        flags: ``(N,)`` booleans.
        p_value: family-wise p-value of the clearest gap of all; 1 where no gap was looked at.
        threshold: lowest score of a flagged image; ``None`` when there is none.
        limit: what could not be seen, in a sentence; empty where there were enough null scores.
    """

    flags: np.ndarray
    p_value: float
    threshold: float | None
    limit: str

    @property
    def count(self) -> int:
        """How many images are flagged."""
        return int(self.flags.sum())


def find_unexplained(
    scores: Vector, null_scores: Vector, is_explained: Vector | None = None, level: float = 0.05
) -> Unexplained:
    r"""Flag synthetic images that score above every null score and are parted by a gap from all that score less.

    Null and synthetic scores are pooled and sorted, :math:`x_{(1)} \ge x_{(2)} \ge \dots`. In an exponential upper tail
    with scale beta the scaled spacings :math:`E_k = k (x_{(k)} - x_{(k+1)})` are independent and exponential with scale
    beta (Rényi). Bounded scores have lighter tails, in which spacings near the top are narrower than that, which is on
    the safe side. So with beta estimated from the m spacings just below, :math:`R_k = E_k / \operatorname{mean}(E_{k+1}
    \dots E_{k+m})` follows an F distribution with 2 and 2m degrees of freedom, and a gap has

    .. math:: p_k = \Big(1 + \frac{R_k}{m}\Big)^{-m}

    All K gaps above the highest null score are looked at, so a gap counts if :math:`K p_k \le` ``level``, and the
    images above the widest one that counts are flagged. Which of the pooled scores are null is independent of the
    spacings where synthetic images are like null images, so K may be counted in the data. What is left is looked at
    again until nothing is flagged.

    On a set without copies any flag is a false alarm. Its probability is at most ``level`` where the tail is
    exponential or lighter, whatever the numbers of images and null scores, and also where synthetic images are somewhat
    closer to the training images than null images are (``benchmarks/null_power.py --tables false_alarms``). Two things
    are flagged that need not be copies: a rare kind of image of which a small null holds none (3 % of the images and 10
    null scores: one set in five), and a set that lies as a whole far above the null. They are unexplained all the same.

    Rényi. *On the theory of order statistics.* Acta Mathematica Hungarica 4 (1953).

    Args:
        scores: ``(N,)``, the highest similarity of each synthetic image to any training image.
        null_scores: ``(n,)``, of images that are not copies; may be empty. Of two that are each other's nearest give
            one (:attr:`NullScores.measurements`): a score that is there twice makes the gaps above it look wide.
        is_explained: ``(N,)``, images that are called already; they are taken out first, which narrows no gap's test.
        level: accepted probability of any false flag, between 0 and 1.

    Returns:
        The flags, and what could not be seen.

    Raises:
        ValueError: when a score is not finite, lengths differ, or the level is not between 0 and 1.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> clean, null = 0.5 + 0.03 * generator.standard_normal((2, 100))
        >>> result = find_unexplained([*clean, 0.76, 0.80, 0.82], null)
        >>> result.count, result.threshold, result.limit
        (3, 0.76, '')
        >>> find_unexplained(clean, null).count, find_unexplained(clean, []).limit
        (0, 'There are no null scores: images that stand apart were looked for in the upper half of the set only.')
    """
    observed, null = as_scores(scores, "scores"), as_scores(null_scores, "null_scores")
    explained = np.zeros(len(observed), bool) if is_explained is None else as_flags(is_explained, "is_explained")
    if len(explained) != len(observed):
        raise ValueError(f"got {len(explained)} flags of explained images for {len(observed)} scores, want one each")
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, want a probability between 0 and 1, such as 0.05")
    flags, first_p_value = np.zeros(len(observed), bool), None
    while True:
        rest = observed[~explained & ~flags]
        p_value, threshold = _clearest_gap(rest, null, level)
        first_p_value = p_value if first_p_value is None else first_p_value
        if p_value > level:
            break
        flags |= ~explained & (observed >= threshold)
    lowest = float(observed[flags].min()) if flags.any() else None
    return Unexplained(flags, first_p_value, lowest, _limit(len(observed), len(null)))


def _clearest_gap(scores: np.ndarray, null: np.ndarray, level: float) -> tuple[float, float]:
    """The corrected p-value of the clearest gap, and the lowest score above the widest gap that is significant."""
    pooled = np.sort(np.concatenate([scores, null]))[::-1]
    num_gaps = int((scores > null.max()).sum()) if len(null) else len(scores) // 2
    num_gaps = min(num_gaps, len(pooled) - 1 - _FEWEST_SPACINGS)
    if num_gaps < 1:
        return 1.0, np.inf
    stretched = stretch_scores(pooled, pooled)
    scaled = np.arange(1, len(pooled)) * -np.diff(stretched)
    sums = np.append(0.0, np.cumsum(scaled))
    ends = np.minimum(np.arange(1, num_gaps + 1) + _num_spacings(len(pooled)), len(scaled))
    counts = ends - np.arange(1, num_gaps + 1)
    usual = (sums[ends] - sums[1 : num_gaps + 1]) / counts
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(scaled[:num_gaps] > 0, scaled[:num_gaps] / usual, 0.0)
        log_p_values = -counts * np.log1p(ratios / counts)
    p_values = np.minimum(1.0, num_gaps * np.exp(log_p_values))
    # Images that stand apart are counted in the k of the gaps below them, too, which makes small gaps there look wide.
    widths = scaled[:num_gaps] / np.arange(1, num_gaps + 1)
    widest = int(np.argmax(np.where(p_values <= level, widths, -1.0)))
    return float(p_values.min()), float(pooled[widest])


def _num_spacings(num_scores: int) -> int:
    """A tenth of the scores, but a dozen of few, and no more than a tail has."""
    return min(_MOST_SPACINGS, max(12, num_scores // 10))


def _limit(num_images: int, num_null: int) -> str:
    if num_images + num_null < _FEWEST_SPACINGS + 2:
        return f"{num_images} images and {num_null} null scores are too few to see any image that stands apart."
    if num_null == 0:
        return "There are no null scores: images that stand apart were looked for in the upper half of the set only."
    if num_null < _FEWEST_NULL:
        return (
            f"There are {num_null} null scores, and it takes {_FEWEST_NULL}: a set of which most or all images are "
            "copies could not be told from one of which none is."
        )
    return ""
