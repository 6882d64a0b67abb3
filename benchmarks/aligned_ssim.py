"""How many pairs a second aligned SSIM verifies, and how well it undoes what was done to a copy.

    python benchmarks/aligned_ssim.py --json aligned_ssim.json

Copies of phantom subjects under a random mix of flips, rotation up to 12 degrees, shifts up to 4 pixels, zoom up to 5 %
and gamma 0.5 to 1.5, and pairs of unrelated subjects, which take longer. As one search tries some hundred candidates a
pair, the yardstick is what the same candidates would cost with scikit-image alone, without the resampling. Beside it,
what posed SSIM costs, which screens 64 candidates per image and says which of them are worth a search; and what the
deformation costs that an audit's verdicts include, with scikit-image's optical flow as the yardstick.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.registration import optical_flow_ilk

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import NUM_SCREENED
from monai_deepssim.similarity import DEFORMATION_COST, aligned_ssim, deform_onto, pose, posed_ssim, standardize
from monai_deepssim.transforms import RandStructurePreserving

SEED = 9201
CANDIDATES = 60  # full-size SSIM evaluations of a search, about; its coarse stages come on top


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_pairs", type=int, default=400)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    dataset = PhantomBrainDataset(options.num_pairs, seed=SEED, progress=False)
    images = torch.stack([dataset[i]["image"].as_tensor() for i in range(len(dataset))])
    change = RandStructurePreserving(
        prob=0.8, rotation_radians=float(np.deg2rad(12)), shift_pixels=4, zoom=0.05
    ).set_random_state(SEED)
    copies = torch.stack([torch.as_tensor(change(image)) for image in images])
    aligned_ssim(copies[:2], images[:2], deformation_cost=DEFORMATION_COST)  # compiles

    numbers: dict[str, object] = {"cores": os.cpu_count(), "num_pairs": options.num_pairs}
    for name, partners in (("copies", images), ("unrelated", images.roll(1, 0))):
        start = time.perf_counter()
        ssim = aligned_ssim(copies, partners).ssim
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        aligned_ssim(copies, partners, deformation_cost=DEFORMATION_COST)
        with_deformation = time.perf_counter() - start
        numbers[name] = {
            "pairs_per_second": len(images) / seconds,
            "pairs_per_second_with_deformation": len(images) / with_deformation,
            "ssim_percentiles_0_5_50_95_100": np.percentile(ssim, [0, 5, 50, 95, 100]).round(4).tolist(),
        }
    posed_ssim(pose(copies[:2]), pose(images[:2]))  # compiles
    start = time.perf_counter()
    queries, candidates = pose(copies), pose(images)
    for position, query in enumerate(queries):
        posed_ssim(query[None], candidates.roll(-position, 0)[:NUM_SCREENED])
    seconds = time.perf_counter() - start
    numbers["posed_ssim_pairs_per_second"] = len(queries) * min(NUM_SCREENED, len(images)) / seconds
    x, y = (standardize(batch)[:, 0].numpy() for batch in (copies[:8], images[:8]))
    start = time.perf_counter()
    for a, b in zip(x, y, strict=True):
        for _ in range(CANDIDATES):
            structural_similarity(a, b, data_range=a.max() - a.min())
    numbers["scikit_image_pairs_per_second_one_core"] = len(x) / (time.perf_counter() - start)
    start = time.perf_counter()
    deform_onto(copies, images)
    numbers["deformations_per_second"] = len(copies) / (time.perf_counter() - start)
    start = time.perf_counter()
    for a, b in zip(x, y, strict=True):
        optical_flow_ilk(a[::2, ::2], b[::2, ::2], radius=6, num_warp=8)
    numbers["scikit_image_optical_flows_per_second_one_core"] = len(x) / (time.perf_counter() - start)

    print(f"{'136 x 112 pixels':36}{'pairs a second':>16}   SSIM at 0, 5, 50, 95, 100 %")
    for name in ("copies", "unrelated"):
        row: dict = numbers[name]  # type: ignore[assignment]
        print(f"{name:36}{row['pairs_per_second']:16.0f}   {row['ssim_percentiles_0_5_50_95_100']}")
        print(f"{f'{name}, with a deformation':36}{row['pairs_per_second_with_deformation']:16.0f}")
    print(f"{'the deformation alone':36}{numbers['deformations_per_second']:16.0f}")
    flows = numbers["scikit_image_optical_flows_per_second_one_core"]
    print(f"{'scikit-image, optical flow at half size':36}{flows:16.1f}   (one core)")
    print(f"{f'posed SSIM, {NUM_SCREENED} an image':36}{numbers['posed_ssim_pairs_per_second']:16.0f}")
    name, speed = f"scikit-image, {CANDIDATES} SSIM each", numbers["scikit_image_pairs_per_second_one_core"]
    print(f"{name:36}{speed:16.1f}   (one core)")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
