"""Everything an audit found out."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.audit.demo import DemoResult
from monai_deepssim.audit.embedded_side import EmbeddedSide, EmbedderIdentity, Skipped
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.calibration import (
    DetectionCurve,
    Discoveries,
    Gate,
    MemberComparison,
    Proportion,
    SecondOpinion,
    Thresholds,
    discoveries_at_fdr,
    is_copy,
)
from monai_deepssim.files import ensure_writable, write_text
from monai_deepssim.metrics import SideComparison
from monai_deepssim.search import SearchRecall

__all__ = ["AuditResult", "SearchResult"]


@dataclass(frozen=True, repr=False, kw_only=True)
class SearchResult:
    """What every search rests on.

    Attributes:
        options: the options, as given.
        thresholds: thresholds of the score that the verdict rests on.
        training: the training side.
        detector: name of the detector that made the shortlist.
        embedder: where the scores come from.
        search: which search proposed the candidates, and its recall.
        seconds: time spent, by step.
    """

    options: SearchOptions
    thresholds: Thresholds
    training: EmbeddedSide
    detector: str
    embedder: EmbedderIdentity
    search: SearchRecall
    seconds: dict[str, float]

    @property
    def sides(self) -> list[EmbeddedSide]:
        """All sides."""
        return [self.training]

    @property
    def skipped(self) -> list[Skipped]:
        """Files that are in none of the numbers, of all sides."""
        return [skipped for side in self.sides for skipped in side.skipped]


@dataclass(frozen=True, repr=False, kw_only=True)
class AuditResult(SearchResult):
    """What an audit found out.

    Attributes:
        options: the audit's options, as given.
        synthetic: the synthetic side.
        holdout: the held-out side, if there is one.
        matches: each synthetic image with its nearest training image, the highest score first: the columns of
            ``matches.csv``, the index is the row of the image.
        pairs: of the ``top_k`` training images of each synthetic image that are verified those that could be its
            nearest or a copy's source, or with ``verify=False`` the ``top_k`` nearest: one row per
            pair, with the rows of the two images (``query`` and ``training``), ``score``, ``detector_score`` and where
            they were verified the columns of :func:`~monai_deepssim.metrics.verify_candidates`.
        memorized: training images with a copy, the highest score first: the columns of ``memorized.csv``.
        copy_fraction: share of the synthetic images that are copies.
        memorized_fraction: share of the training images that have a copy.
        patients: patients with a memorized image, those with the most copies first: the columns of ``patients.csv``.
        false_alarms: share of the held-out images that the same rule calls copies, though none is one; those that are
            training images are left out. ``None`` without held-out images.
        held_out: each held-out image with its nearest training image, the highest score first: the columns of
            ``holdout.csv``; ``None`` without held-out images.
        controls: what became of the copies of training images that the audit planted: the columns of ``controls.csv``;
            ``None`` where none were planted.
        curve: share of the controls that was found, by change and level; ``None`` likewise.
        members: what the synthetic images give away of who was in the training set; ``None`` without held-out images.
        second_opinion: verdict of another detector on images that were chosen by their scores; ``None`` otherwise.
        discoveries: which images are closer to the training images than chance explains; ``None`` where there is
            nothing to compare them with.
        selection: what the synthetic images were chosen from by their scores; empty where they were not. Chosen images
            have no intervals, and the error rates of the whole set.
        gate: whether the set may pass.
        sides_differ: how the preprocessing of the two sides differs.
        demo: how many planted copies were found; ``None`` in an audit of real folders.
    """

    options: AuditOptions
    synthetic: EmbeddedSide
    holdout: EmbeddedSide | None
    matches: pd.DataFrame
    pairs: pd.DataFrame
    memorized: pd.DataFrame
    copy_fraction: Proportion
    memorized_fraction: Proportion
    patients: pd.DataFrame
    false_alarms: Proportion | None
    held_out: pd.DataFrame | None
    controls: pd.DataFrame | None
    curve: DetectionCurve | None
    members: MemberComparison | None
    second_opinion: SecondOpinion | None
    discoveries: Discoveries | None
    selection: str
    gate: Gate
    sides_differ: SideComparison
    demo: DemoResult | None

    @property
    def sides(self) -> list[EmbeddedSide]:
        """The training, the synthetic and, if there is one, the held-out side."""
        return [self.training, self.synthetic] + ([self.holdout] if self.holdout is not None else [])

    @property
    def num_patients(self) -> int:
        """Known patients with a memorized image."""
        return int((self.patients["patient_id"] != "").sum())

    @property
    def memorized_without_patient(self) -> int:
        """Memorized training images whose patient is unknown."""
        return int((self.memorized["patient_id"] == "").sum())

    @property
    def close(self) -> pd.DataFrame:
        """Matches that are not copies by the threshold, and yet closer than chance explains: discoveries."""
        called = discoveries_at_fdr(self.matches["q_value"].astype(float).fillna(1.0).tolist(), self.options.fdr)
        return self.matches[np.asarray(called, bool) & ~is_copy(self.matches)]

    @property
    def num_similar_above_null(self) -> int | None:
        """Similar images, not suspicious, that score above every image that is not a copy; ``None`` without these."""
        if self.discoveries is None:
            return None
        others = self.matches.drop(self.close.index)
        others = others[others["twin_of"] == ""]
        is_above = others["score"] > np.max(self.discoveries.null.scores)
        return int(((others["label"] == "similar") & ~others["unexplained"].astype(bool) & is_above).sum())

    def __repr__(self) -> str:
        share, training = self.copy_fraction, self.memorized_fraction
        interval = "" if self.selection else f", 95 % interval {100 * share.low:.1f} % to {100 * share.high:.1f} %"
        gate = "" if self.gate.result is None else f"\n  gate: {self.gate.result} ({self.gate.reason})"
        return (
            f"AuditResult: {share.count} of {share.total} synthetic images are copies "
            f"({100 * share.value:.1f} %{interval})\n"
            f"  memorized: {training.count} of {training.total} training images, {self.num_patients} known patients\n"
            f"  similar: {self.count('similar')}, different: {self.count('different')}, skipped files: "
            f"{len(self.skipped)}{gate}"
        )

    def _repr_html_(self) -> str:
        strongest = self.matches.iloc[:5][["synthetic_path", "training_path", "patient_id", "score", "label"]]
        return f"<pre>{escape(repr(self))}</pre>{strongest.to_html(index=False, float_format='%.3f')}"

    def show_pair(self, row: Any, axes: Any = None) -> Any:
        """Show a synthetic image beside its nearest training image, as it is and aligned, and where the two agree.

        Args:
            row: a row of :attr:`matches`: its index or the row itself.
            axes: four of matplotlib's axes; new ones by default.

        Returns:
            The axes.

        Raises:
            UnusableInputError: if there is no such row.
        """
        from monai_deepssim.audit.pair_figures import show_pair

        return show_pair(self, int(getattr(row, "name", row)), axes)

    def plot_scores(self, axes: Any = None) -> Any:
        """Plot how many synthetic images have which score, with the thresholds, into matplotlib's axes.

        Args:
            axes: axes to plot into; new ones by default.

        Returns:
            The axes.
        """
        from monai_deepssim.audit.summary import thresholds_as_json
        from monai_deepssim.report import plot_scores

        null_scores = None if self.discoveries is None else np.asarray(self.discoveries.null.scores)
        thresholds = thresholds_as_json(self.thresholds)
        return plot_scores(self.matches["score"].to_numpy(float), thresholds, null_scores, axes=axes)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the report: one HTML file that needs no other and no network.

        Args:
            path: its folder is made when missing.

        Raises:
            UnusableInputError: if the file cannot be written.
        """
        from monai_deepssim.audit.report import render_audit
        from monai_deepssim.audit.summary import summarize

        ensure_writable(Path(path).parent)
        write_text(Path(path), render_audit(self, summarize(self)))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``matches.csv``, ``memorized.csv``, the other tables, ``report.html`` and ``summary.json``.

        Args:
            folder: made when missing.

        Raises:
            UnusableInputError: if a file cannot be written.
        """
        from monai_deepssim.audit.report import write_results

        target = Path(folder)
        ensure_writable(target)
        write_results(target, self)

    def count(self, label: str) -> int:
        """How many synthetic images have a label."""
        return int((self.matches["label"] == label).sum())

    def fraction_as_json(self, share: Proportion) -> dict[str, Any]:
        """A share with its interval, which images that were chosen by their scores do not have."""
        without = {"interval": None, "confidence": None, "method": None, "effective_total": None}
        return {**share.as_json(), **(without if self.selection else {})}
