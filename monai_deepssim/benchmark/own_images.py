"""The user's own images, or phantoms, as galleries, copies and strangers, with no group on both sides of anything."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.benchmark.queries import QuerySet, stack_images
from monai_deepssim.data import list_images, load_slice, make_phantom_cohort
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import progress_bar
from monai_deepssim.transforms import FitImageSize

__all__ = ["draw_phantoms", "find_repeats", "group_images", "read_own_images"]

_GALLERY_SHARE = 2 / 3  # of the groups of a half
# One for the gallery, and two of which each is the other's partner.
_FEWEST_GROUPS = 3
_REPEAT_CORRELATION = 0.98


def read_own_images(
    source: Path,
    *,
    group_column: str | None,
    patient_id_pattern: str | None,
    num_copies: int,
    num_strangers: int,
    gallery_size: int,
    tuning_seed: int,
    test_seed: int,
    image_size: Sequence[int],
) -> tuple[QuerySet, QuerySet]:
    """Read images, and draw from them what thresholds are chosen on and what detectors are tested on.

    Half of the groups are for tuning and half for the test. Two thirds of the groups of a half provide its gallery;
    images of the others are its strangers and partners. Copies are images of the gallery, and copies and strangers are
    of different groups as far as there are enough. The tuning half has no copies: its strangers set the threshold.
    Where the gallery holds an image more than once, each is a source of its copy (:func:`find_repeats`).

    Args:
        source: Folder or CSV of the images, as :func:`~monai_deepssim.data.list_images` reads it.
        group_column: Column of the CSV that holds the group.
        patient_id_pattern: How to read the group from the path, where no column is given.
        num_copies: Largest number of copies.
        num_strangers: Largest number of strangers in each half.
        gallery_size: Largest number of gallery images in each half.
        tuning_seed: Seed of the split into halves, and of the draw within the tuning half.
        test_seed: Seed of the draw within the test half.
        image_size: Rows and columns that images are brought to, with their aspect kept.

    Returns:
        The tuning and the test queries, with galleries of one size.

    Raises:
        UnusableInputError: The images or their groups cannot be read, or there are too few groups.
    """
    items = list_images(source, patient_id_pattern=patient_id_pattern)
    groups = group_images(items, source, group_column)
    if len(groups) < 2 * _FEWEST_GROUPS:
        raise UnusableInputError(
            f"--images: {source} has {len(groups)} groups, want at least {2 * _FEWEST_GROUPS}: each half needs a "
            "gallery, a stranger and the stranger's partner, of different groups. Give more images, or other groups."
        )
    fit = FitImageSize(image_size)
    return _draw_halves(
        groups,
        lambda position: fit(load_slice(items[position])),
        num_copies=num_copies,
        num_strangers=num_strangers,
        gallery_size=gallery_size,
        tuning_seed=tuning_seed,
        test_seed=test_seed,
    )


def draw_phantoms(
    organ: str,
    *,
    num_copies: int,
    num_strangers: int,
    gallery_size: int,
    tuning_seed: int,
    test_seed: int,
    image_size: Sequence[int],
) -> tuple[QuerySet, QuerySet]:
    """Draw phantoms of an organ in the place of images of one's own, each subject a group.

    The subjects are those of one cohort, whose seed is ``test_seed``.

    Args:
        organ: Name out of :data:`~monai_deepssim.data.PHANTOM_ORGANS`.
        num_copies: As in :func:`read_own_images`, as all others.
        num_strangers: Likewise.
        gallery_size: Likewise.
        tuning_seed: Likewise.
        test_seed: Likewise.
        image_size: Rows and columns of the images.

    Returns:
        The tuning and the test queries, with galleries of ``gallery_size``.
    """
    in_half = math.ceil(max(_FEWEST_GROUPS, gallery_size / _GALLERY_SHARE, num_strangers / (1 - _GALLERY_SHARE)))
    cohort = make_phantom_cohort(
        organ, num_subjects=2 * in_half, seed=test_seed, image_size=tuple(image_size), cache_rate=0.0, progress=False
    )
    return _draw_halves(
        {f"{organ}-{position}": [position] for position in range(len(cohort))},
        lambda position: cohort[position]["image"],
        num_copies=num_copies,
        num_strangers=num_strangers,
        gallery_size=gallery_size,
        tuning_seed=tuning_seed,
        test_seed=test_seed,
    )


def _draw_halves(
    groups: Mapping[str, list[int]],
    load_image: Callable[[int], Tensor],
    *,
    num_copies: int,
    num_strangers: int,
    gallery_size: int,
    tuning_seed: int,
    test_seed: int,
) -> tuple[QuerySet, QuerySet]:
    names = list(groups)
    np.random.default_rng(tuning_seed).shuffle(names)
    middle, generators = len(names) // 2, [np.random.default_rng(seed) for seed in (tuning_seed, test_seed)]
    halves = [
        _split_half({name: groups[name] for name in part}, generator)
        for part, generator in zip((names[:middle], names[middle:]), generators, strict=True)
    ]
    size = min(gallery_size, *(sum(map(len, gallery_groups.values())) for gallery_groups, _ in halves))

    def load(positions: Sequence[int]) -> Tensor:
        bar = progress_bar(positions, desc="Reading images", leave=False, disable=not sys.stderr.isatty())
        return stack_images([load_image(position) for position in bar])

    tuning, test = (
        _draw_queries(*half, generator, copies, num_strangers, size, load)
        for half, generator, copies in zip(halves, generators, (0, num_copies), strict=True)
    )
    return tuning, test


def group_images(
    items: Sequence[Mapping[str, Any]], source: Path, group_column: str | None = None
) -> dict[str, list[int]]:
    """Gather the positions of images by their group.

    Args:
        items: Images as :func:`~monai_deepssim.data.list_images` lists them.
        source: Where they come from, for messages.
        group_column: Column of the CSV that holds the group; the patient by default.

    Returns:
        Positions in ``items`` by group.

    Raises:
        UnusableInputError: There is no such column, or the group of an image is not known.

    Example:
        >>> items = [{"patient_id": "", "scanner": name} for name in "aba"]
        >>> group_images(items, Path("images.csv"), "scanner")
        {'a': [0, 2], 'b': [1]}
    """
    key = "patient_id" if group_column is None else group_column.strip().lower()
    if not any(key in item for item in items):
        raise UnusableInputError(
            f"--group_column: {source} has no column {group_column!r}. Give the name of a column of a CSV."
        )
    groups: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        groups[str(item.get(key) or "")].append(position)
    unknown = groups.get("", [])
    if unknown:
        remedy = (
            "Fill the column."
            if group_column is not None
            else "Give --group_column or --patient_id_pattern; the pattern '(.+)' makes each image a group of its own."
        )
        raise UnusableInputError(
            f"--images: the group of {len(unknown)} of {len(items)} images in {source} is not known, such as that of "
            f"{items[unknown[0]].get('path')}. Images of one patient must not be on both sides of a comparison. "
            f"{remedy}"
        )
    return dict(groups)


def _split_half(
    groups: Mapping[str, list[int]], generator: np.random.Generator
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Split a half, in random order: groups for the gallery and its copies, and for strangers and partners."""
    names = list(groups)
    generator.shuffle(names)
    shuffled = {name: generator.permutation(groups[name]).tolist() for name in names}
    count = min(max(1, round(_GALLERY_SHARE * len(names))), len(names) - 2)
    return {name: shuffled[name] for name in names[:count]}, {name: shuffled[name] for name in names[count:]}


