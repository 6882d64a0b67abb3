"""The arguments of the scripts that measure on a user's own images, and the images that they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from monai_deepssim.benchmark.own_images import read_own_images
from monai_deepssim.benchmark.queries import QuerySet

GALLERY_SIZE, TUNING_SEED, TEST_SEED = 380, 9401, 9402


def image_parser(description: str | None, *, copies: int, strangers: int) -> argparse.ArgumentParser:
    """Return a parser of the arguments that :func:`read_queries` takes, with these defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="CSV file with a column of paths")
    parser.add_argument("--group_column", required=True, help="its column with the patient or group")
    parser.add_argument("--copies", type=int, default=copies)
    parser.add_argument("--strangers", type=int, default=strangers, help="images of groups not in the gallery")
    return parser


def read_queries(arguments: argparse.Namespace, image_size: Sequence[int]) -> QuerySet:
    """Draw copies, images of other groups and the gallery, as `bundles/detector_benchmark` does."""
    _, queries = read_own_images(
        arguments.images,
        group_column=arguments.group_column,
        patient_id_pattern=None,
        num_copies=arguments.copies,
        num_strangers=arguments.strangers,
        gallery_size=GALLERY_SIZE,
        tuning_seed=TUNING_SEED,
        test_seed=TEST_SEED,
        image_size=image_size,
    )
    return queries
