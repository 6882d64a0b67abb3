"""How many copies of whole volumes each way finds, under each change, and where the others are lost.

    python benchmarks/volumes.py --json volumes.json

The gallery are phantom volumes; copies are volumes of the gallery after one change, strangers are volumes of other
subjects after the same change. Ways:

- ``slices``: the slices of a volume vote (``slice_votes``);
- ``coarse``: the correlation of coarse volumes in one pose alone (``deepssim_3d`` without weights), or the cosine of
  the 3-D embedder that ``--checkpoint`` names;
- ``whole``: that detector proposes a few training volumes, and their copy score decides, as in an audit.

Each way has one threshold for all changes, the lowest that at most 1 % of the strangers of other seeds exceed. A copy
is found when the score of its very source is above it; the last lines say the same of the threshold of an audit.
``proposed`` is the share of copies whose source is among the proposed volumes, ``scored`` those with the highest score
there: the first that falls says where copies are lost.

Copies of ICBM152's T1, which nilearn ships, and of the volumes that ``--volume`` names are looked for in the gallery
and among each other, too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import nilearn
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from monai_deepssim.calibration import VOLUME_THRESHOLDS
from monai_deepssim.data import ImageDataset, PhantomBrainDataset, list_images
from monai_deepssim.metrics import AlignedDetector, CopyDetectionMetric, DeepSSIM3DDetector, SliceVotesDetector
from monai_deepssim.transforms import VOLUME_CONTROL_CHANGES, ControlChange
from monai_deepssim.workflow.bundles import find_bundle

SIZE = (64, 64, 64)
FALSE_POSITIVES = 0.01
THICKNESS = 2.5  # slices of 5 mm in place of 2 mm
#: The changes that are asked for, out of those of an audit's controls.
CHANGES = (
    *("none", "flip_x", "flip_y", "flip_z", "rotation_x_10", "rotation_y_10", "rotation_z_10", "shift_5"),
    *("gamma_0.5", "gamma_1.5", "noise_0.02", "blur_1", "crop_10", "slices_2"),
)
Change = Callable[[Tensor, int], Tensor]
#: Real volume that nilearn ships, below its folder.
ICBM152 = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def changes() -> dict[str, Change]:
    """The changes by name; each takes a volume ``(1, X, Y, Z)`` and a seed."""

    def control(volume: Tensor, seed: int, change: ControlChange) -> Tensor:
        return change.apply(volume, None, seed=seed, image_size=SIZE)

    def thicken(volume: Tensor, seed: int) -> Tensor:
        size = list(volume.shape[1:])
        axis = np.random.RandomState(seed).randint(3)
        size[axis] = round(size[axis] / THICKNESS)
        return interpolate(interpolate(volume[None], size, mode="area"), volume.shape[1:], mode="trilinear")[0]

    controls = {change.name: partial(control, change=change) for change in VOLUME_CONTROL_CHANGES}
    return {**{name: controls[name] for name in CHANGES}, f"slices {THICKNESS:g} times as thick": thicken}


def cohort(num_subjects: int, seed: int) -> Tensor:
    """Phantom volumes ``(N, 1, 64, 64, 64)``."""
    dataset = PhantomBrainDataset(num_subjects, seed=seed, volume=True, image_size=SIZE, progress=False, cache_rate=0.0)
    return torch.stack([dataset[i]["image"].as_tensor() for i in tqdm(range(num_subjects), desc=f"phantoms, {seed}")])


def real_volumes(paths: dict[str, str]) -> dict[str, Tensor]:
    """The real volumes by name, as an audit reads them."""
    icbm152 = {"ICBM152": str(Path(nilearn.__file__).parent / ICBM152)}
    samples = {
        name: ImageDataset(list_images(path, volumes=True), SIZE)[0] for name, path in {**icbm152, **paths}.items()
    }
    problems = [sample["problem"] for sample in samples.values() if sample["problem"]]
    if problems:
        raise SystemExit(problems[0])
    return {name: sample["image"] for name, sample in samples.items()}


def make_ways(checkpoint: str | None, keep: int) -> dict[str, CopyDetectionMetric]:
    return {
        "slices": SliceVotesDetector(find_bundle("deepssim_brain_mri") / "models" / "model.pt"),
        "coarse": DeepSSIM3DDetector(checkpoint),
        "whole": AlignedDetector(DeepSSIM3DDetector(checkpoint), top_k=keep, num_screened=keep),
    }


def search(way: CopyDetectionMetric, volumes: Iterable[Tensor], keep: int) -> dict[str, np.ndarray]:
    """The best training volumes of each volume and their scores, ``(N, keep)``, and those that were proposed."""
    scores, indices, proposed = [], [], []
    for volume in volumes:
        stages = way.search_stages(way.represent_batch(volume[None]), keep)
        scores.append(stages.scores[0].numpy())
        indices.append(stages.indices[0].numpy())
        proposed.append(stages.proposed[0].numpy())
    return {"scores": np.stack(scores), "indices": np.stack(indices), "proposed": np.stack(proposed)}


def tune(way: CopyDetectionMetric, gallery: Tensor, strangers: Tensor, keep: int) -> float:
    """The lowest threshold that at most 1 % of the strangers exceed, each after a change of its own."""
    named = list(changes().values())
    way.fit(gallery.split(1))
    changed = (named[i % len(named)](volume, i) for i, volume in enumerate(strangers))
    return float(np.quantile(search(way, changed, keep)["scores"][:, 0], 1 - FALSE_POSITIVES, method="higher"))


def audit_threshold(name: str, way: CopyDetectionMetric) -> float:
    """The threshold of an audit: that of the copy score, or the detector's own."""
    return VOLUME_THRESHOLDS.duplicate if name == "whole" or way.threshold is None else way.threshold


