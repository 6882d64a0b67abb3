"""The steps that filter a synthetic set: audit, decide, write what is kept, and audit that."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.inferers import Inferer

from monai_deepssim.audit.clean_up.decisions import FILTER_COLUMNS, decide_files
from monai_deepssim.audit.clean_up.file_units import locations_of
from monai_deepssim.audit.clean_up.manifest import write_manifest_and_files
from monai_deepssim.audit.decision import ask_detector
from monai_deepssim.audit.evidence import Evidence, gather_evidence
from monai_deepssim.audit.judgement import Selection, judge
from monai_deepssim.audit.options import FilterOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.steps import audit_stages, write_result
from monai_deepssim.data import read_planted
from monai_deepssim.files import ensure_writable
from monai_deepssim.progress import Stages
from monai_deepssim.release import check_kept_folder
from monai_deepssim.report import SCORE_NAMES

__all__ = ["FILTER_SUMMARY", "FilterDemoResult", "FilterResult", "perform_filter"]

FILTER_SUMMARY = "filter.json"
_FOLDER, _MANIFEST, _AUDIT_FOLDER = "filtered", "manifest.csv", "filtered_audit"
_STAGES = {"filtering": "Write the images that are kept", "judging_kept": "Judge the set that is kept"}
_LEFT_OUT = ("duplicate", "part", "similar", "twin", "discovery", "unexplained", "skipped", "ignored")


@dataclass(frozen=True)
class FilterDemoResult:
    """What became of the copies that were planted in the demo.

    Attributes:
        planted: copies among the synthetic images.
        left_out: number of planted copies that were left out.
        remaining: number of planted copies that were kept: the audit missed them.
        wrongly_left_out: images left out that are not copies.
    """

    planted: int
    left_out: int
    remaining: int
    wrongly_left_out: int


@dataclass(frozen=True, repr=False)
class FilterResult:
    """What was kept, and what the audits before and after found.

    Attributes:
        options: the filter's options, as given.
        before: the audit of the whole set.
        files: what becomes of every file and why, as :func:`decide_files` decides it: the columns of ``manifest.csv``,
            and ``location``.
        folder: folder with the files that were kept; ``None`` where nothing was written.
        manifest: path of ``manifest.csv``; ``None`` where nothing was written.
        after: the audit of the files that were kept; ``None`` when none was.
        demo: what the demo found; ``None`` without a demo.
    """

    options: FilterOptions
    before: AuditResult
    files: pd.DataFrame
    folder: Path | None
    manifest: Path | None
    after: AuditResult | None
    demo: FilterDemoResult | None

    @property
    def num_kept(self) -> int:
        """Files that are kept."""
        return int(self.files["kept"].sum())

    @property
    def kept(self) -> list[int]:
        """Positions of the images that are kept, in the list or tensor of synthetic images or among their slices."""
        return self._kept_among(self.before.synthetic.side.all_items)

    @property
    def kept_rows(self) -> list[int]:
        """Positions of the images that are kept, among those that were judged: each repeat counts once."""
        return self._kept_among(self.before.synthetic.side.items)

    def _kept_among(self, items: Sequence[Mapping[str, Any]]) -> list[int]:
        locations = set(self.files.loc[self.files["kept"], "location"])
        return [number for number, item in enumerate(items) if locations.issuperset(locations_of(item))]

    @property
    def left_out(self) -> dict[str, int]:
        """Files that are left out, by class; an absent class is not in it."""
        counts = self.files.loc[~self.files["kept"], "class"].value_counts()
        return {name: int(counts[name]) for name in _LEFT_OUT if name in counts}

    def __repr__(self) -> str:
        share = self.before.copy_fraction
        left_out = ", ".join(f"{count} {name}" for name, count in self.left_out.items()) or "none"
        return (
            f"FilterResult: {self.num_kept} of {len(self.files)} synthetic files are kept (left out: {left_out})\n"
            f"  before: {share.count} of {share.total} images are copies"
        )


def perform_filter(
    options: FilterOptions,
    *,
    sides: Sequence[Side] | None = None,
    write: bool = True,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> FilterResult:
    """Audit a synthetic set, write it without its copies, and audit what was written.

    Args:
        options: checked.
        sides: the training, the synthetic and any held-out side, where they are known already.
        write: whether files, tables and reports are written.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found and written, except for the summary.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    folder, manifest = options.output_dir / _FOLDER, options.output_dir / _MANIFEST
    if write:
        check_kept_folder(folder, manifest, FILTER_COLUMNS)
    stages = audit_stages(options, _STAGES)
    evidence = gather_evidence(
        options, stages, sides=sides, result_files=[FILTER_SUMMARY], inferer=inferer, handlers=handlers
    )
    before = judge(evidence, options, stages)
    files = decide_files(before, options.leave_out)
    if write:
        write_result(before, stages)
        source = before.synthetic.side.source
        with stages("filtering"):
            write_manifest_and_files(folder, manifest, files, FILTER_COLUMNS, options.files, source, names_only=True)
    result = FilterResult(
        options,
        before,
        files,
        folder if write else None,
        manifest if write else None,
        after=None,
        demo=_demo_result(options, files),
    )
    if not result.kept:
        return result
    of_after = Stages({})
    with stages("judging_kept"):
        after = _audit_kept(result, evidence, of_after)
        if write:
            ensure_writable(after.options.output_dir)
            write_result(after, of_after)
    return replace(result, after=after)


