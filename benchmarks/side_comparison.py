"""How often the comparison of an audit's sides names a difference, where there is none and where there is one.

    python benchmarks/side_comparison.py
    python benchmarks/side_comparison.py --images images.csv --draws 100

The images are phantoms, or those of a CSV file with the columns `image` (relative to the file), and `look_alike_group`
where images are known to be alike. False alarms: two sides without a common group are drawn from one set; nothing
should be named. Detection: all images of the synthetic side are changed in one way; the kind of the change should be
named. Changes are made before an image is fitted into the audit's frame, as they happen in files.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
from scipy import ndimage

from monai_deepssim.data import ImageDataset, PhantomBrainDataset
from monai_deepssim.metrics.side_differences import name_differences
from monai_deepssim.metrics.side_measures import SideMeasures, measure_side
from monai_deepssim.transforms import FitImageSize

FRAME = (136, 112)
SEED = 9301
LEVELS = ("midbrain", "lateral_ventricles", "centrum_semiovale")

GLYPHS = ("111101101101111", "010110010010111", "111001111100111", "110101110101101", "111100111001111")


def zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """The content enlarged about the centre, with the darkest value around it."""
    middle = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(
        image, np.eye(2) / factor, middle - middle / factor, order=1, mode="constant", cval=float(image.min())
    )


def crop(image: np.ndarray, share: float) -> np.ndarray:
    """The middle of the image alone."""
    rows, columns = (round(side * share / 2) for side in image.shape)
    return image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]


def border(image: np.ndarray, share: float) -> np.ndarray:
    """A black border, which makes up this share of the rows and columns on each side."""
    return np.pad(image, [(round(side * share), round(side * share)) for side in image.shape])


def window(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """The contrast between two percentiles of the image, clipped."""
    bottom, top = np.percentile(image, [low, high])
    return np.clip((image - bottom) / max(top - bottom, 1e-3), 0, 1)


def seed_of(image: np.ndarray) -> int:
    """A number that depends on the image alone, so that a change draws the same for it in any order."""
    return zlib.crc32(np.ascontiguousarray(image).tobytes())


def turn_half_of_them(image: np.ndarray) -> np.ndarray:
    """A quarter turn of an image in two."""
    return np.rot90(image) if seed_of(image) % 2 else image


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    """White noise, clipped as in a file."""
    return np.clip(image + deviation * np.random.default_rng(seed_of(image)).standard_normal(image.shape), 0, 1)


def framed(image: np.ndarray) -> np.ndarray:
    """A white line of one pixel, two pixels from the edge."""
    changed = image.copy()
    changed[[2, -3], 2:-2] = changed[2:-2, [2, -3]] = 1
    return changed


def with_text(image: np.ndarray) -> np.ndarray:
    """Five white glyphs of 5 x 3 pixels in the upper left corner."""
    changed = image.copy()
    for place, glyph in enumerate(GLYPHS):
        bits = np.array(list(glyph), dtype=int).reshape(5, 3) > 0
        changed[3:8, 3 + 4 * place : 6 + 4 * place][bits] = 0.9
    return changed


CHANGES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "quarter turn": ("pose", lambda x: np.rot90(x, -1)),
    "transposed": ("pose", np.transpose),
    "half turn": ("pose", lambda x: np.rot90(x, 2)),
    "left-right flip": ("pose", np.fliplr),
    "turn of every other": ("pose", turn_half_of_them),
    "inverted": ("inverted", lambda x: 1 - x),
    "window 20 to 80 %": ("contrast", lambda x: window(x, 20, 80)),
    "gamma 0.5": ("contrast", lambda x: x**0.5),
    "gamma 2": ("contrast", lambda x: x**2),
    "zoom 0.7": ("field_of_view", lambda x: zoom(x, 0.7)),
    "zoom 1.4": ("field_of_view", lambda x: zoom(x, 1.4)),
    "crop 20 %": ("field_of_view", lambda x: crop(x, 0.2)),
    "border 20 %": ("field_of_view", lambda x: border(x, 0.2)),
    "blur 1.5 pixels": ("sharpness", lambda x: ndimage.gaussian_filter(x, 1.5)),
    "blur 3 pixels": ("sharpness", lambda x: ndimage.gaussian_filter(x, 3)),
    "noise 0.05": ("noise", lambda x: noisy(x, 0.05)),
    "noise 0.1": ("noise", lambda x: noisy(x, 0.1)),
    "frame": ("frame", framed),
    "text": ("text", with_text),
    "background 0.15": ("background", lambda x: np.maximum(x, 0.15)),
}


def load_csv(path: Path, only: str = "") -> tuple[list[np.ndarray], np.ndarray]:
    """The images of a list, square, and their groups."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"].startswith(only)]
    items = [{"image": str(path.parent / row["image"]), "path": row["image"], "patient_id": ""} for row in rows]
    dataset = ImageDataset(items, (FRAME[1], FRAME[1]))
    groups = [row.get("look_alike_group") or f"row {index}" for index, row in enumerate(rows)]
    usable = [
        (item["image"][0].numpy(), group)
        for item, group in zip((dataset[index] for index in range(len(dataset))), groups, strict=True)
        if not item["problem"]
    ]
    return [image for image, _ in usable], np.unique([group for _, group in usable], return_inverse=True)[1]


