"""Volumes as images: a folder of volumes with planted copies, by the function and by the command."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from audit_files import write_dicom, write_png
from scipy.ndimage import rotate

from monai_deepssim import find_copies, find_duplicates, remove_copies
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.calibration import VOLUME_THRESHOLDS
from monai_deepssim.command import main
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import read_options
from monai_deepssim.report import closing_lines
from monai_deepssim.transforms import VOLUME_CONTROL_CHANGES

SIDE = 32
# In so small a box different subjects are more alike than the default thresholds, of 64 x 64 x 64, allow for.
THRESHOLDS = [0.8, 0.88]
OPTIONS: dict[str, Any] = {
    "thresholds": THRESHOLDS,
    "volumes": "true",
    "image_size": (SIDE, SIDE, SIDE),
    "top_k": 1,
    "device": "cpu",
}
COPIES = {"copy-of-3.nii.gz": "sub-3.nii.gz", "copy-of-5.nii.gz": "sub-5.nii.gz"}


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    """Fifteen subjects: eight to train with, four that a generator made up, and three that were held out."""
    dataset = PhantomBrainDataset(15, seed=5, volume=True, image_size=(SIDE, SIDE, SIDE), progress=False)
    return [item["image"][0].numpy() for item in dataset]


def write_volume(path: Path, voxels: np.ndarray, spacing: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((1000 * voxels).astype(np.int16), np.diag([*spacing, 1.0])), path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, phantoms: list[np.ndarray]) -> Path:
    """``training``; ``synthetic`` with a copy that is flipped and turned, and one of half the slices; ``holdout``."""
    folder = tmp_path_factory.mktemp("volumes")
    for number, voxels in enumerate(phantoms[:8]):
        write_volume(folder / "training" / f"sub-{number}.nii.gz", voxels)
    turned = rotate(phantoms[3][::-1], 8, axes=(0, 1), reshape=False, order=1)
    write_volume(folder / "synthetic" / "copy-of-3.nii.gz", turned)
    write_volume(folder / "synthetic" / "copy-of-5.nii.gz", phantoms[5][:, :, ::2], (4.0, 4.0, 8.0))
    for number, voxels in enumerate(phantoms[8:12]):
        write_volume(folder / "synthetic" / f"new-{number}.nii.gz", voxels)
    for number, voxels in enumerate(phantoms[12:]):
        write_volume(folder / "holdout" / f"other-{number}.nii.gz", voxels)
    return folder


@pytest.fixture(scope="module")
def audit(folders: Path) -> AuditResult:
    return find_copies(
        folders / "training",
        folders / "synthetic",
        holdout=folders / "holdout",
        patient_ids=r"sub-(\d)",
        controls=1,
        output_dir=folders / "audit",
        **OPTIONS,
    )


def test_each_volume_has_one_verdict_and_the_copies_are_found(audit: AuditResult) -> None:
    matches = audit.matches.set_index("synthetic_path")
    assert sorted(matches.index) == [*COPIES, *(f"new-{number}.nii.gz" for number in range(4))]
    assert dict(matches.loc[matches["label"] == "duplicate", "training_path"]) == COPIES
    assert audit.memorized["training_path"].sort_values().tolist() == sorted(COPIES.values())
    assert matches.loc["copy-of-3.nii.gz", "flip"] == "left-right"
    assert audit.thresholds.score == "copy_score"


def test_what_only_slices_have_is_empty(audit: AuditResult) -> None:
    assert audit.matches[["inliers", "copied_area", "mi"]].isna().all().all()
    table = pd.read_csv(audit.options.output_dir / "matches.csv", keep_default_na=False)
    assert set(table["inliers"]) == set(table["copied_area"]) == {""}
    assert all(len(cell.split(",")) == 3 for cell in [*table["rotation_degrees"], *table["shift_pixels"]])


def test_held_out_volumes_and_controls_have_a_row_each(audit: AuditResult) -> None:
    assert audit.held_out is not None
    assert audit.controls is not None
    assert audit.held_out["holdout_path"].tolist()
    assert len(audit.held_out) == 3
    assert not (audit.held_out["label"] == "duplicate").any()
    assert len(audit.controls) == len(VOLUME_CONTROL_CHANGES)
    found = audit.controls.set_index("change")["found"]
    assert found[["none", "flip_x", "rotation_z", "shift", "slices"]].all()
    assert audit.curve is not None
    assert audit.curve.reference == "blur_1"


def test_the_summary_says_that_volumes_were_compared(audit: AuditResult) -> None:
    summary = json.loads((audit.options.output_dir / "summary.json").read_text())
    assert summary["options"]["volumes"] == "whole"
    assert summary["options"]["image_size"] == [SIDE] * 3
    assert summary["images"]["synthetic"]["original_sizes"] == {"32 x 32 x 32": 5, "32 x 32 x 16": 1}
    assert summary["sides_differ"]["is_testable"]
    schema = json.loads(files("monai_deepssim.audit").joinpath("summary.schema.json").read_text(encoding="utf-8"))
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(summary)] == []


def test_the_report_shows_planes_of_both_volumes_and_where_they_agree(audit: AuditResult) -> None:
    page = (audit.options.output_dir / "report.html").read_text()
    assert page.count('width="64" height="64"') == 4 * 6
    assert "shown by their middle planes" in page
    assert "keypoints" not in page
    assert "middle slice alone" not in page


def test_what_is_said_of_images_is_said_of_volumes_where_it_differs(audit: AuditResult) -> None:
    page = (audit.options.output_dir / "report.html").read_text()
    assert "1 had voxels that are not cubes and were resampled to cubic ones" in page
    assert "Parts of a volume, such as some slices" in page
    assert "large part of one" not in page
    summary = json.loads((audit.options.output_dir / "summary.json").read_text())
    lines = closing_lines(summary, audit.matches, Path("report.html"))
    assert "Voxels: 1 synthetic images have voxels that are not cubes, and were resampled to cubic ones." in lines


def test_an_audit_that_was_interrupted_goes_on_without_comparing_again(
    audit: AuditResult, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "audit" / "summary.json").unlink()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("compared again")

    monkeypatch.setattr("monai_deepssim.metrics.verification.copy_score", refuse)
    again = find_copies(
        folders / "training",
        folders / "synthetic",
        holdout=folders / "holdout",
        patient_ids=r"sub-(\d)",
        controls=None,
        output_dir=folders / "audit",
        **OPTIONS,
    )
    pd.testing.assert_frame_equal(again.matches, audit.matches)


def test_the_command_exceeds_its_gate_and_verifies_what_was_audited(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["audit", str(folders / "training"), str(folders / "synthetic"), "--volumes", "true", "--top_k", "1"]
    typed += ["--image_size", f"{SIDE},{SIDE},{SIDE}", "--controls", "none", "--max_copy_fraction", "0.1"]
    typed += ["--thresholds", str(THRESHOLDS)]
    assert main([*typed, "-o", str(tmp_path / "out"), "--shareable_report", "true"]) == 3
    assert "2 of 6" in capsys.readouterr().out
    shareable = next((tmp_path / "out").glob("*share*.html")).read_text()
    assert "sub-3" not in shareable
    assert "32 x 32 x 32 voxels" in shareable
    assert main(["verify", str(tmp_path / "out"), str(folders / "synthetic")]) == 3
    assert "the 6 files" in capsys.readouterr().out


def test_a_gate_on_few_volumes_without_a_copy_is_undecided(phantoms: list[np.ndarray]) -> None:
    result = find_copies(
        as_tensor(phantoms[:6]), as_tensor(phantoms[8:12]), max_copy_fraction=0.01, **OPTIONS, controls=None
    )
    assert result.gate.result == "undecided"
    assert {"too_few_images"} <= {reason.code for reason in result.gate.reasons}


def as_tensor(phantoms: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(phantoms)).float()[:, None]


def test_arrays_of_volumes_are_compared_as_files_are(phantoms: list[np.ndarray]) -> None:
    synthetic = as_tensor([phantoms[2][::-1].copy(), phantoms[9], phantoms[9]])
    result = find_copies(as_tensor(phantoms[:6]), synthetic.numpy(), controls=None, **OPTIONS)
    assert result.matches.loc[0, ["training_path", "label"]].tolist() == ["training[2]", "duplicate"]
    assert result.matches.index.tolist() == [0, 1]  # a volume that is there twice counts once
    assert result.matches.loc[1, "label"] != "duplicate"


def test_the_slices_of_volumes_vote_where_that_is_asked_for(phantoms: list[np.ndarray]) -> None:
    synthetic = as_tensor([phantoms[2][::-1].copy(), phantoms[9]])
    result = find_copies(
        as_tensor(phantoms[:6]), synthetic, controls=None, **{**OPTIONS, "volumes": "slices", "thresholds": None}
    )
    assert result.detector == result.thresholds.score == "slice_votes"
    assert result.matches.loc[0, ["training_path", "label"]].tolist() == ["training[2]", "duplicate"]
    assert result.matches["aligned_ssim"].isna().all()


def test_a_filter_keeps_the_volumes_that_are_not_copies(folders: Path, tmp_path: Path) -> None:
    sides = folders / "training", folders / "synthetic"
    result = remove_copies(*sides, output_dir=tmp_path / "out", controls=None, **OPTIONS)
    kept = sorted(path.name for path in (tmp_path / "out" / "filtered").iterdir())
    assert kept == [f"new-{number}.nii.gz" for number in range(4)]
    assert result.after is not None
    assert result.after.copy_fraction.count == 0


def test_a_deduplication_groups_volumes(phantoms: list[np.ndarray], tmp_path: Path) -> None:
    for number, voxels in enumerate([*phantoms[:3], phantoms[1][:, ::-1]]):
        write_volume(tmp_path / "images" / f"{number}.nii", voxels)
    result = find_duplicates(tmp_path / "images", output_dir=tmp_path / "out", **OPTIONS)
    assert result.groups[["kept", "left_out"]].to_numpy().tolist() == [["1.nii", ["3.nii"]]]
    assert "middle planes" in (tmp_path / "out" / "report.html").read_text()


def test_the_files_of_a_dicom_series_are_one_volume(phantoms: list[np.ndarray], tmp_path: Path) -> None:
    write_volume(tmp_path / "training" / "0.nii", phantoms[0])
    for height in range(SIDE):  # rows go to the back and columns to the left in DICOM's axes
        pixels = (1000 * phantoms[1][::-1, ::-1, height].T).astype(np.uint16)
        write_dicom(tmp_path / "training" / "scan" / f"{height}.dcm", pixels, series="1.2.3", height=float(height))
    write_volume(tmp_path / "synthetic" / "copy.nii", phantoms[1])
    result = find_copies(tmp_path / "training", tmp_path / "synthetic", controls=None, **OPTIONS)
    assert len(result.training.usable_items) == 2
    assert result.matches["training_path"].tolist()[0].startswith("scan")
    assert result.matches["label"][0] == "duplicate"
    assert result.matches["flip"][0] == ""


def test_volumes_have_thresholds_and_a_size_of_their_own() -> None:
    options = read_options(AuditOptions, {"training_dir": "a", "synthetic_dir": "b", "volumes": True})
    assert options.thresholds == VOLUME_THRESHOLDS
    assert (options.image_size, options.detector, options.top_k) == ((64, 64, 64), "deepssim_3d", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": "all"}, "--slices: chooses slices"),
        ({"slice_axis": 0}, "--slice_axis: chooses slices"),
        ({"memorization_index": True}, "--memorization_index: is made for slices"),
        ({"image_size": (64, 64)}, "--image_size: is .* wanted three sides"),
        ({"image_size": (16, 64, 64)}, "--image_size: is .* three sides of at least 32"),
        ({"detector": "phash"}, "--detector phash: takes slices, not volumes. Detectors that take volumes are: "),
        ({"volumes": "all"}, "--volumes: is 'all', wanted one of none, slices, whole, true"),
        ({"volumes": "slices", "detector": "ncc"}, "--volumes slices: .*slice_votes"),
        ({"volumes": "none"}, "--image_size: is .*give --volumes true"),
        (
            {"volumes": "none", "image_size": (64, 64)},
            "training: got images of shape .* Give volumes=.true. for",
        ),
        ({"volumes": "none", "image_size": (64, 64), "detector": "deepssim_3d"}, "takes volumes alone"),
    ],
)
def test_what_means_nothing_for_volumes_is_refused_in_words(options: dict[str, Any], message: str) -> None:
    volumes = torch.rand(2, 1, 32, 32, 32)
    with pytest.raises(UnusableInputError, match=message):
        find_copies(volumes, volumes, **{**OPTIONS, "controls": None, "thresholds": None, **options})


def test_images_among_volumes_are_refused(tmp_path: Path, phantoms: list[np.ndarray]) -> None:
    write_volume(tmp_path / "training" / "0.nii", phantoms[0])
    write_png(tmp_path / "synthetic" / "0.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(UnusableInputError, match=r"0\.png"):
        find_copies(tmp_path / "training", tmp_path / "synthetic", controls=None, **OPTIONS)


def test_the_demo_has_no_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--volumes", "true", "-o", str(tmp_path / "out")]) == 2
    assert "the demo has no volumes" in capsys.readouterr().err


FOLDERS = {"training_dir": "a", "synthetic_dir": "b", "volumes": True}


def test_a_small_box_has_thresholds_of_its_own() -> None:
    small, large = (read_options(AuditOptions, {**FOLDERS, "image_size": [side] * 3}) for side in (40, 48))
    assert (small.thresholds.similar, small.thresholds.duplicate) == (0.8, 0.86)
    assert (large.thresholds.similar, large.thresholds.duplicate) == (0.75, 0.8)
    assert "give a larger --image_size" in small.thresholds.source


def test_weights_of_a_3d_embedder_have_no_threshold_that_coarse_volumes_have() -> None:
    options = {**FOLDERS, "verify": False, "detector": "deepssim_3d"}
    assert read_options(AuditOptions, options).thresholds.duplicate == 0.94
    options["checkpoint"] = "model.pt"
    with pytest.raises(UnusableInputError, match="deepssim_3d has no published threshold with these weights"):
        read_options(AuditOptions, options)
    assert read_options(AuditOptions, {**options, "thresholds": 0.7}).thresholds.duplicate == 0.7
