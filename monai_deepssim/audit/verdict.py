"""From scores to the verdict: the class of each synthetic image, which training images were copied, and the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from monai_deepssim.metrics import DEEPSSIM_THRESHOLDS

__all__ = [
    "PUBLISHED_THRESHOLDS",
    "Gate",
    "Match",
    "MemorizedImage",
    "Proportion",
    "Shortlist",
    "Thresholds",
    "apply_gate",
    "memorized_images",
    "proportion",
]


@dataclass(frozen=True)
class Thresholds:
    """Two scores that part the three classes, and where they come from.

    Attributes:
        similar: a score above this is at least similar.
        duplicate: a score above this is a duplicate.
        source: who says so.
    """

    similar: float
    duplicate: float
    source: str


PUBLISHED_THRESHOLDS = Thresholds(
    similar=DEEPSSIM_THRESHOLDS[0],
    duplicate=DEEPSSIM_THRESHOLDS[1],
    source="published with DeepSSIM for its cosine (Scardace et al., arXiv 2509.16582); not calibrated on this data",
)


@dataclass(frozen=True)
class Match:
    """A synthetic image and its nearest training image.

    Attributes:
        synthetic_path: relative to its folder.
        training_path: relative to its folder.
        patient_id: of the training image; empty when unknown.
        score: cosine of the two embeddings, an approximate SSIM; higher is closer.
        label: ``duplicate``, ``similar`` or ``different``.
        synthetic_index: position in the list of synthetic images.
        training_index: position in the list of training images.
        row: of the shortlist.
    """

    synthetic_path: str
    training_path: str
    patient_id: str
    score: float
    label: str
    synthetic_index: int
    training_index: int
    row: int

    @property
    def is_copy(self) -> bool:
        """Whether the synthetic image is judged a duplicate."""
        return self.label == "duplicate"


@dataclass(frozen=True)
class Shortlist:
    """The nearest training images of every synthetic image.

    Attributes:
        scores: float64 ``(N, k)``, descending; higher is closer.
        indices: int64 ``(N, k)``, positions in the list of training images.
    """

    scores: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class MemorizedImage:
    """A training image that has at least one copy.

    Attributes:
        training_path: relative to its folder.
        patient_id: empty when unknown.
        max_score: of its copies.
        synthetic_paths: its copies, the strongest first.
    """

    training_path: str
    patient_id: str
    max_score: float
    synthetic_paths: list[str]


@dataclass(frozen=True)
class Proportion:
    """A share, with its 95 % interval.

    Attributes:
        count: how many.
        total: of how many.
        value: the share, 0 to 1.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """The entry of ``summary.json``."""
        return {
            "value": self.value,
            "interval": [self.low, self.high],
            "confidence": 0.95,
            "method": "exact binomial (Clopper-Pearson)",
        }


@dataclass(frozen=True)
class Gate:
    """Whether the set may pass, given the share of copies that its owner accepts.

    Attributes:
        max_copy_fraction: the share accepted; ``None`` when no gate was asked for.
        result: ``passed``, ``exceeded``, ``undecided`` or ``None``.
        reason: a sentence.
    """

    max_copy_fraction: float | None
    result: str | None
    reason: str


def memorized_images(matches: Sequence[Match]) -> list[MemorizedImage]:
    """Gather the copies by the training image that they copy, the strongest first.

    Example:
        >>> match = Match("fake.png", "real.png", "p1", 0.99, "duplicate", 0, 0, 0)
        >>> memorized_images([match])
        [MemorizedImage(training_path='real.png', patient_id='p1', max_score=0.99, synthetic_paths=['fake.png'])]
    """
    copies: dict[int, list[Match]] = {}
    for match in matches:
        if match.is_copy:
            copies.setdefault(match.training_index, []).append(match)
    found = []
    for group in copies.values():
        group.sort(key=lambda match: (-match.score, match.synthetic_path))
        strongest = group[0]
        found.append(
            MemorizedImage(
                training_path=strongest.training_path,
                patient_id=strongest.patient_id,
                max_score=strongest.score,
                synthetic_paths=[match.synthetic_path for match in group],
            )
        )
    return sorted(found, key=lambda image: (-image.max_score, image.training_path))


def proportion(count: int, total: int) -> Proportion:
    """Give a share its exact 95 % binomial interval (Clopper and Pearson, Biometrika 1934).

    The interval says how far the share of this sample may be from that of many more images of the same origin. It
    says nothing of images whose class is wrong.

    Args:
        count: how many.
        total: of how many, at least 1.

    Example:
        >>> share = proportion(0, 200)
        >>> share.value, share.low, round(share.high, 4)
        (0.0, 0.0, 0.0183)
    """
    interval = binomtest(count, total).proportion_ci(confidence_level=0.95, method="exact")
    return Proportion(count, total, count / total, float(interval.low), float(interval.high))


def apply_gate(
    max_copy_fraction: float | None,
    *,
    num_copies: int,
    num_synthetic: int,
    skipped_synthetic: int,
    skipped_training: int,
) -> Gate:
    """Decide whether a set of synthetic images may pass.

    Images that could not be read must not help it: each skipped synthetic image counts as if it were a copy, and with
    a skipped training image no set can pass, because its copies cannot be found.

    Args:
        max_copy_fraction: share of copies accepted, 0 to 1; ``None`` for no gate.
        num_copies: synthetic images judged copies.
        num_synthetic: synthetic images audited.
        skipped_synthetic: synthetic images that could not be read.
        skipped_training: training images that could not be read.

    Example:
        >>> counts = {"num_synthetic": 100, "skipped_synthetic": 0, "skipped_training": 0}
        >>> apply_gate(0.01, num_copies=1, **counts).result, apply_gate(0.01, num_copies=2, **counts).result
        ('passed', 'exceeded')
    """
    if max_copy_fraction is None:
        return Gate(None, None, "no gate was asked for")
    share = num_copies / num_synthetic
    if share > max_copy_fraction:
        return Gate(max_copy_fraction, "exceeded", f"{share:.4g} of the images are copies")
    if skipped_training:
        reason = f"copies of the training images that were skipped ({skipped_training}) could not be looked for"
        return Gate(max_copy_fraction, "undecided", reason)
    worst = (num_copies + skipped_synthetic) / (num_synthetic + skipped_synthetic)
    if worst > max_copy_fraction:
        reason = f"if the synthetic images that were skipped ({skipped_synthetic}) were copies, it would be {worst:.4g}"
        return Gate(max_copy_fraction, "undecided", reason)
    return Gate(max_copy_fraction, "passed", f"{share:.4g} of the images are copies")
