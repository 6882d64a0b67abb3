"""The steps that deduplicate a training set: embed, search it in itself, group, and write one of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from monai.inferers import Inferer

from monai_deepssim.audit.clean_up.deduplication_tables import (
    MANIFEST_COLUMNS,
    files_table,
    groups_table,
    nearest_table,
)
from monai_deepssim.audit.clean_up.duplicate_groups import Duplicates, group_duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit, file_units, locations_of, relative_to_source, source_root
from monai_deepssim.audit.clean_up.manifest import write_manifest_and_files
from monai_deepssim.audit.clean_up.self_search import SelfSearch
from monai_deepssim.audit.demo import RepetitionsResult, evaluate_repetitions
from monai_deepssim.audit.detector import load_detector
from monai_deepssim.audit.embedded_sides import EMBEDDINGS_FOLDER, embed_sides
from monai_deepssim.audit.estimate import say_estimate
from monai_deepssim.audit.options import DeduplicationOptions
from monai_deepssim.audit.result import SearchResult
from monai_deepssim.audit.sources import Side, give_windows, list_side
from monai_deepssim.data import check_unchanged, write_repetitions_demo
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import Stages, say
from monai_deepssim.ranks import current_ranks
from monai_deepssim.release import check_kept_folder
from monai_deepssim.report import write_table
from monai_deepssim.similarity import kernels_are_compiled

__all__ = ["DeduplicationResult", "perform_deduplication"]

_FOLDER, _MANIFEST, _GROUPS, _NEAREST = "deduplicated", "manifest.csv", "groups.csv", "matches.csv"
_DEMO_FOLDER, _DEMO_PATIENT_PATTERN = "demo", r"(patient-\d+)"
_STAGES = {
    "making_demo": "Make a demo: phantoms, and repetitions among them",
    "listing": "List the images",
    "compiling": "Compile the comparison on the pixels, once on this machine",
    "fingerprints": "Fingerprint the files",
    "embedding_training": "Embed the images",
    "search": "Compare each image with its nearest images of other files",
    "writing": "Write the files that are kept, and the tables",
}
_RESULT_FILES = ["summary.json", "report.html", _NEAREST, _GROUPS]


@dataclass(frozen=True, repr=False, kw_only=True)
class DeduplicationResult(SearchResult):
    """What was found in a training set, and what of it was kept.

    Attributes:
        options: the deduplication's options, as given.
        units: the files.
        paths: path of each, relative to its source; for a DICOM series that of its first file.
        duplicates: the groups and the nearest image of each.
        files: what becomes of every file and why: the columns of ``manifest.csv``, and ``location``.
        groups: groups of duplicates, with the columns of ``groups.csv``.
        nearest: each image with its nearest image of another file: the columns of ``matches.csv``.
        folder: folder with the files that were kept; ``None`` where nothing was written.
        manifest: path of ``manifest.csv``; ``None`` where nothing was written.
        demo: how many repetitions were found; ``None`` where the set is the user's.
    """

    options: DeduplicationOptions
    units: list[FileUnit]
    paths: list[str]
    duplicates: Duplicates
    files: pd.DataFrame
    groups: pd.DataFrame
    nearest: pd.DataFrame
    folder: Path | None
    manifest: Path | None
    demo: RepetitionsResult | None

    @property
    def num_kept(self) -> int:
        """Files that are kept."""
        return int(self.files["kept"].sum())

    @property
    def kept(self) -> list[int]:
        """Positions of the images that are kept, in the list or tensor of images or among the slices of the files."""
        locations = set(self.files.loc[self.files["kept"], "location"])
        items = enumerate(self.training.side.items)
        return [number for number, item in items if locations.issuperset(locations_of(item))]

    @property
    def left_out(self) -> dict[str, int]:
        """Files that are left out, by class."""
        counts = self.files.loc[~self.files["kept"], "class"].value_counts()
        return {name: int(counts.get(name, 0)) for name in ("duplicate", "skipped", "ignored")}

    def __repr__(self) -> str:
        left_out = ", ".join(f"{count} {name}" for name, count in self.left_out.items() if count) or "none"
        groups = "1 group" if len(self.groups) == 1 else f"{len(self.groups)} groups"
        return (
            f"DeduplicationResult: {groups} of duplicates among {len(self.units)} training files\n"
            f"  kept: {self.num_kept} files (left out: {left_out})"
        )

    @property
    def pairs(self) -> list[Any]:
        """All duplicates, each pair of images once."""
        return [pair for group in self.duplicates.groups for pair in group.pairs]

    def count_groups(self, patients: str) -> int:
        """Groups whose files are of ``same``, ``different`` or ``unknown`` patients."""
        return int((self.groups["patients"] == patients).sum())

    def count_pairs(self, patients: str) -> int:
        """Duplicates of ``same``, ``different`` or ``unknown`` patients."""
        return sum(pair.patients == patients for pair in self.pairs)


def perform_deduplication(
    options: DeduplicationOptions,
    *,
    side: Side | None = None,
    write: bool = True,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> DeduplicationResult:
    """Find the duplicates in a training set, and write the set without them.

    Args:
        options: checked.
        side: the training images, where they are known already.
        write: whether the files that are kept, and the tables, are written.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found; the tables and the folder are written, the report and the summary are not yet.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    wanted = {"making_demo": options.demo, "compiling": options.verify and not kernels_are_compiled()}
    stages = Stages({name: title for name, title in _STAGES.items() if wanted.get(name, True)})
    folder, manifest = options.output_dir / _FOLDER, options.output_dir / _MANIFEST
    if write:
        check_kept_folder(folder, manifest, MANIFEST_COLUMNS)
    if (options.output_dir / EMBEDDINGS_FOLDER / "synthetic").exists():
        raise UnusableInputError(
            f"--output_dir: {options.output_dir} holds an audit, whose files would be written over. Give another "
            "--output_dir."
        )
    detector = load_detector(options)
    if side is None:
        side = _read_side(options, stages)
    (side,) = give_windows([side], options.window)
    say_estimate([side], detector, options, stages)
    (training,) = embed_sides([side], detector, options, _RESULT_FILES, stages, inferer=inferer, handlers=handlers)
    detector.fit(training.images, len(training.usable_items))
    thresholds = options.thresholds
    assert thresholds is not None, "the options ask for a threshold where there is no held-out image to take it from"
    units, root = file_units(side.items), source_root(side)
    paths = [relative_to_source(unit.files[0], root) for unit in units]
    patients = [side.items[unit.indices[0]]["patient_id"] for unit in units]
    unit_of = {index: number for number, unit in enumerate(units) for index in unit.indices}
    search = SelfSearch(training, [unit_of[index] for index in range(len(side.items))], detector, thresholds, options)
    with stages("search"):
        duplicates = group_duplicates(search, units, patients)
    check_unchanged(training.side.items)
    groups = groups_table(duplicates.groups, paths, patients)
    result = DeduplicationResult(
        options=options,
        thresholds=thresholds,
        training=training,
        detector=detector.name,
        embedder=detector.identity,
        search=detector.recall,
        units=units,
        paths=paths,
        duplicates=duplicates,
        files=files_table(training, units, paths, root, duplicates, thresholds),
        groups=groups,
        nearest=nearest_table(training, duplicates, detector.name),
        folder=folder if write else None,
        manifest=manifest if write else None,
        demo=evaluate_repetitions(options.output_dir / _DEMO_FOLDER, groups) if options.demo else None,
        seconds=stages.seconds,
    )
    if write:
        with stages("writing"):
            _write(result, folder, manifest)
    return result


def _read_side(options: DeduplicationOptions, stages: Stages) -> Side:
    """List the images that the options name; those of a demo are made first."""
    source = options.training_dir
    if source is None:
        demo_folder = options.output_dir / _DEMO_FOLDER
        with stages("making_demo"):
            say(f"No folder given: making a demo in {demo_folder}")
            with current_ranks().first():
                source = write_repetitions_demo(demo_folder)
        options = replace(options, patient_id_pattern=options.patient_id_pattern or _DEMO_PATIENT_PATTERN)
    with stages("listing"):
        return list_side("training", source, options)


def _write(result: DeduplicationResult, folder: Path, manifest: Path) -> None:
    """Write the files that are kept, and the tables."""
    files, options, source = result.files, result.options, result.training.side.source
    write_manifest_and_files(folder, manifest, files, MANIFEST_COLUMNS, options.files, source)
    write_table(options.output_dir / _GROUPS, result.groups)
    write_table(options.output_dir / _NEAREST, result.nearest)
