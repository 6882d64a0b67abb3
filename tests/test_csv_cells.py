"""Cells of CSV files: no text is a formula, and every text is read back as it was."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_deepssim.csv_cells import csv_text, plain_cell, safe_cell
from monai_deepssim.data import list_images, read_table
from monai_deepssim.release.file_list import FileRecord, read_file_list, write_file_list
from monai_deepssim.report import write_table

FORMULAS = (
    "=1+1",
    "+A1",
    "-A1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "'=1",
    '"=1',
    "''@a",
    "=",
    "-",
    "-.png",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_like_a_formula_begins_with_an_apostrophe_and_comes_back(text):
    assert safe_cell(text).lstrip("\"'")[0] == text.lstrip("\"'")[0]
    assert safe_cell(text).replace('"', "").startswith("'")
    assert plain_cell(safe_cell(text)) == text


@pytest.mark.parametrize("text", ["a;=cmd|' /C calc'!A0", "a\n=1", 'a;"=1', "a\t@b"])
def test_neither_does_a_formula_begin_where_another_program_parts_cells(text):
    """Excel in Germany parts cells at semicolons, inside quotes or not."""
    for separator in ";\t\n":
        for cell in safe_cell(text).split(separator):
            assert cell.lstrip('"')[:1] not in set("=+-@\t\r\n")


@pytest.mark.parametrize(
    "value", [-0.5, 3, None, True, "-0.5", "+1e-3", "-1.00,2.50", "-inf", "a-b.png", "x@y", "'quoted'"]
)
def test_numbers_stay_numbers_and_ordinary_names_are_not_touched(value):
    assert safe_cell(value) is value


@given(st.text(st.sampled_from("=+-@\t\r\n'\";a1. ")) | st.text())
def test_any_text_comes_back(text):
    assert plain_cell(safe_cell(text)) == text
    rows = list(csv.reader(io.StringIO(csv_text([["file"], [text]]), newline=""), strict=True))
    assert plain_cell(rows[1][0] if rows[1] else "") == text


def test_tables_of_an_audit_hold_no_formula_and_their_numbers_are_numbers(tmp_path):
    table = pd.DataFrame({"synthetic_path": ["=a.png"], "score": [-0.25], "training_paths": [["@b.png", "c.png"]]})
    write_table(tmp_path / "a.csv", table)
    (row,) = csv.DictReader((tmp_path / "a.csv").open(newline=""))
    assert row["synthetic_path"] == "'=a.png"
    assert float(row["score"]) == -0.25
    assert row["training_paths"] == "'@b.png|c.png"


@pytest.mark.parametrize("name", ["=cmd|x.png", "-a.png", "@b.png", "'=c.png", "+1.png", "\uff1dd.png"])
def test_the_list_of_audited_files_names_them_as_they_are(tmp_path, name):
    write_file_list(tmp_path / "files.csv", [FileRecord(name, "image", 1, 3, "00")])
    assert list(read_file_list(tmp_path / "files.csv")) == [name]
    assert f"\n{name}," not in (tmp_path / "files.csv").read_text()


def test_a_list_of_ours_is_an_input_of_ours(tmp_path):
    from PIL import Image

    names = ["=a.png", "'=a.png", "-b.png", "c.png"]
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text(csv_text([["image", "patient_id"], *([name, "=1"] for name in names)]))
    items = list_images(tmp_path / "list.csv")
    assert {item["path"] for item in items} == set(names)
    assert {item["patient_id"] for item in items} == {"=1"}
    assert [cells["image"] for _, cells in read_table(tmp_path / "list.csv")] == names