def load_phantoms(num_subjects: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Slices at three levels of each subject."""
    cohort = PhantomBrainDataset(num_subjects, seed=SEED, levels=LEVELS, progress=False)
    patients = [item["patient_id"] for item in cohort]
    return [item["image"].as_tensor()[0].numpy() for item in cohort], np.unique(patients, return_inverse=True)[1]


def measure(images: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> SideMeasures:
    fit = FitImageSize(FRAME)
    return measure_side(
        np.stack([fit(np.ascontiguousarray(change(image), dtype=np.float32)[None])[0].numpy() for image in images])
    )


def take(measures: SideMeasures, rows: np.ndarray) -> SideMeasures:
    return SideMeasures(**{field.name: getattr(measures, field.name)[rows] for field in fields(measures)})


def draw_sides(
    rng: np.random.Generator, groups: np.ndarray, size: int, most_of_group: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two sides of up to so many images, that share no group."""
    order = rng.permutation(groups.max() + 1)
    sides: tuple[list[int], list[int]] = ([], [])
    for group in order:
        members = rng.permutation(np.flatnonzero(groups == group))[:most_of_group]
        min(sides, key=len).extend(members.tolist())
        if min(len(side) for side in sides) >= size:
            break
    return np.array(sides[0][:size]), np.array(sides[1][:size])


def named(training: SideMeasures, synthetic: SideMeasures) -> set[str]:
    return {difference.kind for difference in name_differences(training, synthetic)}


def percentages(counts: Counter[str], total: int) -> str:
    return ", ".join(f"{kind} {count / total:.0%}" for kind, count in counts.most_common()) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a CSV file; phantoms without it")
    parser.add_argument("--only", default="", help="images whose file name begins so")
    parser.add_argument("--num_subjects", type=int, default=150, help="phantoms, with three slices each")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 200], help="images per side")
    parser.add_argument("--draws", type=int, default=100, help="of two sides, for false alarms")
    parser.add_argument("--detection_draws", type=int, default=20)
    parser.add_argument("--most_of_group", type=int, nargs="+", default=[3], help="images per group and draw")
    parser.add_argument("--pool", type=int, default=600, help="images of which those that are changed are drawn")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES), help="to detect")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()

    images, groups = (
        load_phantoms(options.num_subjects) if options.images is None else load_csv(options.images, options.only)
    )
    rng = np.random.default_rng(0)
    numbers: list[dict] = []
    measures = measure(images, lambda x: x)
    print(f"{len(images)} images of {groups.max() + 1} groups")
    print(f"\n{'no change':20} {'images':>6} {'per group':>9} {'any named':>9}  kinds")
    for size in options.sizes:
        for most in options.most_of_group:
            kinds: Counter[str] = Counter()
            alarms = 0
            for _ in range(options.draws):
                found = named(*(take(measures, rows) for rows in draw_sides(rng, groups, size, most)))
                kinds.update(found)
                alarms += bool(found)
            rate = alarms / max(options.draws, 1)
            print(f"{'':20} {size:6} {most:9} {rate:9.0%}  {percentages(kinds, options.draws)}", flush=True)
            numbers.append({"change": None, "size": size, "most_of_group": most, "any": rate, "kinds": dict(kinds)})

    pool = rng.permutation(len(images))[: options.pool]
    print(f"\n{'change':20} {'kind':14} " + " ".join(f"n={size:<6}" for size in options.sizes) + " other kinds named")
    for change in options.changes:
        kind, function = CHANGES[change]
        changed = measure([images[row] for row in pool], function)
        rates, others = [], Counter()
        for size in options.sizes:
            hits = 0
            for _ in range(options.detection_draws):
                training, synthetic = draw_sides(rng, groups[pool], size, options.most_of_group[0])
                found = named(take(measures, pool[training]), take(changed, synthetic))
                hits += kind in found
                others.update(found - {kind})
            rates.append(hits / options.detection_draws)
        total = options.detection_draws * len(options.sizes)
        print(
            f"{change:20} {kind:14} " + " ".join(f"{rate:<8.0%}" for rate in rates) + f" {percentages(others, total)}",
            flush=True,
        )
        numbers.append({"change": change, "kind": kind, "rates": rates, "others": dict(others)})
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
