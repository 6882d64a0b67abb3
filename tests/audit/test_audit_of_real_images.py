"""Audits of real MRI slices in every format, and the files that they write."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from audit_files import IMAGE_SIZE, LENIENT_GATE, write_dicom, write_png
from pydicom.uid import generate_uid
from scipy.stats import beta

from monai_deepssim.report import MATCHES_COLUMNS, MEMORIZED_COLUMNS

LEVELS = range(50, 100, 5)


def labels_by_path(path: Path) -> dict[str, tuple[str, str]]:
    with path.open(newline="") as file:
        return {row["synthetic_path"]: (row["training_path"], row["label"]) for row in csv.DictReader(file)}


def test_copies_among_real_slices_in_png_are_found_with_their_patients(audit, folders) -> None:
    audit(patient_id_pattern=r"(sub-\d)")
    matches = labels_by_path(folders / "out" / "matches.csv")
    assert matches["copy-of-60.png"] == ("sub-2_z60.png", "duplicate")
    assert matches["copy-of-75.png"] == ("sub-2_z75.png", "duplicate")
    assert {label for _, label in (matches["other-120.png"], matches["other-130.png"])} <= {"different", "similar"}
    assert list(matches) == sorted(matches)
    memorized = pd.read_csv(folders / "out" / "memorized.csv", keep_default_na=False)
    assert list(memorized.columns) == MEMORIZED_COLUMNS
    assert set(memorized.training_path) == {"sub-2_z60.png", "sub-2_z75.png"}
    assert set(memorized.patient_id) == {"sub-2"}
    assert set(memorized.synthetic_paths) == {"copy-of-60.png", "copy-of-75.png"}


def test_a_training_set_in_one_nifti_volume_is_audited_slice_by_slice(audit, tmp_path, volume, checkpoint) -> None:
    # Stored with the first axis from right to left, as scanners often do: the affine says so.
    image = nib.Nifti1Image(volume[::-1], np.diag([-1.0, 1, 1, 1]))
    (tmp_path / "volumes").mkdir()
    nib.save(image, tmp_path / "volumes" / "sub-1.nii.gz")
    audit(training_dir="volumes", slices="50:100:5", output_dir="of volume")
    matches = labels_by_path(tmp_path / "of volume" / "matches.csv")
    assert matches["copy-of-60.png"] == ("sub-1.nii.gz#z=60", "duplicate")
    assert matches["copy-of-75.png"] == ("sub-1.nii.gz#z=75", "duplicate")
    assert matches["other-120.png"][1] != "duplicate"


def test_a_training_set_in_dicom_is_audited_as_the_volume_that_its_files_make(audit, tmp_path, axial) -> None:
    series = generate_uid()
    for level in LEVELS:
        write_dicom(tmp_path / "dicom" / f"IM{level:03d}", axial(level), series=series, height=level)
    audit(training_dir="dicom", slices="all", output_dir="of dicom")
    matches = labels_by_path(tmp_path / "of dicom" / "matches.csv")
    # Level 60 is the third slice of the series from the feet, 75 the sixth.
    assert [matches[name][0].split("#")[1] for name in ("copy-of-60.png", "copy-of-75.png")] == ["z=2", "z=5"]
    assert [matches[name][1] for name in ("copy-of-60.png", "copy-of-75.png")] == ["duplicate"] * 2


def test_the_published_layout_is_audited_by_two_patterns(audit, tmp_path, axial) -> None:
    for patient, level in (("IXI001", 60), ("IXI002", 80)):
        write_png(tmp_path / "images" / patient / "training.png", axial(level))
        write_png(tmp_path / "images" / patient / "gen-0.png", axial(60))
    result = audit(training_dir="images/*/training.png", synthetic_dir="images/*/gen-*.png")
    assert result.memorized["training_path"].tolist() == ["IXI001/training.png"]
    assert result.patients["patient_id"].tolist() == ["IXI001"]
    # One image, which is there twice.
    assert result.copy_fraction.count == 1
    assert result.gate.num_suspicious == result.gate.num_images == 2


@pytest.mark.usefixtures("null_that_calls")
def test_summary_says_what_was_audited_and_with_what(audit, folders, checkpoint) -> None:
    audit(max_copy_fraction=0.9, **LENIENT_GATE)
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert (summary["num_training"], summary["num_synthetic"]) == (10, 4)
    assert (summary["num_copies"], summary["num_memorized"]) == (2, 2)
    assert summary["copy_fraction"]["value"] == 0.5
    # Clopper and Pearson's interval by its definition, with quantiles of the beta distribution.
    expected = [beta.ppf(0.025, 2, 3), beta.ppf(0.975, 3, 2)]
    assert summary["copy_fraction"]["interval"] == pytest.approx(expected)
    assert summary["demo"] is None
    assert summary["holdout_dir"] is None
    assert summary["skipped"] == []
    assert summary["gate"]["result"] == "passed"
    assert summary["thresholds"]["duplicate"]["value"] == 0.999
    assert summary["thresholds"]["duplicate"]["source"] == "given by the user for this audit"
    assert summary["embedder"]["checkpoint"] == str(checkpoint)
    assert len(summary["embedder"]["sha256"]) == 64
    assert summary["images"]["training"]["original_sizes"] == {"233 x 197": 10}
    assert summary["num_patients"] is None  # nobody said which patient an image is of


def test_matches_have_all_columns_and_empty_cells_for_what_was_not_asked_for(audit, folders) -> None:
    audit(verify=False)
    with (folders / "out" / "matches.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == MATCHES_COLUMNS
    changes = {"flip", "rotation_degrees", "shift_pixels", "gamma", "zoom", "deformation_pixels"}
    empty = {"aligned_ssim", *changes, "mi", "oni"}
    assert all(row[column] == "" for row in rows for column in empty)
    assert all(row["score"] == row["deepssim"] for row in rows)


def test_each_score_has_thresholds_of_its_own_named_with_their_source(audit, folders) -> None:
    audit(thresholds=None, verify=False)
    thresholds = json.loads((folders / "out" / "summary.json").read_text())["thresholds"]
    assert (thresholds["similar"]["value"], thresholds["duplicate"]["value"]) == (0.60, 0.85)
    assert thresholds["duplicate"]["score"] == "deepssim"
    assert "2509.16582" in thresholds["duplicate"]["source"]

    audit(thresholds=None)
    verified = json.loads((folders / "out" / "summary.json").read_text())["thresholds"]
    assert verified["duplicate"]["score"] == "copy_score"
    assert "docs/measured.md" in verified["duplicate"]["source"]


@pytest.mark.usefixtures("null_that_calls")
def test_the_terminal_names_copies_patients_pairs_folders_gate_and_report(audit, folders, capsys) -> None:
    audit(patient_id_pattern=r"(sub-\d)", max_copy_fraction=0.5, **LENIENT_GATE)
    told = capsys.readouterr().out
    assert "2 of 4 synthetic images are copies" in told
    assert "2 of 10 training images, of 1 patient." in told
    pairs = [line for line in told.splitlines() if "<-" in line]
    assert len(pairs) == 4  # five at most
    assert "copy-of-" in pairs[0]
    assert "1.000" in pairs[0]
    assert "sub-2" in pairs[0]
    assert "training (10 audited)" in told
    assert "synthetic (4 audited)" in told
    assert "PASSED" in told
    assert str(Path("out") / "report.html") in told


def test_images_of_mixed_sizes_and_in_colour_are_brought_together_and_reported(audit, folders, axial) -> None:
    write_png(folders / "synthetic" / "half.png", axial(65)[::2, ::2])
    colour = np.stack([axial(70), axial(71), axial(72)], axis=2)
    write_png(folders / "synthetic" / "colour.png", colour)
    result = audit()
    sides = json.loads((folders / "out" / "summary.json").read_text())["images"]["synthetic"]
    assert sides["original_sizes"] == {"233 x 197": 5, "117 x 99": 1}
    assert sides["converted_to_grey"] == ["colour.png"]
    assert sides["image_size"] == list(IMAGE_SIZE)
    half = next(match for match in result.matches.itertuples() if match.synthetic_path == "half.png")
    assert half.training_path == "sub-0_z65.png"


def test_top_k_keeps_that_many_training_images_for_each_synthetic_one(audit) -> None:
    result = audit(top_k=4)
    scores = result.pairs.groupby("query")["score"].apply(list)
    # Local features prove the two copies: nothing else needs to be compared with them.
    assert [len(row) for row in scores] == [1, 1, 4, 4]
    assert all(row == sorted(row, reverse=True) for row in scores)
    assert all(scores[match.Index][0] == match.score for match in result.matches.itertuples())


def test_the_order_of_files_and_the_batch_size_do_not_change_a_score(audit) -> None:
    one = audit(batch_size=1, output_dir="one")
    many = audit(batch_size=64, num_workers=1, output_dir="many")
    assert one.matches["training_path"].tolist() == many.matches["training_path"].tolist()
    assert np.allclose(one.matches["score"], many.matches["score"], atol=1e-4)


def test_auditing_twice_writes_the_same_matches(audit, folders) -> None:
    audit(output_dir="first")
    audit(output_dir="second")
    assert (folders / "first" / "matches.csv").read_bytes() == (folders / "second" / "matches.csv").read_bytes()
