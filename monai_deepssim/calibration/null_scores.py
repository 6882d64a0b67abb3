"""The scores of images that are not copies: of held-out images, or, where there are none, of the training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monai_deepssim.calibration.conformal import conformal_p_values
from monai_deepssim.calibration.vectors import Groups, Vector, as_group_codes, as_scores
from monai_deepssim.errors import UnusableInputError

__all__ = ["HALVES_CAVEAT", "HOLDOUT_CAVEAT", "NullScores", "random_halves_null"]

HOLDOUT_CAVEAT = (
    "The p-values compare each synthetic image with held-out images: real images of patients that the generator never "
    "saw. They assume that these come from the same source as the training images, and that a synthetic image that is "
    "no copy is no closer to the training images than they are. A small p-value says that the image is closer than "
    "real strangers are; the pair of images shows whether it is a copy."
)

HALVES_CAVEAT = (
    "There were no held-out images. The p-values compare each synthetic image with the training images themselves, "
    "each scored against a random half of the training set that does not hold its own patient. The nearest of half "
    "a set is less near than the nearest of all, so these scores are too low and would accuse too many images; the "
    "p-values are doubled for it, which is enough. Not corrected, and in the other direction: images that the training "
    "set holds more than once, and images of one patient whose identifier is unknown, make these scores too high and "
    "hide copies. Held-out images give the better answer."
)


@dataclass(frozen=True)
class NullScores:
    """Scores of images that are not copies, and how they were come by.

    Attributes:
        scores: ``(n,)``, each the highest similarity to a training image; higher is closer.
        groups: ``(n,)``, the patient of each; see :func:`conformal_p_values`.
        source: what they are scores of, in words.
        p_value_factor: what the p-values are multiplied by, because a score came from a search through this part of
            the training set only: 1 for all of it, 2 for halves.
        caveat: what a report must say beside the p-values.

    Example:
        >>> NullScores([0.5, 0.6, 0.7, 0.4]).p_values([0.95, 0.70])
        array([0.2, 0.4])
    """

    scores: Vector
    groups: Groups | None = None
    source: str = "held-out images"
    p_value_factor: int = 1
    caveat: str = HOLDOUT_CAVEAT

    @property
    def num_groups(self) -> int:
        """How many patients there are; an unknown one counts each time."""
        if self.groups is None:
            return len(self.scores)
        return len(np.unique(as_group_codes(self.groups, len(self.scores))))

    @property
    def smallest_p_value(self) -> float:
        """The p-value of an image that scores higher than all of these."""
        return min(1.0, self.p_value_factor / (self.num_groups + 1))

    def p_values(self, scores: Vector) -> np.ndarray:
        """Compute the p-values of synthetic images, see :func:`conformal_p_values`.

        Args:
            scores: ``(N,)``, of the synthetic images.

        Returns:
            ``(N,)`` in (0, 1].
        """
        return np.minimum(self.p_value_factor * conformal_p_values(scores, self.scores, self.groups), 1.0)


def random_halves_null(
    score_between: Callable[[np.ndarray, np.ndarray], Vector],
    num_images: int,
    groups: Groups | None = None,
    repeats: int = 10,
    seed: int = 0,
    scored: np.ndarray | None = None,
) -> NullScores:
    r"""Score training images against each other, where there are no held-out images to score.

    The patients are parted at random into two halves A and B, equal in number to within one. Every image of A is scored
    against B and every image of B against A, so in each of the ``repeats`` every training image stands in once for an
    image that is not a copy. All images of a patient are on one side: otherwise another slice of the same head would be
    among those searched, its score would be one that no stranger reaches, and copies would hide below it.

    An image gives one score per repeat. These are not independent, and neither are images of a patient, so the result
    is grouped by patient (by image where the patient is unknown) and more repeats never make a p-value smaller than 2 /
    (number of patients + 1): they only take chance out of the halving.

    **The bias, and what is done about it.** A synthetic image is searched for in the whole training set, these in half
    of it. The highest of fewer similarities is lower, so p-values taken straight from these scores are too small: about
    twice as many false accusations as stated. For an image x of a new patient

    .. math:: P(\max(s(x, A), s(x, B)) \ge t) \le P(s(x, A) \ge t) + P(s(x, B) \ge t),

    and the average of the two terms on the right is what the halves estimate. So the p-values are doubled
    (``p_value_factor=2``). The scores of one training set depend on each other, so unlike with held-out images the
    guarantee is not exact for small sets; a simulation in the tests shows that it holds for usual ones.

    Args:
        score_between: takes ``(indices, searched_indices)``, both positions in the list of training images, and returns
            for each of the first its highest score against any of the second, ``(len(indices),)``.
        num_images: number of training images.
        groups: ``(num_images,)``, the patient of each; an empty one is unknown and taken for a patient of its own.
        repeats: number of times that the set is halved.
        seed: seed of the halving.
        scored: positions of the images that are scored, a random sample where scoring all would take too long; all of
            them by default. The halves that are searched are of all images in any case.

    Returns:
        ``repeats`` scores of each scored image and the patient of each as a number.

    Raises:
        UnusableInputError: when there are fewer than two patients.
        ValueError: when ``score_between`` does not return one finite score per image, or ``repeats`` is not positive.

    Example:
        >>> import numpy as np
        >>> grey_levels = np.array([0.10, 0.12, 0.50, 0.90])
        >>> def score_between(indices, searched):
        ...     return -np.abs(grey_levels[indices, None] - grey_levels[searched]).min(axis=1)
        >>> null = random_halves_null(score_between, 4, groups=["a", "a", "b", "c"], repeats=3)
        >>> len(null.scores), null.num_groups, null.smallest_p_value
        (12, 3, 0.5)
    """
    if repeats < 1:
        raise ValueError(f"got repeats={repeats}, want at least 1")
    codes = np.arange(num_images) if groups is None else as_group_codes(groups, num_images)
    num_groups = int(codes.max(initial=-1)) + 1
    if num_groups < 2:
        raise UnusableInputError(
            f"the {num_images} training images are of {num_groups} patient(s), and it takes two or more to compare "
            "patients with each other. Give held-out images of other patients instead."
        )
    is_scored = np.ones(num_images, dtype=bool)
    if scored is not None:
        is_scored[:] = False
        is_scored[scored] = True
    generator = np.random.default_rng(seed)
    scores, indices = [], []
    for _ in range(repeats):
        is_first = np.zeros(num_groups, dtype=bool)
        is_first[generator.permutation(num_groups)[: num_groups // 2]] = True
        halves = np.flatnonzero(is_first[codes]), np.flatnonzero(~is_first[codes])
        for whole_half, searched in (halves, halves[::-1]):
            half = whole_half[is_scored[whole_half]]
            found = as_scores(score_between(half, searched), "scores of score_between")
            if len(found) != len(half):
                raise ValueError(f"score_between returned {len(found)} scores for {len(half)} images, want one each")
            scores.append(found)
            indices.append(half)
    return NullScores(
        scores=np.concatenate(scores),
        groups=codes[np.concatenate(indices)],
        source="training images, by random halves",
        p_value_factor=2,
        caveat=HALVES_CAVEAT,
    )
