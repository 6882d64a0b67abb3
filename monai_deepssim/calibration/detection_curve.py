"""What share of copies would be found, by what was done to them: from controls that were planted and looked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from monai_deepssim.calibration.limits import upper_limit
from monai_deepssim.calibration.proportions import Proportion, proportion_interval

__all__ = ["MILD_CHANGES", "MILD_VOLUME_CHANGES", "DetectionCurve", "DetectionPoint", "compute_detection_curve"]

#: The mildest level of each change, which any generator may do to a copy: copies under these have to be found.
MILD_CHANGES = frozenset(
    {
        "none",
        "blur_1",
        "noise_0.02",
        "gamma_0.5",
        "gamma_1.5",
        "rotation_5",
        "shift_10",
        "zoom_0.9",
        "zoom_1.1",
        "crop_10",
        "warp_1",
        "bias_field",
        "mix_0.3",
        "half_resolution",
        "autoencoder",
    }
)
#: Those of volumes alone: copies of them under these have to be found too.
MILD_VOLUME_CHANGES = frozenset(
    {
        *("flip_x", "flip_y", "flip_z"),
        *("rotation_x_10", "rotation_y_10", "rotation_z_10"),
        *("shift_5", "slices_2"),
    }
)
# The chance that any of the changes is called missed although of each as many copies are found as is asked for.
_FAMILY_WISE_ERROR = 0.05

#: What was done to a copy, in words that follow "a copy".
_CHANGES = {
    "none": "without any change",
    "blur": "blurred by {amount}",
    "noise": "with noise of standard deviation {amount}",
    "gamma": "with a gamma of {amount}",
    "rotation": "rotated by {amount}",
    "shift": "shifted by {amount} of the side",
    "zoom": "zoomed by a factor of {amount}",
    "crop": "cropped by {amount}",
    "warp": "warped by {amount} of the side",
    "bias_field": "under a bias field",
    "mix": "mixed with a share of {amount} of another image",
    "half_resolution": "at half the resolution",
    "autoencoder": "passed through the generator's autoencoder",
    "flip_x": "with left and right exchanged",
    "flip_y": "with front and back exchanged",
    "flip_z": "with head and feet exchanged",
    "rotation_x": "rotated by {amount} about the axis from left to right",
    "rotation_y": "rotated by {amount} about the axis from back to front",
    "rotation_z": "rotated by {amount} about the axis from feet to head",
    "slices": "with one slice in {amount} kept",
}


@dataclass(frozen=True)
class DetectionPoint:
    """The controls of one change at one level.

    Attributes:
        change: what was done to them, such as ``blur``.
        level: how strongly; ``None`` where the change has one strength.
        unit: the unit of the level; empty where it has none.
        found: the share that was found, with its 95 % interval.
        upper_limit: upper limit of this share, which holds for all changes that are asked for together, with 95 %
            confidence; ``None`` where the change is not asked for.
    """

    change: str
    level: float | None
    unit: str
    found: Proportion
    upper_limit: float | None = None

    @property
    def name(self) -> str:
        """The change with its level, such as ``blur_2``."""
        return self.change if self.level is None else f"{self.change}_{self.level:g}"

    @property
    def words(self) -> str:
        """What was done to a copy, in words that follow "a copy".

        Example:
            >>> DetectionPoint("rotation", 15.0, "degrees", proportion_interval([True])).words
            'rotated by 15 degrees'
            >>> DetectionPoint("swirl", 0.2, "", proportion_interval([True])).words
            "under the change 'swirl' at level 0.2"
        """
        amount = "" if self.level is None else f"{self.level:g} {self.unit}".rstrip()
        template = _CHANGES.get(self.change)
        if template is None or ("{amount}" in template and not amount):
            return f"under the change '{self.change}'" + (f" at level {amount}" if amount else "")
        words = template.format(amount=amount)
        return words if "{amount}" in template or not amount else f"{words} (level {amount})"

    @property
    def sentence(self) -> str:
        """The share in words."""
        probability = f"{self.found.value:.2f} ({self.found.low:.2f} to {self.found.high:.2f})"
        return f"A copy {self.words} would have been found with probability {probability}."

    def as_json(self) -> dict[str, Any]:
        """An entry of ``curve``."""
        return {
            "change": self.change,
            "level": self.level,
            "unit": self.unit,
            "count": self.found.count,
            "total": self.found.total,
            "value": self.found.value,
            "interval": [self.found.low, self.found.high],
            "upper_limit": self.upper_limit,
        }


@dataclass(frozen=True)
class DetectionCurve:
    """The controls of an audit, by change and level.

    Attributes:
        points: one per change and level, in the order in which they were planted.
        reference: name of the change whose recall the gate goes by, such as ``blur_2``.
    """

    points: tuple[DetectionPoint, ...]
    reference: str

    @property
    def reference_point(self) -> DetectionPoint | None:
        """The controls of the reference; ``None`` where none were planted."""
        return next((point for point in self.points if point.name == self.reference), None)

    @property
    def recall(self) -> Proportion | None:
        """The share of the reference's controls that was found."""
        return None if self.reference_point is None else self.reference_point.found

    def missed(self, min_recall: float) -> list[DetectionPoint]:
        """List the changes that are asked for and after which fewer copies are found than that, beyond chance.

        Args:
            min_recall: share that has to be found, 0 to 1.
        """
        return [point for point in self.points if point.upper_limit is not None and point.upper_limit < min_recall]

    @property
    def sentences(self) -> list[str]:
        """One sentence per change and level."""
        return [point.sentence for point in self.points]

    def as_json(self) -> dict[str, Any]:
        """The entry ``controls`` of ``summary.json``."""
        return {
            "reference": self.reference,
            "recall": None if self.recall is None else self.recall.as_json(),
            "num_planted": sum(point.found.total for point in self.points),
            "curve": [point.as_json() for point in self.points],
            "sentences": self.sentences,
        }


