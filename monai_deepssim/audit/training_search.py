"""The training images, ready to be searched and compared with the images of any side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from functools import partial

import numpy as np
from pandas import DataFrame

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide, Strangers
from monai_deepssim.audit.error_rates import null_of_pairs
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.verification import SideImages
from monai_deepssim.audit.verification_store import feature_store, verification_store
from monai_deepssim.calibration import (
    NullScores,
    Thresholds,
    choose_null_images,
    keep_strangers,
    num_null_images,
    percentile_threshold,
)
from monai_deepssim.engines import share_pairs
from monai_deepssim.metrics import find_local_matches, tabulate_candidates, verify_candidates
from monai_deepssim.search import LocalFeatureSearch, NearestNeighbors

__all__ = ["TrainingSearch"]


class TrainingSearch:
    """Finds and scores the nearest training images of each image of a side.

    Args:
        training: the training side, embedded.
        detector: fitted to these images.
        options: the audit's options.
    """

    def __init__(self, training: EmbeddedSide, detector: AuditDetector, options: AuditOptions) -> None:
        self.training, self.detector, self.options = training, detector, options
        self._images = SideImages(training, options.image_size, options.device)
        self._local: LocalFeatureSearch | None = None
        if options.verify and self._images.has_features:
            self._local = self._images.index_features(feature_store(training, options))

    def find_pairs(self, side: EmbeddedSide) -> DataFrame:
        """Find the nearest training images of each image of a side.

        Returns:
            One row per pair, by ``query`` (the row of the image), the highest score first:
            ``training`` (the row of the training image), ``score`` (the one that the verdict rests on),
            ``detector_score``, and where pairs are compared on the pixels the columns of
            :func:`~monai_deepssim.metrics.verify_candidates`.
        """
        scores, rows = self.detector.search(side.images, self.options.num_proposed)
        candidates = tabulate_candidates(rows, scores)
        if not self.options.verify:
            return candidates.assign(score=candidates["detector_score"], alignment=None)
        return self._verify(candidates, side, least=self.options.thresholds.duplicate)

    def null_of_training(self, num_synthetic: int, duplicate_threshold: float) -> NullScores | None:
        """Scores of training images against those of other patients; ``None`` with fewer than two patients.

        Args:
            num_synthetic: number of synthetic images, which says how many comparisons are wanted.
            duplicate_threshold: score above which a training image is a duplicate of another one.
        """
        patients, options = self.training.patients, self.options
        rows = choose_null_images(patients, num_null_images(len(patients), num_synthetic))
        pairs = self._strangers(rows, options.num_proposed)
        if pairs.empty:
            return None
        if options.verify:
            members = defaultdict(list)
            for row, patient in enumerate(patients):
                members[patient].append(row)

            def own_patient(row: int) -> list[int]:
                return members[patients[row]] if patients[row] else [row]

            pairs = self._verify(pairs, self.training, least=np.inf, exclude=own_patient)
        else:
            pairs = pairs.assign(score=pairs["detector_score"])
        return null_of_pairs(pairs, self.training, duplicate_threshold, options.group_rule)

    def null_of_detector(self, strangers: Strangers | None) -> NullScores | None:
        """Scores that the detector alone gives to images that are not copies.

        Args:
            strangers: held-out images; ``None`` to take the training images, against those of other patients.
        """
        if strangers is not None:
            scores, _ = self.detector.search(strangers.images, 1)
            return NullScores(scores[:, 0], groups=strangers.patients, group_rule=self.options.group_rule)
        pairs = self._strangers(np.arange(len(self.training.patients)), 1)
        if pairs.empty:
            return None
        threshold = self.detector.metric.threshold
        return null_of_pairs(
            pairs.assign(score=pairs["detector_score"]),
            self.training,
            np.inf if threshold is None else threshold,
            self.options.group_rule,
        )

    def _strangers(self, rows: np.ndarray, keep: int) -> DataFrame:
        """The nearest training images of other patients; none where there are no two patients."""
        patients = self.training.patients
        largest = max(Counter(patient for patient in patients if patient).values(), default=1)
        scores, neighbors = self.detector.search(self.training.images.subset(rows), min(len(patients), keep + largest))
        return keep_strangers(tabulate_candidates(neighbors, scores, rows), patients, keep)

    def _verify(
        self,
        candidates: DataFrame,
        side: EmbeddedSide,
        *,
        least: float,
        exclude: Callable[[int], Collection[int]] = lambda _: (),
    ) -> DataFrame:
        """Unite the candidates with those that share local features, and score on the pixels those that matter."""
        queries = (
            self._images if side is self.training else SideImages(side, self.options.image_size, self.options.device)
        )
        store = verification_store(side, self.training, self.options)
        store.open()

        def verify(part: DataFrame, description: str = "") -> DataFrame:
            matches = None
            if self._local is not None:
                rows = part["query"].unique()
                matches = find_local_matches(
                    queries,
                    rows,
                    self._images,
                    self._local,
                    exclude=exclude,
                    only_source=only_source,
                    description=description,
                )
            return verify_candidates(
                part,
                queries,
                self._images,
                keep=self.options.top_k,
                matches=matches,
                deformation_cost=self.options.deformation_cost,
                least=least,
                known=store.known(part, matches),
                write=partial(store.write, matches=matches),
                description=description,
            )

        def only_source(row: int) -> int | None:
            sources = side.usable_items[row].get("sources", ())  # of a control
            return sources[0] if len(sources) == 1 else None

        description = f"{side.side.name} images"
        pairs = share_pairs(candidates, verify, description)
        unscored = pairs["detector_score"].isna()
        if unscored.any():
            found = pairs.loc[unscored, ["query", "training"]].to_numpy()
            pairs.loc[unscored, "detector_score"] = self.detector.compare(side.images, self.training.images, found)
        return pairs

    def threshold_of_held_out(self, holdout: EmbeddedSide | None) -> Thresholds:
        """The copy detector's own threshold, from the training images' highest correlation to a held-out image."""
        assert holdout is not None, "the options ask for held-out images where there is no threshold"
        search = NearestNeighbors(device=self.detector.metric.device).fit(holdout.images.embeddings)
        scores, _ = search.kneighbors(self.training.images.embeddings, 1)
        threshold = float(percentile_threshold(scores[:, 0]))
        return Thresholds(None, threshold, self.detector.name, self.detector.metric.threshold_source)
