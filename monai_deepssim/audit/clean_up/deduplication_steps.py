"""The steps that deduplicate a training set: embed, search it in itself, group, and write one of each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.inferers import Inferer

from monai_deepssim.audit.clean_up.deduplication_tables import (
    MANIFEST_COLUMNS,
    TrainingFile,
    training_files,
    write_groups,
    write_manifest,
    write_nearest,
)
from monai_deepssim.audit.clean_up.duplicate_groups import DuplicateGroup, Duplicates, find_duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit, file_units, relative_to_source, source_root
from monai_deepssim.audit.clean_up.kept_folder import check_kept_folder, is_occupied, write_kept_files
from monai_deepssim.audit.clean_up.repeated_demo import (
    REPEATED_DEMO_PATIENT_PATTERN,
    RepeatedDemoResult,
    RepeatedDemoSettings,
    evaluate_repeated_demo,
    write_repeated_demo,
)
from monai_deepssim.audit.clean_up.self_search import SelfSearch
from monai_deepssim.audit.detector import load_detector
from monai_deepssim.audit.embedded_sides import EMBEDDINGS_FOLDER, embed_sides
from monai_deepssim.audit.options import DeduplicationOptions
from monai_deepssim.audit.result import EmbeddedSide, EmbedderIdentity
from monai_deepssim.audit.sources import list_side
from monai_deepssim.audit.verdict import Thresholds
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ensure_writable
from monai_deepssim.progress import say, timed

__all__ = ["DeduplicationResult", "perform_deduplication"]

_FOLDER, _MANIFEST, _GROUPS, _NEAREST = "deduplicated", "manifest.csv", "groups.csv", "matches.csv"
_RESULT_FILES = ["summary.json", "report.html", _NEAREST, _GROUPS]


@dataclass(frozen=True)
class DeduplicationResult:
    """What was found in a training set, and what of it was kept.

    Attributes:
        options: as given.
        thresholds: of the score.
        training: the set.
        detector: its name.
        embedder: where the scores come from.
        units: the files.
        paths: of each, relative to its source; of a DICOM series that of its first file.
        duplicates: the groups and the nearest image of each.
        files: what became of every file.
        folder: with the files that were kept.
        manifest: the CSV file that says why.
        demo: how many repetitions were found; ``None`` of a set of the user's.
        seconds: time spent, by step.
    """

    options: DeduplicationOptions
    thresholds: Thresholds
    training: EmbeddedSide
    detector: str
    embedder: EmbedderIdentity
    units: list[FileUnit]
    paths: list[str]
    duplicates: Duplicates
    files: list[TrainingFile]
    folder: Path
    manifest: Path
    demo: RepeatedDemoResult | None
    seconds: dict[str, float]

    @property
    def groups(self) -> list[DuplicateGroup]:
        """The groups of duplicates."""
        return self.duplicates.groups

    @property
    def num_kept(self) -> int:
        """Files that are kept."""
        return sum(file.kept for file in self.files)

    @property
    def left_out(self) -> dict[str, int]:
        """Files that are left out, by class."""
        counts = Counter(file.label for file in self.files if not file.kept)
        return {name: counts[name] for name in ("duplicate", "skipped", "ignored")}

    @property
    def pairs(self) -> list[Any]:
        """All duplicates, each pair of images once."""
        return [pair for group in self.groups for pair in group.pairs]

    def count_groups(self, patients: str) -> int:
        """Groups whose files are of ``same``, ``different`` or ``unknown`` patients."""
        return sum(group.patients == patients for group in self.groups)

    def count_pairs(self, patients: str) -> int:
        """Duplicates of ``same``, ``different`` or ``unknown`` patients."""
        return sum(pair.patients == patients for pair in self.pairs)


def perform_deduplication(
    options: DeduplicationOptions, *, inferer: Inferer | None = None, handlers: Sequence[Any] = ()
) -> DeduplicationResult:
    """Find the duplicates in a training set, and write the set without them.

    Args:
        options: checked.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found; the tables and the folder are written, the report and the summary are not yet.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    seconds: dict[str, float] = {}
    folder, manifest = options.output_dir / _FOLDER, options.output_dir / _MANIFEST
    check_kept_folder(folder, manifest, MANIFEST_COLUMNS)
    if (options.output_dir / EMBEDDINGS_FOLDER / "synthetic").exists():
        raise UnusableInputError(
            f"--output_dir: {options.output_dir} holds an audit, whose files would be written over. Give another "
            "--output_dir."
        )
    ensure_writable(options.output_dir)
    detector = load_detector(options)
    demo_folder = options.output_dir / "demo"
    source = options.training_dir
    listed = options
    if source is None:
        with timed(seconds, "making_demo"):
            say(f"No folder given: making a demo in {demo_folder}")
            source = write_repeated_demo(demo_folder, RepeatedDemoSettings())
            listed = replace(options, patient_id_pattern=options.patient_id_pattern or REPEATED_DEMO_PATIENT_PATTERN)
    with timed(seconds, "listing"):
        side = list_side("training", source, listed)
    (training,) = embed_sides([side], detector, options, _RESULT_FILES, seconds, inferer=inferer, handlers=handlers)
    detector.fit(training.images)
    thresholds = options.thresholds
    assert thresholds is not None, "the options ask for a threshold where there is no held-out image to take it from"
    units = file_units(side.items)
    root = source_root(source)
    paths = [relative_to_source(unit.files[0], root) for unit in units]
    unit_of = {index: number for number, unit in enumerate(units) for index in unit.indices}
    search = SelfSearch(training, [unit_of[index] for index in range(len(side.items))], detector, thresholds, options)
    patients = [side.items[unit.indices[0]]["patient_id"] for unit in units]
    with timed(seconds, "search"):
        duplicates = find_duplicates(search, units, patients)
    files = training_files(training, units, paths, root, duplicates, thresholds)
    kept = {file.path: file.file for file in files if file.kept}
    with timed(seconds, "writing"):
        if is_occupied(folder):
            # Refused unless it is the same: a folder keeps the manifest that it was written with.
            write_kept_files(folder, kept, options.files, source)
        write_manifest(manifest, files)
        write_kept_files(folder, kept, options.files, source)
        write_groups(options.output_dir / _GROUPS, duplicates.groups, paths, patients)
        write_nearest(options.output_dir / _NEAREST, training, duplicates, detector.name)
    return DeduplicationResult(
        options=options,
        thresholds=thresholds,
        training=training,
        detector=detector.name,
        embedder=detector.identity,
        units=units,
        paths=paths,
        duplicates=duplicates,
        files=files,
        folder=folder,
        manifest=manifest,
        demo=evaluate_repeated_demo(demo_folder, duplicates.groups, paths) if options.demo else None,
        seconds=seconds,
    )
