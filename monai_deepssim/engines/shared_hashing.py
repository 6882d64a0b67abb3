"""The files of images, hashed by all ranks of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from monai_deepssim.data import FileContent, files_of, hash_items
from monai_deepssim.ranks import current_ranks

__all__ = ["share_hashing"]

# Files that a rank hashes before it takes others.
_FILES_AT_ONCE = 256


def share_hashing(items: Sequence[Mapping[str, Any]], option: str) -> list[dict[str, Any]]:
    """Hash the files of images as :func:`~monai_deepssim.data.hash_items` does, each by one of the ranks.

    Args:
        items: as :func:`~monai_deepssim.data.list_images` lists them, the same on all ranks.
        option: that named them, for the message.

    Returns:
        The items with ``contents``.

    Raises:
        UnusableInputError: if ranks see other images.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> _ = path.write_bytes(b"abc")
        >>> share_hashing([{"image": str(path), "path": "a.png"}], "--training_dir")[0]["contents"][0].sha256[:16]
        'ba7816bf8f01cfea'
    """
    ranks = current_ranks()
    if ranks.size == 1:
        return hash_items(items)
    names = hashlib.sha256(json.dumps([item["path"] for item in items]).encode()).hexdigest()
    ranks.check_agreement(f"{len(items)} (names {names[:8]})", f"{option}: the images")
    files = list(dict.fromkeys(file for item in items if "contents" not in item for file in files_of(item)))

    def work(unit: int) -> bytes:
        part = files[unit * _FILES_AT_ONCE : (unit + 1) * _FILES_AT_ONCE]
        return json.dumps([item["contents"][0] for item in hash_items([{"image": file} for file in part])]).encode()

    parts = ranks.share(-(-len(files) // _FILES_AT_ONCE), work)
    hashed = [FileContent(sha256, state and tuple(state)) for part in parts for sha256, state in json.loads(part)]
    known = dict(zip(files, hashed, strict=True))
    return [
        dict(item) if "contents" in item else {**item, "contents": tuple(known[file] for file in files_of(item))}
        for item in items
    ]
