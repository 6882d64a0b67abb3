"""An audit plants copies of its training images and says how many of them it finds."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from audit_files import IMAGE_SIZE
from PIL import Image

from monai_deepssim.audit import AuditResult, CopyFilter, controls, find_copies
from monai_deepssim.audit.controls import score_controls
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.calibration import VERIFIED_THRESHOLDS
from monai_deepssim.options import read_options
from monai_deepssim.report import CONTROLS_COLUMNS
from monai_deepssim.transforms import CONTROL_CHANGES

NUM_CHANGES = len(CONTROL_CHANGES)
#: Enough where it does not matter which they are: one of them needs a second patient.
FEW_CHANGES = [
    change for change in CONTROL_CHANGES if change.name in ("none", "blur", "blur_2", "rotation_5", "average_of_two")
]


@pytest.fixture
def few_changes(monkeypatch) -> None:
    """Plant controls after five of the changes alone."""
    monkeypatch.setattr("monai_deepssim.data.controls.CONTROL_CHANGES", FEW_CHANGES)


def found_of(table: pd.DataFrame, change: str, level: float | None = None) -> list[bool]:
    rows = table[table["change"] == change]
    return rows[rows["level"].isna() if level is None else rows["level"] == level]["found"].tolist()


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("few_changes")
def test_planted_images_are_counted_nowhere_and_change_no_score(audit, folders) -> None:
    before = files_in(folders)
    without = audit(output_dir="without", patient_id_pattern=r"(sub-\d)")
    planted = audit(output_dir="planted", patient_id_pattern=r"(sub-\d)", controls=2)

    for name in ("matches.csv", "memorized.csv"):
        assert (folders / "without" / name).read_bytes() == (folders / "planted" / name).read_bytes()
    first, second = (json.loads((folders / name / "summary.json").read_text()) for name in ("without", "planted"))
    for name in ("num_synthetic", "num_training", "copy_fraction", "memorized_fraction", "discoveries", "fingerprints"):
        assert first[name] == second[name]
    assert planted.synthetic.fingerprint == without.synthetic.fingerprint
    assert (without.controls, len(planted.controls)) == (None, 2 * len(FEW_CHANGES))
    new = files_in(folders) - before
    assert {name.split("/")[0] for name in new} == {"without", "planted"}, "something was written elsewhere"
    assert not [name for name in new if name.startswith("planted") and name.endswith(".png")]
    assert not (folders / "without" / "controls.csv").exists()


def test_the_table_says_of_each_control_what_became_of_it(audit, folders) -> None:
    result = audit(controls=2, thresholds=None, patient_id_pattern=r"(sub-\d)")

    table = pd.read_csv(folders / "out" / "controls.csv", keep_default_na=False)
    assert list(table) == list(result.controls) == CONTROLS_COLUMNS
    assert table.groupby(["change", "level"]).size().tolist() == [2] * NUM_CHANGES
    assert table["training_path"].nunique() == 2
    assert table["patient_id"].nunique() == 2
    unchanged = table[table["change"] == "none"]
    assert (unchanged["nearest_path"] == unchanged["training_path"]).all()
    assert (unchanged["score"].astype(float) > 0.9999).all()
    assert unchanged["label"].tolist() == ["duplicate"] * 2
    assert unchanged["level"].tolist() == [""] * 2
    assert found_of(result.controls, "none") == found_of(result.controls, "blur", 1.0) == [True] * 2
    scores = result.controls.groupby(["change", "level"])["score"].mean()
    assert scores["blur", 1.0] > scores["blur", 2.0] > scores["blur", 3.0]


@pytest.mark.usefixtures("few_changes")
def test_a_control_scores_what_the_same_pixels_score_as_a_synthetic_image(audit, folders) -> None:
    result = audit(controls=1, thresholds=None)
    name = result.controls["training_path"].iloc[0]
    Path(folders / "again").mkdir()
    (folders / "again" / name).write_bytes((folders / "training" / name).read_bytes())

    again = audit(synthetic_dir="again", output_dir="of_again", thresholds=None)

    unchanged = result.controls.iloc[0]
    match = again.matches.iloc[0]
    assert unchanged["change"] == "none"
    assert (unchanged["score"], unchanged["nearest_path"]) == (match["score"], match["training_path"])


@pytest.mark.usefixtures("few_changes")
def test_a_continued_audit_takes_what_is_there_and_other_controls_leave_the_sides_alone(audit, folders) -> None:
    first = audit(controls=1)
    sides = ["embeddings/training", "embeddings/synthetic", "verified/training", "verified/synthetic"]

    def times(*names: str) -> dict[str, int]:
        paths = [path for name in names for path in (folders / "out" / name).iterdir()]
        return {str(path): path.stat().st_mtime_ns for path in paths}

    of_sides, of_controls = times(*sides), times("embeddings/control", "verified/control")

    again = audit(controls=1)
    assert times("embeddings/control", "verified/control") == of_controls
    pd.testing.assert_frame_equal(again.controls, first.controls)

    more = audit(controls=2)
    assert times(*sides) == of_sides
    assert len(more.controls) == 2 * len(FEW_CHANGES)
    one_each = more.controls[more.controls["training_path"] == first.controls["training_path"].iloc[0]]
    pd.testing.assert_frame_equal(one_each.reset_index(drop=True), first.controls)

    assert audit(controls=None).controls is None
    assert times(*sides) == of_sides
    assert not (folders / "out" / "controls.csv").exists(), "a table outlived the audit that it is of"


def test_as_many_are_planted_as_there_are_images_and_that_is_said(audit, folders, capsys) -> None:
    for path in sorted((folders / "training").iterdir())[1:]:
        path.unlink()

    result = audit(controls=20, thresholds=None)

    mixtures = sum(change.needs_partner for change in CONTROL_CHANGES)
    assert len(result.controls) == NUM_CHANGES - mixtures, "mixtures need a second patient"
    told = capsys.readouterr().out
    assert "There are 1 training images: as many controls are planted per change, not 20." in told
    assert "Plant controls, copies of training images, and look for them" in told


def test_what_the_controls_take_is_said_before_they_are_planted(audit, capsys) -> None:
    audit(controls=1)
    told = capsys.readouterr().out
    assert (
        f"{NUM_CHANGES} controls (copies of training images that show how many would be found; --controls none" in told
    )
    assert told.index("--controls none leaves them out") < told.index("Fingerprint the files")


def test_images_of_very_different_sizes_are_changed_at_their_own(audit, folders, axial) -> None:
    for path, side in zip(sorted((folders / "training").iterdir()), (40, 64, 100, 150, 300) * 2, strict=True):
        Image.open(path).resize((side, side), Image.Resampling.LANCZOS).save(path)

    result = audit(controls=3, thresholds=None)

    assert found_of(result.controls, "none") == [True] * 3
    assert not result.controls["score"].isna().any()


def test_slices_of_a_volume_are_planted_as_slices(audit, folders, volume) -> None:
    for path in (folders / "training").iterdir():
        path.unlink()
    nib.save(nib.Nifti1Image(volume[:, :, [60, 75, 90]], np.eye(4)), folders / "training" / "sub-0.nii.gz")

    result = audit(controls=2, slices="all", thresholds=None)

    assert set(result.controls["training_path"]) < {f"sub-0.nii.gz#z={level}" for level in range(3)}
    assert found_of(result.controls, "none") == [True] * 2
    # The slices are of one file, so that nobody knows of two patients.
    assert not (result.controls["change"] == "mix").any()


def test_images_in_memory_and_unknown_patients_are_planted_as_well(phantoms) -> None:
    result = find_copies(phantoms[:5], torch.cat([phantoms[1:2].flip(3), phantoms[5:7]]), controls=2)
    assert isinstance(result, AuditResult)
    assert set(result.controls["patient_id"]) == {""}
    assert set(result.controls["training_path"]) < {f"training[{number}]" for number in range(5)}
    assert result.matches.shape[0] == 3
    for change, level in (
        ("none", None),
        ("blur", 1.0),
        ("noise", 0.05),
        ("rotation", 15.0),
        ("half_resolution", None),
    ):
        assert found_of(result.controls, change, level) == [True] * 2


def test_controls_are_judged_by_the_detector_alone_where_nothing_is_verified(audit, folders) -> None:
    result = audit(controls=2, verify=False, thresholds=None)

    assert found_of(result.controls, "none") == [True] * 2
    assert set(result.controls["label"]) <= {"duplicate", "similar", "different"}
    assert not (folders / "out" / "verified").exists()


@pytest.mark.usefixtures("few_changes")
def test_a_filter_judges_what_it_keeps_with_the_same_controls(folders, checkpoint, monkeypatch) -> None:
    planted = []
    plant = controls.ControlPlanter.plant
    monkeypatch.setattr(controls.ControlPlanter, "plant", lambda *sides: planted.append(1) or plant(*sides))
    options = {"checkpoint": str(checkpoint), "image_size": IMAGE_SIZE, "device": "cpu", "controls": 1}
    sides = {"training_dir": str(folders / "training"), "synthetic_dir": str(folders / "synthetic")}

    result = CopyFilter(**options, **sides, output_dir=str(folders / "out")).run()

    assert planted == [1]
    pd.testing.assert_frame_equal(result.before.controls, result.after.controls)
    before, after = (folders / "out" / name / "controls.csv" for name in (".", "filtered_audit"))
    assert before.read_bytes() == after.read_bytes()


def side_of(items: list[dict[str, Any]]) -> Any:
    """An embedded side of which only the items are looked at."""
    return type("Side", (), {"usable_items": items, "patients": [item.get("patient_id", "") for item in items]})()


def test_found_is_what_is_called_a_copy_of_its_source_or_of_its_patient() -> None:
    patients = {"a": "1", "b": "1", "c": "2", "d": "", "e": ""}
    training = side_of([{"path": path, "patient_id": patient} for path, patient in patients.items()])
    planted = [
        {"path": f"{number}", "change": "blur", "level": 1.0, "unit": "px", "sources": sources}
        for number, sources in enumerate([(0,), (0,), (0,), (0,), (0,), (3,), (0, 2), (3,)])
    ]
    pairs = pd.DataFrame(
        [
            (0, 0, 0.99, 1.0),  # its source
            (1, 1, 0.99, 1.0),  # another image of the patient
            (2, 2, 0.99, 1.0),  # another patient
            (3, 0, 0.50, 1.0),  # its source, but no copy by the threshold
            (4, 2, 0.99, 0.3),  # a duplicate of its source that is stored under another patient's name, then the source
            (4, 0, 0.99, 0.3),
            (5, 3, 0.99, 1.0),  # of an unknown patient
            (6, 2, 0.99, 1.0),  # the second image of a mixture
            (7, 4, 0.99, 1.0),  # another one whose patient is unknown as well
        ],
        columns=["query", "training", "score", "copied_area"],
    ).assign(detector_score=0.0)

    table = score_controls(side_of(planted), pairs, training, VERIFIED_THRESHOLDS)

    assert table["found"].tolist() == [True, True, False, False, True, True, True, False]
    assert table["label"].tolist() == ["duplicate"] * 3 + ["different", "part"] + ["duplicate"] * 3
    assert table["training_path"].tolist() == list("aaaaadad")
    assert table["nearest_path"].tolist() == list("abcacdce")


@pytest.mark.usefixtures("few_changes")
def test_the_generators_autoencoder_is_one_more_change(audit, folders, small_autoencoder) -> None:
    for path in (folders / "synthetic").iterdir():
        Image.open(path).resize((48, 56)).save(path)  # the size that the generator makes its images in

    result = audit(controls=2, autoencoder=str(small_autoencoder), thresholds=None)

    rows = result.controls[result.controls["change"] == "autoencoder"]
    assert len(rows) == 2
    assert rows["level"].isna().all()
    assert set(rows["training_path"]) == set(result.controls["training_path"])
    scores = rows["score"].to_numpy()
    assert ((scores > 0) & (scores < 0.9999)).all(), "what an autoencoder gives back is not what went in"


def test_an_autoencoder_that_cannot_be_used_ends_the_audit_before_it_begins(audit, folders, capsys) -> None:
    torch.save({"weight": torch.zeros(2)}, folders / "other.pt")
    for options, words in (
        ({"autoencoder": "other.pt", "controls": 2}, "do not tell the architecture of an AutoencoderKL"),
        ({"autoencoder": "missing.pt", "controls": 2}, "missing.pt"),
        (
            {"autoencoder": "other.pt", "controls": None},
            "--autoencoder: was given, but --controls none plants no copies",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            audit(**options)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    assert not (folders / "out" / "embeddings").exists()


def test_a_demo_plants_fewer_and_says_so(capsys) -> None:
    planter = controls.ControlPlanter(read_options(AuditOptions, {}))
    assert planter.num_controls == 10
    assert "The demo plants 10 controls per change; an audit of folders plants 20." in capsys.readouterr().out
    assert controls.ControlPlanter(read_options(AuditOptions, {"controls": 3})).num_controls == 3
