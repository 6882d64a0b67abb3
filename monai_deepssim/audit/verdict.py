"""From scores to the verdict: the class of each synthetic image, which training images were copied, and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_deepssim.metrics import ALIGNED_SSIM_THRESHOLDS, DEEPSSIM_THRESHOLDS
from monai_deepssim.similarity import Alignment

__all__ = [
    "PUBLISHED_THRESHOLDS",
    "VERIFIED_THRESHOLDS",
    "WHOLE_IMAGE_AREA",
    "Gate",
    "Match",
    "MemorizedImage",
    "Shortlist",
    "Thresholds",
    "apply_gate",
    "memorized_images",
]


@dataclass(frozen=True)
class Thresholds:
    """The scores that part the classes, which score they are of, and where they come from.

    Attributes:
        similar: a score above this is at least similar; ``None`` where a detector knows two classes only.
        duplicate: a score above this is a duplicate.
        score: name of the score, ``aligned_ssim`` or that of a detector.
        source: who says so.
    """

    similar: float | None
    duplicate: float
    score: str
    source: str

    def classify(self, score: float, copied_area: float | None = None) -> str:
        """Name the class of a score; a score on a threshold is of the class below it.

        Args:
            score: of an image.
            copied_area: share of the image that was copied. Where it is known and below :data:`WHOLE_IMAGE_AREA`, a
                duplicate is a part copy.

        Example:
            >>> [PUBLISHED_THRESHOLDS.classify(score) for score in (0.60, 0.61, 0.86)]
            ['different', 'similar', 'duplicate']
            >>> PUBLISHED_THRESHOLDS.classify(0.9, copied_area=0.25)
            'part'
        """
        if score > self.duplicate:
            return "part" if copied_area is not None and copied_area < WHOLE_IMAGE_AREA else "duplicate"
        return "similar" if self.similar is not None and score > self.similar else "different"


#: Share of an image below which what was copied is a part of it.
WHOLE_IMAGE_AREA = 0.6

PUBLISHED_THRESHOLDS = Thresholds(
    similar=DEEPSSIM_THRESHOLDS[0],
    duplicate=DEEPSSIM_THRESHOLDS[1],
    score="deepssim",
    source="published with DeepSSIM for its cosine (Scardace et al., arXiv 2509.16582); not calibrated on this data",
)
VERIFIED_THRESHOLDS = Thresholds(
    similar=ALIGNED_SSIM_THRESHOLDS[0],
    duplicate=ALIGNED_SSIM_THRESHOLDS[1],
    score="copy_score",
    source="chosen on phantoms and brain MRI kept for choosing, measured on others (docs/measured.md); "
    "not calibrated on this data",
)


@dataclass(frozen=True)
class Match:
    """A synthetic image and its nearest training image.

    Attributes:
        synthetic_path: relative to its folder.
        training_path: relative to its folder.
        patient_id: of the training image; empty when unknown.
        score: the number that the verdict rests on; higher is closer.
        detector_score: similarity by the detector that made the shortlist, such as DeepSSIM's cosine.
        alignment: how the training image was changed to fit; ``None`` where the match was not verified.
        label: ``duplicate``, ``part``, ``similar`` or ``different``.
        synthetic_index: position in the list of synthetic images.
        training_index: position in the list of training images.
        row: of the shortlist.
        mi: memorization index, where it was asked for.
        oni: overfit / novelty index, likewise.
        p_value: how often an image that is no copy scores as high; ``None`` where there is nothing to tell it from.
        q_value: false-discovery rate at which this image would be called a copy.
        aligned_ssim: SSIM after alignment; ``None`` where the match was not verified, as what follows.
        inliers: keypoints that agree on one transform.
        coarse_correlation: of the coarse structure of the two images after alignment.
        copied_area: share of the synthetic image that the training image shows; ``None`` also where the score is low.
    """

    synthetic_path: str
    training_path: str
    patient_id: str
    score: float
    detector_score: float
    alignment: Alignment | None
    label: str
    synthetic_index: int
    training_index: int
    row: int
    mi: float | None = None
    oni: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    aligned_ssim: float | None = None
    inliers: int | None = None
    copied_area: float | None = None
    coarse_correlation: float | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the synthetic image is judged a copy, of the whole training image or of a part."""
        return self.label in ("duplicate", "part")


