"""What differs between the measures of two sides, named in a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.stats import mannwhitneyu

from monai_deepssim.metrics.side_measures import SideMeasures
from monai_deepssim.metrics.side_poses import POSE_NAMES, compare_poses

__all__ = [
    "SIDE_DIFFERENCE_KINDS",
    "SideDifference",
    "name_differences",
    "name_hounsfield_difference",
    "name_reading_differences",
]

# A measure differs when a random image of one side exceeds one of the other with this probability (0.5: no
# difference), Mann and Whitney's test has this p-value, and the medians differ by the measure's own least amount.
_MIN_PROBABILITY, _MAX_P = 0.75, 5e-4
_MIN_LOG_SIZE, _MIN_CUT = np.log(1.12), 0.12
_MIN_LOG_GAMMA, _MIN_SATURATED = 0.4, 0.08
_MIN_BLUR_VARIANCE, _MIN_NOISE, _MIN_BACKGROUND = 0.8, 0.02, 0.06
# What the alignment stage covers: head sizes within this ratio, a frame's edge that cuts less than this share (beyond
# it more than a third of a round head is lost), blur up to this many pixels, noise up to this standard deviation, and a
# share of the head at one value: of dithered phantoms, with 0.62, copies are found, of black and white ones, with 0.8,
# half of them are.
_COVERED_SIZE_RATIO, _COVERED_CUT, _COVERED_BLUR_PIXELS, _COVERED_NOISE = 1.6, 0.9, 2.1, 0.08
_COVERED_SATURATED = 0.7
# Text: so many pixels that are bright in at least half of the images of one side, and in next to none of the other.
_TEXT_PIXELS, _TEXT_PRESENT, _TEXT_ABSENT = 6, 0.5, 0.1


# In the window of the pictures, grey levels of phantoms of CT differ by up to 0.07 of the range, where one side is
# blurred, cropped or noisy, too; in no window by 0.03 to 0.29.
_MAX_LEVEL_DISTANCE = 0.08

# What an image may be that is compared in part only, and what to do.
_READ_IN_PART = {
    "sheets": (
        "show several images in rows and columns, and each picture is compared as one",
        "Save each image in a file of its own",
    ),
    "colours": ("are in colours that grey does not tell apart", "Save the intensities, without a colour map"),
    "middle_slices": (
        "are the middle slice of a volume or of a stack, of which nothing else was compared",
        "Give --slices all, or save each slice that is meant in a file of its own",
    ),
}

# Description, value of the training images, value of the synthetic images, and whether it is covered.
_Found: TypeAlias = tuple[str, float, float, bool]


@dataclass(frozen=True)
class SideDifference:
    """A difference between the sides that is larger than the spread within them.

    Attributes:
        kind: one of :data:`SIDE_DIFFERENCE_KINDS`.
        description: a sentence with the numbers.
        training_value: the quantity measured, of the training images.
        synthetic_value: the same, of the synthetic images.
        covered: whether the alignment stage finds copies in spite of it.
    """

    kind: str
    description: str
    training_value: float
    synthetic_value: float
    covered: bool


def name_differences(training: SideMeasures, synthetic: SideMeasures) -> tuple[SideDifference, ...]:
    """Name what differs between two measured sides, as :func:`~monai_deepssim.metrics.compare_sides` describes it.

    Args:
        training: measures of at least 5 training images.
        synthetic: measures of at least 5 synthetic images of the same size.

    Returns:
        The differences, in the order of :data:`SIDE_DIFFERENCE_KINDS`.

    Example:
        >>> from monai_deepssim.metrics.side_measures import measure_side
        >>> measures = measure_side(np.random.default_rng(0).random((8, 64, 64)))
        >>> name_differences(measures, measures)
        ()
    """
    found = {kind: compare(training, synthetic) for kind, compare in _COMPARISONS.items()}
    return tuple(SideDifference(kind, *difference) for kind, difference in found.items() if difference is not None)


def name_hounsfield_difference(
    training_share: float, synthetic_share: float, level_distance: float | None
) -> tuple[SideDifference, ...]:
    """Name it where one side is in Hounsfield units, the other shows pictures, and no window makes them alike.

    Args:
        training_share: share of the training images whose files are in Hounsfield units.
        synthetic_share: share of the synthetic images whose files are.
        level_distance: distance of the grey levels of both in the window that was chosen; ``None`` where none was.

    Returns:
        The difference, or nothing.

    Example:
        >>> name_hounsfield_difference(1.0, 0.0, 0.01)
        ()
        >>> name_hounsfield_difference(1.0, 0.0, None)[0].covered
        False
    """
    fits = level_distance is not None and level_distance <= _MAX_LEVEL_DISTANCE
    if fits or (training_share >= 0.5) == (synthetic_share >= 0.5):
        return ()
    hounsfield, pictures = ("training", "synthetic") if training_share >= 0.5 else ("synthetic", "training")
    problem = "no window was applied"
    if level_distance is not None:
        problem = f"in the window that was applied their grey levels differ by {level_distance:.0%} of the range"
    description = (
        f"The {hounsfield} images are in Hounsfield units and the {pictures} images are not, and {problem}: option "
        f"window takes the center and width that the {pictures} images were made with, or auto, which looks for it."
    )
    return (SideDifference("hounsfield", description, training_share, synthetic_share, False),)


def name_reading_differences(
    training: Mapping[str, tuple[int, int]], synthetic: Mapping[str, tuple[int, int]], totals: tuple[int, int]
) -> tuple[SideDifference, ...]:
    """Name it where some images of one side are compared in part only, and most of the other side are not like them.

    One such image is enough: it may hold a copy that nobody could see.

    Args:
        training: by kind (``sheets``, ``colours``, ``middle_slices``) how many training images are compared in part,
            and how many could be compared with such ones.
        synthetic: the same of the synthetic images.
        totals: number of training and of synthetic images.

    Returns:
        The differences.

    Example:
        >>> none = dict.fromkeys(("sheets", "colours", "middle_slices"), (0, 0))
        >>> [found] = name_reading_differences(none, {**none, "sheets": (1, 1)}, (60, 5))
        >>> found.description.partition(",")[0]
        '1 of 5 synthetic images show several images in rows and columns'
    """
    sides = (("training", training, totals[0]), ("synthetic", synthetic, totals[1]))
    found = []
    for kind, (what, remedy) in _READ_IN_PART.items():
        for (name, counts, total), (_, other, other_total) in (sides, sides[::-1]):
            if counts[kind][0] and other[kind][1] < 0.5 * other_total:
                description = f"{counts[kind][0]:,} of {total:,} {name} images {what}. {remedy}."
                shares = (training[kind][0] / totals[0], synthetic[kind][0] / totals[1])
                found.append(SideDifference(kind, description, *shares, False))
    return tuple(found)


def _differ(training: np.ndarray, synthetic: np.ndarray, least: float) -> bool:
    if abs(np.median(synthetic) - np.median(training)) < least:
        return False
    test = mannwhitneyu(synthetic, training)
    probability = test.statistic / (len(training) * len(synthetic))
    return bool(test.pvalue < _MAX_P and max(probability, 1 - probability) >= _MIN_PROBABILITY)


def _medians(training: np.ndarray, synthetic: np.ndarray) -> tuple[float, float]:
    return float(np.median(training)), float(np.median(synthetic))


def _pose(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    poses = compare_poses(training, synthetic)
    if poses.is_mixed:
        description = (
            f"The synthetic images are in mixed poses: {_percent(poses.turned_share)} of them fit the training images "
            f"clearly better turned or mirrored, as do {_percent(poses.turned_training_share)} of the training "
            "images among themselves."
        )
        return description, poses.turned_training_share, poses.turned_share, False
    if not poses.best:
        return None
    before, after = poses.correlations[0], poses.correlations[poses.best[0]]
    names = " or ".join(POSE_NAMES[pose] for pose in poses.best)
    unclear = "; which of these, a nearly symmetric head does not tell" if len(poses.best) > 1 else ""
    description = (
        f"The synthetic images are {names} relative to the training images (mean correlation with the nearest images "
        f"{after:.2f}, as they are {before:.2f}{unclear})."
    )
    return description, poses.training_correlation, before, True


def _inverted(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if not _differ(training.inverted, synthetic.inverted, 1.0):
        return None
    before, after = float(training.inverted.mean()), float(synthetic.inverted.mean())
    sides = [("synthetic", after), ("training", before)]
    (inverted, share), (upright, other_share) = sides if after > before else sides[::-1]
    description = (
        f"The contrast of the {inverted} images is inverted: the background is brighter than the head in "
        f"{_percent(share)} of them, and in {_percent(other_share)} of the {upright} images."
    )
    return description, before, after, True


def _contrast(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if _differ(training.saturated, synthetic.saturated, _MIN_SATURATED):
        before, after = _medians(training.saturated, synthetic.saturated)
        description = (
            f"The {'synthetic' if after > before else 'training'} images are windowed: {_percent(after)} of the head's "
            f"pixels are at the brightest value in the synthetic images, {_percent(before)} in the training images."
        )
        return description, before, after, max(before, after) <= _COVERED_SATURATED
    if not _differ(training.log_gamma, synthetic.log_gamma, _MIN_LOG_GAMMA):
        return None
    log_gammas = _medians(training.log_gamma, synthetic.log_gamma)
    before, after = (float(np.exp(-np.exp(value))) for value in log_gammas)
    description = (
        f"The heads of the synthetic images are {'brighter' if after > before else 'darker'}, as by a gamma of "
        f"{np.exp(log_gammas[1] - log_gammas[0]):.2f}: their median lies at {after:.2f} of the range from background "
        f"to brightest, and at {before:.2f} in the training images."
    )
    return description, before, after, True


def _field_of_view(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    size_differs = _differ(training.log_head_size, synthetic.log_head_size, _MIN_LOG_SIZE)
    cut_differs = _differ(training.cut, synthetic.cut, _MIN_CUT)
    if not size_differs and not cut_differs:
        return None
    before, after = (float(np.exp(value)) for value in _medians(training.log_head_size, synthetic.log_head_size))
    cut_before, cut_after = _medians(training.cut, synthetic.cut)
    covered = max(after / before, before / after) <= _COVERED_SIZE_RATIO
    sentences = []
    if size_differs:
        sentences.append(
            f"The heads of the synthetic images are {after / before:.2f} times the size of those of the training "
            f"images: they fill {_percent(after**2)} of the frame instead of {_percent(before**2)}"
        )
    if cut_differs:
        covered = covered and max(cut_before, cut_after) < _COVERED_CUT
        sentences.append(
            f"{'there is' if sentences else 'There is'} head at {_percent(cut_after)} of the frame's edge in the "
            f"synthetic images and at {_percent(cut_before)} in the training images, so the "
            f"{'synthetic' if cut_after > cut_before else 'training'} images are cropped"
        )
    values = (before, after) if size_differs else (cut_before, cut_after)
    return "; ".join(sentences) + ".", *values, covered


def _sharpness(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if not _differ(training.blur_variance, synthetic.blur_variance, _MIN_BLUR_VARIANCE):
        return None
    before, after = _medians(training.blur_variance, synthetic.blur_variance)
    blur = float(np.sqrt(abs(after - before)))
    blurrier, sharper = ("synthetic", "training") if after > before else ("training", "synthetic")
    description = (
        f"The {blurrier} images are blurrier than the {sharper} images, as by a Gaussian of {blur:.1f} pixels."
    )
    return description, max(before, 0.0) ** 0.5, max(after, 0.0) ** 0.5, blur <= _COVERED_BLUR_PIXELS


def _noise(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if not _differ(training.noise, synthetic.noise, _MIN_NOISE):
        return None
    before, after = _medians(training.noise, synthetic.noise)
    description = (
        f"The noise in the head has a standard deviation of {after:.3f} in the synthetic images and of {before:.3f} in "
        "the training images, of an intensity range of 1."
    )
    return description, before, after, max(before, after) <= _COVERED_NOISE


def _frame(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if not _differ(training.framed, synthetic.framed, 1.0):
        return None
    before, after = float(training.framed.mean()), float(synthetic.framed.mean())
    description = (
        f"A bright line runs along an edge in {_percent(after)} of the synthetic images and in {_percent(before)} of "
        "the training images."
    )
    return description, before, after, True


def _text(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    before, after = training.marks.mean(axis=0), synthetic.marks.mean(axis=0)
    counts = [
        int(((present >= _TEXT_PRESENT) & (absent <= _TEXT_ABSENT)).sum())
        for present, absent in ((before, after), (after, before))
    ]
    if max(counts) < _TEXT_PIXELS:
        return None
    marked, clean = ("synthetic", "training") if counts[1] > counts[0] else ("training", "synthetic")
    description = (
        f"There is text or a mark in the corners of the {marked} images: {max(counts)} pixels outside the head are "
        f"bright in at least half of them, and in hardly any of the {clean} images."
    )
    return description, float(counts[0]), float(counts[1]), True


def _background(training: SideMeasures, synthetic: SideMeasures) -> _Found | None:
    if not _differ(training.background, synthetic.background, _MIN_BACKGROUND):
        return None
    before, after = _medians(training.background, synthetic.background)
    description = (
        f"The background has a level of {after:.2f} in the synthetic images and of {before:.2f} in the training "
        "images, of an intensity range of 1."
    )
    return description, before, after, True


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


_COMPARISONS: dict[str, Callable[[SideMeasures, SideMeasures], _Found | None]] = {
    "pose": _pose,
    "inverted": _inverted,
    "contrast": _contrast,
    "field_of_view": _field_of_view,
    "sharpness": _sharpness,
    "noise": _noise,
    "frame": _frame,
    "text": _text,
    "background": _background,
}

#: What may differ between two sides, in the order in which differences are listed.
SIDE_DIFFERENCE_KINDS = (*_READ_IN_PART, "hounsfield", *_COMPARISONS)
