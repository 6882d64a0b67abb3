"""The two sides of an audit compared before its verdict, on a sample of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.data import ImageDataset, file_of
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import SideComparison, compare_sides, name_reading_differences

__all__ = ["check_sides"]

_MOST_IMAGES, _MOST_OF_A_PATIENT, _SEED = 200, 3, 0
# 50 MB of a side at 64 x 64 x 64.
_MOST_VOLUMES = 50


def check_sides(training: EmbeddedSide, synthetic: EmbeddedSide, image_size: Sequence[int]) -> SideComparison:
    """Compare up to 200 images of each side, or 50 volumes, at most three of a patient, and how all of them were read.

    Args:
        training: the training side.
        synthetic: the synthetic side.
        image_size: rows and columns that images are brought to, or the three sides of volumes.

    Returns:
        How the sides differ in preprocessing.

    Raises:
        UnusableInputError: when a file has changed, or can no longer be read.
    """
    (first, first_share), (second, second_share) = (_sample(part, image_size) for part in (training, synthetic))
    has_window = any(part.side.window or part.usable_items[0].get("window") for part in (training, synthetic))
    compared = compare_sides(first, second, hounsfield_shares=(first_share, second_share), has_window=has_window)
    totals = (len(training.usable_items), len(synthetic.usable_items))
    in_part = name_reading_differences(_read_in_part(training), _read_in_part(synthetic), totals)
    return replace(compared, differences=(*in_part, *compared.differences))


def _read_in_part(part: EmbeddedSide) -> dict[str, tuple[int, int]]:
    """How many of all images are compared in part only, and how many could be compared with such ones."""
    num_sheets, num_slices = len(part.images.is_sheet), part.side.count_volumes()["num_middle_slices"]
    return {
        "sheets": (num_sheets, num_sheets),
        "colours": (len(part.images.lost_in_grey), len(part.images.converted)),
        "middle_slices": (num_slices, num_slices),
    }


def _sample(part: EmbeddedSide, image_size: Sequence[int]) -> tuple[Tensor, float]:
    """Some of the images, and the share of them whose files are in Hounsfield units."""
    counts: dict[str, int] = {}
    chosen: list[int] = []
    for index in np.random.default_rng(_SEED).permutation(part.images.indices).tolist():
        # Slices of a volume belong together where the patient is not known.
        owner = part.side.items[index]["patient_id"] or file_of(part.side.items[index])
        counts[owner] = counts.get(owner, 0) + 1
        if counts[owner] <= _MOST_OF_A_PATIENT:
            chosen.append(index)
        if len(chosen) == (_MOST_IMAGES if len(image_size) == 2 else _MOST_VOLUMES):
            break
    dataset = ImageDataset(part.side.items, image_size=image_size)
    items = [dataset[index] for index in sorted(chosen)]
    for problem in filter(None, (item["problem"] for item in items)):
        raise UnusableInputError(problem)
    share = sum(item["hounsfield"] for item in items) / max(len(items), 1)
    return torch.stack([torch.as_tensor(item["image"]) for item in items]), share
