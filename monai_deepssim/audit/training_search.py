"""The training images, ready to be searched and compared with the images of any side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.error_rates import choose_null_images, halves_null, keep_strangers
from monai_deepssim.audit.local_candidates import LocalCandidates
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.verdict import Shortlist, Thresholds
from monai_deepssim.audit.verification import verify
from monai_deepssim.audit.verification_store import verification_store
from monai_deepssim.calibration import NullScores, percentile_threshold

__all__ = ["TrainingSearch"]


class TrainingSearch:
    """Finds and scores the nearest training images of each image of a side.

    Args:
        training: the training side, embedded.
        detector: fitted to these images.
        options: of the audit.
    """

    def __init__(self, training: EmbeddedSide, detector: AuditDetector, options: AuditOptions) -> None:
        self.training, self.detector, self.options = training, detector, options
        self.local = None
        if options.verify:
            self.local = LocalCandidates(training.side, training.images.indices, options.image_size)

    def shortlist(self, side: EmbeddedSide) -> Shortlist:
        """The nearest training images of each image of a side, the highest score first."""
        scores, rows = self.detector.search(side.images, self.options.num_proposed)
        candidates = self.training.images.indices[rows]
        if not self.options.verify:
            return Shortlist(scores=scores, indices=candidates, detector_scores=scores)
        return verify(
            side.side,
            side.images.indices,
            self.training.side,
            candidates,
            scores,
            keep=self.options.top_k,
            image_size=self.options.image_size,
            deformation_cost=self.options.deformation_cost,
            description=f"verifying {side.side.name} images",
            store=verification_store(side, self.training, self.options),
            local=self.local,
            compare=lambda pairs: self.detector.compare(side.images, self.training.images, pairs),
        )

    def null_of_training(self) -> NullScores | None:
        """Scores of training images against random halves of the others; ``None`` with fewer than two patients."""
        patients = self.training.patients
        if len({patient or f"image {row}" for row, patient in enumerate(patients)}) < 2:
            return None
        rows = choose_null_images(len(patients))
        largest = max(Counter(patient for patient in patients if patient).values(), default=1)
        # In half of the training set an image's nearest are among so many of the whole set, but for chance.
        keep = 2 * self.options.num_proposed
        images = self.training.images
        scores, neighbors = self.detector.search(images.subset(rows), min(len(patients), keep + largest))
        neighbors, scores = keep_strangers(rows, neighbors, scores, patients, keep)
        if not neighbors.shape[1]:
            return None
        if self.options.verify:
            neighbors, scores = self._verify_training(rows, neighbors, scores)
        return halves_null(rows, neighbors, scores, patients)

    def _verify_training(
        self, rows: np.ndarray, neighbors: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The neighbours of training images, all of other patients, by their score on the pixels."""
        training, indices = self.training, self.training.images.indices
        members: dict[str, list[int]] = {}
        for row, patient in enumerate(training.patients):
            members.setdefault(patient, []).append(int(indices[row]))

        def own_patient(index: int) -> Collection[int]:
            patient = training.side.items[index]["patient_id"]
            return members[patient] if patient else [index]

        verified = verify(
            training.side,
            indices[rows],
            training.side,
            indices[neighbors],
            scores,
            keep=2 * self.options.top_k,
            image_size=self.options.image_size,
            deformation_cost=self.options.deformation_cost,
            description="verifying training images",
            store=verification_store(training, training, self.options),
            local=self.local,
            exclude=own_patient,
            compare=lambda pairs: self.detector.compare(training.images, training.images, pairs),
        )
        # From positions in the list of files back to rows.
        return np.searchsorted(indices, verified.indices), verified.scores

    def threshold_of_held_out(self, holdout: EmbeddedSide | None) -> Thresholds:
        """The copy detector's own threshold, from the training images' highest correlation to a held-out image."""
        assert holdout is not None, "the options ask for held-out images where there is no threshold"
        detector = replace(self.detector)
        detector.fit(holdout.images, self.detector.metric.device)
        scores, _ = detector.search(self.training.images, 1)
        source = self.detector.metric.threshold_source
        return Thresholds(None, float(percentile_threshold(scores[:, 0])), self.detector.name, source)
