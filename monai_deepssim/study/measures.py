"""Scores to the rows of ``cells.csv``, with their intervals, and to the direction of a curve."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.linalg import LinAlgWarning
from scipy.stats import fisher_exact

from monai_deepssim.calibration import proportion_interval
from monai_deepssim.metrics import compute_fid
from monai_deepssim.study.grid import Factor, Setting
from monai_deepssim.study.judges import Controls

__all__ = ["SHARES", "compute_fid_of_statistics", "find_direction", "measure_cell", "memorized_by_repetition"]

#: Columns of shares, and what they are called.
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


def measure_cell(
    setting: Setting, steps: int, batch_size: int, scores: Sequence[Mapping[str, np.ndarray]], controls: Controls
) -> pd.DataFrame:
    """Measure a cell: one row over all its trainings, whose ``seed`` is ``all``, and one row per training.

    A share has its exact binomial interval (``_low``, ``_high``): how far more samples *of these trainings* might move
    it. Over all trainings it also has the interval over trainings (``_clustered_low``, ``_clustered_high``): how far
    *other trainings* might. That of few trainings is wide, as it should be. ``passes`` is how often each image was
    seen, on average over the images of the training set with their repetitions. ``fid`` compares samples with held-out
    images by 15 statistics; over all trainings it is their mean and not that of all samples together, since FID falls
    with their number. It is NaN with too few samples.

    Args:
        setting: The cell.
        steps: Number of optimisation steps.
        batch_size: Images per step.
        scores: Scores of each training, see :meth:`~.judges.Judges.score`, with ``copies``, how often each training
            image is there.
        controls: Thresholds and limits.

    Returns:
        The rows, with the columns of ``cells.csv``.
    """
    trainings = [_judge(own, controls) for own in scores]
    fids = [compute_fid_of_statistics(own["statistics"], controls.holdout_statistics) for own in scores]
    passes = float(np.mean([steps / np.ceil(own["copies"].sum() / batch_size) for own in scores]))
    cell = {**asdict(setting), "steps": steps, "passes": passes}
    pooled = {**cell, "seed": "all", "fid": float(np.mean(fids))}
    for name in SHARES:
        pooled |= _share_columns(name, [flags[name] for flags in trainings])
    rows = [pooled]
    for seed, (flags, fid) in enumerate(zip(trainings, fids, strict=True)):
        rows.append({**cell, "seed": str(seed), "fid": fid})
        for name in SHARES:
            columns = _share_columns(name, [flags[name]])
            rows[-1] |= {column: value for column, value in columns.items() if "_clustered_" not in column}
    return pd.DataFrame(rows)


def _judge(scores: Mapping[str, np.ndarray], controls: Controls) -> dict[str, np.ndarray]:
    """Which images of a training each of :data:`SHARES` counts."""
    return {
        "copies_deepssim": scores["aligned_ssim"] > controls.aligned_ssim_threshold,
        "copies_copy_detection": scores["correlation"] > controls.correlation_threshold,
        "looks_real": controls.looks_real(scores),
        "memorized_deepssim": _memorized(scores, controls),
        "false_alarms_deepssim": scores["holdout_aligned_ssim"] > controls.aligned_ssim_threshold,
        "false_alarms_copy_detection": scores["holdout_correlation"] > controls.correlation_threshold,
    }


def _share_columns(name: str, flags_of_trainings: Sequence[np.ndarray]) -> dict[str, Any]:
    flags = np.concatenate(flags_of_trainings)
    trainings = np.repeat(np.arange(len(flags_of_trainings)), [len(own) for own in flags_of_trainings])
    share = proportion_interval(flags)
    clustered = proportion_interval(flags, groups=trainings.astype(str).tolist()) if trainings.any() else share
    return {
        name: share.value,
        f"{name}_low": share.low,
        f"{name}_high": share.high,
        f"{name}_clustered_low": clustered.low,
        f"{name}_clustered_high": clustered.high,
        f"{name}_total": share.total,
    }


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


def find_direction(factor: Factor, curve: pd.DataFrame, share: str) -> dict[str, Any]:
    """Say where a curve goes from its lowest to its highest level, beside where it was expected to go.

    Args:
        factor: What changes along the curve.
        curve: Rows of :func:`measure_cell`, by ascending level.
        share: One of :data:`SHARES`.

    Returns:
        By name: ``factor``, ``expected`` (in words), ``share``; ``from`` and ``to``, the levels; ``difference`` of the
        share; ``num_agreeing``, how many trainings, paired by seed, differ in that direction; ``p_value`` of Fisher's
        exact test on all samples, as if they were independent; and ``measured``: ``as expected``, ``against
        expectation``, or ``not clear`` unless all seeds agree and p < 0.05.
    """
    levels = curve[curve["seed"] == "all"].to_dict("records")
    ends = [levels[0], levels[-1]]
    is_training = curve["seed"] != "all"
    first, last = (curve[is_training & (curve[factor.name] == end[factor.name])][share].to_numpy() for end in ends)
    difference = ends[1][share] - ends[0][share]
    num_agreeing = int(((last - first) * difference > 0).sum())
    totals = [end[f"{share}_total"] for end in ends]
    counts = [round(end[share] * total) for end, total in zip(ends, totals, strict=True)]
    p_value = float(fisher_exact([[n, total - n] for n, total in zip(counts, totals, strict=True)]).pvalue)
    measured = "as expected" if np.sign(difference) == factor.expected else "against expectation"
    return {
        "factor": factor.name,
        "expected": factor.expectation,
        "share": share,
        "from": ends[0][factor.name],
        "to": ends[1][factor.name],
        "difference": difference,
        "num_agreeing": num_agreeing,
        "p_value": p_value,
        "measured": measured if num_agreeing == len(first) and p_value < _LEVEL else "not clear",
    }


def memorized_by_repetition(scores: Sequence[Mapping[str, np.ndarray]], controls: Controls) -> list[dict[str, Any]]:
    """Say what share of the training images has a copy, by how often they were there.

    Args:
        scores: Scores of each training, with ``copies``.
        controls: Thresholds.

    Returns:
        From the rarest, in up to four groups: lowest (``from``) and highest (``to``) number of times, the share
        (``value``) with its ``interval``, ``count`` and ``total``.

    Example:
        >>> import types
        >>> own = {"copies": np.array([1, 1, 9, 9]), "nearest": np.array([2, 0]), "aligned_ssim": np.array([0.9, 0.1])}
        >>> groups = memorized_by_repetition([own], types.SimpleNamespace(aligned_ssim_threshold=0.8))
        >>> [(group["from"], group["to"], group["value"]) for group in groups]
        [(1, 1, 0.0), (9, 9, 0.5)]
    """
    copies = np.concatenate([own["copies"] for own in scores])
    memorized = np.concatenate([_memorized(own, controls) for own in scores])
    counts = np.unique(copies)
    groups = []
    for values in np.array_split(counts, min(_NUM_GROUPS, len(counts))):
        share = proportion_interval(memorized[np.isin(copies, values)])
        interval = {"value": share.value, "interval": [share.low, share.high]}
        groups.append(
            {"from": int(values[0]), "to": int(values[-1]), **interval, "count": share.count, "total": share.total}
        )
    return groups


def _memorized(scores: Mapping[str, np.ndarray], controls: Controls) -> np.ndarray:
    """Which training images have a copy, ``(M,)``."""
    is_copy = scores["aligned_ssim"] > controls.aligned_ssim_threshold
    return np.isin(np.arange(len(scores["copies"])), scores["nearest"][is_copy])
