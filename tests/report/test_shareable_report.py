"""The report that can be shared: what was found, without a name, an identifier or a pixel."""

import json
import re

import pandas as pd
import pytest
from example_audit import ExampleAudit, make_audit

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.report import SHAREABLE_REPORT, render_shareable, shareable_report

NAMES = {
    "folder": "/srv/jdoe/Klinikum Nord/study 7",
    "patient": "Mueller^Anna^1961",
    "training": "MUELLER_ANNA/t1_z090",
    "synthetic": "from-Mueller",
}
TELLING = [
    "Mueller",
    "MUELLER",
    "Klinikum",
    "jdoe",
    "study 7",
    "1961",
    "z090",
    "Krause",
    "model.pt",
    "/srv",
    "0001.png",
]


def write_audit(folder, audit: ExampleAudit) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(audit.summary))
    for name, table in audit.tables.items():
        joined = table.map(lambda cell: "|".join(cell) if isinstance(cell, list) else cell)
        joined.to_csv(folder / f"{name}.csv", index=False)


def without_coordinates(page: str) -> str:
    return re.sub(r' (d|x|y|transform|points|id|href|xlink:href)="[^"]*"', "", page)


@pytest.mark.parametrize("filled", [True, False])
def test_it_holds_no_name_of_a_file_folder_patient_or_user_and_no_pixel(filled: bool) -> None:
    audit = make_audit(filled=filled, **NAMES)
    page = render_shareable(audit.summary, audit.tables)
    assert [name for name in TELLING if name in without_coordinates(page)] == []
    assert "data:image" not in page
    assert "<img" not in page
    assert "<script" not in page


def test_it_says_what_was_found_how_sure_it_is_and_how_many_patients_it_concerns() -> None:
    audit = make_audit(**NAMES)
    page = render_shareable(audit.summary, audit.tables)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    expected = [
        "Release gate exceeded: 12 of 48 synthetic images are copies of a training image",
        "What was not tested",
        "2 to 4 copies 6",
        "filed under two patients",
        "of the 20 copies that were planted after this change were found: blur 2 px.",
        "The set knows who was in training",
        "Singling out",
        "This report holds no image, no name of a file or folder, and no patient identifier.",
        "Signature",
    ]
    assert [sentence for sentence in expected if sentence not in words] == []


def test_a_name_that_comes_with_a_sentence_is_taken_out_of_it() -> None:
    audit = make_audit(**NAMES)
    audit.summary["gate"]["reasons"][0]["text"] = "MUELLER_ANNA/t1_z090-0001.png is of Mueller^Anna^1961-000 (<i>)."
    audit.summary["headline"]["advice"] = (
        "jdoe-dpo kept from-Mueller-0003.png in /srv/jdoe/Klinikum Nord/study 7/synthetic."
    )
    audit.summary["selection"] = "these were chosen in /srv/jdoe/Klinikum Nord/study 7"
    page = render_shareable(audit.summary, audit.tables)
    assert [name for name in TELLING if name in without_coordinates(page)] == []
    assert "<li><b>exceeded</b>: [name removed] is of [name removed] (&lt;i&gt;).</li>" in page


def test_it_is_made_of_a_finished_audit_from_its_files_and_says_the_same(tmp_path) -> None:
    audit = make_audit(**NAMES)
    write_audit(tmp_path / "audit", audit)
    assert shareable_report(tmp_path / "audit") == render_shareable(audit.summary, audit.tables)
    assert SHAREABLE_REPORT == "report_shareable.html"


def test_patients_called_na_or_007_are_patients(tmp_path) -> None:
    audit = make_audit(num_copies=2)
    audit.tables["patients"] = pd.concat([audit.tables["patients"]] * 3, ignore_index=True)
    audit.tables["patients"]["patient_id"] = ["NA", "007", ""]
    write_audit(tmp_path, audit)
    page = shareable_report(tmp_path)
    assert '<td>2 to 4 copies</td><td class="n">2</td>' in page
    assert "007" not in without_coordinates(page)


def test_a_folder_without_a_finished_audit_is_named_with_what_is_missing(tmp_path) -> None:
    with pytest.raises(UnusableInputError, match=r"has no summary.json, want the folder of a finished audit"):
        shareable_report(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema_version": 2}')
    audit = make_audit()
    for name, table in audit.tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(UnusableInputError, match="holds no audit of this version"):
        shareable_report(tmp_path)


def test_it_says_how_to_read_the_scores_and_shows_them_in_bins() -> None:
    audit = make_audit(**NAMES)
    page = render_shareable(audit.summary, audit.tables)
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    reading = words[words.index("How to read the scores") : words.index("Scores of all synthetic images")]
    assert "Above 0.86 it is a duplicate" in reading
    assert "is memorized when at least one synthetic image is a copy of it" in reading
    assert "the score only points to them: they are in the confidential report" in reading
    assert "Histogram of the scores of 48 synthetic images" in page
    # Bars alone: no score of a single image stands in the page but the ends of their range.
    scores = {f"{score:.3f}" for score in audit.tables["matches"]["score"][1:-1]}
    shown = set(re.findall(r"\d\.\d{3}", words))
    assert shown & scores <= {f"{score:.3f}" for score in audit.tables["patients"]["max_score"]}


def test_the_name_of_the_program_is_no_secret_and_what_was_given_to_it_is() -> None:
    audit = make_audit(**NAMES)
    folder, other = "/srv/jdoe/Klinikum Nord", "/srv/Haus 9"
    audit.summary["run"]["command"] = f"monai-deepssim audit '{folder}' --holdout='{other}' --fdr 0.1"
    audit.summary["headline"]["advice"] = f"Leave them out with 'monai-deepssim filter'. {folder}, {other}."
    page = render_shareable(audit.summary, audit.tables)
    assert "Leave them out with &#39;monai-deepssim filter&#39;." in page
    assert "Klinikum" not in page
    assert "Haus 9" not in page


def test_no_fingerprint_confirms_a_patients_file_and_no_row_is_a_patient() -> None:
    audit = make_audit(num_copies=9, **NAMES)
    fingerprints = {side: {"images": f"{side}-digest"} for side in ("training", "synthetic", "holdout")}
    audit.summary["fingerprints"] = fingerprints
    page = render_shareable(audit.summary, audit.tables)
    assert "synthetic-digest" in page
    assert "training-digest" not in page
    assert "holdout-digest" not in page
    rows = re.findall(r'<tr><td>(\d.*?)</td><td class="n">(\d+)</td></tr>', page)
    assert rows == [("1 copy", "1"), ("2 to 4 copies", "4"), ("5 copies or more", "0")]
    assert "of 5</td>" not in page
