"""Where the thresholds of whole volumes lie: the scores of strangers and of copies, by the size of the box.

    python benchmarks/volume_thresholds.py [--sizes 32,48,64] [--json FILE]

Phantom volumes of subjects that no other benchmark draws. The gallery are training volumes; a stranger is a volume of
another subject after one of the mild changes of an audit's controls, in turn, and its score is the highest of the three
gallery volumes that coarse volumes propose, as in an audit. A copy is a gallery volume after each of these changes,
scored with its source. For a false-positive rate the threshold is the score that this share of the strangers exceeds;
its interval is that of the quantile by order statistics, without an assumption on the scores (95 %).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.calibration import MILD_CHANGES, MILD_VOLUME_CHANGES, VOLUME_THRESHOLDS, proportion_interval
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import AlignedDetector, DeepSSIM3DDetector
from monai_deepssim.transforms import VOLUME_CONTROL_CHANGES

KEEP = 3
#: Changes after which an audit asks for copies to be found, but for mixing with another subject.
CHANGES = [
    change
    for change in VOLUME_CONTROL_CHANGES
    if change.name in MILD_CHANGES | MILD_VOLUME_CHANGES and not change.needs_partner
]


def cohort(num_subjects: int, seed: int, size: Sequence[int]) -> Tensor:
    """Phantom volumes ``(N, 1, *size)``."""
    dataset = PhantomBrainDataset(num_subjects, seed=seed, volume=True, image_size=size, progress=False, cache_rate=0.0)
    return torch.stack([dataset[i]["image"].as_tensor() for i in tqdm(range(num_subjects), desc=f"phantoms, {size}")])


def quantile_interval(scores: np.ndarray, share: float) -> tuple[float, float, float]:
    """The score that a share of the scores exceeds, and a 95 % interval of it; infinite where no score bounds it."""
    ordered = np.sort(scores)
    n = len(ordered)
    low, high = binom.ppf([0.025, 0.975], n, 1 - share).astype(int)
    at = [ordered[min(place, n - 1)] for place in (int(np.ceil(n * (1 - share))) - 1, max(low - 1, 0))]
    return float(at[0]), float(at[1]), float(ordered[high]) if high < n else float("inf")


def measure(size: tuple[int, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Scores of strangers and of copies at one size."""
    gallery = cohort(options.num_training, options.seed, size)
    strangers = cohort(options.num_strangers, options.seed + 1, size)
    way = AlignedDetector(DeepSSIM3DDetector(), top_k=KEEP, num_screened=KEEP)
    way.fit(gallery.split(1))
    others, copies = [], {change.name: [] for change in CHANGES}
    for number, volume in enumerate(tqdm(strangers, desc="strangers")):
        change = CHANGES[number % len(CHANGES)]
        changed = change.apply(volume, None, seed=number, image_size=size)
        others.append(float(way.search(way.represent_batch(changed[None]), 1)[0][0, 0]))
    for change in tqdm(CHANGES, desc="copies"):
        for row in range(options.num_copies):
            changed = change.apply(gallery[row], None, seed=row, image_size=size)
            scores, rows = way.search(way.represent_batch(changed[None]), KEEP)
            is_source = (rows[0] == row).numpy()
            copies[change.name].append(float(np.where(is_source, scores[0].numpy(), -1.0).max()))
    lowest = min(copies, key=lambda name: min(copies[name]))
    scores = np.array(others)
    return {
        "size": list(size),
        "strangers": others,
        "copies": copies,
        "highest_stranger": float(scores.max()),
        "lowest_copy": min(copies[lowest]),
        "lowest_copy_after": lowest,
        "threshold": quantile_interval(scores, options.fpr),
        "called": int((scores > VOLUME_THRESHOLDS.duplicate).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="32,48,64", help="sides of the cubes")
    parser.add_argument("--num_training", type=int, default=24)
    parser.add_argument("--num_strangers", type=int, default=60)
    parser.add_argument("--num_copies", type=int, default=6, help="of each change")
    parser.add_argument("--fpr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=5501)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    limit = VOLUME_THRESHOLDS.duplicate
    print(
        f"| box | strangers, highest | copies, lowest (after) | threshold at FPR {options.fpr:g} (95 % interval) "
        f"| strangers above {limit} | copies found above it |\n|{' --- |' * 6}"
    )
    rows = []
    for side in map(int, options.sizes.split(",")):
        row = measure((side,) * 3, options)
        rows.append(row)
        middle, low, high = row["threshold"]
        share = proportion_interval(np.array(row["strangers"]) > limit)
        all_copies = [score for scores in row["copies"].values() for score in scores]
        found = sum(score > limit for score in all_copies)
        end = f"{high:.3f}" if np.isfinite(high) else "no upper end"
        print(
            f"| {side} x {side} x {side} | {share.total}, {row['highest_stranger']:.3f} "
            f"| {len(all_copies)}, {row['lowest_copy']:.3f} ({row['lowest_copy_after']}) "
            f"| {middle:.3f} ({low:.3f} to {end}) | {share.count} (up to {100 * share.high:.0f} %) "
            f"| {found} of {len(all_copies)} |",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
