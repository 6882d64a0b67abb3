"""Draw the pictures of the documentation that come from data.

python docs/make_figures.py
python docs/make_figures.py --training deepssim_training   # the learning curve too, from its TensorBoard log
python docs/make_figures.py --generator brain_mri_ldm memorization_audit   # samples of a generator, and their audit
python docs/make_figures.py --report memorization_audit/report.html   # the report of the demo, by a headless Chromium
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_deepssim.data import make_phantom_cohort

IMAGES = Path(__file__).parent / "images"
SAMPLES = Path(__file__).parents[1] / "bundles" / "brain_mri_ldm" / "docs" / "samples.png"
LEARNING_CURVE = Path(__file__).parents[1] / "bundles" / "deepssim_brain_mri" / "docs" / "learning_curve.png"
ROWS, COLUMNS = 3, 8
# Not a seed that anything is trained, tuned or tested with.
SEED = 24
REPORT = IMAGES / "audit_report.png"
# Of a report: the first screen, and the first pairs.
REPORT_STYLE = """<style>
main > :not(.first, .reasons, .cards, .pairs), .pairs > :nth-child(n + 4), .pairs .group { display: none !important; }
main { padding-bottom: 18px !important; }
</style></head>"""
REPORT_WIDTH, REPORT_HEIGHT = 1120, 2400


def draw_phantom_cohort(path: Path, organ: str) -> None:
    """Draw a contact sheet of 24 phantom subjects, one image each, with their names."""
    cohort = make_phantom_cohort(organ, num_subjects=ROWS * COLUMNS, seed=SEED, progress=False)
    figure = Figure(figsize=(12.8, 6.6), dpi=100, layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    for place, axes in enumerate(figure.subplots(ROWS, COLUMNS).flat):
        subject = cohort[place]
        axes.imshow(subject["image"][0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
        axes.set_title(
            subject["patient_id"] + (", with skull" if subject.get("skull") else ""), color="0.8", fontsize=8, pad=3
        )
        axes.axis("off")
    figure.savefig(path)


def draw_learning_curve(trainings: Sequence[Path], path: Path) -> None:
    """Draw, one training after the other, each step's loss (mean of 50) and the validation's error of each epoch."""
    figure = Figure(figsize=(3.6 * max(2, len(trainings)), 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(trainings), sharey=True, squeeze=False)[0]
    for number, (axes, training) in enumerate(zip(panels, trainings, strict=True), start=1):
        scalars: dict[str, dict[int, float]] = {}
        for log in sorted((training / "tensorboard").rglob("events.out.tfevents.*")):
            events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
            for tag in events.Tags()["scalars"]:
                # A training that was taken up repeats the steps since its last checkpoint: the later ones count.
                scalars.setdefault(tag, {}).update((event.step, event.value) for event in events.Scalars(tag))
        steps, losses = np.array(sorted(scalars["train_loss"].items())).T
        epochs, errors = np.array(sorted(scalars["ssim_matching_mse"].items())).T
        window = min(50, len(steps))
        smooth = np.convolve(losses, np.ones(window) / window, "valid")
        axes.plot(steps[window - 1 :], smooth, label="training loss (weighted)")
        axes.plot(epochs * steps.max() / epochs.max(), errors, "o-", label="validation, all pairs")
        axes.set(xlabel="step", yscale="log", title=f"leg {number}" if len(trainings) > 1 else "")
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("(cosine - SSIM)²")
    panels[0].legend(fontsize=8)
    figure.savefig(path)


def draw_samples(generator: Path, audit: Path, path: Path) -> None:
    """Draw the first sixteen samples of a generator, in the order in which they were drawn, above what each copies."""
    matches = pd.read_csv(audit / "matches.csv").sort_values("synthetic_path")[: 2 * COLUMNS]
    repetitions = pd.read_csv(generator / "repetitions.csv").set_index("image")["copies"]
    figure = Figure(figsize=(12.8, 9.2), dpi=100, layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    panels = figure.subplots(4, COLUMNS)
    for place, match in enumerate(matches.itertuples()):
        above, below = panels[2 * (place // COLUMNS) : 2 * (place // COLUMNS) + 2, place % COLUMNS]
        copies = int(repetitions[match.training_path])
        above.set_title(f"{match.label}\naligned SSIM {match.score:.2f}", color="0.8", fontsize=8, pad=3)
        below.set_title(
            f"nearest training image,\nthere {copies} time{'s' * (copies > 1)}", color="0.8", fontsize=8, pad=3
        )
        for axes, file in (
            (above, generator / "samples" / match.synthetic_path),
            (below, generator / match.training_path),
        ):
            axes.imshow(np.asarray(Image.open(file)), cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
            axes.axis("off")
    figure.savefig(path)


def draw_report(report: Path, path: Path) -> None:
    """Take a picture of a report's first screen and first pairs; `chromium` has to be installed."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "report.html"
        page.write_text(report.read_text(encoding="utf-8").replace("</head>", REPORT_STYLE, 1), encoding="utf-8")
        switches = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ]
        switches += [f"--screenshot={path.resolve()}", f"--window-size={REPORT_WIDTH},{REPORT_HEIGHT}", page.as_uri()]
        subprocess.run([chromium, *switches], check=True, capture_output=True, timeout=300)
    picture = Image.open(path).convert("RGB")
    pixels = np.asarray(picture)
    shown = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    picture.crop((0, 0, picture.width, int(shown[-1]) + 18)).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, nargs="+", help="output_dir of trainings of deepssim_brain_mri")
    parser.add_argument(
        "--generator",
        type=Path,
        nargs=2,
        metavar=("GENERATOR", "AUDIT"),
        help="output_dir of brain_mri_ldm and of its audit",
    )
    parser.add_argument("--report", type=Path, help="report.html of the demo's audit")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for organ, name in (("brain", "phantom_cohort.png"), ("chest", "phantom_chests.png")):
        draw_phantom_cohort(IMAGES / name, organ)
        print(f"wrote {IMAGES / name}")
    if options.training:
        draw_learning_curve(options.training, LEARNING_CURVE)
        print(f"wrote {LEARNING_CURVE}")
    if options.report:
        draw_report(options.report, REPORT)
        print(f"wrote {REPORT}")
    if options.generator:
        draw_samples(*options.generator, SAMPLES)
        print(f"wrote {SAMPLES}")


if __name__ == "__main__":
    main()