def compute_detection_curve(controls: pd.DataFrame, reference: str, occurring: Collection[str] = ()) -> DetectionCurve:
    r"""Compute the share of the controls that was found, for each change and level.

    The interval is :func:`proportion_interval`'s: exact where all controls of a change are of different patients, and
    clustered by patient where one patient occurs twice.

    Changes that are asked for, :data:`MILD_CHANGES`, :data:`MILD_VOLUME_CHANGES` and all levels of those that occur,
    have one more limit each: the one-sided upper limit at :math:`1 - 0.05 / m`, m being their number (Bonferroni).
    Whatever the changes have to do with each other, in at least 95 % of the audits none of these limits is below its
    true share. A change whose limit is below the recall that is wanted is missed beyond chance. For independent
    controls that is the exact binomial test: with 20 controls of each of 14 changes, 13 or fewer found are too few for
    a recall of 0.9.

    Args:
        controls: one row per control with the columns ``change``, ``level`` (missing where a change has one strength),
            ``unit``, ``found`` (booleans) and ``patient_id`` (empty where unknown).
        reference: name of the change whose recall the gate goes by: the change, with its level behind ``_``.
        occurring: changes that the synthetic images are known to have undergone, such as ``blur``.

    Returns:
        The curve.

    Example:
        >>> levels = [1.0] * 20 + [2.0] * 20
        >>> controls = pd.DataFrame({"change": "blur", "level": levels, "unit": "px", "patient_id": ""})
        >>> curve = compute_detection_curve(controls.assign(found=controls.index != 30), reference="blur_2")
        >>> curve.recall.value, curve.recall.total
        (0.95, 20)
        >>> curve.sentences[1]
        'A copy blurred by 2 px would have been found with probability 0.95 (0.75 to 1.00).'
        >>> [point.name for point in compute_detection_curve(controls.assign(found=False), "blur_2").missed(0.9)]
        ['blur_1']
    """
    points, samples = [], []
    for (change, level, unit), rows in controls.groupby(["change", "level", "unit"], sort=False, dropna=False):
        sample = rows["found"].tolist(), rows["patient_id"].tolist()
        points.append(
            DetectionPoint(
                change=str(change),
                level=None if pd.isna(level) else float(level),
                unit="" if pd.isna(unit) else str(unit),
                found=proportion_interval(*sample),
            )
        )
        samples.append(sample)
    is_asked = [point.name in MILD_CHANGES | MILD_VOLUME_CHANGES or point.change in occurring for point in points]
    confidence = 1 - _FAMILY_WISE_ERROR / max(1, sum(is_asked))
    limited = [
        replace(point, upper_limit=upper_limit(*sample, confidence)) if asked else point
        for point, sample, asked in zip(points, samples, is_asked, strict=True)
    ]
    return DetectionCurve(tuple(limited), reference)