def _audit_kept(result: FilterResult, evidence: Evidence, stages: Stages) -> AuditResult:
    """Judge the files that are kept by what was measured of them, as a set of their own."""
    before, options, files = result.before, result.options, result.files
    side = _kept_side(result)
    rows = np.searchsorted(before.synthetic.images.indices, result.kept_rows)
    again = replace(
        options,
        training_dir=before.training.side.source,
        synthetic_dir=side.source,
        output_dir=options.output_dir / _AUDIT_FOLDER,
    )
    kept = evidence.of_subset(rows, side, again)
    if not set(options.leave_out) & set(files.loc[~files["kept"], "class"]):
        return judge(kept, again, stages)
    share = before.copy_fraction
    score = SCORE_NAMES.get(before.thresholds.score, before.thresholds.score)
    # What the pixels have chosen is shown to the detector, which only proposed: its own score has decided nothing.
    chosen = Selection(
        reason=f"its images were chosen by their scores from {share.total}, of which {share.count} "
        f"{'was a copy' if share.count == 1 else 'were copies'}.",
        chosen_by=f"the {score}",
        rates={
            match.synthetic_path: (match.p_value, match.q_value)
            for match in before.matches.dropna(subset=["p_value", "q_value"]).itertuples()
        },
        second_opinion=(
            ask_detector(evidence.search, kept.synthetic, evidence.strangers, options.fdr) if options.verify else None
        ),
    )
    return judge(kept, again, stages, chosen)


def _kept_side(result: FilterResult) -> Side:
    """The synthetic side of what is kept: in the new folder, where files were written."""
    side, files = result.before.synthetic.side, result.files
    rank = {position: number for number, position in enumerate(result.kept)}
    items = [side.items[number] for number in result.kept_rows]
    repeats = [replace(repeat, position=rank[repeat.position]) for repeat in side.repeats if repeat.position in rank]
    if result.folder is None:
        return replace(side, items=items, ignored=[], repeats=repeats)
    new_files = {row.location: str(result.folder / row.file) for row in files[files["kept"]].itertuples()}
    items = [_moved(item, new_files) for item in items]
    repeats = [replace(repeat, item=_moved(repeat.item, new_files)) for repeat in repeats]
    return Side("synthetic", result.folder, items, [], repeats=repeats)


def _moved(item: Mapping[str, Any], new_files: Mapping[str, str]) -> dict[str, Any]:
    files = [new_files[file] for file in locations_of(item)]
    image = new_files[os.path.abspath(item["image"])]
    item = {name: value for name, value in item.items() if name != "contents"}  # of the files that were copied
    return {**item, "image": image, "files": json.dumps(files) if item.get("files") else ""}


def _demo_result(options: FilterOptions, files: pd.DataFrame) -> FilterDemoResult | None:
    if not options.demo:
        return None
    truth = read_planted(options.output_dir / "demo")
    planted = {path for path, source in truth.items() if source}
    left_out = set(files.loc[~files["kept"], "file"])
    return FilterDemoResult(
        planted=len(planted),
        left_out=len(planted & left_out),
        remaining=len(planted - left_out),
        wrongly_left_out=len(left_out - planted),
    )
