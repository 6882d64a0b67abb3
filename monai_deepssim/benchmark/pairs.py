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
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.benchmark.queries import QuerySet, perturb_each, stack_images
from monai_deepssim.data import GeneratePhantomd, PhantomPairDataset, labelled_pairs, load_slice, split_by_patient
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CLASS_NAMES
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
    rows = range(len(synthetic))
    first = {int(row): position for position, row in reversed(list(enumerate(synthetic_index)))}
    return PairSet(
        gallery=gallery,
        synthetic=synthetic,
        partners=partners,
        sources=[real_index[is_duplicate & (synthetic_index == row)] for row in rows],
        groups=[patients[first[row]] for row in rows],
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
        seed: of the cohort.
        image_size: rows and columns.

    Returns:
        The pairs.
    """
    shown = sys.stderr.isatty()
    dataset = PhantomPairDataset(num_pairs, seed, image_size, similar="both", level=_LEVEL, progress=shown)
    pairs = [dataset[i] for i in range(num_pairs)]
    generate = GeneratePhantomd(image_size)
    # The subjects after those that the pairs may have used.
    fillers = [
        generate({"subject": (seed, 2 * num_pairs + i), "level": _LEVEL})["image"]
        for i in tqdm(range(gallery_size - num_pairs), desc="Other subjects", disable=not shown)
    ]
    first = 2 * num_pairs + gallery_size - num_pairs
    partners = [
        generate({"subject": (seed, first + i), "level": _LEVEL})["image"] for i in range(min(num_pairs, _NUM_PARTNERS))
    ]
    rows = np.arange(num_pairs)
    return label_pairs(
        stack_images([*(pair["real"] for pair in pairs), *fillers]),
        stack_images([pair["synthetic"] for pair in pairs]),
        stack_images(partners)[rows % len(partners)],
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
        csv_file: with ``real_key, synth_key, label``.
        images_dir: folder of the images.
        tuning_fraction: share of the patients that is put aside.
        seed: of the draw of these patients.
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
            f"{csv_file}: there are no labelled pairs. The columns real_key, synth_key, label and one row or more are "
            "wanted."
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
                "duplicates and others are wanted. Give more pairs, or another --tuning_fraction or --tuning_seed."
            )
    galleries = [_load_side(part, "real", image_size) for part in (tuning, test)]
    # The patients of the other part are in no pair of this one.
    partners = galleries[::-1]
    sets = [_load_pairs(*parts, image_size) for parts in zip((tuning, test), galleries, partners, strict=True)]
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
    label_of = {int(row): int(label) for row, label in zip(pairs.synthetic_index, pairs.labels, strict=True)}
    seen = dict.fromkeys(range(len(CLASS_NAMES)), 0)
    smallest_class = min(count for count in pairs.counts.values() if count)
    # Two of a class each time where there are enough: similar phantoms are warps and slices in turn, and should get
    # all of them too.
    repeats = 2 if 2 * len(names) <= smallest_class else 1
    chosen = []
    for row in range(len(pairs.synthetic)):
        chosen.append(names[seen[label_of[row]] // repeats % len(names)])
        seen[label_of[row]] += 1
    return perturb_each(pairs, chosen, seed)


def _load_pairs(
    pairs: Sequence[dict[str, Any]], gallery: dict[str, Tensor], partners: dict[str, Tensor], image_size: Sequence[int]
) -> PairSet:
    synthetic = _load_side(pairs, "synthetic", image_size)
    rows = {"real": {path: row for row, path in enumerate(gallery)}}
    rows["synthetic"] = {path: row for row, path in enumerate(synthetic)}
    others = list(partners.values())
    return label_pairs(
        stack_images(list(gallery.values())),
        stack_images(list(synthetic.values())),
        stack_images([others[row % len(others)] for row in range(len(synthetic))]),
        real_index=np.array([rows["real"][pair["real"]["path"]] for pair in pairs]),
        synthetic_index=np.array([rows["synthetic"][pair["synthetic"]["path"]] for pair in pairs]),
        labels=np.array([pair["label"] for pair in pairs]),
        patients=[pair["real"]["patient_id"] for pair in pairs],
    )


def _load_side(pairs: Sequence[dict[str, Any]], side: str, image_size: Sequence[int]) -> dict[str, Tensor]:
    """Load each real or synthetic image of the pairs once, by its path, in the order of the pairs."""
    fit = FitImageSize(image_size)
    images: dict[str, Tensor] = {}
    for pair in tqdm(pairs, desc=f"Reading {side} images", unit=" pairs", disable=not sys.stderr.isatty()):
        if pair[side]["path"] not in images:
            images[pair[side]["path"]] = fit(load_slice(pair[side]))
    return images
