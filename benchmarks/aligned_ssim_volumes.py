"""How many pairs of volumes a second aligned SSIM verifies, with how much memory, and how well copies stand out.

    python benchmarks/aligned_ssim_volumes.py --before HEAD~20 --json aligned_ssim_volumes.json

Speed on two threads, in seconds of the clock and of the processor (which other programs do not lengthen), for copies
under a mix of flips, rotations, shifts, zoom and gamma and for unrelated subjects, of cubes and of a stack of 24
slices. With ``--before`` two of the pairs of each kind are given to the code of another commit, in a worktree
of its own; the cube of 96 voxels a side is left out there, where it takes long.

Then the copy score of copies under one change each, of look-alikes (a warp of the same subject with an SSIM of 0.8 or
less) and of other subjects, on seeds that nothing was chosen on; the recall is that at the threshold of a verdict.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Affine, Rand3DElastic
from scipy.ndimage import affine_transform, gaussian_filter
from torch import Tensor

SIZES = ((64, 64, 64), (64, 64, 24), (96, 96, 96))
SPEED_SEED, COPIES_SEED, THREADS = 9801, 9802, 2
ROOT = Path(__file__).resolve().parents[1]
DUPLICATE = 0.86  # the threshold of a verdict
Change = Callable[[Tensor, np.random.Generator], Tensor]


def affine(volume: Tensor, matrix: np.ndarray, shift: np.ndarray | None = None) -> Tensor:
    """Read a volume at ``matrix @ v + shift``, both from the centre."""
    centre = (np.array(volume.shape[1:]) - 1) / 2
    offset = centre - matrix @ centre + (0 if shift is None else shift)
    return torch.from_numpy(affine_transform(volume[0].numpy(), matrix, offset, order=1, mode="grid-constant"))[None]


def turn(volume: Tensor, random: np.random.Generator, axis: int) -> Tensor:
    angles = [0.0, 0.0, 0.0]
    angles[axis] = float(np.deg2rad(10) * random.choice([-1, 1]))
    return Affine(rotate_params=angles, padding_mode="zeros", image_only=True)(volume).as_tensor()


def shift(volume: Tensor, random: np.random.Generator) -> Tensor:
    return affine(volume, np.eye(3), random.choice([-1, 1], 3) * 0.05 * np.array(volume.shape[1:]))


def crop(volume: Tensor, random: np.random.Generator) -> Tensor:
    """A tenth of the field of view is cut away along each axis, and what is left fitted to the box again."""
    sides = np.array(volume.shape[1:])
    return affine(volume, np.eye(3) * 0.9, random.uniform(-0.05, 0.05, 3) * sides)


def drop_slices(volume: Tensor, random: np.random.Generator, axis: int) -> Tensor:
    """Every second slice, with a header that says so."""
    kept = torch.index_select(volume, axis + 1, torch.arange(0, volume.shape[axis + 1], 2))
    return torch.nn.functional.interpolate(kept[None], volume.shape[1:], mode="trilinear")[0]


def squeeze(volume: Tensor, random: np.random.Generator, axis: int) -> Tensor:
    """Every second slice, with a header that does not say so."""
    matrix = np.eye(3)
    matrix[axis, axis] = 2.0
    return affine(volume, matrix)


def exchange_axes(volume: Tensor, random: np.random.Generator) -> Tensor:
    order = random.permutation(3).tolist()
    flips = [axis + 1 for axis in range(3) if random.random() < 0.5]
    return volume.permute(0, *(axis + 1 for axis in order)).flip(flips).contiguous()


def mix(volume: Tensor, random: np.random.Generator) -> Tensor:
    turned = Affine(
        rotate_params=np.deg2rad(random.uniform(-8, 8, 3)).tolist(),
        translate_params=random.uniform(-3, 3, 3).tolist(),
        scale_params=[float(random.uniform(0.95, 1.05))] * 3,
        padding_mode="zeros",
        image_only=True,
    )(volume.flip([axis + 1 for axis in range(3) if random.random() < 0.5])).as_tensor()
    return turned ** float(random.uniform(0.5, 1.5))


def warp(volume: Tensor, random: np.random.Generator) -> Tensor:
    """A look-alike: the same subject, warped until its SSIM is 0.8 or less."""
    from monai_deepssim.similarity import pairwise_ssim, standardize

    seed = int(random.integers(2**31))
    for strength in range(40, 400, 20):
        bend = Rand3DElastic((4, 4), (strength, strength), prob=1.0, padding_mode="zeros").set_random_state(seed)
        warped = torch.as_tensor(bend(volume)).float()
        if pairwise_ssim(standardize(warped[None]), standardize(volume[None])).item() <= 0.8:
            break
    return warped


CHANGES: dict[str, Change] = {
    **{f"flip, axis {axis}": (lambda volume, random, axis=axis: volume.flip(axis + 1)) for axis in range(3)},
    **{f"rotation 10 degrees, axis {axis}": partial(turn, axis=axis) for axis in range(3)},
    "shift 5 %": shift,
    "gamma 0.5": lambda volume, random: volume**0.5,
    "gamma 1.5": lambda volume, random: volume**1.5,
    "noise 0.02": lambda volume, random: (
        volume + 0.02 * torch.from_numpy(random.standard_normal(volume.shape).astype(np.float32))
    ).clamp(0, 1),
    "blur 1 voxel": lambda volume, random: torch.from_numpy(gaussian_filter(volume.numpy(), (0, 1, 1, 1))),
    "cropped by 10 %": crop,
    **{f"every second slice, axis {axis}": partial(drop_slices, axis=axis) for axis in range(3)},
    **{f"the same, wrong header, axis {axis}": partial(squeeze, axis=axis) for axis in range(3)},
    "axes exchanged": exchange_axes,
    "mix": mix,
}


def measure_speed(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Pairs a second of each kind, and the memory that they take at most beyond the volumes."""
    from monai_deepssim.similarity import aligned_ssim

    torch.set_num_threads(THREADS)
    for dims in {x.ndim for x, _ in pairs.values()}:
        aligned_ssim(*[torch.rand(1, 1, *[16] * (dims - 2))] * 2, deformation_cost=0.1)  # compiles
    speeds = {}
    for name, (x, y) in pairs.items():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
        before = read_memory_mib("VmRSS")
        start, processor = time.perf_counter(), time.process_time()
        ssim = aligned_ssim(x, y).ssim
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
        speeds[name] = {
            "pairs_per_second": len(x) / seconds,
            "processor_seconds_per_pair": processor / len(x),
            "processor_microseconds_per_voxel": 1e6 * processor / x.numel(),
            "median_ssim": float(ssim.median()),
            "memory_mib": read_memory_mib("VmHWM") - before,
        }
    return speeds


