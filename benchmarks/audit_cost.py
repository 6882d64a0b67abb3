"""How long an audit takes with this checkout and with another one, in turn on the same folders.

    git worktree add OTHER COMMIT
    python benchmarks/audit_cost.py OTHER --training_dir TRAINING --synthetic_dir SYNTHETIC

By default the folders are made: 400 phantom subjects, and 200 synthetic images of which 50 are copies under the p=0.8
mix. Each checkout runs once before it is timed, so that nothing is compiled on the clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from audit_speed import make_folders

ROOT = Path(__file__).parents[1]
NUM_TRAINING, NUM_SYNTHETIC, NUM_COPIES = 400, 200, 50


def time_audit(checkout: Path, training: Path, synthetic: Path, output: Path) -> float:
    """Run an audit into an empty folder and return its seconds."""
    bundle = checkout / "bundles" / "memorization_audit"
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle)]
    command += ["--config_file", str(bundle / "configs" / "inference.json"), "--output_dir", str(output)]
    command += ["--training_dir", str(training), "--synthetic_dir", str(synthetic)]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=checkout)
    seconds = time.perf_counter() - start
    shutil.rmtree(output)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--training_dir", type=Path)
    parser.add_argument("--synthetic_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    checkouts = {"this": ROOT, "other": options.other.resolve()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.training_dir is None or options.synthetic_dir is None:
            training, synthetic = make_folders(folder, NUM_TRAINING, NUM_SYNTHETIC, NUM_COPIES)
        else:
            training, synthetic = options.training_dir.resolve(), options.synthetic_dir.resolve()
        seconds: dict[str, list[float]] = {which: [] for which in checkouts}
        for number in range(options.rounds + 1):
            for which, checkout in checkouts.items():
                measured = time_audit(checkout, training, synthetic, folder / "audit")
                if number:
                    seconds[which].append(measured)
    print("| checkout | seconds, median | lowest | highest |\n| --- | --- | --- | --- |")
    for which, times in seconds.items():
        print(f"| {which} | {statistics.median(times):.1f} | {min(times):.1f} | {max(times):.1f} |")
    print(f"\nthis / other: {statistics.median(seconds['this']) / statistics.median(seconds['other']):.2f}")


if __name__ == "__main__":
    main()
