"""The images under a folder or a pattern, and why other files were passed over."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from monai_deepssim.data.other_files import Ignored, judge_file, judge_folder
from monai_deepssim.data.readers import Reader, format_names, reader_of, supported_suffixes, unread_suffixes
from monai_deepssim.errors import UnusableInputError

__all__ = ["FolderContent", "FolderRules", "find_image_files", "is_inside", "matches_any", "source_folder"]

_LINK_OUT = "a link that leads out of the folder; --follow_links true follows it"
# Folders that systems put beside images: of zip files made on a Mac, and of a Synology NAS.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")


@dataclass(frozen=True)
class FolderRules:
    """What of a folder is taken.

    Attributes:
        extensions: suffixes to keep, such as ``[".png"]``; ``None`` keeps every image.
        ignore: patterns of relative paths, or names, of files and folders that are left out.
        follow_links: whether links that lead out of the folder are followed.
        all_files: whether readers keep files that they pass over, as DICOM's localizers.
    """

    extensions: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    follow_links: bool = False
    all_files: bool = False


@dataclass(frozen=True)
class FolderContent:
    """What a folder or pattern holds.

    Attributes:
        base: the folder that paths are relative to.
        images: the files of each image or volume, sorted.
        ignored: ``path``, ``reason`` and ``kind``, one of :data:`~monai_deepssim.data.other_files.IGNORED_KINDS`, of
            every other file, and of folders that were not searched.
    """

    base: Path
    images: list[tuple[Path, ...]]
    ignored: list[dict[str, str]]


def find_image_files(source: Path, rules: FolderRules) -> FolderContent:
    """Find the images under a folder, or those that a pattern matches.

    A folder is searched once, however many links lead to it, so that a loop ends. Nothing but regular files is opened.

    Args:
        source: a folder, searched recursively, or a pattern such as ``images/*/training.png`` (``**`` for any depth).
        rules: what of it is taken.

    Raises:
        UnusableInputError: nothing is there, a folder cannot be opened, or an extension is not known.
    """
    suffixes = _checked_extensions(rules.extensions)
    base, roots = _roots(source)
    walk = _Walk(base, tuple(rules.ignore), rules.follow_links)
    walk.search(roots)
    ignored = walk.ignored
    files_of: dict[Reader | None, list[Path]] = {}
    for path in sorted(walk.files):
        if path.name.startswith("."):
            ignored[path] = judge_file(path, "a hidden file that could be an image")
        elif suffixes is not None and not path.name.lower().endswith(suffixes):
            ignored[path] = Ignored("asked", f"not one of the extensions asked for ({', '.join(suffixes)})")
        elif (reader := reader_of(path)) is None and not path.name.lower().endswith(unread_suffixes()):
            ignored[path] = judge_file(path, f"not a {format_names()} image")
        else:
            files_of.setdefault(reader, []).append(path)
    images: list[tuple[Path, ...]] = [(path,) for path in files_of.pop(None, [])]
    for reader, paths in files_of.items():
        gathered, passed_over = reader.gather(paths, all_files=rules.all_files)  # type: ignore[union-attr]
        images += gathered
        ignored |= {path: Ignored("unread", reason) for path, reason in passed_over.items()}
    reasons = [
        {"path": path.relative_to(base).as_posix(), "reason": entry.reason, "kind": entry.kind}
        for path, entry in ignored.items()
    ]
    return FolderContent(base, sorted(images), sorted(reasons, key=lambda file: file["path"]))


def source_folder(source: Path) -> Path:
    """The folder that paths in a source are relative to: the folder itself, that of a file, or the part of a pattern
    without a wildcard.

    Example:
        >>> source_folder(Path("images/*/training.png")).as_posix()
        'images'
    """
    if source.is_dir():
        return source
    return source.parent if source.is_file() else _parts_of_pattern(source)[0]


def matches_any(path: str, patterns: Sequence[str]) -> bool:
    """Whether a POSIX path, or the name at its end, matches a pattern; ``*`` stands for ``/`` too.

    Example:
        >>> [matches_any("a/b.log", [pattern]) for pattern in ("*.log", "a/*", "b.log", "b*", "c/*")]
        [True, True, True, True, False]
    """
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path, pattern) or fnmatchcase(name, pattern) for pattern in patterns)


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether a place lies in a folder once all links are resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@dataclass
class _Walk:
    """A search of folders that visits each of them once: those that are there first, then those that links lead to."""

    base: Path
    ignore: tuple[str, ...]
    follow_links: bool
    files: set[Path] = field(default_factory=set)
    ignored: dict[Path, Ignored] = field(default_factory=dict)
    visited: set[tuple[int, int]] = field(default_factory=set)
    links: list[Path] = field(default_factory=list)

    def search(self, roots: Sequence[Path]) -> None:
        """Gather the files of folders, and what single paths name."""
        for root in roots:
            if root != self.base and (closed := self._closed_folder_of(root)) is not None:
                if closed not in self.ignored:
                    self._is_open(closed)
            elif root == self.base:
                self._search_folder(root)
            elif root.is_symlink() or not is_inside(root, self.base):
                self.links.append(root)
            elif root.is_dir():
                self._enter(root)
            else:
                self._add(root)
        while self.links:
            self._follow(self.links.pop(0))

    def _closed_folder_of(self, path: Path) -> Path | None:
        """The folder that holds a match of a pattern and from which no images are taken."""
        parents = [parent for parent in path.parents if parent != self.base and parent.is_relative_to(self.base)]
        return next((parent for parent in reversed(parents) if _is_closed(parent.name)), None)

    def _search_folder(self, root: Path) -> None:
        for name, folders, files in os.walk(root, onerror=_refuse):
            folder = Path(name)
            if not self._is_new(folder):
                folders.clear()
                continue
            children, folders[:] = sorted(folders), []
            for child in children:
                path = folder / child
                if path.is_symlink():
                    self.links.append(path)
                elif self._is_open(path):
                    folders.append(child)
            for file in sorted(files):
                self._add(folder / file)

    def _enter(self, folder: Path) -> None:
        if self._is_open(folder):
            self._search_folder(folder)

    def _is_open(self, folder: Path) -> bool:
        """Whether images are taken from a folder; if not, say why."""
        if self._is_left_out(folder):
            return False
        if not _is_closed(folder.name):
            return True
        name = "a hidden folder" if folder.name.startswith(".") else "a folder of the operating system"
        self.ignored[folder] = judge_folder(name, self._files_below(folder))
        return False

    def _files_below(self, folder: Path) -> Iterator[Path]:
        for name, folders, files in os.walk(folder, onerror=_refuse):
            folders.sort()
            for path in (Path(name, file) for file in sorted(files)):
                if not matches_any(self._relative(path), self.ignore):
                    yield path
            yield from (Path(name, child) for child in folders if Path(name, child).is_symlink())

    def _add(self, path: Path) -> None:
        if self._is_left_out(path):
            return
        if path.is_symlink():
            self.links.append(path)
        else:
            self._add_file(path)

    def _add_file(self, path: Path) -> None:
        try:
            is_regular = stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            self.ignored[path] = Ignored("unread", f"cannot be opened ({error.strerror})")
            return
        if is_regular:
            self.files.add(path)
        else:
            self.ignored[path] = Ignored("unread", "a pipe, a socket or a device, which is not opened")

    def _follow(self, link: Path) -> None:
        if self._is_left_out(link):
            return
        if not self.follow_links and not is_inside(link, self.base):
            self.ignored[link] = Ignored("link", _LINK_OUT)
            return
        try:
            mode = link.stat().st_mode
        except OSError:  # a broken link is an image that cannot be used, by its name, or a file that cannot be opened
            self.files.add(link)
            return
        if not stat.S_ISDIR(mode):
            self._add_file(link)
        elif self._was_visited(link):
            self.ignored[link] = Ignored("seen", "a link to a folder that is searched anyway")
        else:
            self._enter(link)

    def _is_left_out(self, path: Path) -> bool:
        if matches_any(self._relative(path), self.ignore):
            self.ignored[path] = Ignored("asked", "left out on purpose (--ignore)")
            return True
        return False

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()

    def _was_visited(self, folder: Path) -> bool:
        return _identity(folder) in self.visited

    def _is_new(self, folder: Path) -> bool:
        is_new = not self._was_visited(folder)
        self.visited.add(_identity(folder))
        return is_new


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_closed(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _refuse(error: OSError) -> None:
    raise UnusableInputError(
        f"{error.filename}: the folder cannot be opened ({error.strerror}). Give yourself permission, or move it "
        "away: an audit without it would be smaller than asked for."
    ) from error


def _roots(source: Path) -> tuple[Path, list[Path]]:
    if source.is_dir():
        return source, [source]
    base, pattern = _parts_of_pattern(source)
    if not pattern:
        problem = "is a link that leads nowhere" if source.is_symlink() else "there is no such file or folder"
        if source.exists():
            problem = "is a pipe, a socket or a device, which is not opened"
        raise UnusableInputError(
            f"{source}: {problem}. Check the path; a relative path starts at the folder the command is run in."
        )
    try:
        matches = sorted(base.glob(pattern)) if base.is_dir() else []
    except (ValueError, NotImplementedError) as error:
        raise UnusableInputError(f"{source}: is no pattern ({error}). '**' stands between two '/'.") from error
    if not matches:
        remedy = " In a pattern, [[], [*] and [?] stand for these characters themselves." if "[" in pattern else ""
        raise UnusableInputError(
            f"{source}: nothing matches this pattern. Check the path; a relative path starts at the folder the "
            f"command is run in.{remedy}"
        )
    return base, matches


def _parts_of_pattern(source: Path) -> tuple[Path, str]:
    """Part a pattern into its folder and the rest; a name that is there is a name, whatever is in it."""
    base = Path(source.anchor)
    parts = source.parts[1:] if source.anchor else source.parts
    for number, part in enumerate(parts):
        if glob.has_magic(part) and not os.path.lexists(base / part):
            return base, os.path.join(*parts[number:])
        base /= part
    return base, ""


def _checked_extensions(extensions: Sequence[str] | None) -> tuple[str, ...] | None:
    if extensions is None:
        return None
    names = [extensions] if isinstance(extensions, str) else list(extensions)
    suffixes = tuple("." + str(extension).lower().lstrip(".") for extension in names)
    unknown = [extension for extension in suffixes if extension not in supported_suffixes()]
    if unknown or not suffixes:
        raise UnusableInputError(
            f"extensions={names!r}: {', '.join(unknown) or 'nothing'} is not read. "
            f"Choose among {', '.join(supported_suffixes())}."
        )
    return suffixes