@dataclass(frozen=True)
class Shortlist:
    """The nearest training images of every image of a side.

    Attributes:
        scores: float64 ``(N, k)``, descending; higher is closer. Those that the verdict rests on.
        indices: int64 ``(N, k)``, positions in the list of training images.
        detector_scores: float64 ``(N, k)``, similarities by the detector.
        alignments: for each of them how the training image was changed to fit; ``None`` where nothing was verified, as
            what follows.
        ssim: float64 ``(N, k)``, aligned SSIM.
        inliers: int32 ``(N, k)``, keypoints that agree.
        copied_areas: float64 ``(N, k)``, share of the image that was copied; NaN where it was not measured.
        coarse_correlations: float64 ``(N, k)``, of the coarse structure of the aligned images.
    """

    scores: np.ndarray
    indices: np.ndarray
    detector_scores: np.ndarray
    alignments: list[list[Alignment]] | None = None
    ssim: np.ndarray | None = None
    inliers: np.ndarray | None = None
    copied_areas: np.ndarray | None = None
    coarse_correlations: np.ndarray | None = None


@dataclass(frozen=True)
class MemorizedImage:
    """A training image that has at least one copy.

    Attributes:
        training_index: position in the list of training images.
        training_path: relative to its folder.
        patient_id: empty when unknown.
        max_score: of its copies.
        synthetic_paths: its copies, the strongest first.
    """

    training_index: int
    training_path: str
    patient_id: str
    max_score: float
    synthetic_paths: list[str]


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


def memorized_images(
    matches: Sequence[Match], shortlist: Shortlist, training: Sequence[Mapping[str, Any]], thresholds: Thresholds
) -> list[MemorizedImage]:
    """Gather the copies by the training images that they copy, the strongest first.

    An image that is there twice, under two patients' names too, is copied twice: all training images of a shortlist
    that score as a duplicate count, not the nearest alone.

    Args:
        matches: each synthetic image with its nearest training image.
        shortlist: of the synthetic images.
        training: the list of training images.
        thresholds: of the score.

    Example:
        >>> match = Match("fake.png", "a.png", "p1", 0.99, 0.9, None, "duplicate", 0, 0, 0)
        >>> shortlist = Shortlist(np.array([[0.99, 0.98, 0.5]]), np.array([[0, 2, 1]]), np.zeros((1, 3)))
        >>> training = [{"path": f"{name}.png", "patient_id": ""} for name in "abc"]
        >>> [image.training_path for image in memorized_images([match], shortlist, training, PUBLISHED_THRESHOLDS)]
        ['a.png', 'c.png']
    """
    copies: dict[int, list[tuple[float, str]]] = {}
    for match in matches:
        candidates = zip(shortlist.indices[match.row].tolist(), shortlist.scores[match.row].tolist(), strict=True)
        for index, score in dict(candidates).items():
            if score > thresholds.duplicate:
                copies.setdefault(index, []).append((score, match.synthetic_path))
    found = []
    for index, group in copies.items():
        group.sort(key=lambda copy: (-copy[0], copy[1]))
        found.append(
            MemorizedImage(
                training_index=index,
                training_path=training[index]["path"],
                patient_id=training[index]["patient_id"],
                max_score=group[0][0],
                synthetic_paths=[path for _, path in group],
            )
        )
    return sorted(found, key=lambda image: (-image.max_score, image.training_path))


def apply_gate(
    max_copy_fraction: float | None,
    *,
    num_copies: int,
    num_parts: int = 0,
    count_parts: bool = True,
    num_synthetic: int,
    skipped_synthetic: int,
    skipped_training: int,
    hidden_by: str = "",
) -> Gate:
    """Decide whether a set of synthetic images may pass.

    Images that could not be read must not help it: each skipped synthetic image counts as if it were a copy, and with
    a skipped training image no set can pass, because its copies cannot be found.

    Args:
        max_copy_fraction: share of copies accepted, 0 to 1; ``None`` for no gate.
        num_copies: synthetic images judged copies of a whole image.
        num_parts: synthetic images judged copies of a part of one.
        count_parts: whether these count as copies.
        num_synthetic: synthetic images audited.
        skipped_synthetic: synthetic images that could not be read.
        skipped_training: training images that could not be read.
        hidden_by: a difference between the sides that could hide copies, in a sentence; empty for none.

    Example:
        >>> counts = {"num_synthetic": 100, "skipped_synthetic": 0, "skipped_training": 0}
        >>> apply_gate(0.01, num_copies=1, **counts).result, apply_gate(0.01, num_copies=2, **counts).result
        ('passed', 'exceeded')
    """
    if max_copy_fraction is None:
        return Gate(None, None, "no gate was asked for")
    num_copies += num_parts if count_parts else 0
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
    if hidden_by:
        return Gate(max_copy_fraction, "undecided", f"the sides do not fit: {hidden_by.rstrip('.')}")
    return Gate(max_copy_fraction, "passed", f"{share:.4g} of the images are copies")
