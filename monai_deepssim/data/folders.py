"""The files under a folder or a pattern, and why others were passed over."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from monai_deepssim.data.file_types import FILE_KINDS, UNREAD_SUFFIXES, file_kind
from monai_deepssim.errors import UnusableInputError

__all__ = ["find_image_files"]


def find_image_files(
    source: Path, extensions: Sequence[str] | None = None
) -> tuple[Path, list[Path], list[dict[str, str]]]:
    """Find the images under a folder, or those that a pattern matches.

    Links to folders are followed once: one that leads to a folder already visited is passed over, so a loop ends.

    Args:
        source: a folder, searched recursively, or a pattern such as ``images/*/training.png`` (``**`` for any depth).
        extensions: suffixes to keep, such as ``[".png"]``; ``None`` keeps every image.

    Returns:
        The folder that paths are relative to; the images, sorted; and the files passed over, as ``path`` and
        ``reason``.

    Raises:
        UnusableInputError: nothing is there, a folder cannot be opened, or an extension is not known.
    """
    wanted = _checked_extensions(extensions)
    base, roots = _roots(source)
    ignored: list[dict[str, str]] = []
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()
    for root in roots:
        files = _walk(root, base, visited, ignored) if root.is_dir() else [root]
        for path in files:
            reason = _reason_to_ignore(path, wanted)
            if reason:
                ignored.append({"path": path.relative_to(base).as_posix(), "reason": reason})
            else:
                found.append(path)
    return base, sorted(found), sorted(ignored, key=lambda file: file["path"])


def _roots(source: Path) -> tuple[Path, list[Path]]:
    if source.is_dir():
        return source, [source]
    parts = source.parts
    fixed = next((count for count, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    matches = sorted(glob.glob(str(source), recursive=True)) if fixed < len(parts) else []
    if not matches:
        raise UnusableInputError(
            f"{source}: {'nothing matches this pattern' if fixed < len(parts) else 'there is no such file or folder'}. "
            "Check the path; a relative path starts at the folder the command is run in."
        )
    return Path(*parts[:fixed]), [Path(match) for match in matches]


def _walk(root: Path, base: Path, visited: set[tuple[int, int]], ignored: list[dict[str, str]]) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise UnusableInputError(
            f"{error.filename}: the folder cannot be opened ({error.strerror}). Give yourself permission, or move it "
            "away: an audit without it would be smaller than asked for."
        ) from error

    found: list[Path] = []
    for name, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        folder = Path(name)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            relative = folder.relative_to(base).as_posix()
            ignored.append({"path": relative, "reason": "a link to a folder that is searched anyway"})
            continue
        visited.add((status.st_dev, status.st_ino))
        for hidden in [child for child in folders if child.startswith(".")]:
            folders.remove(hidden)
            ignored.append({"path": (folder / hidden).relative_to(base).as_posix(), "reason": "a hidden folder"})
        folders.sort()
        found.extend(folder / file for file in sorted(files))
    return found


def _reason_to_ignore(path: Path, wanted: tuple[str, ...] | None) -> str:
    if path.name.startswith("."):
        return "a hidden file"
    if wanted is not None and not path.name.lower().endswith(wanted):
        return f"not one of the extensions asked for ({', '.join(wanted)})"
    if file_kind(path) is None and not path.name.lower().endswith(UNREAD_SUFFIXES):
        return "not a PNG, JPEG, TIFF, NIfTI or DICOM image"
    return ""


def _checked_extensions(extensions: Sequence[str] | None) -> tuple[str, ...] | None:
    if extensions is None:
        return None
    given = [extensions] if isinstance(extensions, str) else list(extensions)
    wanted = tuple("." + str(extension).lower().lstrip(".") for extension in given)
    unknown = [extension for extension in wanted if extension not in FILE_KINDS]
    if unknown or not wanted:
        raise UnusableInputError(
            f"extensions={given!r}: {', '.join(unknown) or 'nothing'} is not read. "
            f"Choose among {', '.join(FILE_KINDS)}."
        )
    return wanted
