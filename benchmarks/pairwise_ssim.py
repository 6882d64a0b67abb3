"""Pairs a second of ``pairwise_ssim`` beside scikit-image on all cores, in one run.

python benchmarks/pairwise_ssim.py --json pairwise_ssim.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from monai_deepssim.similarity import pairwise_ssim, standardize

_images: np.ndarray  # a worker's copy of the images


def _keep(images: np.ndarray) -> None:
    global _images
    _images = images


def _row(i: int) -> list[float]:
    """SSIM of image i with all images, by scikit-image."""
    x = _images[i]
    return [structural_similarity(x, y, data_range=float(x.max() - x.min())) for y in _images]


def _time_scikit_image(images: np.ndarray, rows: int, processes: int) -> tuple[float, np.ndarray]:
    with multiprocessing.get_context("spawn").Pool(processes, _keep, (images,)) as pool:
        pool.map(_row, range(processes))  # the imports of the workers are not what is measured
        start = time.perf_counter()
        result = np.array(pool.map(_row, range(rows), chunksize=1))
        return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_images", type=int, default=256)
    parser.add_argument("--rows", type=int, default=136)
    parser.add_argument("--columns", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both, in turn; the median is reported")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores)
    noise = torch.rand(options.num_images, 1, options.rows, options.columns, generator=torch.Generator().manual_seed(0))
    images = standardize(torch.nn.functional.avg_pool2d(noise, 5, 1, 2))
    pairwise_ssim(images[:2])  # compiles

    reference_rows = 4 * cores
    ours, reference = [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        ssim = pairwise_ssim(images)
        ours.append(options.num_images**2 / (time.perf_counter() - start))
        seconds, expected = _time_scikit_image(images[:, 0].numpy(), reference_rows, cores)
        reference.append(reference_rows * options.num_images / seconds)
    numbers = {
        "cores": cores,
        "image_size": [options.rows, options.columns],
        "scikit_image_pairs_per_second": float(np.median(reference)),
        "pairwise_ssim_pairs_per_second": float(np.median(ours)),
        "ratio": float(np.median(np.array(ours) / np.array(reference))),
        "largest_difference": float(np.abs(ssim[:reference_rows].numpy() - expected).max()),
    }
    print(f"{options.rows} x {options.columns} pixels, {cores} cores, median of {options.rounds} rounds")
    print(f"{'':24}{'pairs a second':>16}{'ratio':>8}")
    print(f"{'scikit-image, all cores':24}{numbers['scikit_image_pairs_per_second']:16,.0f}{1:8.1f}")
    print(f"{'pairwise_ssim':24}{numbers['pairwise_ssim_pairs_per_second']:16,.0f}{numbers['ratio']:8.1f}")
    print(f"largest difference between the two: {numbers['largest_difference']:.1e}")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
