"""The script that splits a list of images into a half to choose on and a half to report on."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "split_groups.py"


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame([(f"{i}.png", str(i % 21), f"00{i}") for i in range(60)], columns=["image", "group", "number"])


def split(rows: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder.mkdir()
    rows.to_csv(folder / "images.csv", index=False)
    subprocess.run([sys.executable, SCRIPT, folder / "images.csv", "--group_column", "group"], check=True)
    choosing, reporting = (pd.read_csv(folder / f"images_{half}.csv", dtype=str) for half in ("choosing", "reporting"))
    return choosing, reporting


def test_each_group_is_in_one_half_and_no_row_is_lost_or_changed(rows, tmp_path):
    halves = split(rows, tmp_path / "rows")
    groups = [set(half["group"]) for half in halves]
    assert not groups[0] & groups[1]
    assert [len(names) for names in groups] == [10, 11]
    together = pd.concat(halves).sort_values("number").reset_index(drop=True)
    pd.testing.assert_frame_equal(together, rows.astype(str).sort_values("number").reset_index(drop=True))


def test_the_halves_do_not_hang_on_the_order_of_the_rows(rows, tmp_path):
    halves = split(rows, tmp_path / "forwards"), split(rows[::-1], tmp_path / "backwards")
    for one, other in zip(*halves, strict=True):
        assert set(one["image"]) == set(other["image"])
