"""What an audit measures before anything is judged: sides, pairs, scores of strangers, controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from monai.inferers import Inferer
from pandas import DataFrame

from monai_deepssim.audit.controls import ControlPlanter, score_controls
from monai_deepssim.audit.detector import AuditDetector, load_detector
from monai_deepssim.audit.embedded_side import EmbeddedSide, Strangers
from monai_deepssim.audit.embedded_sides import embed_controls, embed_sides
from monai_deepssim.audit.error_rates import find_contamination
from monai_deepssim.audit.estimate import say_estimate
from monai_deepssim.audit.members import compare_with_members
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.side_check import check_sides
from monai_deepssim.audit.sources import Side, borrow_spacings, give_windows, list_sides
from monai_deepssim.audit.training_search import TrainingSearch
from monai_deepssim.audit.twins import find_twins
from monai_deepssim.calibration import MemberComparison, NullScores, Thresholds
from monai_deepssim.data import write_copies_demo
from monai_deepssim.metrics import SideComparison
from monai_deepssim.progress import Stages, say, warn
from monai_deepssim.ranks import current_ranks
from monai_deepssim.release import FILE_LIST
from monai_deepssim.report import SHAREABLE_REPORT, TABLES

__all__ = ["DEMO_FOLDER", "Evidence", "gather_evidence"]

#: Folder of the demo's images in the output folder.
DEMO_FOLDER = "demo"
_DEMO_PATIENT_PATTERN = r"(phantom-\d+-\d+)"
_RESULT_FILES = ["summary.json", "report.html", SHAREABLE_REPORT, FILE_LIST, "filter.json"]
_RESULT_FILES += [f"{name}.csv" for name in TABLES]


@dataclass(frozen=True)
class Evidence:
    """What was measured, before anything is judged.

    Attributes:
        detector: fitted on the training images.
        search: the search among the training images.
        training: the training side.
        synthetic: the synthetic side.
        holdout: the held-out side, if there is one.
        strangers: the held-out images that are no training images; ``None`` without any.
        sides_differ: how the preprocessing of the training and the synthetic side differs.
        pairs: one row per synthetic image (``query``) and training image that were compared, the closest first.
        pairs_of_holdout: the same pairs for the held-out images.
        contamination: why each held-out image is taken for a training image; empty for those that are not, and without
            held-out images.
        null: scores of images that are not copies; ``None`` where there are none.
        thresholds: thresholds of the score that the verdict rests on.
        twins: similar images that are copies of a synthetic copy, by their row, see :func:`find_twins`.
        controls: what became of the planted copies, the columns of ``controls.csv``; ``None`` where none were planted.
        members: how close training and held-out images are to the synthetic ones; ``None`` without held-out images.
    """

    detector: AuditDetector
    search: TrainingSearch
    training: EmbeddedSide
    synthetic: EmbeddedSide
    holdout: EmbeddedSide | None
    strangers: Strangers | None
    sides_differ: SideComparison
    pairs: DataFrame
    pairs_of_holdout: DataFrame | None
    contamination: list[str]
    null: NullScores | None
    thresholds: Thresholds
    twins: DataFrame
    controls: DataFrame | None
    members: MemberComparison | None

    def of_subset(self, rows: np.ndarray, side: Side, options: AuditOptions) -> Evidence:
        """The same evidence, of some of the synthetic images.

        Args:
            rows: int64 ``(n,)``, of the synthetic images, ascending.
            side: the side of these images, in this order.
            options: the audit's options.
        """
        synthetic = self.synthetic.subset(rows, side)
        pairs, twins = self.pairs[self.pairs["query"].isin(rows)], self.twins[self.twins.index.isin(rows)]
        return replace(
            self,
            synthetic=synthetic,
            sides_differ=check_sides(self.training, synthetic, options.image_size),
            pairs=pairs.assign(query=np.searchsorted(rows, pairs["query"])),
            twins=twins.set_index(np.searchsorted(rows, twins.index)),
        )


def gather_evidence(
    options: AuditOptions,
    stages: Stages,
    *,
    sides: Sequence[Side] | None = None,
    result_files: Sequence[str] = (),
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> Evidence:
    """Embed the sides, compare them, search the training images for all others, and score images that are not copies.

    Args:
        options: checked.
        stages: stages of the audit.
        sides: as for :func:`perform_audit`.
        result_files: names of files in the output folder that rest on an earlier audit, and go when it goes.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    detector, planter = load_detector(options), ControlPlanter(options)
    if sides is None:
        sides = _read_sides(options, stages)
    sides = give_windows(sides if options.volumes == "none" else borrow_spacings(sides), options.window)
    say_estimate(sides, detector, options, stages, planter.count(sides[0]))
    engine: dict[str, Any] = {"inferer": inferer, "handlers": handlers}
    embedded = embed_sides(sides, detector, options, [*_RESULT_FILES, *result_files], stages, **engine)
    training, synthetic = embedded[:2]
    holdout = embedded[2] if len(embedded) > 2 else None
    if len(training.usable_items) == 1:
        warn("there is one training image: every synthetic image is compared with it alone.")
    detector.fit(training.images, sum(len(side.usable_items) for side in embedded[1:]))
    with stages("comparing_sides"):
        sides_differ = check_sides(training, synthetic, options.image_size)
    with stages("local_features"):  # of volumes there are none, and no such stage
        search = TrainingSearch(training, detector, options)
    with stages("search"):
        pairs = search.find_pairs(synthetic)
        thresholds = options.thresholds or search.threshold_of_held_out(holdout)
        twins = find_twins(synthetic, pairs, detector, thresholds, options)
    with stages("error_rates"):
        pairs_of_holdout, contamination, null = _score_strangers(search, holdout)
        if null is None:
            null = search.null_of_training(len(synthetic.usable_items), thresholds.duplicate)
    controls = members = None
    if options.controls is not None:
        with stages("controls"):
            planted = embed_controls(planter.plant(training, synthetic), detector, options, **engine)
            controls = score_controls(planted, search.find_pairs(planted), training, thresholds)
    strangers = _strangers(holdout, contamination)
    if holdout is not None:
        with stages("members"):
            members = compare_with_members(training, synthetic, strangers, detector)
    return Evidence(
        detector=detector,
        search=search,
        training=training,
        synthetic=synthetic,
        holdout=holdout,
        strangers=strangers,
        sides_differ=sides_differ,
        pairs=pairs,
        pairs_of_holdout=pairs_of_holdout,
        contamination=contamination,
        null=null,
        thresholds=thresholds,
        twins=twins,
        controls=controls,
        members=members,
    )


