"""An audit of images whose pixels are not square: told, and warned of where one side alone has them."""

import json

import nibabel as nib
import numpy as np


def write_nifti(path, picture: np.ndarray, height_mm: float) -> None:
    ras = picture[::-1, ::-1].T[:, :, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(ras), np.diag([1.0, height_mm, 1.0, 1.0])), path)


def test_a_copy_in_other_pixels_is_found_and_the_files_say_what_was_resampled(audit, folders, axial, capsys) -> None:
    # Every second row: pixels of 2 x 1 mm.
    write_nifti(folders / "synthetic" / "coarse-60.nii.gz", axial(60)[::2], height_mm=2.0)

    result = audit(verify=True)

    match = next(match for match in result.matches.itertuples() if match.synthetic_path == "coarse-60.nii.gz")
    assert match.training_path == "sub-2_z60.png"
    assert match.score > 0.9
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["images"]["synthetic"]["resampled_to_square_pixels"] == ["coarse-60.nii.gz"]
    assert summary["images"]["training"]["resampled_to_square_pixels"] == []
    printed = capsys.readouterr().out
    assert "Pixels: 1 synthetic images have pixels that are not square" in printed
    assert "Warning: pixels of synthetic images were made square, and none of training images" in printed
    report = (folders / "out" / "report.html").read_text()
    assert "1 had pixels that are not square and were resampled" in report
    assert "pixels of synthetic images were made square" in report


def test_where_all_pixels_are_square_nothing_is_said(audit, folders, capsys) -> None:
    audit()

    assert "square" not in capsys.readouterr().out
    assert "not square" not in (folders / "out" / "report.html").read_text()
