"""One file is one image: images of a list that are there more than once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from monai_deepssim.data.items import files_of

__all__ = ["Repeat", "content_keys", "file_keys", "insert_repeats", "split_repeats"]

_NAMED_TWICE, _LINK = "the same file, named twice", "a link to the same file"
_OTHER_NAME, _SAME_CONTENT = "the same file under another name", "the same content"
_EMPTY = hashlib.sha256().hexdigest()
_SLICE_KEYS = ("slice", "slice_axis", "window", "volume", "spacing")


@dataclass(frozen=True)
class Repeat:
    """An image that is in a list already, and counts once.

    Attributes:
        position: its place in the list with all repeats.
        item: the item that was taken out.
        first: path of the item that stands for it.
        reason: how they are the same, such as ``the same content``.
    """

    position: int
    item: dict[str, Any]
    first: str
    reason: str

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link, or lies behind one."""
        return self.reason == _LINK

    @property
    def is_another_image(self) -> bool:
        """Whether there is more of it than another row or link: a file, or a tensor, of its own."""
        return self.reason in (_OTHER_NAME, _SAME_CONTENT)

    def as_json(self) -> dict[str, str]:
        """Plain values for ``summary.json``."""
        return {"path": self.item["path"], "repeats": self.first, "reason": self.reason}


def file_keys(items: Sequence[Mapping[str, Any]]) -> list[Hashable | None]:
    """Name the slices of files such that names of one file are equal: rows, hard and symbolic links.

    Args:
        items: as :func:`~monai_deepssim.data.list_images` lists them.

    Returns:
        One key per item; ``None`` for images that are no files, or whose files are not there.
    """
    return [_file_key(item) for item in items]


def content_keys(items: Sequence[Mapping[str, Any]], contents: Sequence[str]) -> list[Hashable | None]:
    """Name images such that those of one content are equal, byte for byte.

    Args:
        items: as :func:`~monai_deepssim.data.list_images` lists them.
        contents: SHA-256 of the content of each, in words of those that cannot be read.

    Returns:
        One key per item; ``None`` for those that cannot be read or are empty.
    """
    return [
        None if content.startswith("unreadable") or content == _EMPTY else (content, _shape(item), *_slice_key(item))
        for item, content in zip(items, contents, strict=True)
    ]


def split_repeats(
    items: Sequence[dict[str, Any]], keys: Sequence[Hashable | None]
) -> tuple[list[dict[str, Any]], list[Repeat]]:
    """Take out of a list what is in it already; of several the first stays, a file before a link to it.

    Args:
        items: the list.
        keys: one per item, as :func:`file_keys` or :func:`content_keys` give them; ``None`` is like no other.

    Returns:
        What stays, in its order, and what was taken out, by position.

    Example:
        >>> items = [{"image": name, "path": name} for name in ("a.png", "b.png", "c.png")]
        >>> kept, repeats = split_repeats(items, ["x", "y", "x"])
        >>> [item["path"] for item in kept], repeats[0].item["path"], repeats[0].first
        (['a.png', 'b.png'], 'c.png', 'a.png')
    """
    first: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        if key is None:
            continue
        known = first.setdefault(key, position)
        if known != position and _num_links(items[known]) > _num_links(items[position]):
            first[key] = position
    kept, repeats = [], []
    for position, (item, key) in enumerate(zip(items, keys, strict=True)):
        if key is None or first[key] == position:
            kept.append(item)
        else:
            original = items[first[key]]
            repeats.append(Repeat(position, item, original["path"], _reason(item, original)))
    return kept, repeats


def insert_repeats(items: Sequence[dict[str, Any]], repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """Put repeats back to where they were.

    Args:
        items: what stayed.
        repeats: what was taken out.
    """
    removed = {repeat.position: repeat.item for repeat in repeats}
    remaining = iter(items)
    return [
        removed[position] if position in removed else next(remaining) for position in range(len(items) + len(removed))
    ]


def _file_key(item: Mapping[str, Any]) -> Hashable | None:
    try:
        states = [os.stat(file) for file in files_of(item)]
    except (OSError, ValueError):
        return None
    return (frozenset((state.st_dev, state.st_ino) for state in states), *_slice_key(item)) if states else None


def _slice_key(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(item.get(name, "")) for name in _SLICE_KEYS)


def _shape(item: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(item["image"].shape) if isinstance(item["image"], torch.Tensor) else ()


def _num_links(item: Mapping[str, Any]) -> int:
    """How many symbolic links are in the paths of an item's files."""
    return sum(os.path.islink(place) for file in files_of(item) for place in (Path(file), *Path(file).parents))


def _reason(item: Mapping[str, Any], original: Mapping[str, Any]) -> str:
    files, others = ([os.path.abspath(file) for file in files_of(one)] for one in (item, original))
    if files and files == others:
        return _NAMED_TWICE
    if _file_key(item) is None or _file_key(item) != _file_key(original):
        return _SAME_CONTENT
    return _LINK if _num_links(item) > _num_links(original) else _OTHER_NAME
