"""What a deformation at its price makes of copies, of similar images and of strangers, with and without a mild warp.

    python benchmarks/deformation.py --volume Colin=ch2bet.nii.gz --volume ICBM=icbm152.nii.gz --json deformation.json

The pairs are those of the detector benchmark on tuning seeds: duplicates, small warps and neighbouring slices,
different subjects. AUC is that of duplicates against all others. Every other axial slice of a real volume (1 mm, each
of another person) is compared with itself, with the slice 3 mm above it, and with the slices of the other volumes: the
highest score of the ten that are most like it in one pose.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from shipped_weights import read_slices
from sklearn.metrics import roc_auc_score
from torch import Tensor

from monai_deepssim.benchmark.pairs import make_phantom_pairs
from monai_deepssim.benchmark.queries import perturb
from monai_deepssim.metrics import CLASS_NAMES
from monai_deepssim.similarity import DEFORMATION_COST, aligned_ssim, coarse_structure, pose, posed_ssim, screen
from monai_deepssim.transforms import Perturbation

NEIGHBOR, TOP_K, WARP_SEED = 3, 10, 700
TUNING_SEEDS = (9401, 5001, 9301)
NUM_PAIRS = 300
PRICES = {
    "not deformed": None,
    **{f"{price} a pixel": price for price in (0.0, DEFORMATION_COST / 2, DEFORMATION_COST)},
}


def score(x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    return {name: aligned_ssim(x, y, deformation_cost=price).ssim.numpy() for name, price in PRICES.items()}


def score_volume(slices: Tensor, others: Tensor, row: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores of a volume's slices under a perturbation, and the class of each pair."""
    rows = torch.arange(0, len(slices) - NEIGHBOR, 2)
    change = Perturbation(row).set_random_state(WARP_SEED)
    x = torch.stack([torch.as_tensor(change(slices[i])) for i in rows.tolist()])
    posed, structure = pose(others), coarse_structure(others)
    near = torch.stack(
        [
            screen(posed_ssim(image[None], posed)[0], structure @ vector, TOP_K)
            for image, vector in zip(pose(x), coarse_structure(x), strict=True)
        ]
    )
    strangers = score(x.repeat_interleave(TOP_K, 0), others[near.flatten()])
    same, above = score(x, slices[rows]), score(x, slices[rows + NEIGHBOR])
    scores = {
        name: np.concatenate([strangers[name].reshape(-1, TOP_K).max(1), same[name], above[name]]) for name in PRICES
    }
    return scores, np.repeat([0, 1, 2], len(x))


def summarize(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | list[float]]:
    classes = {name: labels == number for number, name in enumerate(CLASS_NAMES)}
    return {
        "auc": float(roc_auc_score(classes["duplicate"], scores)),
        **{name: np.percentile(scores[rows], [2, 50, 98]).round(4).tolist() for name, rows in classes.items()},
    }


def print_row(name: str, row: dict) -> None:
    percentiles = "".join(f"   {row[key][0]:.3f} {row[key][1]:.3f} {row[key][2]:.3f}" for key in CLASS_NAMES)
    print(f"{name:32}{row['auc']:7.4f}{percentiles}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", action="append", default=[], metavar="NAME=FILE", help="a real volume (NIfTI)")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    numbers: dict[str, dict] = {}
    if len(options.volume) == 1:
        parser.error("--volume: give two volumes or more, of different people, or none")
    heads = "".join(f"   {name + ' 2/50/98 %':17}" for name in CLASS_NAMES)
    print(f"{'':32}{'AUC':>7}{heads}")
    for seed in TUNING_SEEDS:
        pairs = make_phantom_pairs(NUM_PAIRS, NUM_PAIRS, seed, (136, 112))
        for row in ("none", "warp"):
            x = perturb(pairs, row, seed)[pairs.synthetic_index]
            for name, scores in score(x, pairs.gallery[pairs.real_index]).items():
                numbers[f"{seed}, {row}, {name}"] = summarize(scores, pairs.labels)
                print_row(f"{seed} {row}, {name}", numbers[f"{seed}, {row}, {name}"])
    volumes = {name: read_slices(path) for name, _, path in (volume.partition("=") for volume in options.volume)}
    for name, slices in volumes.items():
        others = torch.cat([other for key, other in volumes.items() if key != name])
        for row in ("none", "warp"):
            scores, labels = score_volume(slices, others, row)
            for price, values in scores.items():
                numbers[f"{name}, {row}, {price}"] = summarize(values, labels)
                print_row(f"{name} {row}, {price}", numbers[f"{name}, {row}, {price}"])
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