def read_memory_mib(name: str) -> float:
    """A number out of what Linux says of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def measure_in_process(code: Path, pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """The same in a process of its own, with the package that lies in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(pairs, Path(folder) / "pairs.pt")
        environment = {**os.environ, "PYTHONPATH": str(code)}
        subprocess.run([sys.executable, __file__, "--worker", folder], env=environment, check=True)
        return json.loads((Path(folder) / "speeds.json").read_text())


def measure_before(commit: str, pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """The same with the package of another commit."""
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", code, commit], check=True)
        try:
            return measure_in_process(code, pairs)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", code], check=True)


def make_pairs(num_pairs: int) -> dict[str, tuple[Tensor, Tensor]]:
    from monai_deepssim.data import PhantomBrainDataset

    pairs = {}
    for size in SIZES:
        dataset = PhantomBrainDataset(num_pairs, SPEED_SEED, size, volume=True, progress=False)
        volumes = torch.stack([dataset[i]["image"].as_tensor() for i in range(num_pairs)])
        random = np.random.default_rng(SPEED_SEED)
        copies = torch.stack([mix(volume, random) for volume in volumes])
        name = " x ".join(map(str, size))
        pairs[f"{name}, copies"], pairs[f"{name}, unrelated"] = (copies, volumes), (copies, volumes.roll(1, 0))
    return pairs


def measure_copies(num_subjects: int) -> dict[str, dict[str, Any]]:
    """The copy scores of copies by their change, of look-alikes and of others."""
    from monai_deepssim.data import PhantomBrainDataset
    from monai_deepssim.similarity import copy_score

    dataset = PhantomBrainDataset(num_subjects, COPIES_SEED, volume=True, progress=False)
    volumes = torch.stack([dataset[i]["image"].as_tensor() for i in range(num_subjects)])
    rows = {}
    for name, change in {"look-alikes": warp, "other subjects": None, **CHANGES}.items():
        random = np.random.default_rng(COPIES_SEED)
        others = volumes if change is None else torch.stack([change(volume, random) for volume in volumes])
        score = copy_score(others, volumes.roll(1, 0) if change is None else volumes).score
        rows[name] = {
            "above_the_threshold": float((score >= DUPLICATE).float().mean()),
            "percentiles_0_5_50_95_100": np.percentile(score, [0, 5, 50, 95, 100]).round(3).tolist(),
        }
        print(f"{name:36}{rows[name]['above_the_threshold']:10.2f}   {rows[name]['percentiles_0_5_50_95_100']}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_pairs", type=int, default=8)
    parser.add_argument("--num_subjects", type=int, default=16, help="volumes that are copied; 0 measures speed alone")
    parser.add_argument("--before", help="commit to compare the speed with")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        speeds = measure_speed(torch.load(options.worker / "pairs.pt"))
        (options.worker / "speeds.json").write_text(json.dumps(speeds))
        return

    pairs = make_pairs(options.num_pairs)
    numbers: dict[str, Any] = {"threads": THREADS, "cores": os.cpu_count(), "speed": measure_in_process(ROOT, pairs)}
    if options.before:
        few = {name: (x[:2], y[:2]) for name, (x, y) in pairs.items() if x.shape[2] < 96}
        numbers["speed_before"] = measure_before(options.before, few)
    print(f"{f'{THREADS} threads':36}{'pairs a second':>16}{'before':>10}{'processor seconds':>20}{'memory':>13}")
    for name, speed in numbers["speed"].items():
        before = numbers.get("speed_before", {}).get(name, {}).get("pairs_per_second", float("nan"))
        print(
            f"{name:36}{speed['pairs_per_second']:16.1f}{before:10.2f}"
            f"{speed['processor_seconds_per_pair']:20.2f}{speed['memory_mib']:9.0f} MiB"
        )
    if options.num_subjects:
        print(f"\n{'copy score':36}{'>= ' + str(DUPLICATE):>10}   at 0, 5, 50, 95, 100 %")
        numbers["copy_score"] = measure_copies(options.num_subjects)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
