"""Which training images are duplicates of each other: a search of the set in itself, never in an image's own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from pandas import DataFrame, concat

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.verification import SideImages
from monai_deepssim.audit.verification_store import verification_store
from monai_deepssim.calibration import Thresholds
from monai_deepssim.engines import VerificationStore, share_pairs
from monai_deepssim.metrics import tabulate_candidates, verify_candidates

__all__ = ["SelfSearch", "patients_of_pair"]

# Neighbours held at once when a few images ask for many.
_NEIGHBORS_AT_ONCE = 4_000_000


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

    The search streams as that of an audit does: memory is that of 64 neighbours per image and, where many slices
    are of one file, as many more as the largest file has slices.

    Args:
        training: the embedded set.
        unit_of: for each item the number of its file.
        detector: fitted on the set.
        thresholds: thresholds of the score.
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
        self.units = np.asarray(unit_of)[training.images.indices]
        self._images = SideImages(training, options.image_size, options.device)
        self._largest_unit = max(Counter(self.units.tolist()).values())

    @cached_property
    def _store(self) -> VerificationStore:
        return verification_store(self.training, self.training, self.options)

    def find(self, rows: np.ndarray, among: np.ndarray) -> DataFrame:
        """Find the ``top_k`` nearest images of each image, and verify them.

        Args:
            rows: ``(n,)``, the images that are looked up.
            among: ``(N,)``, whether an image may be found.

        Returns:
            One row per pair, by ``query``, the highest score first: the columns of
            :func:`~monai_deepssim.metrics.verify_candidates` (``alignment`` and ``aligned_ssim`` are ``None`` where
            nothing is verified), ``label`` (``duplicate``, ``similar`` or ``different``) and ``patients`` (``same``,
            ``different``, or ``unknown`` where that of one of them is). An image that is alone has none.
        """
        pairs = self._find_candidates(rows, among)
        if pairs.empty or not self.options.verify:
            pairs = pairs.assign(score=pairs["detector_score"], aligned_ssim=None, alignment=None)
        else:
            store = self._store
            store.open()

            def verify(part: DataFrame, description: str = "") -> DataFrame:
                return verify_candidates(
                    part,
                    self._images,
                    self._images,
                    keep=self.options.top_k,
                    deformation_cost=self.options.deformation_cost,
                    known=store.known(part),
                    write=store.write,
                    description=description,
                )

            pairs = share_pairs(pairs, verify, "training images")
        patients = self.training.patients
        return pairs.assign(
            label=[self.thresholds.classify(score) for score in pairs["score"]],
            patients=[
                patients_of_pair(patients[first], patients[second])
                for first, second in zip(pairs["query"], pairs["training"], strict=True)
            ],
        )

    def _find_candidates(self, rows: np.ndarray, among: np.ndarray) -> DataFrame:
        """The nearest of other files for each row, as many as are proposed where there are so many."""
        total, proposed = len(self.units), self.options.num_proposed
        candidates = tabulate_candidates(np.empty((0, 0), np.int64), np.empty((0, 0)))
        asked, pending = proposed + self._largest_unit, rows
        confined = {"among": among} if self.detector.searches_among else {}
        total = int(among.sum()) if confined else total
        while len(pending) and total:
            asked = min(asked, total)
            parts = []
            step = max(1, _NEIGHBORS_AT_ONCE // asked)
            for start in range(0, len(pending), step):
                part = pending[start : start + step]
                scores, neighbors = self.detector.search(self.training.images.subset(part), asked, **confined)
                pairs = tabulate_candidates(neighbors, scores, part)
                is_other = self.units[pairs["query"]] != self.units[pairs["training"]]
                parts.append(pairs[among[pairs["training"]] & is_other].groupby("query").head(proposed))
            candidates = concat([candidates[~candidates["query"].isin(pending)], *parts])
            counts = candidates["query"].value_counts().reindex(pending, fill_value=0)
            # Where the search cannot be confined to images that were kept, others crowd their lists: ask for more.
            pending = pending[counts < self.options.top_k] if asked < total else pending[:0]
            asked *= 2
        return candidates
