"""The labelled pairs of a benchmark: of phantoms, or read from a CSV in the published format."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from monai_deepssim.benchmark.queries import QuerySet, perturb_each, stack_images
from monai_deepssim.data import GeneratePhantomd, PhantomPairDataset, labelled_pairs, load_slice, split_by_patient
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CLASS_NAMES
from monai_deepssim.progress import progress_bar
from monai_deepssim.transforms import FitImageSize

__all__ = ["PairSet", "label_pairs", "make_phantom_pairs", "perturb_in_turn", "read_pairs"]

_DUPLICATE = CLASS_NAMES.index("duplicate")
_LEVEL = "basal_ganglia"
_NUM_PARTNERS = 30


@dataclass(frozen=True)
class PairSet(QuerySet):
    """Labelled pairs of a real and a synthetic image, beside what a search is asked; made by :func:`label_pairs`.

    Attributes:
        real_index: ``(N,)``, row of each pair's real image in ``gallery``.
        synthetic_index: ``(N,)``, row of each pair's synthetic image in ``synthetic``.
        labels: ``(N,)``, 0 different, 1 duplicate, 2 similar.
        patients: Patients of the N real images; empty where unknown.
    """

    real_index: np.ndarray
    synthetic_index: np.ndarray
    labels: np.ndarray
    patients: Sequence[str]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.gallery.numpy().tobytes())
        for array in (self.real_index, self.synthetic_index, self.labels):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by name of their class."""
        return {name: int((self.labels == number).sum()) for number, name in enumerate(CLASS_NAMES)}


def label_pairs(
    gallery: Tensor,
    synthetic: Tensor,
    partners: Tensor,
    *,
    real_index: np.ndarray,
    synthetic_index: np.ndarray,
    labels: np.ndarray,
    patients: Sequence[str],
) -> PairSet:
    """Make a set of labelled pairs.

    A synthetic image is a copy of the real images that it is paired with as a duplicate. Its group is the patient of
    the first real image that it is paired with.

    Args:
        gallery: ``(M, 1, H, W)``.
        synthetic: ``(S, 1, H, W)``.
        partners: ``(S, 1, H, W)``.
        real_index: ``(N,)``.
        synthetic_index: ``(N,)``.
        labels: ``(N,)``.
        patients: N.

    Returns:
        The set.
    """
    is_duplicate = labels == _DUPLICATE
    rows, first_pairs = np.unique(synthetic_index, return_index=True)
    return PairSet(
        gallery=gallery,
        synthetic=synthetic,
        partners=partners,
        sources=[real_index[is_duplicate & (synthetic_index == row)] for row in rows],
        groups=[patients[pair] for pair in first_pairs],
        real_index=real_index,
        synthetic_index=synthetic_index,
        labels=labels,
        patients=patients,
    )


def make_phantom_pairs(num_pairs: int, gallery_size: int, seed: int, image_size: Sequence[int]) -> PairSet:
    """Draw phantom pairs, a third of each class, and further subjects that fill the gallery.

    Similar images are in turn a small warp of the real one, and the slice 3 mm above or below it.

    Args:
        num_pairs: N; the real image of each is of a subject of its own.
        gallery_size: M, at least N.
        seed: seed of the cohort.
        image_size: rows and columns.

    Returns:
        The pairs.
    """
    is_terminal = sys.stderr.isatty()
    dataset = PhantomPairDataset(num_pairs, seed, image_size, similar="both", level=_LEVEL, progress=is_terminal)
    pairs = [dataset[i] for i in range(num_pairs)]
    num_fillers, num_partners = gallery_size - num_pairs, min(num_pairs, _NUM_PARTNERS)
    generate, others = GeneratePhantomd(image_size), []
    # The subjects after those that the pairs may have used: first those of the gallery, then the partners.
    for i in progress_bar(range(num_fillers + num_partners), desc="Other subjects", disable=not is_terminal):
        others.append(generate({"subject": (seed, 2 * num_pairs + i), "level": _LEVEL})["image"])
    rows = np.arange(num_pairs)
    return label_pairs(
        stack_images([*(pair["real"] for pair in pairs), *others[:num_fillers]]),
        stack_images([pair["synthetic"] for pair in pairs]),
        stack_images(others[num_fillers:])[rows % num_partners],
        real_index=rows,
        synthetic_index=rows,
        labels=np.array([pair["label"] for pair in pairs]),
        patients=[f"phantom-{seed}-{i}" for i in range(num_pairs)],
    )


