"""Which training images are duplicates of each other: a search of the set in itself, never in an image's own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.options import SearchOptions
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.verdict import Thresholds
from monai_deepssim.audit.verification import verify
from monai_deepssim.audit.verification_store import verification_store
from monai_deepssim.similarity import Alignment

__all__ = ["ImagePair", "SelfSearch", "patients_of_pair"]

# Neighbours held at once when a few images ask for many.
_NEIGHBORS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class ImagePair:
    """Two training images of different files, the second changed to fit the first.

    Attributes:
        first: position in the list of training images.
        second: likewise.
        score: the number that the verdict rests on; higher is closer.
        detector_score: similarity by the detector.
        aligned_ssim: SSIM that the change reaches; ``None`` where nothing was verified, as what follows.
        alignment: how the second was changed to fit the first; ``None`` where nothing was verified.
        label: ``duplicate``, ``similar`` or ``different``.
        patients: ``same``, ``different``, or ``unknown`` where that of one of them is.
    """

    first: int
    second: int
    score: float
    detector_score: float
    aligned_ssim: float | None
    alignment: Alignment | None
    label: str
    patients: str

    @property
    def is_duplicate(self) -> bool:
        """Whether the two are judged duplicates."""
        return self.label == "duplicate"


def patients_of_pair(first: str, second: str) -> str:
    """Tell whether two images are of one patient.

    Example:
        >>> patients_of_pair("a", "a"), patients_of_pair("a", "b"), patients_of_pair("a", "")
        ('same', 'different', 'unknown')
    """
    if not first or not second:
        return "unknown"
    return "same" if first == second else "different"


class SelfSearch:
    """Finds the nearest images of other files in the set that an image is of itself.

    The search streams as that of an audit does: memory is that of 64 neighbours an image and, where many slices
    are of one file, as many more as the largest file has slices.

    Args:
        training: the embedded set.
        unit_of: for each of its items the number of its file.
        detector: fitted on the set.
        thresholds: of the score.
        options: ``top_k``, ``verify`` and ``image_size`` are used.
    """

    def __init__(
        self,
        training: EmbeddedSide,
        unit_of: Sequence[int],
        detector: AuditDetector,
        thresholds: Thresholds,
        options: SearchOptions,
    ) -> None:
        self.training = training
        self.detector = detector
        self.thresholds = thresholds
        self.options = options
        self.indices = training.images.indices
        self.units = np.asarray(unit_of)[self.indices]
        self._largest_unit = max(Counter(self.units.tolist()).values())

    def find(self, rows: np.ndarray, among: np.ndarray) -> dict[int, list[ImagePair]]:
        """Find the ``top_k`` nearest images of each image, and verify them.

        Args:
            rows: ``(n,)``, the images that are looked up.
            among: ``(N,)``, whether an image may be found.

        Returns:
            For each row its pairs, the highest score first. An image that is alone has none.
        """
        neighbors, scores = self._neighbors(rows, among)
        counts = np.array([len(found) for found in neighbors])
        pairs: dict[int, list[ImagePair]] = {row: [] for row in rows.tolist()}
        # Images with as many neighbours as each other go together: nearly always all of them.
        for count in sorted(set(counts.tolist()) - {0}):
            chosen = np.flatnonzero(counts == count)
            candidates = self.indices[np.stack([neighbors[position] for position in chosen])]
            values = np.stack([scores[position] for position in chosen])
            for row, found in zip(rows[chosen].tolist(), self._judge(rows[chosen], candidates, values), strict=True):
                pairs[row] = found
        return pairs

    def _neighbors(self, rows: np.ndarray, among: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The nearest of other files for each row, as many as are proposed where there are so many."""
        total = len(self.indices)
        neighbors: list[np.ndarray] = [np.empty(0, np.int64)] * len(rows)
        scores: list[np.ndarray] = [np.empty(0)] * len(rows)
        wanted, pending = self.options.num_proposed + self._largest_unit, np.arange(len(rows))
        while len(pending):
            wanted = min(wanted, total)
            missing = []
            step = max(1, _NEIGHBORS_AT_ONCE // wanted)
            for part in (pending[start : start + step] for start in range(0, len(pending), step)):
                found_scores, found = self.detector.search(self.training.images.subset(rows[part]), wanted)
                strange = among[found] & (self.units[found] != self.units[rows[part]][:, None])
                for position, near, values, keep in zip(part.tolist(), found, found_scores, strange, strict=True):
                    neighbors[position] = near[keep][: self.options.num_proposed]
                    scores[position] = values[keep][: self.options.num_proposed]
                    if len(neighbors[position]) < self.options.top_k:
                        missing.append(position)
            # Images that were left out may crowd the list of one that was kept: ask it for more.
            pending = np.array(missing if wanted < total else [], dtype=np.int64)
            wanted *= 2
        return neighbors, scores

    def _judge(self, rows: np.ndarray, candidates: np.ndarray, values: np.ndarray) -> list[list[ImagePair]]:
        alignments: list[list[Alignment]] | None = None
        ssim: np.ndarray | None = None
        scores = detector_scores = values
        if self.options.verify:
            verified = verify(
                self.training.side,
                self.indices[rows],
                self.training.side,
                candidates,
                values,
                keep=self.options.top_k,
                image_size=self.options.image_size,
                deformation_cost=self.options.deformation_cost,
                description="verifying training images",
                store=verification_store(self.training, self.training, self.options),
            )
            candidates, scores = verified.indices, verified.scores
            detector_scores, alignments = verified.detector_scores, verified.alignments
            ssim = verified.measures["aligned_ssim"]
        return [
            [
                self._pair(
                    int(self.indices[row]),
                    int(candidates[position, place]),
                    float(scores[position, place]),
                    float(detector_scores[position, place]),
                    None if ssim is None else float(ssim[position, place]),
                    None if alignments is None else alignments[position][place],
                )
                for place in range(candidates.shape[1])
            ]
            for position, row in enumerate(rows.tolist())
        ]

    def _pair(
        self,
        first: int,
        second: int,
        score: float,
        detector_score: float,
        aligned_ssim: float | None,
        alignment: Alignment | None,
    ) -> ImagePair:
        items: list[dict[str, Any]] = self.training.side.items
        patients = patients_of_pair(items[first]["patient_id"], items[second]["patient_id"])
        label = self.thresholds.classify(score)
        return ImagePair(first, second, score, detector_score, aligned_ssim, alignment, label, patients)
