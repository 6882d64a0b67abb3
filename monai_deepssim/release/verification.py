"""Whether a folder holds exactly the files that an audit judged, and what that audit decided."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import hash_file
from monai_deepssim.release.audit_record import AuditRecord, read_audit

__all__ = ["Difference", "ReleaseVerification", "verify_release"]

_VERIFIED, _UNDECIDED, _EXCEEDED = 0, 2, 3
_ALL_SLICES = "all"


@dataclass(frozen=True)
class Difference:
    """One thing in which a folder is not what was audited.

    Attributes:
        file: POSIX path in the folder.
        kind: ``changed``, ``missing``, ``new``, ``renamed``, ``link``, ``folder``, ``special`` or ``unreadable``.
        detail: what is wrong with it, in a sentence.
    """

    file: str
    kind: str
    detail: str


@dataclass(frozen=True)
class ReleaseVerification:
    """What a check of a folder has shown.

    Attributes:
        released_dir: the folder to be released.
        audit: the audit that it is compared with.
        num_same: files that are, byte for byte, those that were judged.
        differences: what is not, in the order of the names.
    """

    released_dir: Path
    audit: AuditRecord
    num_same: int
    differences: tuple[Difference, ...]

    @property
    def verdict(self) -> str:
        """``verified``, ``different``, ``unreliable`` (the audit's own files changed), ``exceeded``, ``undecided`` or
        ``no gate``; the first of them that applies, from ``different`` on."""
        if self.differences:
            return "different"
        if self.audit.problems:
            return "unreliable"
        result = self.audit.gate.get("result")
        names = {"passed": "verified", "exceeded": "exceeded", None: "no gate"}
        return names.get(result if isinstance(result, str) else None, "undecided")

    @property
    def status(self) -> int:
        """Exit status: 0 verified, 3 where the gate was exceeded, else 2."""
        return {"verified": _VERIFIED, "exceeded": _EXCEEDED}.get(self.verdict, _UNDECIDED)

    @property
    def num_partly_judged(self) -> int:
        """Volumes of which the audit was asked for some slices only."""
        options = self.audit.summary.get("options")
        is_whole = isinstance(options, Mapping) and options.get("slices") == _ALL_SLICES
        return 0 if is_whole else sum(record.kind == "volume" for record in self.audit.files.values())

    def as_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {
            "verdict": self.verdict,
            "status": self.status,
            "released_dir": str(self.released_dir),
            "audit_dir": str(self.audit.folder),
            "audit_created": self.audit.summary.get("created"),
            "audit_summary_sha256": self.audit.summary_sha256,
            "audit_problems": list(self.audit.problems),
            "gate": {name: self.audit.gate.get(name) for name in ("result", "reason")},
            "num_audited_files": sum(record.was_judged for record in self.audit.files.values()),
            "num_same_files": self.num_same,
            "num_partly_judged_volumes": self.num_partly_judged,
            "differences": [dict(vars(difference)) for difference in self.differences],
        }


def verify_release(audit_dir: str | os.PathLike[str], released_dir: str | os.PathLike[str]) -> ReleaseVerification:
    """Compare a folder that is to be released with what an audit judged.

    Every file is hashed anew. Whatever was not judged counts as a difference: other images, hidden files, files that
    are not images, links, and folders without an audited file, whose mere name may be that of a patient.

    Args:
        audit_dir: output folder of an audit, or of a filter, whose audit of the kept files counts then.
        released_dir: folder to be released.

    Returns:
        What differs, what the audit decided, and the exit status that follows.

    Raises:
        UnusableInputError: if there is no finished audit, or no such folder.
    """
    folder = Path(released_dir).expanduser()
    if not folder.is_dir():
        raise UnusableInputError(f"{folder}: there is no such folder. Give the folder that is to be released.")
    audit = read_audit(Path(audit_dir).expanduser())
    same, differences = _compare(folder, audit)
    return ReleaseVerification(folder, audit, len(same), tuple(sorted(differences, key=lambda entry: entry.file)))


def _compare(folder: Path, audit: AuditRecord) -> tuple[set[str], list[Difference]]:
    """Name the files that are those that were judged, and all differences."""
    expected = {name: record.sha256 for name, record in audit.files.items() if record.was_judged}
    if audit.kept_list is not None:
        name, sha256 = audit.kept_list
        expected[name] = sha256
    same, extra, differences = set(), {}, []
    seen: set[str] = set()
    for name, problem in _entries(folder, _folders_of(expected)):
        seen.add(name)
        if problem is not None:
            differences.append(Difference(name, *problem))
            continue
        try:
            sha256 = hash_file(folder / name)
        except OSError as error:
            differences.append(Difference(name, "unreadable", f"cannot be read ({error.strerror})"))
            continue
        if name not in expected:
            extra[name] = sha256
        elif sha256 == expected[name]:
            same.add(name)
        else:
            differences.append(Difference(name, "changed", "its content is not what was audited"))
    missing = {name: sha256 for name, sha256 in expected.items() if name not in seen}
    differences += [Difference(name, "missing", "was audited and is not in the folder") for name in missing]
    names_by_content = {sha256: name for name, sha256 in missing.items()}
    return same, differences + [
        _extra_file(name, names_by_content.get(sha256), audit.reasons.get(name)) for name, sha256 in extra.items()
    ]


def _extra_file(name: str, audited_name: str | None, reason: str | None) -> Difference:
    if audited_name is not None:
        return Difference(name, "renamed", f"was audited under the name {audited_name}")
    return Difference(name, "new", reason or "was not audited")


def _entries(folder: Path, folders: set[str]) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Yield everything in a folder by its name, with what is wrong with it but for its content; links lead nowhere."""

    def refuse(error: OSError) -> None:
        raise UnusableInputError(
            f"{error.filename}: cannot be opened ({error.strerror}), so what lies in it is unknown. Give yourself "
            "permission, or remove it."
        ) from error

    for root, children, files in os.walk(folder, onerror=refuse):
        place = Path(root)
        for child in sorted(children):
            name = (place / child).relative_to(folder).as_posix()
            if (place / child).is_symlink():
                yield name, ("link", "is a link to a folder; its content would not be released, or not as audited")
            elif name not in folders:
                yield name, ("folder", "is a folder without any audited file")
        for file in sorted(files):
            path = place / file
            yield path.relative_to(folder).as_posix(), _what_is_no_file(path)


def _what_is_no_file(path: Path) -> tuple[str, str] | None:
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return "unreadable", f"cannot be read ({error.strerror})"
    if stat.S_ISLNK(mode):
        return "link", "is a link, not the file itself; filter with --files copy, or copy what it leads to"
    return None if stat.S_ISREG(mode) else ("special", "is a pipe, a socket or a device")


def _folders_of(names: Mapping[str, str]) -> set[str]:
    return {parent.as_posix() for name in names for parent in Path(name).parents}