def read_pairs(
    csv_file: Path, images_dir: Path, tuning_fraction: float, seed: int, image_size: Sequence[int]
) -> tuple[PairSet, PairSet, int]:
    """Read labelled pairs of the published format, and put the pairs of some patients aside for the thresholds.

    Args:
        csv_file: path of a CSV with ``real_key, synth_key, label``.
        images_dir: folder of the images.
        tuning_fraction: share of the patients that is put aside.
        seed: seed of the draw of these patients.
        image_size: rows and columns that images are brought to, with their aspect kept.

    Returns:
        Pairs for tuning, pairs for the test, and the number of pairs that are in neither, because one of their images
        is of a patient of the one and the other of a patient of the other.

    Raises:
        UnusableInputError: if the CSV or an image cannot be used, or a part lacks duplicates or other pairs.
    """
    pairs = labelled_pairs(csv_file, images_dir)
    if not pairs or "label" not in pairs[0]:
        raise UnusableInputError(
            f"{csv_file}: got no labelled pairs, want the columns real_key, synth_key, label and at least one row."
        )
    owners = [{pair[role]["patient_id"] for role in ("real", "synthetic")} for pair in pairs]
    known = [{"patient_id": patient, "image": ""} for patient in sorted(set().union(*owners))]
    _, aside = split_by_patient(known, tuning_fraction, seed)
    tuning_patients = {item["patient_id"] for item in aside}
    tuning = [pair for pair, patients in zip(pairs, owners, strict=True) if patients <= tuning_patients]
    test = [pair for pair, patients in zip(pairs, owners, strict=True) if not patients & tuning_patients]
    for name, part in (("tuning", tuning), ("test", test)):
        duplicates = sum(pair["label"] == _DUPLICATE for pair in part)
        if not 0 < duplicates < len(part):
            raise UnusableInputError(
                f"{csv_file}: split by patient, {len(part)} pairs are for {name}, {duplicates} of them duplicates; "
                "want duplicates and others. Give more pairs, or another --tuning_fraction or --tuning_seed."
            )
    galleries = [_load_side(part, "real", image_size) for part in (tuning, test)]
    sets = []
    # The patients of the other part are in no pair of this one.
    for part, gallery, partners in zip((tuning, test), galleries, galleries[::-1], strict=True):
        synthetic, others = _load_side(part, "synthetic", image_size), list(partners.values())
        real_rows, synthetic_rows = ({path: row for row, path in enumerate(side)} for side in (gallery, synthetic))
        sets.append(
            label_pairs(
                stack_images(list(gallery.values())),
                stack_images(list(synthetic.values())),
                stack_images([others[row % len(others)] for row in range(len(synthetic))]),
                real_index=np.array([real_rows[pair["real"]["path"]] for pair in part]),
                synthetic_index=np.array([synthetic_rows[pair["synthetic"]["path"]] for pair in part]),
                labels=np.array([pair["label"] for pair in part]),
                patients=[pair["real"]["patient_id"] for pair in part],
            )
        )
    return sets[0], sets[1], len(pairs) - len(tuning) - len(test)


def perturb_in_turn(pairs: PairSet, names: Sequence[str], seed: int) -> Tensor:
    """Change the synthetic images by all perturbations in turn, evenly within each class.

    Args:
        pairs: The pairs.
        names: Names of the perturbations.
        seed: Seed of what they draw.

    Returns:
        ``(S, 1, H, W)``.
    """
    # The label of each image, which is that of its last pair.
    label_of = dict(zip(pairs.synthetic_index.tolist(), pairs.labels.tolist(), strict=True))
    labels = pd.Series(label_of).sort_index()
    smallest_class = min(count for count in pairs.counts.values() if count)
    # Two of a class each time where there are enough: similar phantoms are warps and slices in turn, and should get
    # all of them too.
    repeats = 2 if 2 * len(names) <= smallest_class else 1
    turns = labels.groupby(labels).cumcount() // repeats % len(names)
    return perturb_each(pairs, [names[turn] for turn in turns], seed)


def _load_side(pairs: Sequence[dict[str, Any]], side: str, image_size: Sequence[int]) -> dict[str, Tensor]:
    """Load each real or synthetic image of the pairs once, by its path, in the order of the pairs."""
    fit = FitImageSize(image_size)
    items = {pair[side]["path"]: pair[side] for pair in pairs}
    bar = progress_bar(items, desc=f"Reading {side} images", disable=not sys.stderr.isatty())
    return {path: fit(load_slice(items[path])) for path in bar}
