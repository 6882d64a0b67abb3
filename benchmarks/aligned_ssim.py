"""How many pairs a second aligned SSIM verifies, and how well it undoes what was done to a copy.

    python benchmarks/aligned_ssim.py --json aligned_ssim.json
    python benchmarks/aligned_ssim.py --before OTHER_CHECKOUT
    python benchmarks/aligned_ssim.py --device cuda --num_pairs 1024

Copies of phantom subjects under a random mix of flips, rotation up to 12 degrees, shifts up to 4 pixels, zoom up to 5 %
and gamma 0.5 to 1.5, and pairs of unrelated subjects, which take longer. As one search tries some hundred candidates a
pair, the yardstick is what the same candidates would cost with scikit-image alone, without the resampling. Beside it,
what posed SSIM costs, which screens 64 candidates per image and says which of them are worth a search; and what the
deformation costs that an audit's verdicts include, with scikit-image's optical flow as the yardstick. The copy score is
what an audit calls: ten pairs for each image, with all that is measured on a pair.

With `--before` the package of another checkout is measured first, on the same images in a process of its own. With a
`--device` the same pairs are aligned on the CPU, on all cores, and there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.registration import optical_flow_ilk

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import NUM_SCREENED
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    aligned_ssim,
    copy_score,
    deform_onto,
    pose,
    posed_ssim,
    standardize,
)
from monai_deepssim.transforms import RandStructurePreserving

SEED = 9201
CANDIDATES = 60  # full-size SSIM evaluations of a search, about; its coarse stages come on top


NUM_COMPARED = 10
# The fastest counts: what else a machine does only slows a call.
ROUNDS = 5
SPEEDS = ("pairs_per_second", "pairs_per_second_with_deformation", "copy_scores_per_second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_pairs", type=int, default=400)
    parser.add_argument("--before", type=Path, help="folder of another checkout")
    parser.add_argument("--device", help="device whose alignment is compared with that of the CPU")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    if options.device is not None:
        numbers = measure_device(options.num_pairs, options.device)
    else:
        before = None if options.before is None else measure_other(options.before, options.num_pairs)
        numbers = measure(options.num_pairs)
        print_numbers(numbers)
        if before is not None:
            print_ratios(before, numbers, ("before", "now"))
            numbers["before"] = before
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


def measure_other(checkout: Path, num_pairs: int) -> dict:
    """Run this script with the package of another checkout."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--num_pairs", str(num_pairs), "--json", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
        subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True)
        return json.loads(path.read_text())


