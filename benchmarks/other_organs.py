"""What an audit with the weights that ship, which saw brains alone, finds of other organs.

    python benchmarks/other_organs.py
    python benchmarks/other_organs.py --organs chest --checkpoint chest_training/model.pt
    python benchmarks/other_organs.py --images images.csv --group_column patient --organs

Phantoms of each organ, of subjects that nothing was trained or chosen on: a training set, changed copies of a part of
it, and images of other subjects, changed likewise; images of one's own at 128 x 128 pixels in the same way. The audit's
searches, alignment and threshold; beside them where the embedder alone ranks the source.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from monai_deepssim.benchmark.cells import score_cell
from monai_deepssim.benchmark.measures import measure_search
from monai_deepssim.benchmark.own_images import draw_phantoms, read_own_images
from monai_deepssim.benchmark.queries import perturb
from monai_deepssim.data import PHANTOM_ORGANS
from monai_deepssim.metrics import AlignedDetector, DeepSSIMDetector
from monai_deepssim.workflow import find_bundle

CHANGES = (
    *("none", "flip_horizontal", "rotation_10", "rotation_any", "gamma_0.5", "window_20_80", "noise_0.05", "blur_2"),
    *("crop_20_percent", "zoom_0.7", "zoom_1.4", "mix", "inverted", "average_of_two"),
)
BATCH_SIZE, NUM_RESAMPLES, SEEDS = 20, 200, {"tuning_seed": 9601, "test_seed": 9602}
SIZES, OWN = {"brain": (136, 112)}, "own images"


def measure(organ: str, changes: list[str], arguments: argparse.Namespace) -> list[dict]:
    """Search for the copies and the strangers of one organ under each change: one row per change."""
    size = SIZES.get(organ, (128, 128))
    numbers = {"num_copies": arguments.copies, "num_strangers": arguments.strangers, "gallery_size": arguments.gallery}
    if organ == OWN:
        columns = {"group_column": arguments.group_column, "patient_id_pattern": None}
        _, queries = read_own_images(arguments.images, image_size=size, **columns, **numbers, **SEEDS)
    else:
        _, queries = draw_phantoms(organ, image_size=size, **numbers, **SEEDS)
    embedder = DeepSSIMDetector(arguments.checkpoint).fit(queries.gallery.split(BATCH_SIZE))
    audit = AlignedDetector(DeepSSIMDetector(arguments.checkpoint)).fit(queries.gallery.split(BATCH_SIZE))
    rows = []
    for change in changes:
        changed = queries.under(change)
        images = perturb(changed, change, SEEDS["test_seed"])
        ranks = score_cell(embedder, changed, images, BATCH_SIZE).ranks[changed.is_copy]
        cell = score_cell(audit, changed, images, BATCH_SIZE)
        measures = measure_search(cell, changed, np.inf, audit.threshold, NUM_RESAMPLES)
        names = ("tpr_at_1_fpr", "named", "called_strangers", "proposed")
        row = {name: float(measures[name]) for name in names} | {"among_ten": float((ranks > 0).mean())}
        row["strangers"] = cell.nearest_scores[~changed.is_copy].tolist()
        row["copies"] = cell.source_scores[changed.is_copy].tolist()
        rows.append({"organ": organ, "change": change, **row})
        print(organ, change, {name: value for name, value in row.items() if isinstance(value, float)}, flush=True)
    return rows


def print_tables(rows: list[dict], changes: list[str], organs: list[str]) -> None:
    print("\nRecall at FPR 1 % / source called / strangers called / among ten by the embedder / proposed by both\n")
    print(f"| change | {' | '.join(organs)} |\n| --- |{' --- |' * len(organs)}")
    by = {(row["organ"], row["change"]): row for row in rows}
    names = ("tpr_at_1_fpr", "named", "called_strangers", "among_ten", "proposed")
    for change in changes:
        cells = (" / ".join(f"{by[organ, change][name]:.2f}" for name in names) for organ in organs)
        print(f"| `{change}` | {' | '.join(cells)} |")
    print("\n| organ | scores of strangers, without averages: median | 95 % | 99 % | highest | above 0.86 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for organ in organs:
        scores = np.concatenate([by[organ, change]["strangers"] for change in changes if change != "average_of_two"])
        quantiles = " | ".join(f"{value:.3f}" for value in np.quantile(scores, [0.5, 0.95, 0.99, 1]))
        print(f"| {organ} | {quantiles} | {(scores > 0.86).sum()} of {len(scores)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--organs", nargs="*", choices=list(PHANTOM_ORGANS), default=list(PHANTOM_ORGANS))
    parser.add_argument("--images", type=Path, help="CSV or folder of images of one's own")
    parser.add_argument("--group_column", help="column whose images belong together")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES))
    parser.add_argument("--copies", type=int, default=60)
    parser.add_argument("--strangers", type=int, default=60)
    parser.add_argument("--gallery", type=int, default=300)
    parser.add_argument("--checkpoint", type=Path, default=find_bundle("deepssim_brain_mri") / "models" / "model.pt")
    parser.add_argument("--json", type=Path, help="file for the numbers and all scores")
    arguments = parser.parse_args()
    organs = [*arguments.organs, *([OWN] if arguments.images else [])]
    rows = [row for organ in organs for row in measure(organ, arguments.changes, arguments)]
    print_tables(rows, arguments.changes, organs)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