def judge(found: dict[str, np.ndarray], sources: np.ndarray, threshold: float, fixed: float) -> dict[str, float]:
    """Shares of the copies that passed each stage; the last one at an audit's threshold, ``fixed``."""
    is_source = found["indices"] == sources[:, None]
    called = (is_source & (found["scores"] > threshold)).any(1)
    first = (found["proposed"] == sources[:, None]).argmax(1)
    return {
        "proposed": float((found["proposed"] == sources[:, None]).any(1).mean()),
        "proposed_first": float(((found["proposed"] == sources[:, None]).any(1) & (first == 0)).mean()),
        "scored": float(is_source[:, 0].mean()),
        "found": float(called.mean()),
        "found_by_an_audit": float((is_source & (found["scores"] > fixed)).any(1).mean()),
        "lowest_score": float(np.where(is_source, found["scores"], -1).max(1).min()),
    }


def measure(
    way: CopyDetectionMetric,
    gallery: Tensor,
    strangers: Tensor,
    num_copies: int,
    threshold: float,
    fixed: float,
    keep: int,
) -> dict[str, dict[str, float]]:
    """By change what became of the copies, and how many strangers are called."""
    way.fit(gallery.split(1))
    rows = {}
    for number, (name, change) in enumerate(tqdm(changes().items(), desc=way.title)):
        sources = np.random.RandomState(number).permutation(len(gallery))[:num_copies]
        start = time.perf_counter()
        copies = search(way, (change(gallery[i], 1000 * number + i) for i in sources), keep)
        seconds = (time.perf_counter() - start) / len(sources)
        others = search(way, (change(volume, 1000 * number + i) for i, volume in enumerate(strangers)), keep)
        best = others["scores"][:, 0]
        rows[name] = {
            **judge(copies, sources, threshold, fixed),
            "false_positives": float((best > threshold).mean()),
            "called_by_an_audit": float((best > fixed).mean()),
            "highest_stranger": float(best.max()),
            "seconds": seconds,
        }
    return rows


def measure_real(
    way: CopyDetectionMetric, gallery: Tensor, real: dict[str, Tensor], threshold: float, keep: int
) -> dict[str, Any]:
    """For each real volume the changes after which its copy is not found, among phantoms and the real volumes."""
    way.fit(torch.cat([gallery, torch.stack(list(real.values()))]).split(1))
    lost = {}
    for place, (name, volume) in enumerate(real.items()):
        source = np.array([len(gallery) + place])
        judged = {
            change_name: judge(search(way, [change(volume, 7)], keep), source, threshold, threshold)
            for change_name, change in changes().items()
        }
        lost[name] = {change_name: row for change_name, row in judged.items() if not row["found"]}
    return lost


