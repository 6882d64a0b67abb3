"""What a finished audit left in its folder, as far as a release rests on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.csv_cells import plain_cell
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import hash_file
from monai_deepssim.release.file_list import FILE_LIST, FileRecord, read_file_list

__all__ = ["AuditRecord", "read_audit"]

_SUMMARY, _FILTER, _FILTERED_AUDIT, _MANIFEST = "summary.json", "filter.json", "filtered_audit", "manifest.csv"
_EMBEDDINGS, _FINGERPRINT = "embeddings", "fingerprint.json"


@dataclass(frozen=True)
class AuditRecord:
    """The audit that a release rests on.

    Attributes:
        folder: its folder; of a filter, that of the audit of what was kept.
        summary: content of its ``summary.json``.
        summary_sha256: SHA-256 of that file.
        files: the files that it judged, by name.
        reasons: why a file of the whole set is not among them, by name.
        kept_list: name and SHA-256 of the list that a filter wrote beside the files it kept.
        problems: why the files of the audit cannot be relied on, each in a sentence.
    """

    folder: Path
    summary: Mapping[str, Any]
    summary_sha256: str
    files: Mapping[str, FileRecord]
    reasons: Mapping[str, str]
    kept_list: tuple[str, str] | None
    problems: tuple[str, ...]

    @property
    def gate(self) -> Mapping[str, Any]:
        """The decision: ``result``, ``reason`` and what else the summary says of it."""
        gate = self.summary.get("gate")
        return gate if isinstance(gate, Mapping) else {}


def read_audit(folder: Path) -> AuditRecord:
    """Read the audit in a folder, and see whether its files are those that it wrote.

    Where a filter has worked in the folder, the audit of what it kept is the one that counts.

    Args:
        folder: output folder of an audit or a filter.

    Raises:
        UnusableInputError: if there is no finished audit in it.
    """
    if not (folder / _FILTER).exists():
        return _read_single(folder)
    content = _read_json(folder / _FILTER)
    kept = _read_single(folder / _FILTERED_AUDIT)
    whole, whole_sha256 = _read_json(folder / _SUMMARY), hash_file(folder / _SUMMARY)
    problems = [*_changed_files(folder, whole), *_foreign_embeddings(folder, whole), *kept.problems]
    for part, sha256 in (("before", whole_sha256), ("after", kept.summary_sha256)):
        numbers = content.get(part)
        if not isinstance(numbers, Mapping) or numbers.get("summary_sha256") != sha256:
            problems.append(
                f"{folder / _FILTER} was written for another audit of the {'whole set' if part == 'before' else 'kept'}"
            )
    kept_list = content.get("list")
    return AuditRecord(
        kept.folder,
        kept.summary,
        kept.summary_sha256,
        kept.files,
        {**_ignored(whole), **_left_out(folder / _MANIFEST), **kept.reasons},
        (str(kept_list["file"]), str(kept_list["sha256"])) if isinstance(kept_list, Mapping) else None,
        tuple(problems),
    )


def _read_single(folder: Path) -> AuditRecord:
    summary = _read_json(folder / _SUMMARY)
    problems = [*_changed_files(folder, summary), *_foreign_embeddings(folder, summary)]
    files = read_file_list(folder / FILE_LIST)
    if not any(record.was_judged for record in files.values()):
        problems.append(f"{folder / FILE_LIST} names no file that was judged: images in memory cannot be verified")
    skipped = {name: "the audit could not use it" for name, record in files.items() if not record.was_judged}
    return AuditRecord(
        folder,
        summary,
        hash_file(folder / _SUMMARY),
        files,
        {**_ignored(summary), **skipped},
        None,
        tuple(problems),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableInputError(
            f"{path}: is not there, so the audit is not finished. Give the output folder of an audit or a filter, or "
            "repeat its command, which goes on where it stopped."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableInputError(f"{path}: cannot be read ({error}). Repeat the audit.") from error
    if not isinstance(content, dict):
        raise UnusableInputError(f"{path}: holds {type(content).__name__}, want an object. Repeat the audit.")
    return content


def _changed_files(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Which of the files that the summary names are no longer as they were written."""
    hashes = summary.get("result_files")
    if not isinstance(hashes, Mapping) or FILE_LIST not in hashes:
        return [f"{folder / _SUMMARY} does not say which files belong to it: an earlier version has written it"]
    problems = []
    for name, sha256 in hashes.items():
        path = folder / str(name)
        try:
            is_same = path.parent == folder and hash_file(path) == sha256
        except OSError:
            is_same = False
        if not is_same:
            problems.append(f"{path} is missing, or not as the audit wrote it")
    return problems


def _foreign_embeddings(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Sides whose embeddings, where they are still there, are of other images than those of the summary."""
    problems = []
    sides = summary.get("fingerprints")
    for side, fingerprint in sides.items() if isinstance(sides, Mapping) else ():
        path = folder / _EMBEDDINGS / str(side) / _FINGERPRINT
        if path.parent.parent != folder / _EMBEDDINGS or not path.is_file():
            continue
        stored = _read_json(path).get("content")
        if not isinstance(stored, dict) or any(fingerprint.get(name) != value for name, value in stored.items()):
            problems.append(f"{path} belongs to another audit than {folder / _SUMMARY}")
    return problems


def _ignored(summary: Mapping[str, Any]) -> dict[str, str]:
    sides = summary.get("ignored_files")
    ignored = sides.get("synthetic", []) if isinstance(sides, Mapping) else []
    return {str(file["path"]): f"the audit ignored it: {file['reason']}" for file in ignored}


def _left_out(manifest: Path) -> dict[str, str]:
    """Why the filter left a file out, by the file."""
    try:
        with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.DictReader(file) if row.get("kept") == "no"]
    except (OSError, csv.Error):
        return {}
    return {
        plain_cell(str(row.get("file"))): f"the filter left it out ({row.get('class')}; {manifest} says why)"
        for row in rows
    }
