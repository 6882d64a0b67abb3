"""Scores to the numbers of a cell, with their intervals, and to the direction of a curve."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from scipy.stats import fisher_exact

from monai_deepssim.calibration import Proportion, proportion_interval
from monai_deepssim.metrics import compute_fid
from monai_deepssim.study.grid import Factor, Setting
from monai_deepssim.study.judges import Controls

__all__ = [
    "SHARES",
    "CellMeasures",
    "Direction",
    "Share",
    "compute_fid_of_statistics",
    "find_direction",
    "measure_cell",
    "memorized_by_repetition",
]

#: Shares of a cell, and what they are called.
SHARES: dict[str, str] = {
    "copies_deepssim": "copies, DeepSSIM verified",
    "copies_copy_detection": "copies, copy detection",
    "looks_real": "samples that look real",
    "memorized_deepssim": "training images with a copy, DeepSSIM verified",
    "false_alarms_deepssim": "held-out images called copies, DeepSSIM verified",
    "false_alarms_copy_detection": "held-out images called copies, copy detection",
}
# Of training images, by how often they were there.
_NUM_GROUPS = 4
# Of Fisher's exact test, below which a difference is more than chance.
_LEVEL = 0.05


@dataclass(frozen=True)
class Share:
    """A share over all trainings of a cell.

    Attributes:
        pooled: with the exact binomial interval: how far more samples *of these trainings* might move it.
        clustered: the same share with the interval over trainings: how far *other trainings* might. That of few
            trainings is wide, as it should be.
        by_seed: of each training alone.
    """

    pooled: Proportion
    clustered: Proportion
    by_seed: tuple[Proportion, ...]

    @staticmethod
    def of(flags: Sequence[np.ndarray]) -> Share:
        """Measure flags, an array a training.

        Example:
            >>> share = Share.of([np.array([True, True]), np.array([False, False])])
            >>> share.pooled.value, share.clustered.low <= share.pooled.low
            (0.5, True)
        """
        together = np.concatenate(flags)
        trainings = [str(number) for number, own in enumerate(flags) for _ in own]
        pooled = proportion_interval(together)
        clustered = proportion_interval(together, groups=trainings) if len(flags) > 1 else pooled
        return Share(pooled, clustered, tuple(proportion_interval(own) for own in flags))


@dataclass(frozen=True)
class CellMeasures:
    """What was measured in a cell.

    Attributes:
        setting: of the cell.
        steps: optimisation steps.
        passes: how often each image was seen, on average over the images of the training set with their repetitions.
        shares: by the names of :data:`SHARES`.
        fid: of samples to held-out images, by 15 statistics, the mean over trainings; NaN with too few. Not of all
            samples together: FID falls with their number.
        fid_by_seed: of each training alone.
    """

    setting: Setting
    steps: int
    passes: float
    shares: dict[str, Share]
    fid: float
    fid_by_seed: tuple[float, ...]


def measure_cell(
    setting: Setting, steps: int, batch_size: int, scores: Sequence[Mapping[str, np.ndarray]], controls: Controls
) -> CellMeasures:
    """Measure a cell.

    Args:
        setting: of the cell.
        steps: optimisation steps.
        batch_size: images a step.
        scores: of each training, see :meth:`~.judges.Judges.score`, with ``copies``, how often each training image is
            there.
        controls: thresholds and limits.

    Returns:
        Its numbers.
    """
    flags: dict[str, list[np.ndarray]] = {name: [] for name in SHARES}
    for own in scores:
        is_copy = own["aligned_ssim"] > controls.aligned_ssim_threshold
        flags["copies_deepssim"].append(is_copy)
        flags["copies_copy_detection"].append(own["correlation"] > controls.correlation_threshold)
        flags["looks_real"].append(controls.looks_real(own))
        flags["memorized_deepssim"].append(_memorized(own, controls))
        flags["false_alarms_deepssim"].append(own["holdout_aligned_ssim"] > controls.aligned_ssim_threshold)
        flags["false_alarms_copy_detection"].append(own["holdout_correlation"] > controls.correlation_threshold)
    fids = tuple(compute_fid_of_statistics(own["statistics"], controls.holdout_statistics) for own in scores)
    return CellMeasures(
        setting=setting,
        steps=steps,
        passes=float(np.mean([steps / np.ceil(own["copies"].sum() / batch_size) for own in scores])),
        shares={name: Share.of(own) for name, own in flags.items()},
        fid=float(np.mean(fids)),
        fid_by_seed=fids,
    )


def compute_fid_of_statistics(first: np.ndarray, second: np.ndarray) -> float:
    """FID of two sets of :class:`~monai_deepssim.generators.ImageStatistics`; NaN where one is too small for it.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(40, 15))
        >>> round(compute_fid_of_statistics(rows, rows + 1), 3), compute_fid_of_statistics(rows, rows[:15])
        (15.0, nan)
    """
    if min(len(first), len(second)) <= first.shape[1] or not np.isfinite(first).all():
        return float("nan")
    with warnings.catch_warnings():
        # Images that are all black have a singular covariance, of which the root is a limit.
        warnings.simplefilter("ignore", LinAlgWarning)
        return float(compute_fid(torch.from_numpy(first), torch.from_numpy(second)))


@dataclass(frozen=True)
class Direction:
    """Where a curve goes from its lowest to its highest level, beside where it was expected to go.

    Attributes:
        factor: of the curve.
        share: of :data:`SHARES`.
        low: the lowest level.
        high: the highest level.
        difference: of the share, highest less lowest level.
        num_agreeing: trainings, paired by seed, that differ in the direction of ``difference``.
        num_seeds: trainings at each level.
        p_value: of Fisher's exact test on all samples, as if they were independent.
    """

    factor: Factor
    share: str
    low: Setting
    high: Setting
    difference: float
    num_agreeing: int
    num_seeds: int
    p_value: float

    @property
    def verdict(self) -> str:
        """``as expected``, ``against expectation``, or ``not clear``: it is clear if all seeds agree and p < 0.05."""
        if self.num_agreeing < self.num_seeds or self.p_value >= _LEVEL:
            return "not clear"
        return "as expected" if np.sign(self.difference) == self.factor.expected else "against expectation"


def find_direction(factor: Factor, cells: Sequence[CellMeasures], share: str) -> Direction:
    """Compare the ends of a curve.

    Args:
        factor: of the curve.
        cells: its cells, by ascending level.
        share: name of the share.

    Returns:
        The direction.
    """
    first, last = cells[0].shares[share], cells[-1].shares[share]
    differences = [b.value - a.value for a, b in zip(first.by_seed, last.by_seed, strict=True)]
    difference = last.pooled.value - first.pooled.value
    table = [[one.pooled.count, one.pooled.total - one.pooled.count] for one in (first, last)]
    return Direction(
        factor=factor,
        share=share,
        low=cells[0].setting,
        high=cells[-1].setting,
        difference=difference,
        num_agreeing=sum(bool(own * difference > 0) for own in differences),
        num_seeds=len(differences),
        p_value=float(fisher_exact(table).pvalue),
    )


def memorized_by_repetition(
    scores: Sequence[Mapping[str, np.ndarray]], controls: Controls
) -> list[tuple[int, int, Proportion]]:
    """Say what share of the training images has a copy, by how often they were there.

    Args:
        scores: of each training, with ``copies``.
        controls: thresholds.

    Returns:
        From the rarest: lowest and highest number of times, in up to four groups, and the share.

    Example:
        >>> import types
        >>> own = {"copies": np.array([1, 1, 9, 9]), "nearest": np.array([2, 0]), "aligned_ssim": np.array([0.9, 0.1])}
        >>> groups = memorized_by_repetition([own], types.SimpleNamespace(aligned_ssim_threshold=0.8))
        >>> [(low, high, share.value) for low, high, share in groups]
        [(1, 1, 0.0), (9, 9, 0.5)]
    """
    copies = np.concatenate([own["copies"] for own in scores])
    memorized = np.concatenate([_memorized(own, controls) for own in scores])
    counts = np.unique(copies)
    groups = []
    for values in np.array_split(counts, min(_NUM_GROUPS, len(counts))):
        own = np.isin(copies, values)
        groups.append((int(values[0]), int(values[-1]), proportion_interval(memorized[own])))
    return groups


def _memorized(scores: Mapping[str, np.ndarray], controls: Controls) -> np.ndarray:
    """Which training images have a copy, ``(M,)``."""
    is_copy = scores["aligned_ssim"] > controls.aligned_ssim_threshold
    return np.isin(np.arange(len(scores["copies"])), scores["nearest"][is_copy])
