"""Split a list of images in two by group: one half to choose on, the other to report on.

    python benchmarks/split_groups.py images.csv --group_column look_alike_group

writes `images_choosing.csv` and `images_reporting.csv` beside the list. Each group is in one of them, as a whole. Which
one follows from the names of the groups and the seed, not from the order of the rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="CSV file with one row per image")
    parser.add_argument("--group_column", required=True, help="its column with the patient or group")
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.images, dtype=str, keep_default_na=False)
    groups = sorted(rows[arguments.group_column].unique(), key=lambda name: (len(name), name))  # numbers by their value
    order = np.random.default_rng(SEED).permutation(groups)
    middle = len(order) // 2
    for half, names in (("choosing", order[:middle]), ("reporting", order[middle:])):
        path = arguments.images.with_name(f"{arguments.images.stem}_{half}.csv")
        of_half = rows[rows[arguments.group_column].isin(names)]
        of_half.to_csv(path, index=False)
        print(f"{path}: {len(of_half)} images of {len(names)} groups")


if __name__ == "__main__":
    main()
