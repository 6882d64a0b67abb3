"""Twins: synthetic images below the threshold of a copy that are copies of a synthetic image above it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pandas import DataFrame, concat

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.error_rates import CERTAIN_SCORE
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.verification import SideImages
from monai_deepssim.audit.verification_store import verification_store
from monai_deepssim.calibration import Thresholds
from monai_deepssim.data import file_of
from monai_deepssim.engines import share_pairs
from monai_deepssim.metrics import verify_candidates

__all__ = ["find_twins"]

# Pairs whose embeddings are compared at once.
_PAIRS_AT_ONCE = 4096


def find_twins(
    synthetic: EmbeddedSide, pairs: DataFrame, detector: AuditDetector, thresholds: Thresholds, options: SearchOptions
) -> DataFrame:
    """Find similar images that are copies of a synthetic copy, compared on the pixels as training images are.

    A twin is of the patient whose image was copied, though it has drifted from that image too far to be called a copy
    of it: mirrored and blurred once more, for instance. It is looked for among the copies of those training images that
    were compared with it, never in its own file: neighbouring slices of a volume always resemble each other. Two
    synthetic images share a generator's blur, which makes those of two subjects alike, so that a twin needs a score
    above :data:`~monai_deepssim.audit.error_rates.CERTAIN_SCORE` (``benchmarks/twins.py``).

    Args:
        synthetic: the synthetic side.
        pairs: its pairs with training images, the highest score of each image first, compared on the pixels.
        detector: chooses the ``options.num_proposed`` copies that resemble an image most, where there are more.
        thresholds: thresholds of the score.
        options: the audit's options; ``top_k`` copies are aligned with each image.

    Returns:
        The images that were compared with copies, by their row: ``twin_score``, the score with the closest copy, and
        ``twin_of``, its path; empty where the image is no twin of it. None with ``--verify false``, where the pixels
        are not looked at.
    """
    nothing = DataFrame({"twin_of": np.empty(0, object), "twin_score": np.empty(0)})
    nearest = pairs.drop_duplicates("query")
    if not options.verify:
        return nothing
    areas = nearest["copied_area"].tolist()
    labels = [thresholds.classify(*pair) for pair in zip(nearest["score"], areas, strict=True)]
    is_of = {label: set(nearest["query"][[label == one for one in labels]]) for label in ("duplicate", "similar")}
    copied = pairs[pairs["query"].isin(is_of["duplicate"]) & (pairs["score"] > thresholds.duplicate)]
    similar = pairs[pairs["query"].isin(is_of["similar"])]
    candidates = similar[["query", "training"]].merge(copied[["query", "training"]], on="training")
    candidates = candidates[["query_x", "query_y"]].drop_duplicates().set_axis(["query", "training"], axis=1)
    files = np.asarray([file_of(item) for item in synthetic.usable_items], dtype=object)
    candidates = candidates[files[candidates["query"]] != files[candidates["training"]]]
    if candidates.empty:
        return nothing
    images = SideImages(synthetic, options.image_size, options.device)
    store = verification_store(replace(synthetic, side=replace(synthetic.side, name="twins")), synthetic, options)
    store.open()

    def verify(part: DataFrame, description: str = "") -> DataFrame:
        return verify_candidates(
            part,
            images,
            images,
            keep=options.top_k,
            deformation_cost=options.deformation_cost,
            known=store.known(part),
            write=store.write,
            description=description,
        )

    ranked = _rank(candidates, synthetic, detector, options.num_proposed)
    compared = share_pairs(ranked, verify, "twins of copies")
    closest = compared.drop_duplicates("query").set_index("query")
    lowest = max(CERTAIN_SCORE, thresholds.duplicate)
    paths = [
        synthetic.usable_items[row]["path"] if score > lowest else ""
        for row, score in zip(closest["training"], closest["score"], strict=True)
    ]
    return DataFrame({"twin_of": paths, "twin_score": closest["score"]})


def _rank(candidates: DataFrame, synthetic: EmbeddedSide, detector: AuditDetector, keep: int) -> DataFrame:
    """The copies that the detector finds closest to each image, the closest first."""
    parts = []
    for start in range(0, len(candidates), _PAIRS_AT_ONCE):
        part = candidates.iloc[start : start + _PAIRS_AT_ONCE]
        scores = detector.compare(synthetic.images, synthetic.images, part.to_numpy())
        parts.append(part.assign(detector_score=scores))
    ranked = concat(parts).sort_values(["query", "detector_score"], ascending=[True, False], kind="stable")
    return ranked.groupby("query").head(keep).reset_index(drop=True)