def draw_pairs(num_pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Changed copies, and what they are copies of. Above 400 pairs the subjects come again, with other changes."""
    dataset = PhantomBrainDataset(min(num_pairs, 400), seed=SEED, progress=False)
    images = torch.stack([dataset[i % len(dataset)]["image"].as_tensor() for i in range(num_pairs)])
    change = RandStructurePreserving(
        prob=0.8, rotation_radians=float(np.deg2rad(12)), shift_pixels=4, zoom=0.05
    ).set_random_state(SEED)
    return torch.stack([torch.as_tensor(change(image)) for image in images]), images


def measure_pairs(copies: torch.Tensor, images: torch.Tensor) -> dict:
    """Time alignment, deformation and copy score of copies and of unrelated images, where they are."""

    def timed(function: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            result = function().cpu()  # waits for the device
            seconds.append(time.perf_counter() - start)
        return min(seconds), result

    few = slice(0, 256)
    copy_score(copies[few], images[few])  # compiles, and sets up a device
    numbers = {}
    for name, partners in (("copies", images), ("unrelated", images.roll(1, 0))):
        queries = copies[: len(copies) // NUM_COMPARED].repeat_interleave(NUM_COMPARED, 0)
        others = partners[: len(queries)]
        seconds, ssim = timed(lambda partners=partners: aligned_ssim(copies, partners).ssim)
        with_deformation, deformed = timed(
            lambda partners=partners: aligned_ssim(copies, partners, deformation_cost=DEFORMATION_COST).ssim
        )
        scored, score = timed(lambda queries=queries, others=others: copy_score_in_steps(queries, others))
        numbers[name] = {
            "pairs_per_second": len(images) / seconds,
            "pairs_per_second_with_deformation": len(images) / with_deformation,
            "copy_scores_per_second": len(queries) / scored,
            "ssim": ssim.tolist(),
            "ssim_with_deformation": deformed.tolist(),
            "score": score.tolist(),
            "ssim_percentiles_0_5_50_95_100": np.percentile(ssim, [0, 5, 50, 95, 100]).round(4).tolist(),
        }
    return numbers


def copy_score_in_steps(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Score 256 pairs at a time, as an audit does."""
    return torch.cat([copy_score(*step).score for step in zip(x.split(256), y.split(256), strict=True)])


def measure_device(num_pairs: int, device: str) -> dict:
    """Time the pairs on the CPU and on a device, and print both."""
    copies, images = draw_pairs(num_pairs)
    numbers: dict[str, object] = {"threads": torch.get_num_threads(), "num_pairs": num_pairs, "device": device}
    for place in ("cpu", device):
        numbers[place] = measure_pairs(copies.to(place), images.to(place))
    cores, card = torch.get_num_threads(), torch.cuda.get_device_name() if "cuda" in device else device
    print(f"136 x 112 pixels, {num_pairs} pairs, {cores} threads of the CPU against {card}")
    print_ratios(numbers["cpu"], numbers[device], ("cpu", device))
    return numbers


def measure(num_pairs: int) -> dict:
    """Time everything; scores are given to compare them."""
    copies, images = draw_pairs(num_pairs)
    numbers: dict[str, object] = {"cores": os.cpu_count(), "num_pairs": num_pairs, **measure_pairs(copies, images)}
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

    return numbers


def print_numbers(numbers: dict) -> None:
    print(f"{'136 x 112 pixels':36}{'pairs a second':>16}   SSIM at 0, 5, 50, 95, 100 %")
    for name in ("copies", "unrelated"):
        row = numbers[name]
        print(f"{name:36}{row['pairs_per_second']:16.0f}   {row['ssim_percentiles_0_5_50_95_100']}")
        print(f"{f'{name}, with a deformation':36}{row['pairs_per_second_with_deformation']:16.0f}")
        print(f"{f'{name}, copy score':36}{row['copy_scores_per_second']:16.0f}")
    print(f"{'the deformation alone':36}{numbers['deformations_per_second']:16.0f}")
    flows = numbers["scikit_image_optical_flows_per_second_one_core"]
    print(f"{'scikit-image, optical flow at half size':36}{flows:16.1f}   (one core)")
    print(f"{f'posed SSIM, {NUM_SCREENED} an image':36}{numbers['posed_ssim_pairs_per_second']:16.0f}")
    name, speed = f"scikit-image, {CANDIDATES} SSIM each", numbers["scikit_image_pairs_per_second_one_core"]
    print(f"{name:36}{speed:16.1f}   (one core)")


def print_ratios(before: dict, after: dict, names: tuple[str, str]) -> None:
    print(f"\n{'pairs a second':44}{names[0]:>8}{names[1]:>8}{'ratio':>8}")
    for name in ("copies", "unrelated"):
        for speed in SPEEDS:
            first, second = before[name][speed], after[name][speed]
            print(f"{f'{name}, {speed}':44}{first:8.0f}{second:8.0f}{second / first:8.2f}")
        for score in ("ssim", "ssim_with_deformation", "score"):
            if score not in before[name]:
                continue
            gap = np.abs(np.subtract(before[name][score], after[name][score]))
            above = int((gap > 1e-3).sum())
            print(f"{name}, {score}: largest difference {gap.max():.1e}; {above} of {len(gap)} above 0.001")


if __name__ == "__main__":
    main()
