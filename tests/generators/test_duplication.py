"""How often training images are repeated."""

from collections import Counter

import pytest

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import DUPLICATION_RANGES, repetition_counts

ITEMS = [{"path": f"sub-{number}/t1.png"} for number in range(3000)]


@pytest.mark.parametrize(("name", "highest"), [("none", 1), ("low", 4), ("high", 14)])
def test_counts_are_drawn_evenly_over_the_published_range(name, highest):
    counts = Counter(repetition_counts(ITEMS, name, seed=3))
    assert sorted(counts) == list(range(1, highest + 1))
    assert DUPLICATION_RANGES[name] == (1, highest)
    # Six standard deviations of a binomial count.
    share = 1 / highest
    assert all(abs(count - 3000 * share) <= 6 * (3000 * share * (1 - share)) ** 0.5 for count in counts.values())


def test_the_same_seed_repeats_the_counts_and_another_does_not():
    assert repetition_counts(ITEMS, "high", seed=1) == repetition_counts(ITEMS, "high", seed=1)
    assert repetition_counts(ITEMS, "high", seed=1) != repetition_counts(ITEMS, "high", seed=2)


def test_a_csv_gives_counts_by_path_and_the_images_without_a_row_are_there_once(tmp_path):
    (tmp_path / "counts.csv").write_text("path,copies\nsub-2/t1.png,14\nsub-0/t1.png,3\n")
    assert repetition_counts(ITEMS[:4], tmp_path / "counts.csv") == [3, 1, 14, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("path,copies\nsub-0/t2.png,2\n", r"line 2: 'sub-0/t2.png' is not one of the 4 .*'sub-0/t1.png'"),
        ("path,copies\nsub-0/t1.png,2.5\n", r"line 2: copies is '2.5', wanted a whole number of at least 1"),
        ("path,copies\nsub-0/t1.png,0\n", r"line 2: copies is '0', .*To leave an image out"),
        ("path,copies\nsub-0/t1.png,-3\n", r"line 2: copies is '-3'"),
        ("path,copies\nsub-0/t1.png,\n", r"line 2: copies is ''"),
        ("path,copies\nsub-0/t1.png,2\nsub-0/t1.png,3\n", r"line 3: 'sub-0/t1.png' has a count in line 2 already"),
        ("path,count\nsub-0/t1.png,2\n", r"the columns are path, count, wanted path and copies"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_by_line(tmp_path, rows, message):
    (tmp_path / "counts.csv").write_text(rows)
    with pytest.raises(UnusableInputError, match=message):
        repetition_counts(ITEMS[:4], tmp_path / "counts.csv")


@pytest.mark.parametrize("name", ["hihg", "", None, 3])
def test_an_unknown_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(UnusableInputError, match="none, low, high or a CSV"):
        repetition_counts(ITEMS[:4], name)