def print_table(
    rows: dict[str, dict[str, dict[str, float]]], thresholds: dict[str, float], fixed: dict[str, float]
) -> None:
    print(
        "| change | " + " | ".join(f"`{way}`" for way in rows) + " | proposed first, among all | lost by `whole` at |"
    )
    print("| --- |" + " --- |" * (len(rows) + 2))
    for name in changes():
        cells = [f"{rows[way][name]['found']:.2f}" for way in rows]
        whole = rows.get("whole", rows[next(iter(rows))])[name]
        stage = "" if whole["found"] == 1 else "proposed" if whole["proposed"] < 1 else "scored"
        print(f"| {name} | {' | '.join(cells)} | {whole['proposed_first']:.2f}, {whole['proposed']:.2f} | {stage} |")
    for title, key, digits in (
        ("mean", "found", 3),
        ("false positives", "false_positives", 3),
        ("seconds", "seconds", 2),
    ):
        means = [np.mean([row[key] for row in rows[way].values()]) for way in rows]
        print(f"| {title} | {' | '.join(f'{mean:.{digits}f}' for mean in means)} | | |")
    for title, key, choose in (("lowest copy", "lowest_score", min), ("highest stranger", "highest_stranger", max)):
        ends = [choose(row[key] for row in rows[way].values()) for way in rows]
        print(f"| {title} | {' | '.join(f'{end:.3f}' for end in ends)} | | |")
    print(f"| threshold | {' | '.join(f'{thresholds[way]:.3f}' for way in rows)} | | |")
    for way, by_change in rows.items():
        found, called = (
            np.mean([row[f"{verb}_by_an_audit"] for row in by_change.values()]) for verb in ("found", "called")
        )
        print(f"{way} at an audit's threshold {fixed[way]:g}: {found:.3f} of the copies, {called:.4f} of the strangers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="slices,coarse,whole")
    parser.add_argument("--num_training", type=int, default=60)
    parser.add_argument("--num_copies", type=int, default=20, help="of each change")
    parser.add_argument("--num_strangers", type=int, default=10, help="of each change")
    parser.add_argument("--num_tuning", type=int, default=100, help="strangers that set the threshold")
    parser.add_argument("--keep", type=int, default=3, help="volumes that are proposed, and compared on the pixels")
    parser.add_argument("--seed", type=int, default=9701, help="of the gallery; the other cohorts have later ones")
    parser.add_argument("--checkpoint", help="3-D embedder that proposes; by default coarse volumes do")
    parser.add_argument("--volume", action="append", default=[], metavar="NAME=FILE", help="another real volume")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    real = real_volumes(dict(volume.split("=", 1) for volume in options.volume))
    tuning = cohort(options.num_training, options.seed + 10), cohort(options.num_tuning, options.seed + 11)
    gallery, strangers = cohort(options.num_training, options.seed), cohort(options.num_strangers, options.seed + 1)
    numbers: dict[str, Any] = {"options": {**vars(options), "json": None}, "thresholds": {}, "ways": {}, "real": {}}
    ways = {name: way for name, way in make_ways(options.checkpoint, options.keep).items() if name in options.ways}
    fixed = {name: audit_threshold(name, way) for name, way in ways.items()}
    for name, way in ways.items():
        threshold = numbers["thresholds"][name] = tune(way, *tuning, options.keep)
        rows = measure(way, gallery, strangers, options.num_copies, threshold, fixed[name], options.keep)
        numbers["ways"][name] = rows
        numbers["real"][name] = measure_real(way, gallery, real, threshold, options.keep)
        if options.json:
            options.json.write_text(json.dumps(numbers, indent=2) + "\n")
    print_table(numbers["ways"], numbers["thresholds"], fixed)
    for name, lost in numbers["real"].items():
        for volume, changed in lost.items():
            print(f"{name}: copies of {volume} are found after all changes but {', '.join(changed) or 'none'}")


if __name__ == "__main__":
    main()
