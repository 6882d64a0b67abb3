"""From scores to the verdict: the class of each synthetic image, which training images were copied, and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.audit.tables import MATCHES_COLUMNS, MEMORIZED_COLUMNS, alignment_columns, as_table
from monai_deepssim.metrics import ALIGNED_SSIM_THRESHOLDS, DEEPSSIM_THRESHOLDS
from monai_deepssim.similarity import Alignment

__all__ = [
    "COPY_LABELS",
    "PUBLISHED_THRESHOLDS",
    "VERIFIED_THRESHOLDS",
    "WHOLE_IMAGE_AREA",
    "Gate",
    "Shortlist",
    "Thresholds",
    "apply_gate",
    "is_copy",
    "match_images",
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


#: Classes of images that are judged copies.
COPY_LABELS = ("duplicate", "part")

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
class Shortlist:
    """The nearest training images of every image of a side.

    Attributes:
        scores: float64 ``(N, k)``, descending; higher is closer. Those that the verdict rests on.
        indices: int64 ``(N, k)``, positions in the list of training images.
        detector_scores: float64 ``(N, k)``, similarities by the detector.
        alignments: for each of them how the training image was changed to fit; ``None`` where nothing was verified.
        measures: ``(N, k)``, what else was measured of each pair, by the column of ``matches.csv``; NaN where it was
            not.
    """

    scores: np.ndarray
    indices: np.ndarray
    detector_scores: np.ndarray
    alignments: list[list[Alignment]] | None = None
    measures: Mapping[str, np.ndarray] = field(default_factory=dict)

    def subset(self, rows: np.ndarray) -> Shortlist:
        """Those of some of the images, int64 ``(n,)``."""
        return Shortlist(
            scores=self.scores[rows],
            indices=self.indices[rows],
            detector_scores=self.detector_scores[rows],
            alignments=None if self.alignments is None else [self.alignments[row] for row in rows.tolist()],
            measures={name: values[rows] for name, values in self.measures.items()},
        )


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


def is_copy(matches: pd.DataFrame) -> pd.Series:
    """Which images are judged copies, of a whole training image or of a part."""
    return matches["label"].isin(COPY_LABELS)


def match_images(
    items: Sequence[Mapping[str, Any]],
    shortlist: Shortlist,
    training: Sequence[Mapping[str, Any]],
    thresholds: Thresholds,
    detector: str,
) -> pd.DataFrame:
    """Give each image its nearest training image and its class.

    Args:
        items: the images, ``path`` of each.
        shortlist: of these images.
        training: the training images, ``path`` and ``patient_id`` of each.
        thresholds: of the score.
        detector: name of the detector; its similarity has a column only if it is DeepSSIM's.

    Returns:
        The columns of ``matches.csv``, the highest score first; the index is the row of the image.

    Example:
        >>> shortlist = Shortlist(np.array([[0.99, 0.5]]), np.array([[1, 0]]), np.array([[0.9, 0.4]]))
        >>> training = [{"path": f"{name}.png", "patient_id": name} for name in "ab"]
        >>> table = match_images([{"path": "fake.png"}], shortlist, training, PUBLISHED_THRESHOLDS, "deepssim")
        >>> table[["training_path", "label"]].values.tolist()
        [['b.png', 'duplicate']]
    """
    rows = []
    for row, item in enumerate(items):
        nearest, score = training[int(shortlist.indices[row, 0])], float(shortlist.scores[row, 0])
        cells = {name: values[row, 0] for name, values in shortlist.measures.items()}
        rows.append(
            {
                "synthetic_path": item["path"],
                "training_path": nearest["path"],
                "patient_id": nearest["patient_id"],
                "score": score,
                "deepssim": float(shortlist.detector_scores[row, 0]) if detector == "deepssim" else None,
                **cells,
                **alignment_columns(shortlist.alignments[row][0] if shortlist.alignments is not None else None),
                "label": thresholds.classify(score, cells.get("copied_area")),
            }
        )
    table = as_table(rows, MATCHES_COLUMNS)
    return table.sort_values(["score", "synthetic_path"], ascending=[False, True], kind="stable")


def memorized_images(
    matches: pd.DataFrame, shortlist: Shortlist, training: Sequence[Mapping[str, Any]], thresholds: Thresholds
) -> pd.DataFrame:
    """Gather the copies by the training images that they copy, the strongest first.

    An image that is there twice, under two patients' names too, is copied twice: all training images of a shortlist
    that score as a duplicate count, not the nearest alone.

    Args:
        matches: each synthetic image with its nearest training image.
        shortlist: of the synthetic images.
        training: the training images.
        thresholds: of the score.

    Returns:
        The columns of ``memorized.csv``, ``synthetic_paths`` being lists; the index is the row of the training image.

    Example:
        >>> shortlist = Shortlist(np.array([[0.99, 0.98, 0.5]]), np.array([[0, 2, 1]]), np.zeros((1, 3)))
        >>> training = [{"path": f"{name}.png", "patient_id": ""} for name in "abc"]
        >>> matches = match_images([{"path": "fake.png"}], shortlist, training, PUBLISHED_THRESHOLDS, "ncc")
        >>> memorized_images(matches, shortlist, training, PUBLISHED_THRESHOLDS)["training_path"].tolist()
        ['a.png', 'c.png']
    """
    copies: dict[int, list[tuple[float, str]]] = {}
    for row, path in matches["synthetic_path"].items():
        candidates = zip(shortlist.indices[row].tolist(), shortlist.scores[row].tolist(), strict=True)
        for index, score in dict(candidates).items():
            if score > thresholds.duplicate:
                copies.setdefault(index, []).append((score, path))
    rows = []
    for index, group in copies.items():
        group.sort(key=lambda copy: (-copy[0], copy[1]))
        rows.append(
            {
                "training_path": training[index]["path"],
                "patient_id": training[index]["patient_id"],
                "num_copies": len(group),
                "max_score": group[0][0],
                "synthetic_paths": [path for _, path in group],
            }
        )
    table = as_table(rows, MEMORIZED_COLUMNS, list(copies))
    return table.sort_values(["max_score", "training_path"], ascending=[False, True], kind="stable")


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
