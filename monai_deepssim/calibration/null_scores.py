"""The scores of images that are not copies: of held-out images, or, where there are none, of the training images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monai_deepssim.calibration.conformal import conformal_p_values
from monai_deepssim.calibration.mutual_pairs import find_partners, rows_of_measurements
from monai_deepssim.calibration.score_tail import ScoreTail, fit_score_tail
from monai_deepssim.calibration.vectors import Groups, Vector, as_group_codes, as_scores
from monai_deepssim.errors import UnusableInputError

__all__ = ["HOLDOUT_CAVEAT", "LEAVE_ONE_OUT_CAVEAT", "NullScores", "leave_one_out_null"]

HOLDOUT_CAVEAT = (
    "The p-values compare each synthetic image with held-out images: real images of patients that the generator never "
    "saw. They assume that these come from the same source as the training images, and that a synthetic image that is "
    "no copy is no closer to the training images than they are. A small p-value says that the image is closer than "
    "real strangers are; the pair of images shows whether it is a copy."
)

LEAVE_ONE_OUT_CAVEAT = (
    "There were no held-out images. The p-values compare each synthetic image with the training images themselves, "
    "each scored against all training images of other patients. They assume that a synthetic image that is not a copy "
    "is no closer to the training images than these are to each other. Images of one patient whose identifier is "
    "unknown make these scores too high and hide copies. Held-out images give the better answer."
)


@dataclass(frozen=True)
class NullScores:
    """Scores of images that are not copies, and how they were come by.

    Attributes:
        scores: ``(n,)``, each the highest similarity to a training image; higher is closer.
        groups: ``(n,)``, the patient of each; see :func:`conformal_p_values`.
        source: what they are scores of, in words.
        group_rule: ``"mean"`` or ``"max"``, how the images of a patient share its vote; see
            :func:`conformal_p_values`.
        extra_votes: votes against the suspicion that are added to each count: 1 where null and synthetic images are
            compared with the null images themselves, see :func:`leave_one_out_null`.
        partners: ``(n,)``, position of the null image that shares this one's score because each is the other's nearest;
            -1 for none. ``None`` for held-out images, which are not compared with each other.
        caveat: what a report must say beside the p-values.
        num_left_out: training images that were left out because of duplicates, see :func:`leave_out_duplicates`.

    Example:
        >>> NullScores([0.5, 0.6, 0.7, 0.4]).p_values([0.95, 0.70])
        array([0.2, 0.4])
    """

    scores: Vector
    groups: Groups | None = None
    source: str = "held-out images"
    group_rule: str = "mean"
    extra_votes: int = 0
    partners: np.ndarray | None = None
    caveat: str = HOLDOUT_CAVEAT
    num_left_out: int = 0

    @property
    def num_groups(self) -> int:
        """How many patients there are; an unknown one counts each time."""
        if self.groups is None:
            return len(self.scores)
        return len(np.unique(as_group_codes(self.groups, len(self.scores))))

    @property
    def measurements(self) -> np.ndarray:
        """The scores, but one of two images that are each other's nearest: for what looks at the gaps between them."""
        values = as_scores(self.scores, "scores of the null")
        return values[rows_of_measurements(values, self.partners)]

    @property
    def smallest_p_value(self) -> float:
        """The exact p-value of an image that scores higher than all of these."""
        return min(1.0, (1 + self.extra_votes) / (self.num_groups + 1))

    @cached_property
    def tail(self) -> ScoreTail:
        """The fitted upper tail, see :func:`fit_score_tail`."""
        return fit_score_tail(self.scores, self.smallest_p_value, self.groups, self.group_rule, self.partners)

    def p_values(self, scores: Vector) -> np.ndarray:
        """Compute the exact p-values of synthetic images, see :func:`conformal_p_values`.

        Args:
            scores: ``(N,)``, of the synthetic images.

        Returns:
            ``(N,)`` in (0, 1].
        """
        counted = conformal_p_values(scores, self.scores, self.groups, self.group_rule)
        return np.minimum(counted + self.extra_votes / (self.num_groups + 1), 1.0)

    def refined_p_values(self, scores: Vector) -> np.ndarray:
        """Compute p-values that go on below the smallest exact one, where the fitted tail may be used.

        An image that any null image reaches keeps its exact p-value. One that scores above all of them has the smallest
        exact p-value, or that of the tail where it is smaller. So at a level that exact p-values reach, exactly the
        same images are at or below it as with exact p-values, with the same guarantee and no assumption; at lower
        levels it is the tail's statement alone. Nothing is tested twice.

        Args:
            scores: ``(N,)``, of the synthetic images.

        Returns:
            ``(N,)`` in (0, 1], never above the exact p-values.

        Example:
            >>> null = NullScores(np.linspace(0.4, 0.6, 199))
            >>> bool(null.refined_p_values([0.95])[0] < null.p_values([0.95])[0] == 1 / 200)
            True
            >>> null.refined_p_values([0.5]) == null.p_values([0.5])
            array([ True])
        """
        observed, p_values = as_scores(scores, "scores"), self.p_values(scores)
        is_above_all = observed > as_scores(self.scores, "scores of the null").max()
        if is_above_all.any():
            p_values[is_above_all] = np.minimum(p_values[is_above_all], self.tail.p_values(observed[is_above_all]))
        return p_values


