"""The two sides of an audit are compared before its verdict."""

import json

import nibabel as nib
import numpy as np
import pytest
from audit_files import write_png
from PIL import Image

from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.sources import list_side


def test_a_set_of_tiny_heads_is_undecided_and_its_report_shows_both_means(audit, folders, phantoms, capsys):
    for path in (*(folders / "training").iterdir(), *(folders / "synthetic").iterdir()):
        path.unlink()
    for number, phantom in enumerate(phantoms):
        pixels = (phantom[0] * 255).byte().numpy()
        write_png(folders / "training" / f"sub-{number}.png", pixels)
        tiny = np.zeros_like(pixels)
        tiny[44:92, 36:76] = np.asarray(
            Image.fromarray((phantoms[-1 - number, 0] * 255).byte().numpy()).resize((40, 48))
        )
        write_png(folders / "synthetic" / f"made-{number}.png", tiny)

    with pytest.raises(SystemExit) as end:
        audit(max_copy_fraction=1.0, slices=None, thresholds=[0.98, 0.99])

    assert end.value.code == 2
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["gate"]["result"] == "undecided"
    kinds = {difference["kind"]: difference["covered"] for difference in summary["sides_differ"]["differences"]}
    assert kinds["field_of_view"] is False
    assert "Warning:" in capsys.readouterr().out
    report = (folders / "out" / "report.html").read_text()
    assert "may hide copies" in report
    assert "mean of 12 synthetic images" in report.lower()


def test_a_set_of_nothing_but_proven_copies_needs_no_screening(audit, folders, phantoms):
    for path in (*(folders / "training").iterdir(), *(folders / "synthetic").iterdir()):
        path.unlink()
    for number, phantom in enumerate(phantoms):
        write_png(folders / "training" / f"sub-{number}.png", (phantom[0] * 255).byte().numpy())
    for number in range(3):
        write_png(folders / "synthetic" / f"copy-{number}.png", (phantoms[number, 0] * 255).byte().numpy())
    assert audit(top_k=3, thresholds=None).count("duplicate") == 3


@pytest.mark.parametrize(("name", "counts"), [("notes.txt", 0), ("manifest.csv", 0), ("scan.xyz", 1)])
def test_a_note_beside_the_images_leaves_no_gate_undecided_and_what_may_be_an_image_does(audit, folders, name, counts):
    (folders / "synthetic" / name).write_bytes(bytes(range(256)) if name == "scan.xyz" else b"not an image")
    with pytest.raises(SystemExit) as end:
        audit(max_copy_fraction=1.0, gate_on="files")
    assert end.value.code == 2
    reasons = json.loads((folders / "out" / "summary.json").read_text())["gate"]["reasons"]
    assert sum(reason["code"] == "ignored_files" for reason in reasons) == counts


@pytest.mark.parametrize(("slices", "num_read_by_one"), [(None, 2), ("3", 0), ("all", 0)])
def test_the_volumes_are_counted_of_which_the_middle_slice_alone_is_read(tmp_path, slices, num_read_by_one):
    folder = tmp_path / "synthetic"
    write_png(folder / "a.png", np.zeros((8, 8), np.uint8))
    for name, depth in (("a#1.nii", 4), ("b=2.nii", 5), ("one slice.nii", 1)):
        nib.save(nib.Nifti1Image(np.zeros((8, 8, depth), np.uint8), np.eye(4)), folder / name)
    options = AuditOptions(training_dir=folder, synthetic_dir=folder, output_dir=tmp_path / "out", slices=slices)
    assert list_side("synthetic", folder, options).count_volumes()["num_middle_slices"] == num_read_by_one
