"""Draw the pictures of the documentation that come from data: ``python docs/make_figures.py``."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_deepssim.data import PhantomBrainDataset

IMAGES = Path(__file__).parent / "images"
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


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    draw_phantom_cohort(IMAGES / "phantom_cohort.png")
    print(f"wrote {IMAGES / 'phantom_cohort.png'}")