def leave_one_out_null(
    scores: Vector,
    nearest: np.ndarray,
    rows: np.ndarray,
    groups: Groups | None = None,
    group_rule: str = "mean",
    num_left_out: int = 0,
) -> NullScores:
    r"""Take training images for the null, each scored against all training images of other patients.

    All images of the patient are left out of its search, or another slice of the same head would be found: a score that
    no stranger reaches, below which copies would hide.

    **Why the p-values are valid.** Add a synthetic image x that is not a copy to the n training images that are scored.
    The n + 1 images are exchangeable, and each is scored against the rest of the training set and the other n. The
    score of the training image i among them is :math:`\max(l_i, s(i, x))`, with its leave-one-out score l, so

    .. math:: p(x) = \frac{1 + \#\{i : \max(l_i, s(i, x)) \ge s(x)\}}{n + 1}

    is exactly valid (full conformal prediction). As s(x) is the highest of all s(i, x), adding x makes a difference to
    its nearest training image only: where similarities are symmetric, the count is that of the plain leave-one-out
    scores, plus 1 at most. This one vote is always added (``extra_votes=1``),

    .. math:: p(x) \le \frac{2 + \#\{i : l_i \ge s(x)\}}{n + 1}

    so nothing has to be doubled, as halves of a training set would ask for, and the price is one vote, not a factor:
    the smallest p-value is 2 / (n + 1). Without it, the plain count would be too small by up to that vote, which is
    half of the p-value exactly where copies are found. With several images of a patient it is not proven but simulated
    in the tests. Ties of more than one training image at s(x) are duplicates of each other.

    Vovk, Gammerman, Shafer. *Algorithmic Learning in a Random World.* Springer (2005). Barber, Candès, Ramdas,
    Tibshirani. *Predictive inference with the jackknife+.* Annals of Statistics 49 (2021), for what plain leave-one-out
    guarantees otherwise.

    Args:
        scores: ``(n,)``, of each scored training image, its highest similarity to a training image of another patient.
        nearest: ``(n,)``, row of that training image.
        rows: ``(n,)``, rows of the scored images: all, or a random sample where scoring all takes too long.
        groups: ``(n,)``, the patient of each; an empty one is unknown and taken for a patient of its own.
        group_rule: ``"mean"`` or ``"max"``.
        num_left_out: images that were left out before, see :func:`leave_out_duplicates`.

    Returns:
        The null.

    Raises:
        UnusableInputError: when there are fewer than two patients.
        ValueError: when lengths differ.

    Example:
        >>> null = leave_one_out_null([0.5, 0.5, 0.4], nearest=np.array([1, 0, 0]), rows=np.array([0, 1, 2]))
        >>> null.smallest_p_value, null.partners
        (0.5, array([ 1,  0, -1]))
    """
    values, nearest, rows = as_scores(scores, "scores"), np.asarray(nearest), np.asarray(rows)
    if not len(values) == len(nearest) == len(rows):
        raise ValueError(f"got {len(values)} scores, {len(nearest)} nearest images and {len(rows)} rows, want as many")
    null = NullScores(
        scores=values,
        groups=groups,
        source="training images, each against those of other patients",
        group_rule=group_rule,
        extra_votes=1,
        partners=find_partners(nearest, rows),
        caveat=LEAVE_ONE_OUT_CAVEAT,
        num_left_out=num_left_out,
    )
    if null.num_groups < 2:
        raise UnusableInputError(
            f"the {len(values)} training images are of {null.num_groups} patient(s), and it takes two or more to "
            "compare patients with each other. Give held-out images of other patients instead."
        )
    return null
