"""The steps that filter a synthetic set: audit, decide, write what is kept, and audit that."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.inferers import Inferer

from monai_deepssim.audit.clean_up.decisions import (
    FILTER_COLUMNS,
    FileDecision,
    decide_files,
    write_filter_manifest,
)
from monai_deepssim.audit.clean_up.kept_folder import check_kept_folder, is_occupied, write_kept_files
from monai_deepssim.audit.demo import planted_copies
from monai_deepssim.audit.embedded_sides import EMBEDDINGS_FOLDER
from monai_deepssim.audit.options import FilterOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.steps import Selection, perform_audit
from monai_deepssim.audit.verification_store import VERIFIED_FOLDER
from monai_deepssim.data import files_of
from monai_deepssim.files import unwritable

__all__ = ["FILTER_SUMMARY", "FilterDemoResult", "FilterResult", "perform_filter"]

FILTER_SUMMARY = "filter.json"
_FOLDER, _MANIFEST, _AUDIT_FOLDER = "filtered", "manifest.csv", "filtered_audit"


@dataclass(frozen=True)
class FilterDemoResult:
    """What became of the copies that were planted in the demo.

    Attributes:
        planted: copies among the synthetic images.
        left_out: of those, left out.
        remaining: of those, kept: the audit did not see them.
        wrongly_left_out: images left out that are not copies.
    """

    planted: int
    left_out: int
    remaining: int
    wrongly_left_out: int


@dataclass(frozen=True)
class FilterResult:
    """What was kept, and what the audits before and after found.

    Attributes:
        options: as given.
        before: the audit of the whole set.
        decisions: about every file.
        folder: with the files that were kept.
        manifest: the CSV file that says why.
        after: the audit of the files that were kept; ``None`` when none was.
        demo: of the demo alone.
    """

    options: FilterOptions
    before: AuditResult
    decisions: list[FileDecision]
    folder: Path
    manifest: Path
    after: AuditResult | None
    demo: FilterDemoResult | None

    @property
    def num_kept(self) -> int:
        """Files that are kept."""
        return sum(decision.kept for decision in self.decisions)

    @property
    def left_out(self) -> dict[str, int]:
        """Files that are left out, by class; an absent class is not in it."""
        counts = Counter(decision.label for decision in self.decisions if not decision.kept)
        return {
            name: counts[name]
            for name in ("duplicate", "part", "similar", "discovery", "skipped", "ignored")
            if counts[name]
        }


def perform_filter(
    options: FilterOptions, *, inferer: Inferer | None = None, handlers: Sequence[Any] = ()
) -> FilterResult:
    """Audit a synthetic set, write it without its copies, and audit what was written.

    Args:
        options: checked.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found and written, except for the summary.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    output_dir = options.output_dir
    folder, manifest = output_dir / _FOLDER, output_dir / _MANIFEST
    check_kept_folder(folder, manifest, FILTER_COLUMNS)
    before = perform_audit(options, result_files=[FILTER_SUMMARY], inferer=inferer, handlers=handlers)
    decisions = decide_files(before, options.leave_out)
    kept = {decision.path: decision.file for decision in decisions if decision.kept}
    if is_occupied(folder):
        # Refused unless it is the same: a folder keeps the manifest that it was written with.
        write_kept_files(folder, kept, options.files, before.synthetic.side.source, names_only=True)
    write_filter_manifest(manifest, decisions)
    after = None
    if kept:
        write_kept_files(folder, kept, options.files, before.synthetic.side.source, names_only=True)
        after = _audit_kept(before, folder, decisions, options, inferer, handlers)
    return FilterResult(options, before, decisions, folder, manifest, after, _demo_result(options, decisions))


def _audit_kept(
    before: AuditResult,
    folder: Path,
    decisions: Sequence[FileDecision],
    options: FilterOptions,
    inferer: Inferer | None,
    handlers: Sequence[Any],
) -> AuditResult:
    """Audit the files that were written, slice for slice as in the audit before."""
    new_files = {decision.file: str(folder / decision.path) for decision in decisions if decision.kept}
    items = []
    for item in before.synthetic.side.items:
        image = new_files.get(os.path.abspath(item["image"]))
        if image is None:
            continue
        moved = {**item, "image": image}
        if item.get("files"):
            moved["files"] = json.dumps([new_files[os.path.abspath(file)] for file in files_of(item)])
        items.append(moved)
    sides = [before.training.side, Side("synthetic", folder, items, [])]
    if before.holdout is not None:
        sides.append(before.holdout.side)
    output_dir = options.output_dir / _AUDIT_FOLDER
    for kind in (EMBEDDINGS_FOLDER, VERIFIED_FOLDER):
        for side in (sides[0], *sides[2:]):
            _share(options.output_dir / kind / side.name, output_dir / kind / side.name)
    again = replace(options, training_dir=before.training.side.source, synthetic_dir=folder, output_dir=output_dir)
    share = before.copy_fraction
    were = "was a copy" if share.count == 1 else "were copies"
    chosen = Selection(
        reason=f"its images were chosen by their scores from {share.total}, of which {share.count} {were}.",
        rates={
            match.synthetic_path: (match.p_value, match.q_value)
            for match in before.matches.dropna(subset=["p_value", "q_value"]).itertuples()
        },
    )
    is_chosen = set(options.leave_out) & {decision.label for decision in decisions if not decision.kept}
    selection = chosen if is_chosen else None
    return perform_audit(again, sides=sides, selection=selection, inferer=inferer, handlers=handlers)


def _share(source: Path, target: Path) -> None:
    """Give the second audit what was computed of a side that is the same; it checks the fingerprints itself."""
    if target.exists() or not source.exists():
        return
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        shutil.copytree(source, partial)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise unwritable(target, error) from error


def _demo_result(options: FilterOptions, decisions: Sequence[FileDecision]) -> FilterDemoResult | None:
    if not options.demo:
        return None
    truth = planted_copies(options.output_dir / "demo")
    planted = {path for path, source in truth.items() if source}
    left_out = {decision.path for decision in decisions if not decision.kept}
    return FilterDemoResult(
        planted=len(planted),
        left_out=len(planted & left_out),
        remaining=len(planted - left_out),
        wrongly_left_out=len(left_out - planted),
    )
