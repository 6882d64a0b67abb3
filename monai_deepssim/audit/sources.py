"""The sides of an audit, training, synthetic and held-out: which files they are, and that none is on two of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.data import (
    Repeat,
    choose_windows,
    content_keys,
    file_keys,
    files_of,
    give_spacings,
    insert_repeats,
    scan_images,
    split_repeats,
)
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import say

__all__ = ["Side", "borrow_spacings", "check_sides_apart", "give_windows", "list_side", "list_sides", "make_side"]


_UNREAD = ("unread", "link")


@dataclass(frozen=True)
class Side:
    """One side of an audit.

    Attributes:
        name: ``training``, ``synthetic`` or ``holdout``.
        source: the folder, pattern, CSV or data list that the user named.
        items: its images, as :func:`monai_deepssim.data.list_images` lists them.
        ignored: ``path``, ``reason`` and ``kind`` of the files found there that are not images.
        window: sentence that says which window its images in Hounsfield units got, and why; empty where there was
            nothing to choose.
        in_memory: whether a list or the images themselves were given, and ``source`` is a name for messages.
        repeats: images that are among the items already, and count once.
    """

    name: str
    source: Path
    items: list[dict[str, Any]]
    ignored: list[dict[str, str]]
    in_memory: bool = False
    window: str = ""
    repeats: list[Repeat] = field(default_factory=list)

    @property
    def all_items(self) -> list[dict[str, Any]]:
        """The images with all repeats, as the user gave them."""
        return insert_repeats(self.items, self.repeats)

    @property
    def num_unread(self) -> int:
        """Files and folders that could hold an image, and were not read."""
        return sum(file["kind"] in _UNREAD for file in self.ignored)

    def count_volumes(self) -> dict[str, int]:
        """Count the volumes of several files, as DICOM series are, their files, and the volumes read by one slice.

        Of the last, nobody asked for a slice, so that the middle one stands for the volume.
        """
        series = {files_of(item) for item in self.items if len(files_of(item)) > 1}
        # The middle of two slices or more is not the first; one that was asked for stands behind the path.
        num_middle_slices = sum(
            item["slice"] > 0 and not item["path"].endswith(f"={item['slice']}") for item in self.items
        )
        return {
            "num_series": len(series),
            "num_files_of_series": sum(map(len, series)),
            "num_middle_slices": num_middle_slices,
        }

    def of_contents(self, contents: Sequence[str]) -> Side:
        """The side with each image once, where several have the same content.

        Args:
            contents: SHA-256 of the content of each item.
        """
        items, repeats = split_repeats(self.items, content_keys(self.items, contents))
        removed = {repeat.position for repeat in self.repeats}
        positions = [position for position in range(len(self.all_items)) if position not in removed]
        repeats = [replace(repeat, position=positions[repeat.position]) for repeat in repeats]
        # What repeats an image that is taken out now repeats the one that stays.
        first_of = {repeat.item["path"]: repeat.first for repeat in repeats}
        earlier = [replace(repeat, first=first_of.get(repeat.first, repeat.first)) for repeat in self.repeats]
        return replace(self, items=items, repeats=[*earlier, *repeats]) if repeats else self


def list_sides(options: AuditOptions) -> list[Side]:
    """List the training, the synthetic and, where there are some, the held-out images.

    Args:
        options: the audit's options; the training and the synthetic directory are given.

    Returns:
        The training side, the synthetic side, and the held-out side if there is one.

    Raises:
        UnusableInputError: if a source is missing or has no images, if two share a file, or if a patient of the
            held-out images is one of the training images, too.
    """
    given = {
        "training": options.training_dir,
        "synthetic": options.synthetic_dir,
        "holdout": options.holdout_dir,
    }
    sources = {name: source for name, source in given.items() if source is not None}
    sides = [list_side(name, source, options) for name, source in sources.items()]
    check_sides_apart(sides)
    return sides


def borrow_spacings(sides: Sequence[Side]) -> list[Side]:
    """Give volumes that do not tell their spacing that of the training volumes, where their sizes show that it is.

    Args:
        sides: all of them, the training side first.
    """
    training, *others = sides
    borrowed = [training]
    for side in others:
        items, reason = give_spacings(side.items, training.items)
        if reason:
            say(f"The {side.name} volumes: {reason}")
        borrowed.append(replace(side, items=items))
    return borrowed


def give_windows(sides: Sequence[Side], window: str | Mapping[str, str]) -> list[Side]:
    """Give every image the window that is applied when it is read; one that a list names for it stays.

    Args:
        sides: all of them.
        window: the option.
    """
    choices = choose_windows({side.name: side.items for side in sides}, window)
    windowed = zip(sides, choices.values(), strict=True)
    return [replace(side, items=choice.give(side.items), window=choice.reason) for side, choice in windowed]


def check_sides_apart(sides: Sequence[Side]) -> None:
    """Refuse sides that share a file, or held-out images of training patients.

    Args:
        sides: the training, the synthetic and any held-out side.

    Raises:
        UnusableInputError: naming a file or a patient that is on two sides.
    """
    for first, second in combinations(sides, 2):
        shared = _real_files(first.items) & _real_files(second.items)
        if shared:
            raise UnusableInputError(
                f"--{first.name}_dir {first.source} and --{second.name}_dir {second.source} share {len(shared)} "
                f"file(s), such as {min(shared)}, which would be found to be copies of themselves. A folder is "
                "searched with its subfolders: give two of which none lies in the other, or patterns such as "
                "'images/*/training.png'."
            )
    if len(sides) == 3:
        training, _, holdout = sides
        known = {item["patient_id"] for item in training.items} & {item["patient_id"] for item in holdout.items} - {""}
        if known:
            raise UnusableInputError(
                f"--holdout_dir {holdout.source}: {len(known)} of its patients are training patients, too, such as "
                f"{min(known)}. Held-out images show how close strangers come: leave these patients out."
            )


def list_side(name: str, source: Path, options: SearchOptions) -> Side:
    """List the images of one side.

    Args:
        name: ``training``, ``synthetic`` or ``holdout``.
        source: what the user named.
        options: the audit's options.

    Returns:
        The side.

    Raises:
        UnusableInputError: if the source is missing or has no images.
    """
    listing = scan_images(source, **options.listing, keep_repeats=True)
    return make_side(Side(name, source, listing.items, listing.ignored), options)


def make_side(side: Side, options: SearchOptions) -> Side:
    """Count rows and files once that are there several times, unless they are asked for or looked for.

    Args:
        side: the side with all of them.
        options: the audit's options.

    Raises:
        UnusableInputError: if the output folder holds some of them.
    """
    folders = {os.path.dirname(file): file for item in side.items for file in files_of(item)}
    for folder, file in folders.items():
        if os.path.realpath(folder) == os.path.realpath(options.output_dir):
            raise UnusableInputError(
                f"--output_dir: {options.output_dir} holds {side.name} images, such as {file}. What the audit writes "
                "there would be taken for images later. Give a folder of its own."
            )
    if isinstance(options, DeduplicationOptions) or (options.count_repeats and side.name == "synthetic"):
        return side
    items, repeats = split_repeats(side.items, file_keys(side.items))
    return replace(side, items=items, repeats=repeats)


def _real_files(items: Iterable[dict[str, Any]]) -> set[str]:
    return {os.path.realpath(file) for item in items for file in files_of(item)}
