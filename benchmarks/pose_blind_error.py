"""How near SSIM an embedding can come that does not see the pose of a slice, however well it is trained.

    python benchmarks/pose_blind_error.py --json pose_blind_error.json

The SSIM of two subjects depends on how each happens to lie in its frame. An embedding that rotations, shifts and zooms
do not change cannot know that; the best it can give is the mean SSIM over the poses that such subjects have. Here each
subject is drawn in the poses of others, which gives that mean, and the mean absolute error of it against the SSIM of
the two as they lie. A constant's error is printed beside it, and the SSIM of two subjects itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import Pose, measure_pose, move_to_pose, pairwise_ssim, standardize

SEED = 9101  # the cohort of benchmarks/shipped_weights.py


def pairs_of(images: Tensor) -> Tensor:
    """SSIM of all pairs, mean of both orders."""
    ssim = pairwise_ssim(standardize(images))
    rows, columns = torch.triu_indices(len(images), len(images), offset=1)
    return ((ssim + ssim.T) / 2)[rows, columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_subjects", type=int, default=80)
    parser.add_argument("--num_poses", type=int, default=32)
    parser.add_argument("--level", default="basal_ganglia")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    cohort = PhantomBrainDataset(options.num_subjects, seed=SEED, levels=[options.level], progress=False)
    images = torch.stack([item["image"].as_tensor() for item in cohort])
    wanted = pairs_of(images)
    pose = measure_pose(standardize(images))
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(wanted)
    for _ in range(options.num_poses):
        others = torch.randint(len(images), (len(images),), generator=generator)
        target = Pose(*(values[others] for values in pose))
        total += pairs_of(move_to_pose(images, pose, target, images.shape[2:]))
    best = total / options.num_poses
    numbers = {
        "num_subjects": options.num_subjects,
        "num_poses": options.num_poses,
        "median_ssim": wanted.median().item(),
        "ssim_of_98_percent": torch.quantile(wanted, torch.tensor([0.01, 0.99])).tolist(),
        "mae_of_the_mean_over_poses": (best - wanted).abs().mean().item(),
        "mae_of_a_constant": (wanted.median() - wanted).abs().mean().item(),
        "correlation": torch.corrcoef(torch.stack([best, wanted]))[0, 1].item(),
    }
    print(f"{len(wanted)} pairs of {options.num_subjects} phantom subjects ({options.level}): SSIM", end=" ")
    low, high = numbers["ssim_of_98_percent"]
    print(f"{numbers['median_ssim']:.2f} in the median, {low:.2f} to {high:.2f} in 98 % of the pairs")
    print(f"mean SSIM over {options.num_poses} poses against SSIM: mean absolute error", end=" ")
    print(f"{numbers['mae_of_the_mean_over_poses']:.3f}, correlation {numbers['correlation']:.2f}")
    print(f"a constant (their median) against SSIM: mean absolute error {numbers['mae_of_a_constant']:.3f}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
