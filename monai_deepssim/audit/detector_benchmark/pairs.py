"""The labelled pairs of a benchmark, with the gallery of real images in which a search looks for the sources."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.data import GeneratePhantomd, PhantomPairDataset, labelled_pairs, load_slice, split_by_patient
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CLASS_NAMES
from monai_deepssim.transforms import SUPPORTED_PERTURBATIONS, FitImageSize, Perturbation

__all__ = ["PairSet", "make_phantom_pairs", "perturb", "perturb_in_turn", "read_pairs"]

_DUPLICATE = CLASS_NAMES.index("duplicate")
_LEVEL = "basal_ganglia"


@dataclass(frozen=True)
class PairSet:
    """Pairs of a real and a synthetic image, and the real images among which a search has to find the right one.

    Attributes:
        gallery: real images ``(M, 1, H, W)`` in [0, 1], each once.
        synthetic: synthetic images ``(S, 1, H, W)`` in [0, 1], each once.
        real_index: ``(N,)``, the row of each pair's real image in ``gallery``.
        synthetic_index: ``(N,)``, the row of each pair's synthetic image in ``synthetic``.
        labels: ``(N,)``, 0 different, 1 duplicate, 2 similar.
        patients: N, of the real images; empty where unknown.
    """

    gallery: Tensor
    synthetic: Tensor
    real_index: np.ndarray
    synthetic_index: np.ndarray
    labels: np.ndarray
    patients: Sequence[str]

    @cached_property
    def sources(self) -> list[np.ndarray]:
        """Rows in ``gallery`` that each synthetic image is a duplicate of; none for most of them."""
        copies = self.labels == _DUPLICATE
        return [self.real_index[copies & (self.synthetic_index == row)] for row in range(len(self.synthetic))]

    @cached_property
    def synthetic_patients(self) -> list[str]:
        """For each synthetic image the patient of the first real image that it is paired with."""
        first = {int(row): position for position, row in reversed(list(enumerate(self.synthetic_index)))}
        return [self.patients[first[row]] for row in range(len(self.synthetic))]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that a score depends on, but for what is done to the synthetic images."""
        digest = hashlib.sha256(self.gallery.numpy().tobytes())
        for array in (self.real_index, self.synthetic_index, self.labels):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by name of their class."""
        return {name: int((self.labels == number).sum()) for number, name in enumerate(CLASS_NAMES)}


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
    rows = np.arange(num_pairs)
    return PairSet(
        gallery=_stack([*(pair["real"] for pair in pairs), *fillers]),
        synthetic=_stack([pair["synthetic"] for pair in pairs]),
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
    images = [_load_pairs(part, image_size) for part in (tuning, test)]
    return images[0], images[1], len(pairs) - len(tuning) - len(test)


def perturb(pairs: PairSet, name: str, seed: int) -> Tensor:
    """Change every synthetic image by one perturbation.

    Args:
        pairs: as made above.
        name: of the perturbation.
        seed: of what it draws; image i draws the same whatever the other images are.

    Returns:
        ``(S, 1, H, W)``.
    """
    return _perturb(pairs.synthetic, [name] * len(pairs.synthetic), seed)


def perturb_in_turn(pairs: PairSet, names: Sequence[str], seed: int) -> Tensor:
    """Change the synthetic images by all perturbations in turn, evenly within each class.

    Args:
        pairs: as made above.
        names: of the perturbations.
        seed: of what they draw.

    Returns:
        ``(S, 1, H, W)``.
    """
    label_of = {int(row): int(label) for row, label in zip(pairs.synthetic_index, pairs.labels, strict=True)}
    seen = dict.fromkeys(range(len(CLASS_NAMES)), 0)
    chosen = []
    for row in range(len(pairs.synthetic)):
        # Two of a class each time: similar phantoms are warps and slices in turn, and should get all of them too.
        chosen.append(names[seen[label_of[row]] // 2 % len(names)])
        seen[label_of[row]] += 1
    return _perturb(pairs.synthetic, chosen, seed)


def _perturb(images: Tensor, names: Sequence[str], seed: int) -> Tensor:
    transforms = {name: Perturbation(name) for name in set(names)}
    changed = []
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        own = np.random.SeedSequence([seed, SUPPORTED_PERTURBATIONS.index(name), row]).generate_state(1)[0]
        changed.append(transforms[name].set_random_state(int(own))(image))
    return _stack(changed)


def _load_pairs(pairs: Sequence[dict[str, Any]], image_size: Sequence[int]) -> PairSet:
    fit = FitImageSize(image_size)
    rows: dict[str, dict[str, int]] = {"real": {}, "synthetic": {}}
    images: dict[str, list[Tensor]] = {"real": [], "synthetic": []}
    for pair in tqdm(pairs, desc="Reading pairs", unit=" pairs", disable=not sys.stderr.isatty()):
        for role in rows:
            path = pair[role]["path"]
            if path not in rows[role]:
                rows[role][path] = len(images[role])
                images[role].append(fit(load_slice(pair[role])))
    return PairSet(
        gallery=_stack(images["real"]),
        synthetic=_stack(images["synthetic"]),
        real_index=np.array([rows["real"][pair["real"]["path"]] for pair in pairs]),
        synthetic_index=np.array([rows["synthetic"][pair["synthetic"]["path"]] for pair in pairs]),
        labels=np.array([pair["label"] for pair in pairs]),
        patients=[pair["real"]["patient_id"] for pair in pairs],
    )


def _stack(images: Sequence[Any]) -> Tensor:
    return torch.stack([convert_to_tensor(image, track_meta=False) for image in images])
