"""Draw the pictures of the documentation that come from data.

python docs/make_figures.py
python docs/make_figures.py --training deepssim_training   # the learning curve too, from its TensorBoard log
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_deepssim.data import PhantomBrainDataset

IMAGES = Path(__file__).parent / "images"
LEARNING_CURVE = Path(__file__).parents[1] / "bundles" / "deepssim_brain_mri" / "docs" / "learning_curve.png"
ROWS, COLUMNS = 3, 8
# Not a seed that anything is trained, tuned or tested with.
SEED = 24


def draw_phantom_cohort(path: Path) -> None:
    """Draw a contact sheet of 24 phantom subjects, one slice each, with their names."""
    cohort = PhantomBrainDataset(num_subjects=ROWS * COLUMNS, seed=SEED, progress=False)
    figure = Figure(figsize=(12.8, 6.6), dpi=100, layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    for place, axes in enumerate(figure.subplots(ROWS, COLUMNS).flat):
        subject = cohort[place]
        axes.imshow(subject["image"][0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
        axes.set_title(
            subject["patient_id"] + (", with skull" if subject["skull"] else ""), color="0.8", fontsize=8, pad=3
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, nargs="+", help="output_dir of trainings of deepssim_brain_mri")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    draw_phantom_cohort(IMAGES / "phantom_cohort.png")
    print(f"wrote {IMAGES / 'phantom_cohort.png'}")
    if options.training:
        draw_learning_curve(options.training, LEARNING_CURVE)
        print(f"wrote {LEARNING_CURVE}")


if __name__ == "__main__":
    main()
