"""What a filter tells: ``filter.json`` for programs, and lines on the terminal."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monai_deepssim.audit.clean_up.filter_steps import FilterResult
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.summary import summarize
from monai_deepssim.files import hash_file, write_text
from monai_deepssim.report import closing_lines, package_versions

__all__ = ["filter_lines", "left_out_words", "write_filter_summary"]

_SCHEMA_VERSION = 1
_WORDS = {
    "duplicate": "copies of a training image",
    "part": "copies of a part of a training image",
    "similar": "similar to a training image",
    "twin": "copies of a synthetic copy",
    "discovery": "closer to a training image than chance explains",
    "unexplained": "apart from all other images",
    "skipped": "could not be used",
    "ignored": "no images",
}


def left_out_words(result: FilterResult) -> str:
    """Why files were left out, with their numbers, such as ``3 copies of a training image, 1 could not be used``."""
    return ", ".join(f"{count} {_WORDS[name]}" for name, count in result.left_out.items()) or "none"


def filter_lines(result: FilterResult) -> list[str]:
    """Tell the result in lines: what was left out, and the audit of what was kept.

    Args:
        result: result of the filter, with files kept.

    Returns:
        The lines.
    """
    before, after = result.before.copy_fraction, result.after
    assert after is not None, "there is nothing to tell of a set without files"
    lines = [
        "",
        f"Before: {before.count} of {before.total} synthetic images are copies of a training image "
        f"({result.before.options.output_dir / 'report.html'}).",
        f"Left out: {len(result.files) - result.num_kept} of {len(result.files)} files "
        f"({left_out_words(result)}); why each, in {result.manifest}.",
        f"Kept: {result.num_kept} files, in {result.folder}. Nothing was changed or deleted in "
        f"{result.before.synthetic.side.source}.",
    ]
    if result.demo is not None:
        demo = result.demo
        lines.append(
            f"Demo: of {demo.planted} planted copies {demo.left_out} are left out and {demo.remaining} remain, with "
            f"{demo.wrongly_left_out} images left out that are not copies."
        )
    return [
        *lines,
        "",
        "The set that was kept, audited:",
        *closing_lines(summarize(after), after.matches, _report(after)),
    ]


def write_filter_summary(path: Path, result: FilterResult) -> None:
    """Write ``filter.json``; a value that is absent is ``null``.

    Args:
        path: path of the file.
        result: result of the filter.

    Raises:
        UnusableInputError: if the file cannot be written.
    """
    before, after = result.before, result.after
    summary = {
        "schema_version": _SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "demo": None if result.demo is None else vars(result.demo),
        "training_dir": str(before.training.side.source),
        "synthetic_dir": str(before.synthetic.side.source),
        "filtered_dir": None if after is None else str(result.folder),
        "list": _kept_list(result),
        "manifest": str(result.manifest),
        "leave_out": list(result.options.leave_out),
        "files": result.options.files,
        "num_files": len(result.files),
        "num_kept": result.num_kept,
        "num_left_out": {name: result.left_out.get(name, 0) for name in _WORDS},
        "before": _numbers(before),
        "after": None if after is None else _numbers(after),
        "gate": None if after is None else after.gate.as_json(),
        "versions": package_versions(),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")


def _numbers(result: AuditResult) -> dict[str, Any]:
    return {
        "summary": str(result.options.output_dir / "summary.json"),
        "summary_sha256": hash_file(result.options.output_dir / "summary.json"),
        "report": str(_report(result)),
        "num_synthetic": result.copy_fraction.total,
        "num_copies": result.copy_fraction.count,
        "num_similar": result.count("similar"),
        "num_memorized": result.memorized_fraction.count,
        "num_close": len(result.close),
        "copy_fraction": result.fraction_as_json(result.copy_fraction),
        "fingerprint": result.synthetic.fingerprint["images"],
    }


def _kept_list(result: FilterResult) -> dict[str, str] | None:
    """The list that lies beside the files that were kept, where one was given."""
    name = result.before.synthetic.side.source.name
    if result.folder is None or result.after is None or name in set(result.files["file"]):
        return None
    path = result.folder / name
    return {"file": name, "sha256": hash_file(path)} if path.is_file() else None


def _report(result: AuditResult) -> Path:
    return result.options.output_dir / "report.html"
