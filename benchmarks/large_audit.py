"""How long an audit of many phantoms takes on several processes of one machine, its memory, and what it finds.

    python benchmarks/large_audit.py FOLDER --training 100000 --synthetic 10000 --ranks 2

The images are drawn once into FOLDER, each training image another phantom subject, and stay there: a tenth of the
synthetic images are copies of training images under changes, the others are phantoms of another seed. Then
`monai-deepssim audit` runs under `torchrun`, and the memory of all of its processes is looked at once a second.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import Perturbation

TRAINING_SEED, OTHER_SEED = 9801, 9802
SHARE_OF_COPIES = 0.1
CHANGES = ("mix", "rotation_any", "gamma_0.5", "shift_5_percent", "crop_10_percent", "flip_horizontal")
CHANGES += ("warp_1_percent", "bias_field")
_PER_FOLDER = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--training", type=int, default=1000)
    parser.add_argument("--synthetic", type=int, default=100)
    parser.add_argument("--side", type=int, default=64, help="rows and columns of an image, in pixels")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("audit_options", nargs="*", help="after --: further options of the audit")
    arguments = parser.parse_args()
    training, synthetic = draw(arguments.folder, arguments.training, arguments.synthetic, arguments.side)
    measured = run_audit(arguments, training, synthetic)
    print(json.dumps(measured, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n")


def draw(folder: Path, num_training: int, num_synthetic: int, side: int) -> tuple[Path, Path]:
    """Write the images that are not there yet; fewer than there are need another folder."""
    training, synthetic = folder / "training", folder / "synthetic"
    num_copies = round(SHARE_OF_COPIES * num_synthetic)
    for number in tqdm(range(num_training), desc="training images"):
        if not _path(training, number).exists():
            _write(_path(training, number), _phantom(TRAINING_SEED, number, side))
    sources = np.linspace(0, num_training - 1, num_copies).round().astype(int)
    rows = []
    for number in tqdm(range(num_synthetic), desc="synthetic images"):
        path = _path(synthetic, number)
        if number < num_copies:
            source, change = _path(training, int(sources[number])), CHANGES[number % len(CHANGES)]
            rows.append((path.relative_to(synthetic), source.relative_to(training), change))
        if path.exists():
            continue
        image = _phantom(OTHER_SEED, number, side)
        if number < num_copies:
            original = torch.from_numpy(np.asarray(Image.open(source), np.float32)[None] / 255)
            image = torch.as_tensor(Perturbation(change).set_random_state(seed=number)(original))
        _write(path, image)
    with (folder / "copies.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("synthetic", "training", "change"), *rows])
    return training, synthetic


def run_audit(arguments: argparse.Namespace, training: Path, synthetic: Path) -> dict[str, object]:
    """Run the audit into an empty folder, and say what it took and found."""
    output = arguments.folder / f"audit-{arguments.training}-{arguments.synthetic}-{arguments.ranks}"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "monai_deepssim"]
    if arguments.ranks > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={arguments.ranks}", "-m", "monai_deepssim"]
    command += ["audit", str(training), str(synthetic), "-o", str(output)]
    command += ["--image_size", f"{arguments.side},{arguments.side}", *arguments.audit_options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    summary = json.loads((output / "summary.json").read_text())
    with (output / "matches.csv").open(newline="") as file:
        found = {row["synthetic_path"]: row for row in csv.DictReader(file)}
    with (arguments.folder / "copies.csv").open(newline="") as file:
        planted = {row["synthetic"]: row["training"] for row in csv.DictReader(file)}
    called = {path: row["training_path"] for path, row in found.items() if row["label"] in ("duplicate", "part")}
    strangers = set(found) - set(planted)
    return {
        "training_images": arguments.training,
        "synthetic_images": arguments.synthetic,
        "side": arguments.side,
        "ranks": arguments.ranks,
        "exit_status": process.returncode,
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(peak[0] / 2**30, 2),
        "output_folder_gib": round(sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 2**30, 2),
        "copies": len(planted),
        "copies_called": len(set(planted) & set(called)),
        "copies_with_their_source": sum(called.get(path) == source for path, source in planted.items()),
        "others": len(strangers),
        "others_called": len(strangers & set(called)),
        "seconds_by_stage": summary["timings_seconds"],
    }


def _phantom(seed: int, number: int, side: int) -> torch.Tensor:
    draw_one = _drawers.setdefault(side, PhantomBrainDataset(1, seed=0, image_size=(side, side), progress=False))
    item = draw_one.transform({"subject": (seed, number), "level": "basal_ganglia"})
    return torch.as_tensor(item["image"])


_drawers: dict[int, PhantomBrainDataset] = {}


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number // _PER_FOLDER:04d}" / f"{number:07d}.png"


def _write(path: Path, image: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image[0].clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    temporary = path.with_suffix(".part")
    Image.fromarray(pixels).save(temporary, format="PNG")
    temporary.rename(path)


def _watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Keep the highest sum of the proportional memory of a process and all of its descendants."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_memory(number) for number in _family(process.pid)))
        time.sleep(1)


def _family(number: int) -> Iterator[int]:
    yield number
    try:
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _memory(number: int) -> int:
    """Anonymous memory, without files that are mapped: those are the system's to take back."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