def _read_sides(options: AuditOptions, stages: Stages) -> list[Side]:
    """List the images that the options name; those of a demo are made first."""
    if options.demo:
        folder = options.output_dir / DEMO_FOLDER
        with stages("making_demo"):
            say(f"No folder given: making a demo in {folder}")
            with current_ranks().first():
                training_dir, synthetic_dir = write_copies_demo(folder)
        options = replace(
            options,
            training_dir=training_dir,
            synthetic_dir=synthetic_dir,
            patient_id_pattern=options.patient_id_pattern or _DEMO_PATIENT_PATTERN,
        )
    with stages("listing"):
        return list_sides(options)


def _strangers(holdout: EmbeddedSide | None, contamination: Sequence[str]) -> Strangers | None:
    rows = np.flatnonzero([not reason for reason in contamination])
    if holdout is None or not len(rows):
        return None
    return Strangers(holdout.images.subset(rows), [holdout.patients[row] for row in rows])


def _score_strangers(
    search: TrainingSearch, holdout: EmbeddedSide | None
) -> tuple[DataFrame | None, list[str], NullScores | None]:
    """Pairs of the held-out images, which of them are training images, and the scores of all others, if there are."""
    if holdout is None:
        return None, [], None
    pairs = search.find_pairs(holdout)
    contamination = find_contamination(holdout, search.training, pairs, search.options.verify)
    rows = [row for row, reason in enumerate(contamination) if not reason]
    if not rows:
        return pairs, contamination, None
    scores, patients = pairs.groupby("query")["score"].first(), holdout.patients
    groups = [patients[row] for row in rows]
    null = NullScores(scores[rows].to_numpy(), groups=groups, group_rule=search.options.group_rule)
    return pairs, contamination, null
