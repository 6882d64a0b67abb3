"""What the shipped embedder finds, on phantom subjects and on real slices that its training never saw.

    python benchmarks/shipped_weights.py --json shipped_weights.json
    python benchmarks/shipped_weights.py --volume head=ch2.nii.gz --volume brain=ch2bet.nii.gz

1,000 training images, one slice a subject, all at one level (the hard case), and a copy of each under each change. No
number here chose a weight or a threshold: the seeds are the benchmark's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Affine, GaussianSmooth, RandGaussianNoise
from torch import Tensor, nn
from torch.nn.functional import interpolate

from monai_deepssim.data import PhantomBrainDataset, list_images, load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import compute_retrieval_rank, compute_ssim_matching_errors, compute_ssim_matching_table
from monai_deepssim.networks import load_deepssim
from monai_deepssim.search import NearestNeighbors
from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms import FitImageSize, GradedVariants, RandStructurePreserving
from monai_deepssim.workflow.bundles import find_bundle

TRAINING_SEED, UNRELATED_SEED, VARIANTS_SEED = 9101, 9102, 9103
WARP_PIXELS, WARP_SCALE_PIXELS = 1.5, 20


def changes() -> dict[str, Callable[[Tensor, np.random.RandomState], Tensor]]:
    """The changes by name; each takes an image ``(1, H, W)`` and a random state."""

    def p08(image: Tensor, random: np.random.RandomState) -> Tensor:
        return RandStructurePreserving(prob=0.8, rotation_radians=0.1745).set_random_state(state=random)(image)

    def affine(image: Tensor, **parameters: Any) -> Tensor:
        return Affine(**parameters, padding_mode="zeros", image_only=True)(image)

    def warp(image: Tensor, random: np.random.RandomState) -> Tensor:
        coarse = torch.from_numpy(
            random.standard_normal((1, 2, *[side // WARP_SCALE_PIXELS for side in image.shape[1:]]))
        )
        field = interpolate(coarse.float(), size=image.shape[1:], mode="bicubic")
        field = WARP_PIXELS * field / field.std() * 2 / torch.tensor(image.shape[:0:-1]).view(1, 2, 1, 1)
        grid = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, *image.shape], align_corners=False)
        grid = grid + field.flip(1).permute(0, 2, 3, 1)
        return torch.nn.functional.grid_sample(image[None], grid, align_corners=False)[0]

    return {
        "none": lambda image, random: image,
        "p=0.8 mix": p08,
        "shift up to 4 pixels": lambda image, random: affine(image, translate_params=random.uniform(-4, 4, 2).tolist()),
        "zoom 5 %": lambda image, random: affine(image, scale_params=[float(random.choice([0.95, 1.05]))] * 2),
        "rotation up to 12 degrees": lambda image, random: affine(
            image, rotate_params=float(np.deg2rad(random.uniform(-12, 12)))
        ),
        "rotation of 12 degrees": lambda image, random: affine(
            image, rotate_params=float(np.deg2rad(random.choice([-12, 12])))
        ),
        "blur, sigma 1 pixel": lambda image, random: GaussianSmooth(1.0)(image),
        "noise 0.02": lambda image, random: RandGaussianNoise(prob=1, std=0.02, sample_std=False).set_random_state(
            state=random
        )(image),
        "mild warp": warp,
    }


@torch.inference_mode()
def embed(embedder: nn.Module, images: Tensor, device: str) -> Tensor:
    """Embeddings of images in [0, 1]."""
    return torch.cat([embedder(standardize(batch.to(device))).cpu() for batch in images.split(64)])


def apply(change: Callable, images: Tensor, seed: int) -> Tensor:
    random = np.random.RandomState(seed)
    return torch.stack([torch.as_tensor(change(image, random)) for image in images])


def cohort(num_subjects: int, seed: int, **options: Any) -> Tensor:
    dataset = PhantomBrainDataset(num_subjects, seed=seed, progress=False, cache_rate=0.0, **options)
    return torch.stack([dataset[i]["image"].as_tensor() for i in range(len(dataset))])


def measure_retrieval(embedder: nn.Module, training: Tensor, device: str, seed: int) -> tuple[dict, Tensor, Tensor]:
    """Rank of the source of a copy under each change, and the scores of the p=0.8 copies with their sources."""
    training_embeddings = embed(embedder, training, device)
    targets = torch.arange(len(training))
    rows, p08_scores = {}, torch.empty(0)
    for position, (name, change) in enumerate(changes().items()):
        copies = embed(embedder, apply(change, training, seed + position), device)
        ranks = compute_retrieval_rank(copies, training_embeddings, targets)
        scores = (copies * training_embeddings).sum(1)
        rows[name] = {
            "first": (ranks == 1).double().mean().item(),
            "among_ten": (ranks <= 10).double().mean().item(),
            "score_5th_percentile": scores.quantile(0.05).item(),
        }
        if name == "p=0.8 mix":
            p08_scores = NearestNeighbors().fit(training_embeddings).kneighbors(copies, 1)[0][:, 0]
    return rows, p08_scores, training_embeddings


def measure_ssim_itself(training: Tensor, seed: int, count: int = 100) -> float:
    """How often plain SSIM ranks the p=0.8 copy's source first among ``count``."""
    images = training[:count]
    ssim = pairwise_ssim(standardize(apply(changes()["p=0.8 mix"], images, seed)), standardize(images))
    return (ssim.argmax(1) == torch.arange(count)).double().mean().item()


