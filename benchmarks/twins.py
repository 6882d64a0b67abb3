"""Twins of copies: how many are named, and how many images of others are called one, on phantoms.

    python benchmarks/twins.py [--training 60] [--strangers 60] [--json FILE]

Every training image has a synthetic copy, blurred by 3 px, which is the worst case for a stranger: whatever it
resembles was copied. A twin is such a copy, mirrored and blurred by 2.5 to 4 px more. Strangers are phantoms of other
subjects, and each of them blurred by 3 and by 5 px, so that they share what the copies have in common. A stranger is
compared with copies where it is *similar* to a training image; the threshold of that is lowered to 0.4 here, so that
nearly all are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from monai_deepssim import find_copies
from monai_deepssim.calibration import proportion_interval
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import ALIGNED_SSIM_THRESHOLDS

COPY_BLUR, TWIN_BLURS = 3.0, (2.5, 3.0, 3.5, 4.0)


def draw(number: int, seed: int) -> torch.Tensor:
    """Draw phantoms, ``(N, 1, rows, columns)``."""
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(number, seed, progress=False)])


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur each image; sigma in pixels."""
    return torch.from_numpy(np.stack([gaussian_filter(image[0].numpy(), sigma)[None] for image in images]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=60)
    parser.add_argument("--strangers", type=int, default=60)
    parser.add_argument("--seed", type=int, default=911)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    training = draw(arguments.training, arguments.seed)
    strangers = draw(arguments.strangers, arguments.seed + 1)
    copies = blur(training, COPY_BLUR)
    twins = [blur(copies[place :: len(TWIN_BLURS)].flip(3), sigma) for place, sigma in enumerate(TWIN_BLURS)]
    groups = {
        "copies": copies,
        **{f"twins, {sigma:g} px more": images for sigma, images in zip(TWIN_BLURS, twins, strict=True)},
        "strangers": strangers,
        **{f"strangers, blurred by {sigma:g} px": blur(strangers, sigma) for sigma in (3.0, 5.0)},
    }
    thresholds = [0.4, ALIGNED_SSIM_THRESHOLDS[1]]
    result = find_copies(training, torch.cat(list(groups.values())), controls=None, thresholds=thresholds)
    matches, rows, start = result.matches.sort_index(), {}, 0
    print("| images | number | copies by the threshold | compared with copies | twins | highest score with a copy |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, images in groups.items():
        part = matches.iloc[start : start + len(images)]
        start += len(images)
        scores = part["twin_score"].dropna().astype(float)
        counts = [len(part), (part["label"] == "duplicate").sum(), len(scores), (part["twin_of"] != "").sum()]
        rows[name] = [*map(int, counts), float(scores.max()) if len(scores) else None]
        highest = f"{scores.max():.3f}" if len(scores) else ""
        print(f"| {name} | {' | '.join(map(str, counts))} | {highest} |")
    others = [rows[name] for name in rows if name.startswith("strangers")]
    false, compared = sum(row[3] for row in others), sum(row[2] for row in others)
    high = proportion_interval([True] * false + [False] * (compared - false)).high
    print(f"\nstrangers called twins: {false} of {compared} (95 % interval up to {high:.3f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
