"""The CSV files of an audit: each number in the form of its column."""

import numpy as np

from monai_deepssim.report import MATCHES_COLUMNS, as_table, write_table


def test_numbers_have_the_form_of_their_column_and_lists_a_bar(tmp_path):
    row = {"score": 0.12345678, "rotation_degrees": 1.23456, "gamma": 1.23456, "zoom": 1.234567, "q_value": 1 / 3}
    row |= {"inliers": 12.0, "copied_area": 0.98765, "synthetic_path": "a.png", "mi": np.nan}
    write_table(tmp_path / "matches.csv", as_table([row], MATCHES_COLUMNS))
    names, cells = (line.split(",") for line in (tmp_path / "matches.csv").read_text().splitlines())
    written = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
    assert written == {
        "synthetic_path": "a.png",
        "score": "0.123457",
        "rotation_degrees": "1.23",
        "gamma": "1.235",
        "q_value": "0.333333333",
        "zoom": "1.2346",
        "inliers": "12",
        "copied_area": "0.988",
    }
    write_table(tmp_path / "groups.csv", as_table([{"left_out": ["a", "b"]}], ["left_out"]))
    assert (tmp_path / "groups.csv").read_text().splitlines() == ["left_out", "a|b"]
