"""The files of a side as an audit lists them, and the hashes by which its own files are known later."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_deepssim.data import Repeat, files_of, reader_of
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import hash_file
from monai_deepssim.release.file_list import FileRecord

__all__ = ["hash_results", "list_side_files"]


def list_side_files(
    items: Sequence[Mapping[str, Any]],
    unusable: Collection[int],
    root: Path | None,
    file_hashes: Mapping[str, str],
    repeats: Sequence[Repeat] = (),
) -> list[FileRecord]:
    """List the files that hold the images of a side.

    Args:
        items: its images, as :func:`~monai_deepssim.data.list_images` lists them.
        unusable: positions of those that could not be used: their files were not judged as a whole.
        root: folder that the names are relative to; ``None`` where the images are in memory and there are no files.
        file_hashes: SHA-256 of each file, by its path as the items have it.
        repeats: images that were judged with those that they repeat; files that have no hash are read.

    Returns:
        Each file once, in the order of the items.

    Raises:
        UnusableInputError: if a file is no longer the one that it repeats.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> _ = path.write_bytes(b"abc")
        >>> item = {"image": str(path), "path": "a.png", "files": ""}
        >>> list_side_files([item], [], path.parent, {str(path): "ba7816bf"})
        [FileRecord(file='a.png', kind='image', num_images=1, size_bytes=3, sha256='ba7816bf')]
    """
    if root is None:
        return []
    num_images = Counter(file for item in items for file in files_of(item))
    skipped = {file for position in unusable for file in files_of(items[position])}
    kinds: dict[str, str] = {}
    for item in items:
        files = files_of(item)
        kind = _kind(files) if files and files[0] not in kinds else ""
        for file in files:
            kinds.setdefault(file, "skipped" if file in skipped else kind)
    item_of = {item["path"]: item for item in items} if repeats else {}
    hashes = dict(file_hashes)
    for repeat in repeats:
        originals = files_of(item_of[repeat.first])
        for file in files_of(repeat.item):
            kinds.setdefault(file, "skipped" if skipped.intersection(originals) else "repeat")
            if file not in hashes:
                hashes[file] = _hash_repeat(file, {file_hashes[original] for original in originals})
    return [
        FileRecord(
            file=Path(os.path.relpath(file, root)).as_posix(),
            kind=kind,
            num_images=0 if kind == "skipped" else num_images[file],
            size_bytes=os.path.getsize(file) if os.path.exists(file) else 0,
            sha256=hashes[file],
        )
        for file, kind in kinds.items()
    ]


def hash_results(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Hash those of an audit's files that are there, for the summary to name them.

    Args:
        folder: folder of the audit.
        names: names of the files that it may have written.

    Returns:
        SHA-256 by name.
    """
    return {name: hash_file(folder / name) for name in names if (folder / name).is_file()}


def _hash_repeat(file: str, expected: Collection[str]) -> str:
    """SHA-256 of a file that was another name of one that was judged; it still has to be."""
    try:
        sha256 = hash_file(file)
    except OSError as error:
        sha256 = f"unreadable: {error.strerror}"
    if sha256 not in expected:
        raise UnusableInputError(
            f"{file}: changed while the audit was running: it was another name of a file with SHA-256 "
            f"{', '.join(sorted(expected))}, now it has {sha256}. Leave the images alone while they are audited, and "
            "start again."
        )
    return sha256


def _kind(files: Sequence[str]) -> str:
    reader = reader_of(Path(files[0]))
    with suppress(Exception):  # a damaged file is skipped in any case
        if reader is not None and reader.volume_shape(files) is not None:
            return "volume"
    return "image"
