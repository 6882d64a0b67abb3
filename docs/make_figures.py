"""Draw the pictures of the documentation that come from data.

python docs/make_figures.py
python docs/make_figures.py --training deepssim_training   # the learning curve too, from its TensorBoard log
"""

from __future__ import annotations

import argparse
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


def draw_learning_curve(training: Path, path: Path) -> None:
    """Draw the loss of each step, averaged over 50, and the validation's error of each epoch, over the steps."""
    scalars: dict[str, list[tuple[int, float]]] = {}
    for log in sorted((training / "tensorboard").rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    steps, losses = np.array(sorted(scalars["train_loss"])).T
    epochs, errors = np.array(sorted(scalars["ssim_matching_mse"])).T
    window = 50
    figure = Figure(figsize=(7.2, 3.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(
        steps[window - 1 :], np.convolve(losses, np.ones(window) / window, "valid"), label="training loss (weighted)"
    )
    axes.plot(epochs * steps.max() / epochs.max(), errors, "o-", label="validation, mean squared error over all pairs")
    axes.set(xlabel="step", ylabel="(cosine - SSIM)²", yscale="log", title="Training of models/model.pt by small.json")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, help="output_dir of a training of the bundle deepssim_brain_mri")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    draw_phantom_cohort(IMAGES / "phantom_cohort.png")
    print(f"wrote {IMAGES / 'phantom_cohort.png'}")
    if options.training:
        draw_learning_curve(options.training, LEARNING_CURVE)
        print(f"wrote {LEARNING_CURVE}")


if __name__ == "__main__":
    main()
