"""Where the thresholds of aligned SSIM come from, and how they do on subjects that did not choose them.

    python benchmarks/aligned_ssim_thresholds.py --json aligned_ssim_thresholds.json

As in an audit, a score is the highest aligned SSIM over ten of 400 training images: of the 64 nearest by the shipped
embedder those of the highest SSIM in one pose. Queries of three classes, 200 of each: copies under the published p=0.8
mix, half of them blurred or with noise of 0.02 on top; similar images, warps of a training image whose SSIM to it is
0.65 to 0.80, under the same mix; images of other subjects. The thresholds are chosen by the best F1 on one set of
seeds, with the deformation of a verdict and without one, and measured on another.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from shipped_weights import apply, changes, cohort, embed
from torch import Tensor, nn

from monai_deepssim.calibration import choose_threshold, measure_threshold
from monai_deepssim.metrics import (
    ALIGNED_SSIM_THRESHOLDS,
    NUM_SCREENED,
    ComparedImages,
    tabulate_candidates,
    verify_candidates,
)
from monai_deepssim.networks import load_deepssim
from monai_deepssim.search import NearestNeighbors
from monai_deepssim.similarity import DEFORMATION_COST
from monai_deepssim.transforms import GradedVariants
from monai_deepssim.workflow.bundles import find_bundle

TUNING_SEEDS, MEASURING_SEEDS = (9301, 9302), (9303, 9304)
NUM_TRAINING, NUM_QUERIES, TOP_K = 400, 200, 10


def make_queries(training: Tensor, other_seed: int) -> dict[str, Tensor]:
    mix, blur, noise = (changes()[name] for name in ("p=0.8 mix", "blur, sigma 1 pixel", "noise 0.02"))
    copies = apply(mix, training[:NUM_QUERIES], other_seed)
    quarter = NUM_QUERIES // 4
    copies[:quarter] = apply(blur, copies[:quarter], other_seed)
    copies[quarter : 2 * quarter] = apply(noise, copies[quarter : 2 * quarter], other_seed)
    warp = GradedVariants(num_variants=1, ssim_range=(0.65, 0.80)).set_random_state(other_seed)
    similar = torch.stack([torch.as_tensor(warp(image)[2]) for image in training[NUM_QUERIES:]])
    return {
        "duplicate": copies,
        "similar": apply(mix, similar, other_seed + 1),
        "different": cohort(NUM_QUERIES, other_seed),
    }


def score(queries: Tensor, training: Tensor, embedder: nn.Module, deformation_cost: float | None) -> Tensor:
    search = NearestNeighbors().fit(embed(embedder, training, "cpu"))
    cosines, proposed = search.kneighbors(embed(embedder, queries, "cpu"), NUM_SCREENED)
    pairs = verify_candidates(
        tabulate_candidates(proposed.numpy(), cosines.numpy()),
        ComparedImages(queries.__getitem__),
        ComparedImages(training.__getitem__),
        keep=TOP_K,
        deformation_cost=deformation_cost,
    )
    return torch.from_numpy(pairs.groupby("query")["aligned_ssim"].max().to_numpy())


def score_classes(
    seeds: tuple[int, int], embedder: nn.Module, deformation_cost: float | None = DEFORMATION_COST
) -> dict[str, np.ndarray]:
    training = cohort(NUM_TRAINING, seeds[0])
    queries = make_queries(training, seeds[1])
    return {name: score(images, training, embedder, deformation_cost).numpy() for name, images in queries.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    embedder = load_deepssim(find_bundle("deepssim_brain_mri") / "models" / "model.pt")
    tuning, measuring = (score_classes(seeds, embedder) for seeds in (TUNING_SEEDS, MEASURING_SEEDS))
    undeformed = score_classes(TUNING_SEEDS, embedder, deformation_cost=None)

    numbers: dict[str, object] = {"stored": ALIGNED_SSIM_THRESHOLDS}
    print(f"{'score of':12}" + "".join(f"{f'{p} %':>8}" for p in (0, 1, 5, 50, 95, 99, 100)))
    for name, values in tuning.items():
        percentiles = np.percentile(values, [0, 1, 5, 50, 95, 99, 100])
        numbers[name] = percentiles.round(4).tolist()
        print(f"{name:12}" + "".join(f"{value:8.3f}" for value in percentiles))
    for position, (name, above) in enumerate((("similar", ("duplicate", "similar")), ("duplicate", ("duplicate",)))):
        parts = {"t": tuning, "m": measuring, "u": undeformed}
        scores = {key: np.concatenate(list(values.values())) for key, values in parts.items()}
        labels = np.concatenate([np.full(len(values), key in above) for key, values in tuning.items()])
        chosen = choose_threshold(scores["t"], labels, criterion="f1")
        stored = measure_threshold(ALIGNED_SSIM_THRESHOLDS[position], scores["m"], labels)
        without = choose_threshold(scores["u"], labels, criterion="f1")
        numbers[f"threshold_of_{name}"] = {
            "chosen": chosen.as_json(),
            "chosen_without_deformation": without.as_json(),
            "stored_on_other_seeds": stored.as_json(),
        }
        print(
            f"\n{name} above {chosen.value:.3f} (chosen; {without.value:.3f} without deformation), "
            f"{ALIGNED_SSIM_THRESHOLDS[position]} (stored); on other seeds:"
        )
        for rate in ("precision", "recall", "fpr"):
            share = getattr(stored, rate)
            print(f"  {rate:10} {share.value:.3f}, 95 % interval {share.low:.3f} to {share.high:.3f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
