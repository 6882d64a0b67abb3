"""What an audit finds of what a generator makes, against what the eye sees.

    python benchmarks/generator_copies.py recall MATCHES.csv SORTED.csv
    python benchmarks/generator_copies.py reconstruct IMAGES FOLDER --autoencoder autoencoder.pt

`recall` reads an audit's `matches.csv` and a table with the columns `image` and `sorted` (`copy`, `new` or
`undecided`), written before the audit was run, and prints how many of each kind were called. `reconstruct` passes
images through the autoencoder of `bundles/brain_mri_ldm` with `small.json`: training images become copies as sharp as
the generator makes any, and images of other patients such strangers. Audit the folder to see how many are called.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from PIL import Image

from monai_deepssim.calibration import proportion_interval
from monai_deepssim.data import list_images, load_slice
from monai_deepssim.transforms import FitImageSize

CONFIGS = Path(__file__).parents[1] / "bundles" / "brain_mri_ldm" / "configs"


def recall(matches: Path, sorted_by_eye: Path) -> None:
    """Print how many images of each kind are called copies."""
    table = pd.read_csv(matches).set_index("synthetic_path")
    kinds = pd.read_csv(sorted_by_eye).set_index("image")["sorted"]
    missing = sorted(set(kinds.index) - set(table.index))
    if missing:
        raise SystemExit(f"{sorted_by_eye}: {len(missing)} images are not in {matches}, such as {missing[0]}")
    print("| sorted by eye as | images | called (95 % interval) |\n| --- | --- | --- |")
    for kind, images in kinds.groupby(kinds):
        called = table.loc[images.index, "label"].isin(["duplicate", "part"]).to_numpy()
        share = proportion_interval(called)
        print(f"| {kind} | {len(called)} | {called.sum()} ({share.low:.3f} to {share.high:.3f}) |")


@torch.no_grad()
def reconstruct(images: Path, folder: Path, autoencoder: Path) -> None:
    """Write what an autoencoder makes of images."""
    parser = ConfigParser()
    parser.read_config([CONFIGS / "train_autoencoder.json", CONFIGS / "small.json"])
    network = parser.get_parsed_content("autoencoder_def").eval()
    network.load_state_dict(torch.load(autoencoder, weights_only=True))
    fit = FitImageSize(parser["image_size"])
    folder.mkdir(parents=True, exist_ok=True)
    for item in list_images(images):
        pixels = network.reconstruct(fit(load_slice(item))[None])[0, 0].clamp(0, 1).numpy()
        Image.fromarray((pixels * 255).round().astype(np.uint8)).save(folder / f"{Path(item['path']).stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_recall = commands.add_parser("recall")
    of_recall.add_argument("matches", type=Path)
    of_recall.add_argument("sorted", type=Path)
    of_reconstruction = commands.add_parser("reconstruct")
    of_reconstruction.add_argument("images", type=Path)
    of_reconstruction.add_argument("folder", type=Path)
    of_reconstruction.add_argument("--autoencoder", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "recall":
        recall(arguments.matches, arguments.sorted)
    else:
        reconstruct(arguments.images, arguments.folder, arguments.autoencoder)


if __name__ == "__main__":
    main()