def _draw_queries(
    gallery_groups: Mapping[str, list[int]],
    other_groups: Mapping[str, list[int]],
    generator: np.random.Generator,
    num_copies: int,
    num_strangers: int,
    gallery_size: int,
    load: Callable[[Sequence[int]], Tensor],
) -> QuerySet:
    copies = _one_of_each_in_turn(gallery_groups)[: min(num_copies, gallery_size)]
    copied = {position for position, _ in copies}
    further = [position for positions in gallery_groups.values() for position in positions if position not in copied]
    filling = generator.permutation(further).tolist()[: gallery_size - len(copies)]
    # In random order: a detector that prefers the first of equals must not find all copies by that.
    gallery = generator.permutation([*copied, *filling]).tolist()
    strangers = _one_of_each_in_turn(other_groups)[:num_strangers]
    partners = []
    for _, group in [*copies, *strangers]:
        other = generator.choice([name for name in other_groups if name != group])
        partners.append(int(generator.choice(other_groups[str(other)])))
    rows = [gallery.index(position) for position, _ in copies]
    gallery_images = load(gallery)
    stranger_images = load([position for position, _ in strangers])
    sources, none = find_repeats(gallery_images, rows), [np.array([], dtype=np.int64)]
    seconds = [_other_group(copies, number) for number in range(len(copies))]
    return QuerySet(
        gallery=gallery_images,
        synthetic=torch.cat([gallery_images[rows], stranger_images]),
        partners=load(partners),
        sources=sources + none * len(strangers),
        groups=[group for _, group in [*copies, *strangers]],
        second_sources=[none[0] if second is None else sources[second] for second in seconds] + none * len(strangers),
    )


def _other_group(copies: Sequence[tuple[int, str]], number: int) -> int | None:
    """Which copy is of another group than a copy: the first after half of them have been passed by."""
    turns = [(number + len(copies) // 2 + step) % len(copies) for step in range(len(copies))]
    return next((other for other in turns if copies[other][1] != copies[number][1]), None)


def find_repeats(images: Tensor, rows: Sequence[int]) -> list[np.ndarray]:
    """Find the images that repeat an image, mirrored or not: a search that finds one of them has found it.

    Collections hold many images several times. Two images are repeats if their pixels have a correlation of 0.98 or
    more in one of the four flips; on brain MRI repeats had 0.999 and more, and neighbouring slices less than 0.95.

    Args:
        images: ``(M, 1, H, W)``.
        rows: Rows of the images to find the repeats of.

    Returns:
        For each of ``rows`` the rows of its repeats in ascending order, itself among them.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> find_repeats(torch.cat([image, torch.rand(1, 1, 16, 16), image.flip(3)]), [0])
        [array([0, 2])]
    """
    gallery = _normalise(images)
    is_repeat = torch.zeros(len(rows), len(images), dtype=torch.bool)
    for axes in ((), (2,), (3,), (2, 3)):
        flipped = images[list(rows)].flip(axes) if axes else images[list(rows)]
        is_repeat |= _normalise(flipped) @ gallery.T >= _REPEAT_CORRELATION
    is_repeat[range(len(rows)), list(rows)] = True
    return [repeats.nonzero().flatten().numpy() for repeats in is_repeat]


def _normalise(images: Tensor) -> Tensor:
    pixels = images.flatten(1)
    return torch.nn.functional.normalize(pixels - pixels.mean(1, keepdim=True))


def _one_of_each_in_turn(groups: Mapping[str, list[int]]) -> list[tuple[int, str]]:
    """Order images such that the first of every group come first, then the second ones."""
    turns = [(turn, position, name) for name, positions in groups.items() for turn, position in enumerate(positions)]
    return [(position, name) for _, position, name in sorted(turns, key=lambda entry: entry[0])]
