"""The images under a folder or a pattern, and why other files were passed over."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_deepssim.data.readers import Reader, format_names, reader_of, supported_suffixes, unread_suffixes
from monai_deepssim.errors import UnusableInputError

__all__ = ["find_image_files"]


def find_image_files(
    source: Path, extensions: Sequence[str] | None = None
) -> tuple[Path, list[tuple[Path, ...]], list[dict[str, str]]]:
    """Find the images under a folder, or those that a pattern matches.

    Links to folders are followed once: one that leads to a folder already visited is passed over, so a loop ends.

    Args:
        source: a folder, searched recursively, or a pattern such as ``images/*/training.png`` (``**`` for any depth).
        extensions: suffixes to keep, such as ``[".png"]``; ``None`` keeps every image.

    Returns:
        The folder that paths are relative to; the files of each image or volume, sorted; and the files passed over, as
        ``path`` and ``reason``.

    Raises:
        UnusableInputError: nothing is there, a folder cannot be opened, or an extension is not known.
    """
    wanted = _checked_extensions(extensions)
    base, roots = _roots(source)
    ignored: dict[Path, str] = {}
    visited: set[tuple[int, int]] = set()
    files_of: dict[Reader | None, list[Path]] = {}
    for path in sorted({path for root in roots for path in _files_below(root, visited, ignored)}):
        if path.name.startswith("."):
            ignored[path] = "a hidden file"
        elif wanted is not None and not path.name.lower().endswith(wanted):
            ignored[path] = f"not one of the extensions asked for ({', '.join(wanted)})"
        elif (reader := reader_of(path)) is None and not path.name.lower().endswith(unread_suffixes()):
            ignored[path] = f"not a {format_names()} image"
        else:
            files_of.setdefault(reader, []).append(path)
    images: list[tuple[Path, ...]] = [(path,) for path in files_of.pop(None, [])]
    for reader, paths in files_of.items():
        gathered, passed_over = reader.gather(paths)  # type: ignore[union-attr]
        images += gathered
        ignored |= passed_over
    reasons = [{"path": path.relative_to(base).as_posix(), "reason": reason} for path, reason in ignored.items()]
    return base, sorted(images), sorted(reasons, key=lambda file: file["path"])


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


def _files_below(root: Path, visited: set[tuple[int, int]], ignored: dict[Path, str]) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, or ``root`` itself where it is a file."""

    def refuse(error: OSError) -> None:
        raise UnusableInputError(
            f"{error.filename}: the folder cannot be opened ({error.strerror}). Give yourself permission, or move it "
            "away: an audit without it would be smaller than asked for."
        ) from error

    if not root.is_dir():
        yield root
    for name, folders, files in os.walk(root, followlinks=True, onerror=refuse) if root.is_dir() else ():
        folder = Path(name)
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            ignored[folder] = "a link to a folder that is searched anyway"
            continue
        visited.add((status.st_dev, status.st_ino))
        ignored |= {folder / child: "a hidden folder" for child in folders if child.startswith(".")}
        folders[:] = sorted(child for child in folders if not child.startswith("."))
        yield from (folder / file for file in files)


def _checked_extensions(extensions: Sequence[str] | None) -> tuple[str, ...] | None:
    if extensions is None:
        return None
    given = [extensions] if isinstance(extensions, str) else list(extensions)
    wanted = tuple("." + str(extension).lower().lstrip(".") for extension in given)
    unknown = [extension for extension in wanted if extension not in supported_suffixes()]
    if unknown or not wanted:
        raise UnusableInputError(
            f"extensions={given!r}: {', '.join(unknown) or 'nothing'} is not read. "
            f"Choose among {', '.join(supported_suffixes())}."
        )
    return wanted
