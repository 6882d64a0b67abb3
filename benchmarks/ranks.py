"""An audit of phantoms on one and on several processes of this machine, with one thread each: ratio and same files.

    python benchmarks/ranks.py --training 400 --synthetic 200 --ranks 2 --json ranks.json

Both are the command as it is typed: `monai-deepssim audit`, and the same under `torchrun`. Start-up is in both times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.similarity import compile_kernels

TRAINING_SEED, SYNTHETIC_SEED = 9901, 9902


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=400)
    parser.add_argument("--synthetic", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    compile_kernels()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "training", arguments.training, TRAINING_SEED)
        write(folder / "synthetic", arguments.synthetic, SYNTHETIC_SEED)
        seconds = {ranks: audit(folder, ranks) for ranks in (1, arguments.ranks)}
        tables = [[(folder / f"out{ranks}" / file).read_bytes() for file in TABLES] for ranks in seconds]
    ratio = seconds[1] / seconds[arguments.ranks]
    for ranks, value in seconds.items():
        print(f"{ranks} process(es): {value:7.1f} s")
    print(f"ratio: {ratio:.2f}; the same tables: {tables[0] == tables[1]}")
    if arguments.json:
        measured = {"seconds": seconds, "ratio": ratio, "same_tables": tables[0] == tables[1]}
        sizes = {"num_training": arguments.training, "num_synthetic": arguments.synthetic}
        arguments.json.write_text(json.dumps({**sizes, **measured}, indent=2) + "\n")


TABLES = ("matches.csv", "controls.csv", "memorized.csv")


def write(folder: Path, count: int, seed: int) -> None:
    """Write phantoms of so many subjects."""
    folder.mkdir()
    for number, item in enumerate(PhantomBrainDataset(count, seed=seed, progress=False)):
        pixels = (item["image"][0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number}.png")


def audit(folder: Path, ranks: int) -> float:
    """Audit on so many processes with one thread each, and return the seconds."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "monai_deepssim", "audit", "training", "synthetic", "--quiet"]
    # torchrun's processes take a share of the cores each: as many as there are ranks get one thread.
    threads = {"OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    options = ["--output_dir", f"out{ranks}", "--controls", "2", "--device", "cpu"]
    subprocess.run([*command, *options], cwd=folder, env={**os.environ, **threads}, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
