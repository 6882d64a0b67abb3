"""A synthetic set of PNG, NIfTI and DICOM files is filtered: what is left out and why, and the audit of the rest."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from audit_files import IMAGE_SIZE, LENIENT_GATE, write_dicom, write_png
from clean_up_files import files_of, snapshot, table
from pydicom.uid import generate_uid

from monai_deepssim.audit import CopyFilter
from monai_deepssim.audit.clean_up import filter_steps
from monai_deepssim.audit.clean_up.filter_steps import FilterResult

KEPT = {
    "a/other-120.png",
    "volumes/clean.nii.gz",
    *(f"series/clean/IM{level}" for level in (122, 132)),
}
COPIED = {"a/b/copy-of-60.png", "volumes/mixed.nii.gz", *(f"series/mixed/IM{level}" for level in (75, 127))}


def filter_set(folder: Path, checkpoint: Path, **options: Any) -> FilterResult:
    defaults = {
        "training_dir": str(folder / "training"),
        "synthetic_dir": str(folder / "synthetic"),
        "output_dir": str(folder / "out"),
        "checkpoint": str(checkpoint),
        "image_size": IMAGE_SIZE,
        "device": "cpu",
        "slices": "all",
        "top_k": 3,
        "thresholds": [0.9, 0.999],  # of one subject: neighbouring slices are alike, but only a copy is identical
        "patient_id_pattern": r"(sub-\d)",
        "controls": None,
    }
    return CopyFilter(**{**defaults, **options}).run()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, volume, axial) -> Path:
    folder = tmp_path_factory.mktemp("filter")
    for level in (50, 60, 75, 90):
        write_png(folder / "training" / f"sub-{level // 10}_z{level}.png", axial(level))
    synthetic = folder / "synthetic"
    write_png(synthetic / "a" / "b" / "copy-of-60.png", axial(60))
    write_png(synthetic / "a" / "other-120.png", axial(120))
    (synthetic / "volumes").mkdir()
    for name, levels in (("mixed", [125, 60]), ("clean", [125, 135])):
        nib.save(nib.Nifti1Image(volume[:, :, levels], np.eye(4)), synthetic / "volumes" / f"{name}.nii.gz")
    for name, levels in (("mixed", [75, 127]), ("clean", [122, 132])):
        series = generate_uid()
        for level in levels:
            write_dicom(synthetic / "series" / name / f"IM{level}", axial(level), series=series, height=level)
    (synthetic / "broken.png").write_bytes(b"")
    (synthetic / "notes.txt").write_text("made on Monday")
    return folder


@pytest.fixture(scope="module")
def filtered(folder, checkpoint, null_that_calls_in_module) -> tuple[FilterResult, dict[str, Any], dict[str, Any]]:
    """The result, and every file of the input before and after."""
    before = snapshot(folder)
    result = filter_set(folder, checkpoint, max_copy_fraction=0.2, **LENIENT_GATE)
    after = {name: value for name, value in snapshot(folder).items() if not name.startswith("out/")}
    return result, before, after


def test_copies_are_left_out_with_the_whole_volume_or_series_that_they_are_in(filtered, folder) -> None:
    assert files_of(folder / "out" / "filtered") == KEPT


def test_the_files_that_are_kept_are_the_very_bytes_in_the_same_folders(filtered, folder) -> None:
    for name in KEPT:
        assert (folder / "out" / "filtered" / name).read_bytes() == (folder / "synthetic" / name).read_bytes()


def test_nothing_of_the_users_is_changed_or_deleted(filtered) -> None:
    _, before, after = filtered
    assert after == before


def test_the_manifest_has_every_file_with_class_score_training_image_patient_and_reason(filtered, folder) -> None:
    rows = table(folder / "out" / "manifest.csv", "file")
    assert set(rows) == files_of(folder / "synthetic")
    assert {name for name, row in rows.items() if row["kept"] == "yes"} == KEPT
    copy = rows["a/b/copy-of-60.png"]
    assert (copy["class"], copy["training_path"], copy["patient_id"]) == ("duplicate", "sub-6_z60.png", "sub-6")
    assert float(copy["score"]) > 0.999
    assert "a copy" in copy["reason"]
    # The slice that decided about the volume is the second of its two, and the one about the series its lower one.
    assert rows["volumes/mixed.nii.gz"]["decided_by"] == "volumes/mixed.nii.gz#z=1"
    assert rows["series/mixed/IM127"]["training_path"] == "sub-7_z75.png"
    assert "whole series of 2 files" in rows["series/mixed/IM127"]["reason"]
    assert (rows["broken.png"]["class"], rows["broken.png"]["score"]) == ("skipped", "")
    assert "empty" in rows["broken.png"]["reason"]
    assert rows["notes.txt"]["class"] == "ignored"
    assert {rows[name]["class"] for name in KEPT} <= {"similar", "different"}
    assert {rows[name]["class"] for name in COPIED} == {"duplicate"}


def test_what_is_kept_is_audited_again_and_the_gate_is_about_that(filtered, folder) -> None:
    result, _, _ = filtered
    summary = json.loads((folder / "out" / "filter.json").read_text())
    assert summary["num_left_out"] == {
        "duplicate": 4,
        "part": 0,
        "twin": 0,
        "unexplained": 0,
        "similar": 0,
        "discovery": 0,
        "skipped": 1,
        "ignored": 1,
    }
    assert (summary["before"]["num_copies"], summary["before"]["num_synthetic"]) == (3, 10)
    assert (summary["after"]["num_copies"], summary["after"]["num_synthetic"]) == (0, 5)
    assert summary["gate"]["result"] == "passed"
    again = json.loads((folder / "out" / "filtered_audit" / "summary.json").read_text())
    assert again["synthetic_dir"] == str(folder / "out" / "filtered")
    assert (again["num_copies"], again["num_synthetic"], again["skipped"]) == (0, 5, [])
    # Images that were chosen by their scores: no intervals, no error rates but those of the whole set.
    assert again["selection"] == "its images were chosen by their scores from 10, of which 3 were copies."
    assert again["copy_fraction"]["interval"] is None
    assert summary["after"]["copy_fraction"]["interval"] is None
    assert summary["before"]["copy_fraction"]["interval"] is not None
    assert again["discoveries"] is None
    rates = {match.synthetic_path: match.q_value for match in result.before.matches.itertuples()}
    assert {match.synthetic_path: match.q_value for match in result.after.matches.itertuples()}.items() <= rates.items()
    assert (folder / "out" / "filtered_audit" / "report.html").is_file()
    # It is judged by what was measured before: nothing is embedded or verified again.
    assert not (folder / "out" / "filtered_audit" / "embeddings").exists()
    scores = result.before.matches.set_index("synthetic_path")["score"]
    again_scores = result.after.matches.set_index("synthetic_path")["score"]
    assert again_scores.equals(scores[again_scores.index])
    # The audit before keeps its own verdict on the whole set.
    assert json.loads((folder / "out" / "summary.json").read_text())["gate"]["result"] == "exceeded"


def test_the_same_command_goes_on_from_what_is_there_and_touches_none_of_it(filtered, folder, checkpoint) -> None:
    kept, manifest = snapshot(folder / "out" / "filtered"), (folder / "out" / "manifest.csv").read_bytes()
    result = filter_set(folder, checkpoint)
    assert result.before.synthetic.continued
    assert snapshot(folder / "out" / "filtered") == kept
    assert (folder / "out" / "manifest.csv").read_bytes() == manifest


def test_a_folder_that_differs_from_what_would_be_written_is_refused_and_left_alone(
    filtered, folder, checkpoint, capsys
) -> None:
    extra = folder / "out" / "filtered" / "mine.png"
    extra.write_bytes(b"mine")
    with pytest.raises(SystemExit) as ended:
        filter_set(folder, checkpoint, verify=False, thresholds=[0.5, 0.9999])
    extra_is_there = extra.exists()
    extra.unlink(missing_ok=True)
    assert ended.value.code == 2
    assert extra_is_there
    assert "Nothing is ever deleted or written over" in capsys.readouterr().err


def test_a_folder_of_the_users_is_refused_before_anything_is_done(tmp_path, capsys) -> None:
    (tmp_path / "out" / "filtered").mkdir(parents=True)
    (tmp_path / "out" / "filtered" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        CopyFilter(training_dir="nowhere", synthetic_dir="nowhere", output_dir=str(tmp_path / "out")).run()
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "filtered exists and is not empty" in message
    assert snapshot(tmp_path).keys() == {"out/filtered/mine.txt", "out/exit_status"}


@pytest.fixture
def small(tmp_path, axial) -> Path:
    for level in (60, 80):
        write_png(tmp_path / "training" / f"z{level}.png", axial(level))
    write_png(tmp_path / "synthetic" / "copy.png", axial(60))
    return tmp_path


def test_a_set_of_copies_alone_ends_in_words_with_a_manifest_and_no_folder(small, checkpoint, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        filter_set(small, checkpoint, slices=None)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "nothing is left of its 1 files (1 copies of a training image)" in message
    assert not (small / "out" / "filtered").exists()
    assert table(small / "out" / "manifest.csv", "file")["copy.png"]["kept"] == "no"
    assert json.loads((small / "out" / "filter.json").read_text())["after"] is None


def test_a_skipped_slice_leaves_its_volume_out(small, checkpoint, axial, volume) -> None:
    slices = volume[:, :, [130, 135]].copy()
    slices[:, :, 1] = 0  # as at the end of a head: there is nothing in it to compare
    nib.save(nib.Nifti1Image(slices, np.eye(4)), small / "synthetic" / "half.nii.gz")
    write_png(small / "synthetic" / "far.png", axial(130))
    assert filter_set(small, checkpoint).left_out == {"duplicate": 1, "skipped": 1}
    row = table(small / "out" / "manifest.csv", "file")["half.nii.gz"]
    assert (row["kept"], row["class"]) == ("no", "skipped")
    assert "every pixel is 0" in row["reason"]


def test_similar_images_are_left_out_on_request(small, checkpoint, axial) -> None:
    write_png(small / "synthetic" / "near.png", axial(64))
    write_png(small / "synthetic" / "far.png", axial(130))
    options = {"slices": None, "thresholds": [0.8, 0.999]}
    assert filter_set(small, checkpoint, **options).num_kept == 2
    result = filter_set(small, checkpoint, **options, leave_out="duplicate,similar", output_dir=str(small / "strict"))
    assert result.left_out == {"duplicate": 1, "similar": 1}
    assert files_of(small / "strict" / "filtered") == {"far.png"}


def test_what_is_closer_than_chance_explains_is_named_and_left_out_on_request(small, checkpoint, axial, capsys) -> None:
    for level in (45, 90, 105):
        write_png(small / "training" / f"z{level}.png", axial(level))
    write_png(small / "synthetic" / "near.png", axial(65))
    write_png(small / "synthetic" / "far.png", axial(130))
    options = {"slices": None, "fdr": 0.6, "max_copy_fraction": 0.0}
    with pytest.raises(SystemExit) as ended:
        filter_set(small, checkpoint, **options)
    assert ended.value.code == 3
    before, after = (json.loads((small / "out" / name / "summary.json").read_text()) for name in ("", "filtered_audit"))
    assert before["gate"]["suspicious"] == {"copies": 1, "parts": 0, "twins": 0, "discoveries": 1, "unexplained": 0}
    assert after["gate"]["suspicious"]["discoveries"] == 1
    assert "1 is not a copy by the threshold and yet closer" in capsys.readouterr().out
    options = {"slices": None, "fdr": 0.6, "leave_out": "duplicate,discovery", "output_dir": str(small / "strict")}
    result = filter_set(small, checkpoint, **options)
    assert result.left_out == {"duplicate": 1, "discovery": 1}
    assert files_of(small / "strict" / "filtered") == {"far.png"}
    row = table(small / "strict" / "manifest.csv", "file")["near.png"]
    assert (row["kept"], row["class"]) == ("no", "discovery")
    assert "closer than chance explains (q 0." in row["reason"]
    assert result.after.close.empty


def test_if_copies_were_kept_the_audit_of_what_is_kept_would_end_with_status_3(
    small, checkpoint, axial, monkeypatch
) -> None:
    write_png(small / "synthetic" / "far.png", axial(130))
    decide = filter_steps.decide_files
    monkeypatch.setattr(filter_steps, "decide_files", lambda result, leave_out: decide(result, ["nothing"]))
    with pytest.raises(SystemExit) as ended:
        filter_set(small, checkpoint, slices=None, max_copy_fraction=0.01)
    assert ended.value.code == 3
    assert json.loads((small / "out" / "filter.json").read_text())["gate"]["result"] == "exceeded"


def test_a_training_image_that_cannot_be_read_leaves_the_gate_undecided(small, checkpoint, axial, capsys) -> None:
    write_png(small / "synthetic" / "far.png", axial(130))
    (small / "training" / "broken.png").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        filter_set(small, checkpoint, slices=None, max_copy_fraction=0.5)
    assert ended.value.code == 2
    assert "cannot be decided" in capsys.readouterr().err
    assert files_of(small / "out" / "filtered") == {"far.png"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leave_out": "similar"}, ["--leave_out", "duplicate,part,similar"]),
        ({"leave_out": ["different", "duplicate"]}, ["--leave_out", "different"]),
        ({"leave_out": 3}, ["--leave_out", "3"]),
        ({"files": "move"}, ["--files", "'move'", "copy, symlink, hardlink"]),
        ({"leave_uot": "duplicate"}, ["--leave_uot", "Did you mean --leave_out?"]),
        ({"synthetic_dir": None}, ["--synthetic_dir", "not given"]),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_named(small, checkpoint, capsys, options, words) -> None:
    with pytest.raises(SystemExit) as ended:
        filter_set(small, checkpoint, **options)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert not (small / "out").exists()