def measure_errors(embedder: nn.Module, images: Tensor, device: str) -> dict[str, Any]:
    """Cosine against SSIM over subjects, copies and graded variants, un-augmented."""
    variants = GradedVariants(num_variants=4, ssim_range=(0.4, 1.0)).set_random_state(VARIANTS_SEED)
    graded = torch.stack([torch.as_tensor(variant) for image in images for variant in variants(image)])
    clean = standardize(graded)
    embeddings = embed(embedder, graded, device)
    unrelated = slice(None, None, 6)
    return {
        "mae_over_all_pairs": compute_ssim_matching_errors(embeddings, clean)[1].item(),
        "mae_over_pairs_of_subjects": compute_ssim_matching_errors(embeddings[unrelated], clean[unrelated])[1].item(),
        "tenths": compute_ssim_matching_table(embeddings, clean),
    }


def read_slices(path: str) -> Tensor:
    """A real volume's axial slices that show three tenths of the largest brain area or more, from the feet up."""
    fit = FitImageSize((136, 112))
    slices = []
    for item in list_images(path, slices="all"):
        with contextlib.suppress(UnusableInputError):  # slices outside of the head are empty
            slices.append(load_slice(item))
    area = torch.tensor([(image > 0.1).float().mean() * image.numel() for image in slices])
    return torch.stack([fit(image) for image, size in zip(slices, area, strict=True) if size > 0.3 * area.max()])


def measure_volume(embedder: nn.Module, path: str, device: str) -> dict[str, Any]:
    """Every other slice of a real volume."""
    images = read_slices(path)[::2]
    rows, *_ = measure_retrieval(embedder, images, device, seed=500)
    return {"num_slices": len(images), "changes": rows}


def print_rows(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}\n{'':28}{'first':>8}{'among 10':>10}{'score, 5th pct':>16}")
    for name, row in rows.items():
        print(f"{name:28}{row['first']:8.3f}{row['among_ten']:10.3f}{row['score_5th_percentile']:16.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="default: the shipped weights")
    parser.add_argument("--num_training", type=int, default=1000)
    parser.add_argument("--level", default="basal_ganglia")
    parser.add_argument("--volume", action="append", default=[], metavar="NAME=FILE", help="a real volume (NIfTI)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    checkpoint = options.checkpoint or find_bundle("deepssim_brain_mri") / "models" / "model.pt"
    embedder = load_deepssim(checkpoint).to(options.device)
    training = cohort(options.num_training, TRAINING_SEED, levels=[options.level])
    rows, p08_scores, training_embeddings = measure_retrieval(embedder, training, options.device, seed=100)
    unrelated = embed(embedder, cohort(options.num_training, UNRELATED_SEED, levels=[options.level]), options.device)
    highest = NearestNeighbors().fit(training_embeddings).kneighbors(unrelated, 1)[0][:, 0]
    threshold = p08_scores.quantile(0.05).item()
    numbers: dict[str, Any] = {
        "num_training": options.num_training,
        "level": options.level,
        "changes": rows,
        "ssim_first_among_100": measure_ssim_itself(training, seed=100),
        "threshold_of_95_percent_of_copies": threshold,
        "unrelated_images_that_pass": (highest >= threshold).double().mean().item(),
        "unrelated_highest_score_99th_percentile": highest.quantile(0.99).item(),
        "errors": measure_errors(embedder, training[: min(80, len(training))], options.device),
        "volumes": {},
    }
    print_rows(f"{options.num_training} phantom subjects, one slice each ({options.level})", rows)
    print(f"\nplain SSIM ranks the p=0.8 copy first among 100: {numbers['ssim_first_among_100']:.2f}")
    print(f"threshold that finds 95 % of the p=0.8 copies: {threshold:.3f}")
    print(f"images of unrelated subjects that pass it: {numbers['unrelated_images_that_pass']:.4f}")
    errors = numbers["errors"]
    print(f"\ncosine against SSIM, mean absolute error over all pairs: {errors['mae_over_all_pairs']:.3f}")
    print(f"over pairs of subjects alone: {errors['mae_over_pairs_of_subjects']:.3f}; by tenth of SSIM:")
    for row in errors["tenths"]:
        print(f"  {row['ssim_from']:.1f} to {row['ssim_to']:.1f}: {row['mae']:.3f} ({row['num_pairs']} pairs)")
    for volume in options.volume:
        name, _, path = volume.partition("=")
        numbers["volumes"][name] = measure_volume(embedder, path, options.device)
        count = numbers["volumes"][name]["num_slices"]
        print_rows(f"{name}: {count} axial slices of one real subject", numbers["volumes"][name]["changes"])
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
