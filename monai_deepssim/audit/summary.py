"""``summary.json``: an audit for programs, and what it rests on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from monai_deepssim.audit.options import SearchOptions
from monai_deepssim.audit.result import AuditResult, EmbeddedSide, EmbedderIdentity
from monai_deepssim.audit.tables import TABLES
from monai_deepssim.audit.verdict import Thresholds
from monai_deepssim.files import write_text
from monai_deepssim.options import options_as_json
from monai_deepssim.release import FILE_LIST, hash_results

__all__ = ["package_versions", "what_it_rests_on", "write_summary"]

_SCHEMA_VERSION = 2
_PACKAGES = ["monai-deepssim", "monai", "torch", "torchvision", "numpy", "scikit-image", "scikit-learn", "pillow"]


def write_summary(path: Path, result: AuditResult) -> None:
    """Write ``summary.json``; a value that is absent is ``null``.

    Args:
        path: path of the file.
        result: result of the audit.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    options, thresholds = result.options, result.thresholds
    summary = {
        "schema_version": _SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "demo": None if result.demo is None else vars(result.demo),
        "training_dir": str(result.training.side.source),
        "synthetic_dir": str(result.synthetic.side.source),
        "holdout_dir": None if result.holdout is None else str(result.holdout.side.source),
        "output_dir": str(options.output_dir),
        "num_training": result.memorized_fraction.total,
        "num_synthetic": result.copy_fraction.total,
        "num_copies": result.copy_fraction.count,
        "num_parts": result.count("part"),
        "num_similar": result.count("similar"),
        "num_different": result.count("different"),
        "num_memorized": result.memorized_fraction.count,
        "num_patients": len(result.patients) if result.patients or result.memorized.empty else None,
        "num_memorized_without_patient": result.memorized_without_patient,
        "num_close": len(result.close),
        "selection": result.selection or None,
        "copy_fraction": result.fraction_as_json(result.copy_fraction),
        "memorized_fraction": result.fraction_as_json(result.memorized_fraction),
        "false_alarms": None if result.false_alarms is None else result.false_alarms.as_json(),
        "discoveries": None if result.discoveries is None else result.discoveries.as_json(),
        "gate": vars(result.gate),
        "sides_differ": result.sides_differ.as_json(),
        **what_it_rests_on(options, thresholds, result.detector, result.embedder, result.sides, result.seconds),
        "result_files": hash_results(path.parent, [FILE_LIST, "report.html", *(f"{name}.csv" for name in TABLES)]),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def what_it_rests_on(
    options: SearchOptions,
    thresholds: Thresholds,
    detector: str,
    embedder: EmbedderIdentity,
    sides: Sequence[EmbeddedSide],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The part of a summary that says which images were judged by what, so that a result can be checked later.

    Args:
        options: the audit's options.
        thresholds: thresholds of the score.
        detector: its name.
        embedder: where the scores come from.
        sides: all of them.
        seconds: time spent, by step.

    Returns:
        Entries of ``summary.json``.
    """
    return {
        "skipped": [vars(skipped) for part in sides for skipped in part.skipped],
        "ignored_files": {part.side.name: part.side.ignored for part in sides},
        "thresholds": {
            name: {"value": value, "score": thresholds.score, "source": thresholds.source}
            for name, value in (("similar", thresholds.similar), ("duplicate", thresholds.duplicate))
        },
        "detector": detector,
        "verified": options.verify,
        "embedder": {
            **vars(embedder),
            "checkpoint": None if embedder.checkpoint is None else str(embedder.checkpoint),
        },
        "images": {
            part.side.name: {
                "image_size": list(options.image_size),
                "original_sizes": dict(part.sizes),
                "converted_to_grey": [part.side.items[index]["path"] for index in part.images.converted],
                "resampled_to_square_pixels": [part.side.items[index]["path"] for index in part.images.resampled],
            }
            for part in sides
        },
        "fingerprints": {part.side.name: {**part.fingerprint, "continued": part.continued} for part in sides},
        "options": {**options_as_json(options), "num_proposed": options.num_proposed},
        "versions": package_versions(),
        "timings_seconds": {name: round(taken, 2) for name, taken in seconds.items()},
    }


def package_versions() -> dict[str, str | None]:
    """Versions of what the scores depend on."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
