"""``summary.json``: an audit for programs, and what it rests on; its reports and the terminal say what is in it."""

from __future__ import annotations

import getpass
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim import __version__
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.result import AuditResult, SearchResult
from monai_deepssim.calibration import Thresholds, headline
from monai_deepssim.data import content_keys, split_repeats
from monai_deepssim.files import write_text
from monai_deepssim.options import options_as_json
from monai_deepssim.report import package_versions

__all__ = ["summarize", "thresholds_as_json", "what_it_rests_on", "write_summary"]

_SCHEMA_VERSION = 3


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``; a value that is absent is ``null``.

    Args:
        path: path of the file.
        summary: its content.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    write_text(path, json.dumps(summary, indent=2) + "\n")


def summarize(result: AuditResult) -> dict[str, Any]:
    """Put the numbers of an audit into plain values, from which all that is said of it is made.

    Args:
        result: result of the audit.

    Returns:
        The content of ``summary.json``.
    """
    summary = {
        "schema_version": _SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "run": _describe_run(result.seconds),
        "demo": None if result.demo is None else vars(result.demo),
        "training_dir": str(result.training.side.source),
        "synthetic_dir": str(result.synthetic.side.source),
        "holdout_dir": None if result.holdout is None else str(result.holdout.side.source),
        "output_dir": str(result.options.output_dir),
        "num_training": result.memorized_fraction.total,
        "num_synthetic": result.copy_fraction.total,
        "num_copies": result.copy_fraction.count,
        "num_parts": result.count("part"),
        "num_similar": result.count("similar"),
        "num_different": result.count("different"),
        "num_memorized": result.memorized_fraction.count,
        "num_patients": result.num_patients if result.num_patients or result.memorized.empty else None,
        "num_memorized_without_patient": result.memorized_without_patient,
        "num_close": len(result.close),
        "num_unexplained": int(result.matches["unexplained"].sum()),
        "num_twins": int((result.matches["twin_of"] != "").sum()),
        "num_similar_above_null": result.num_similar_above_null,
        "selection": result.selection or None,
        "copy_fraction": result.fraction_as_json(result.copy_fraction),
        "memorized_fraction": result.fraction_as_json(result.memorized_fraction),
        "false_alarms": None if result.false_alarms is None else result.false_alarms.as_json(),
        "discoveries": None if result.discoveries is None else result.discoveries.as_json(),
        "null": None if result.discoveries is None else result.discoveries.null_as_json(),
        "controls": None if result.curve is None else result.curve.as_json(),
        "contamination": _contamination(result),
        "identical_training": _identical_training(result.training),
        "members": None if result.members is None else result.members.as_json(),
        "second_opinion": _second_opinion(result),
        "gate": result.gate.as_json(),
        "sides_differ": result.sides_differ.as_json(),
        **what_it_rests_on(result),
    }
    return {**summary, "headline": _headline(result)}


def _describe_run(seconds: Mapping[str, float]) -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = None
    started = datetime.now(timezone.utc) - timedelta(seconds=sum(seconds.values()))
    program = Path(sys.argv[0]).name
    command = shlex.join(["monai-deepssim" if program == "__main__.py" else program, *sys.argv[1:]])
    return {
        "user": user,
        "command": command,
        "started": started.isoformat(timespec="seconds"),
        "package_version": __version__,
    }


def _headline(result: AuditResult) -> dict[str, str]:
    """The verdict joined with the gate; a demo says so."""
    first = headline(
        result.gate,
        num_skipped=len(result.skipped),
        num_memorized=len(result.memorized),
        num_patients=result.num_patients,
    )
    if result.demo is None:
        return asdict(first)
    demo = result.demo
    advice = f"This is a demo without patient data: {demo.planted} copies of phantom subjects were planted, and "
    advice += f"{demo.found} of them were found, with {demo.false_alarms} false alarms."
    return {**asdict(first), "advice": advice}


def _contamination(result: AuditResult) -> dict[str, Any] | None:
    """How many held-out images are training images, and which."""
    if result.held_out is None:
        return None
    table = result.held_out[result.held_out["contamination"] != ""]
    return {
        "by_content": int((table["contamination"] == "content").sum()),
        "by_score": int((table["contamination"] == "score").sum()),
        "paths": table[["holdout_path", "training_path"]].to_numpy().tolist(),
    }


def _identical_training(training: EmbeddedSide) -> dict[str, Any]:
    """Training images that are another one byte for byte, and of how many another patient's name is known."""
    items = training.usable_items
    _, repeats = split_repeats(items, content_keys(items, training.usable_contents))
    patient_of = {item["path"]: item["patient_id"] for item in items}
    images = [
        {
            "path": repeat.item["path"],
            "identical_to": repeat.first,
            "patient_id": repeat.item["patient_id"],
            "other_patient_id": patient_of[repeat.first],
        }
        for repeat in repeats
    ]
    names = [(image["patient_id"], image["other_patient_id"]) for image in images]
    of_two = sum(bool(first and second and first != second) for first, second in names)
    return {"num_images": len(images), "num_of_two_patients": of_two, "images": images}


def _second_opinion(result: AuditResult) -> dict[str, Any] | None:
    """What a detector that did not choose the images says of them."""
    if result.second_opinion is None:
        return None
    flags = np.asarray(result.second_opinion.is_suspicious)
    paths = result.matches["synthetic_path"].sort_index()[flags].tolist()
    return {"detector": result.second_opinion.name, "num_suspicious": int(flags.sum()), "paths": paths}


def thresholds_as_json(thresholds: Thresholds) -> dict[str, dict[str, Any]]:
    """Write thresholds as ``summary.json`` has them."""
    return {
        name: {"value": value, "score": thresholds.score, "source": thresholds.source}
        for name, value in (("similar", thresholds.similar), ("duplicate", thresholds.duplicate))
    }


def what_it_rests_on(result: SearchResult) -> dict[str, Any]:
    """The part of a summary that says which images were judged by what, so that a result can be checked later.

    Args:
        result: result of the search.

    Returns:
        Entries of ``summary.json``.
    """
    options, embedder, sides = result.options, result.embedder, result.sides
    return {
        "skipped": [vars(skipped) for skipped in result.skipped],
        "ignored_files": {part.side.name: part.side.ignored for part in sides},
        "repeats": {part.side.name: [repeat.as_json() for repeat in part.side.repeats] for part in sides},
        "thresholds": thresholds_as_json(result.thresholds),
        "detector": result.detector,
        "search": result.search.as_json(),
        "verified": options.verify,
        "embedder": {
            **vars(embedder),
            "checkpoint": None if embedder.checkpoint is None else str(embedder.checkpoint),
        },
        "images": {
            part.side.name: {
                **part.side.count_volumes(),
                "image_size": list(options.image_size),
                "original_sizes": dict(part.sizes),
                "converted_to_grey": [part.side.items[index]["path"] for index in part.images.converted],
                "resampled_to_square_pixels": [part.side.items[index]["path"] for index in part.images.resampled],
                "padding_replaced": [part.side.items[index]["path"] for index in part.images.padded],
                "stray_pixels_replaced": [part.side.items[index]["path"] for index in part.images.clipped],
                "windows": sorted({item["window"] for item in part.side.items} - {""}),
                "window_reason": part.side.window or None,
            }
            for part in sides
        },
        "fingerprints": {part.side.name: {**part.fingerprint, "continued": part.continued} for part in sides},
        "options": {**options_as_json(options), "num_proposed": options.num_proposed},
        "versions": package_versions(),
        "timings_seconds": {name: round(taken, 2) for name, taken in result.seconds.items()},
    }
