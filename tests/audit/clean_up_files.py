"""What the tests of the clean-up look at: every byte of a folder, and the rows of a table."""

import csv
import hashlib
from pathlib import Path


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(path: Path, key: str) -> dict[str, dict[str, str]]:
    """The rows of a CSV file by one of its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def files_of(folder: Path) -> set[str]:
    """Every file in a folder and its subfolders."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
