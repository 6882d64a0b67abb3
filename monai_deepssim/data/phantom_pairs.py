"""Labelled pairs of phantom slices: duplicates, similar ones and different subjects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, Transform

from monai_deepssim.data.phantom import GeneratePhantomd
from monai_deepssim.data.phantom_demo import write_png
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder, unwritable, write_text
from monai_deepssim.similarity import pairwise_ssim, standardize
from monai_deepssim.transforms import GradedVariants

__all__ = ["PhantomPairDataset", "write_phantom_pairs"]

_DIFFERENT, _DUPLICATE, _SIMILAR = range(3)
# A usual distance of slices in clinical scans; neighbours then have SSIM 0.65 to 0.82.
_SLICE_DISTANCE_MM = 3.0
# Every so many pairs of a training list are for validation.
_VALIDATION_TURN = 5


class PhantomPairDataset(CacheDataset):
    """Pairs (real, synthetic) of phantom slices with the published labels: 0 different, 1 duplicate, 2 similar.

    The labels come in turn. A duplicate is the real image itself, which augmentation then changes; a similar image is a
    warp of it whose SSIM lies well between DeepSSIM's thresholds, or the slice 3 mm above or below it in the same
    subject, whose SSIM lies there mostly; a different image shows another subject. The real image of pair i is subject
    i of the cohort ``seed``, as :class:`PhantomBrainDataset` draws it.

    Args:
        num_pairs: number of pairs; a third of them has each label.
        seed: seed of the cohort.
        image_size: rows and columns in pixels.
        level: axial level, a name out of :data:`AXIAL_LEVELS_MM`.
        similar: what similar images are: ``"warp"``, ``"slice"``, or ``"both"`` in turn.
        similar_ssim: smallest and largest SSIM of a warp to its real image.
        transform: applied to each pair after it was made.
        progress: whether to show a progress bar while the pairs are made.

    Returns:
        Items with ``real`` and ``synthetic``, ``(1, *image_size)`` in [0, 1], and ``label``.

    Raises:
        ValueError: when there are no pairs, or ``similar`` is not one of these.

    Example:
        >>> pairs = PhantomPairDataset(num_pairs=3, seed=5, progress=False)
        >>> [pair["label"] for pair in pairs]
        [0, 1, 2]
    """

    def __init__(
        self,
        num_pairs: int,
        seed: int,
        image_size: Sequence[int] = (136, 112),
        *,
        level: str = "basal_ganglia",
        similar: str = "warp",
        similar_ssim: Sequence[float] = (0.65, 0.80),
        transform: Sequence[Callable] | Callable | None = None,
        progress: bool = True,
    ) -> None:
        if num_pairs < 1:
            raise ValueError(f"got num_pairs={num_pairs}, want at least 1")
        if similar not in ("warp", "slice", "both"):
            raise ValueError(f"got similar={similar!r}, want warp, slice or both")
        items = [
            # The subjects of the different images come after those of the real ones.
            {"subject": (seed, i), "other": (seed, num_pairs + i), "level": level, "label": i % 3, "draw": (seed, i)}
            | {"slice": similar == "slice" or (similar == "both" and (i // 3) % 2 == 1)}
            for i in range(num_pairs)
        ]
        further = [] if transform is None else [transform] if callable(transform) else list(transform)
        make = _MakePair(GeneratePhantomd(image_size), similar_ssim)
        super().__init__(items, Compose([make, *further]), num_workers=1, progress=progress)


class _MakePair(Transform):
    def __init__(self, generate: GeneratePhantomd, similar_ssim: Sequence[float]) -> None:
        self.generate = generate
        self.similar_ssim = tuple(similar_ssim)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        real = self._draw(data["subject"], data)
        if data["label"] == _DIFFERENT:
            synthetic = self._draw(data["other"], data)
        elif data["label"] == _DUPLICATE:
            synthetic = real.clone()
        elif data["slice"]:
            upwards = np.random.default_rng([*data["draw"], 1]).random() < 0.5
            synthetic = self._draw(data["subject"], data, _SLICE_DISTANCE_MM if upwards else -_SLICE_DISTANCE_MM)
        else:
            variants = GradedVariants(num_variants=1, ssim_range=self.similar_ssim)
            seed, position = data["draw"]
            variants.set_random_state((seed * 1_000_003 + position) % 2**32)
            synthetic = variants(real)[2]
        return {"real": real, "synthetic": synthetic, "label": data["label"]}

    def _draw(self, subject: tuple[int, int], data: Mapping[str, Any], height_offset_mm: float = 0.0) -> Any:
        item = {"subject": subject, "level": data["level"], "height_offset_mm": height_offset_mm}
        return self.generate(item)["image"]


def write_phantom_pairs(
    folder: str | os.PathLike[str],
    num_pairs: int,
    *,
    num_training_pairs: int = 0,
    seed: int = 4000,
    image_size: Sequence[int] = (136, 112),
    progress: bool = True,
) -> Path:
    """Write phantom pairs in the layout of the published DeepSSIM data set, to try its protocol on.

    Args:
        folder: an existing or new folder. It gets ``images/<uid>/training.png`` and ``images/<uid>/gen-0.png`` of
            every pair, a uid each, and ``test.csv`` with ``real_key, synth_key, label``, a third of each label.
        num_pairs: pairs of the test list.
        num_training_pairs: pairs of a second list, ``train.csv`` with ``real_key, synth_key, ssim, split``, of other
            subjects; by default there is none. Every fifth is for validation.
        seed: seed of the subjects.
        image_size: rows and columns in pixels.
        progress: whether to show a progress bar while the pairs are made.

    Returns:
        The folder of the images; the lists lie beside it.

    Raises:
        UnusableInputError: when the folder cannot be written, or nilearn is not installed.

    Example:
        >>> import tempfile
        >>> images = write_phantom_pairs(tempfile.mkdtemp(), 3, progress=False)
        >>> sorted(path.name for path in images.iterdir())
        ['phantom4000-0000', 'phantom4000-0001', 'phantom4000-0002']
    """
    folder = Path(folder)
    images = folder / "images"
    try:
        make_folder(images)
        tests = _write_pairs(images, num_pairs, seed, image_size, progress)
        rows = [f"{real},{synth},{label}" for real, synth, label, _ in tests]
        write_text(folder / "test.csv", "\n".join(["real_key,synth_key,label", *rows, ""]))
        if num_training_pairs:
            trainings = _write_pairs(images, num_training_pairs, seed + 1, image_size, progress)
            rows = [
                f"{real},{synth},{ssim:.4f},{'valid' if (number + 1) % _VALIDATION_TURN == 0 else 'train'}"
                for number, (real, synth, _, ssim) in enumerate(trainings)
            ]
            write_text(folder / "train.csv", "\n".join(["real_key,synth_key,ssim,split", *rows, ""]))
    except OSError as error:
        raise unwritable(folder, error) from error
    except ImportError as error:
        raise UnusableInputError(
            f"Phantom pairs need a package that is not installed ({error}). Run pip install 'monai-deepssim[demo]', or "
            "give pairs of your own."
        ) from error
    return images


def _write_pairs(
    images: Path, num_pairs: int, seed: int, image_size: Sequence[int], progress: bool
) -> list[tuple[str, str, int, float]]:
    """Write the images of pairs: of each its keys, its label and its SSIM."""
    pairs = []
    dataset = PhantomPairDataset(num_pairs, seed, image_size, similar="both", progress=progress)
    for number in range(num_pairs):
        pair, uid = dataset[number], f"phantom{seed}-{number:04d}"
        make_folder(images / uid)
        for name, side in (("training", "real"), ("gen-0", "synthetic")):
            write_png(images / uid / f"{name}.png", pair[side])
        real, synthetic = (_as_in_a_file(pair[side]) for side in ("real", "synthetic"))
        ssim = pairwise_ssim(standardize(real), standardize(synthetic)).item()
        pairs.append((f"{uid}___training", f"{uid}___gen-0", pair["label"], ssim))
    return pairs


def _as_in_a_file(image: Any) -> torch.Tensor:
    """An image ``(1, 1, H, W)`` in the 8 bits of :func:`write_png`."""
    return torch.as_tensor(image).clamp(0, 1).mul(255).round().div(255).float()[None]
