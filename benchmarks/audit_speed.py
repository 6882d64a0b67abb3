"""How long a whole audit takes with another checkout and with this one, in turn on the same files, and what differs.

    git worktree add OTHER COMMIT
    python benchmarks/audit_speed.py --before OTHER --json audit_speed.json
    python benchmarks/audit_speed.py --before OTHER --rounds 2
    python benchmarks/audit_speed.py --devices cpu,cuda --json audit_speed.json
    python benchmarks/audit_speed.py --before OTHER --training 2000 --synthetic 500 --copies 100 --folder PHANTOMS

Draws phantoms, and synthetic images of which some are copies under the p=0.8 mix, or takes `--training_dir` and
`--synthetic_dir`; `--folder` keeps what was drawn for the next time. Each checkout audits them by its bundle, which all
of them have, with the default options into an empty folder, with its own processes; the first 40 images are audited
before, so that nothing is compiled on the clock. Prints the seconds of each stage (of several `--rounds`, in turn, the
median, and the lowest and highest of the whole), their ratio, and how the two `matches.csv` differ; without `--before`
the seconds of this checkout. With two `--devices` this checkout audits on the one and on the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import Perturbation

ROOT = Path(__file__).parents[1]
TRAINING_SEED, OTHER_SEED = 9601, 9602
NUM_WARM_UP = 40


def make_folders(folder: Path, num_training: int, num_synthetic: int, num_copies: int) -> tuple[Path, Path]:
    """Write phantoms, and synthetic images of which some are copies of them; what is there is taken as it is."""
    folders = folder / "training", folder / "synthetic"
    if all(len(list(path.glob("*.png"))) == n for path, n in zip(folders, (num_training, num_synthetic), strict=True)):
        return folders
    training = [
        item["image"].as_tensor() for item in PhantomBrainDataset(num_training, seed=TRAINING_SEED, progress=False)
    ]
    others = PhantomBrainDataset(num_synthetic - num_copies, seed=OTHER_SEED, progress=False)
    synthetic = [item["image"].as_tensor() for item in others]
    for number in range(num_copies):
        change = Perturbation("mix").set_random_state(seed=number)
        synthetic.append(torch.as_tensor(change(training[number])))
    for path, images in zip(folders, (training, synthetic), strict=True):
        path.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8)).save(path / f"{number:04d}.png")
    return folders


def audit(
    checkout: Path, training: Path, synthetic: Path, output: Path, device: str | None = None
) -> tuple[dict[str, float], pd.DataFrame]:
    """Run an audit into an empty folder: seconds by stage, and the whole as ``total``; and ``matches.csv``."""
    bundle = checkout / "bundles" / "memorization_audit"
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle)]
    command += ["--config_file", str(bundle / "configs" / "inference.json"), "--output_dir", str(output)]
    command += ["--training_dir", str(training), "--synthetic_dir", str(synthetic)]
    command += ["--device", device] if device else []
    start = time.perf_counter()
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=checkout)
    seconds = time.perf_counter() - start
    if not (output / "summary.json").exists():
        raise SystemExit(f"{checkout}: the audit failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    stages = json.loads((output / "summary.json").read_text())["timings_seconds"]
    return {**stages, "total": seconds}, pd.read_csv(output / "matches.csv")


def compare(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """How the verdicts of two audits of the same images differ.

    Example:
        >>> table = pd.DataFrame({"synthetic_path": ["a"], "training_path": "b", "label": "part", "score": 0.9})
        >>> compare(table, table.assign(score=0.8))["largest_score_difference"]
        0.1
    """
    both = before.merge(after, on="synthetic_path", suffixes=("_before", "_after"), validate="1:1")
    gap = (both["score_before"] - both["score_after"]).abs()
    is_copy = [both[f"label_{side}"] == "duplicate" for side in ("before", "after")]
    return {
        "images": len(both),
        "copies": int(is_copy[0].sum()),
        "copy_in_one": int((is_copy[0] != is_copy[1]).sum()),
        "copies_of_another": int((is_copy[0] & (both["training_path_before"] != both["training_path_after"])).sum()),
        "only_in_one": len(before) + len(after) - 2 * len(both),
        "other_label": int((both["label_before"] != both["label_after"]).sum()),
        "other_source": int((both["training_path_before"] != both["training_path_after"]).sum()),
        "other_score": int((gap > 1e-6).sum()),
        "largest_score_difference": round(float(gap.max()), 6),
    }


def print_table(seconds: Mapping[str, Mapping[str, float]]) -> None:
    """Print the seconds of each stage, and where two were measured their ratio."""
    first, *others = seconds
    if not others:
        print("| stage | s |\n| --- | --- |")
        print("\n".join(f"| {stage} | {taken:.1f} |" for stage, taken in seconds[first].items()))
        return
    print(f"| stage | {first}, s | {others[0]}, s | ratio |\n| --- | --- | --- | --- |")
    for stage, taken in seconds[first].items():
        now = seconds[others[0]].get(stage, 0.0)
        print(f"| {stage} | {taken:.1f} | {now:.1f} | {taken / now if now else float('nan'):.1f} |")


def time_in_turn(
    sides: Mapping[str, tuple[Path, str | None]], training: Path, synthetic: Path, folder: Path, rounds: int
) -> tuple[dict[str, dict[str, float]], dict[str, list[float]], dict[str, pd.DataFrame]]:
    """Audit with each checkout and device in turn: median seconds by stage, those of each audit, ``matches.csv``."""
    runs: dict[str, list[dict[str, float]]] = {which: [] for which in sides}
    matches = {}
    for checkout, device in sides.values():
        _warm_up(checkout, training, synthetic, folder, device)
    for number in range(rounds):
        for which, (checkout, device) in sides.items():
            seconds, matches[which] = audit(checkout, training, synthetic, folder / f"{which}-{number}", device)
            runs[which].append(seconds)
    medians = {
        which: {stage: round(statistics.median(run[stage] for run in taken), 2) for stage in taken[0]}
        for which, taken in runs.items()
    }
    return medians, {which: [round(run["total"], 2) for run in taken] for which, taken in runs.items()}, matches


def _warm_up(checkout: Path, training: Path, synthetic: Path, folder: Path, device: str | None) -> None:
    """Compile what an audit compiles."""
    few = folder / "few"
    for name, source in (("training", training), ("synthetic", synthetic)):
        (few / name).mkdir(parents=True, exist_ok=True)
        for path in sorted(source.glob("*.*"))[:NUM_WARM_UP]:
            (few / name / path.name).write_bytes(path.read_bytes())
    audit(checkout, few / "training", few / "synthetic", folder / f"warm-{checkout.name}-{device}", device)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder of the other checkout")
    parser.add_argument("--devices", help="two devices, such as cpu,cuda, in the place of two checkouts")
    parser.add_argument("--training", type=int, default=400)
    parser.add_argument("--synthetic", type=int, default=200)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="where phantoms are kept")
    parser.add_argument("--training_dir", type=Path)
    parser.add_argument("--synthetic_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=1, help="how often each checkout audits all images")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.training_dir is None or options.synthetic_dir is None:
            counts = options.training, options.synthetic, options.copies
            training, synthetic = make_folders((options.folder or folder / "phantoms").resolve(), *counts)
        else:
            training, synthetic = options.training_dir.resolve(), options.synthetic_dir.resolve()
        sides: dict[str, tuple[Path, str | None]] = {"after": (ROOT, None)}
        if options.devices:
            sides = {device: (ROOT, device) for device in options.devices.split(",")}
        elif options.before:
            sides = {"before": (options.before.resolve(), None), **sides}
        seconds, totals, matches = time_in_turn(sides, training, synthetic, folder, options.rounds)
    result: dict[str, Any] = {"seconds": seconds, "totals": totals}
    print_table(seconds)
    if options.rounds > 1:
        print("\n" + "\n".join(f"{name}: {min(each)} to {max(each)} s" for name, each in totals.items()))
    if len(sides) == 2:
        result["verdicts"] = compare(*matches.values())
        print(f"\nverdicts: {json.dumps(result['verdicts'])}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
