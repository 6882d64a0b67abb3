"""Whatever is wrong with the input ends in a message and status 2, or is listed as skipped; never in a traceback."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audit_files import LENIENT_GATE, write_png
from PIL import Image
from torch import nn

from monai_deepssim.audit import Audit


def refusal(capsys: pytest.CaptureFixture[str], audit: Any, **options: Any) -> str:
    """The message of an audit that ends with status 2, which has no traceback and leaves no result behind."""
    with pytest.raises(SystemExit) as ended:
        audit(**options)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert message.splitlines()[-1].startswith("monai-deepssim: ")
    assert not (Path("out") / "summary.json").exists()
    return message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training_dir": "nowhere"}, ["nowhere", "no such file or folder"]),
        ({"training_dir": "nothing"}, ["nothing", "no images"]),
        ({"training_dir": None}, ["--training_dir", "not given", "--synthetic_dir", "demo"]),
        ({"synthetic_dir": None}, ["--synthetic_dir", "not given", "--training_dir"]),
        ({"synthetic_dir": ""}, ["--synthetic_dir", "empty"]),
        ({"synthetic_dir": True}, ["--synthetic_dir", "without a value"]),
        ({"training_dir": 1e5}, ["--training_dir", "100000.0", "quotes"]),
        ({"training_dir": ("out", 1)}, ["--training_dir", "('out', 1)"]),
        ({"synthetic_dir": "training"}, ["share 10 file(s)", "copies of themselves"]),
        ({"training_dir": "."}, ["--output_dir", "lies in --training_dir"]),
        ({"output_dir": "training/out"}, ["--output_dir", "lies in --training_dir"]),
        ({"output_dir": "a file"}, ["a file", "cannot be written", "--output_dir"]),
        ({"output_dir": "a file/out"}, ["a file/out", "cannot be written"]),
        ({"checkpoint": "missing.pt"}, ["--checkpoint", "missing.pt", "not a file"]),
        ({"checkpoint": "other.pt"}, ["other.pt"]),
        ({"checkpoint": "a file"}, ["a file"]),
        ({"device": "cuda:99"}, ["--device", "cuda:99", "cpu"]),
        ({"device": "abacus"}, ["--device", "abacus"]),
        ({"image_size": [136]}, ["--image_size", "[136]"]),
        ({"image_size": [32, 32]}, ["--image_size", "64"]),
        ({"slices": 2.5}, ["slices", "2.5"]),
        ({"slice_axis": 3}, ["--slice_axis", "from 0 to 2"]),
        ({"patient_id_pattern": "sub-("}, ["patient_id_pattern", "sub-("]),
        ({"top_k": 0}, ["--top_k", "at least 1"]),
        ({"batch_size": "many"}, ["--batch_size", "'many'"]),
        ({"num_workers": -1}, ["--num_workers", "-1"]),
        ({"max_copy_fraction": 1.5}, ["--max_copy_fraction", "1.5", "0 to 1"]),
        ({"max_copy_fraction": "1%"}, ["--max_copy_fraction", "'1%'"]),
        ({"max_copy_fraction": True}, ["--max_copy_fraction", "True"]),
        ({"thresholds": [0.9, 0.5]}, ["--thresholds", "[0.9, 0.5]"]),
        ({"thresholds": 0.9}, ["--thresholds", "0.9"]),
        ({"overwrite": "maybe"}, ["--overwrite", "true or false"]),
        ({"topk": 5}, ["--topk", "Did you mean --top_k?"]),
        ({"inferer": "fast"}, ["--inferer", "'fast'"]),
        ({"handlers": "mine"}, ["--handlers", "'mine'"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(f"{k}={v}" for k, v in value.items()),
)
def test_an_option_that_cannot_be_used_is_named_with_what_is_wanted(audit, capsys, options, words) -> None:
    Path("nothing").mkdir()
    Path("a file").write_text("not a folder")
    torch.save(nn.Linear(2, 2).state_dict(), "other.pt")
    message = refusal(capsys, audit, **options)
    assert [word for word in words if word not in message] == []


def test_unusable_images_are_skipped_with_their_reason_and_counted(audit, folders, axial, capsys) -> None:
    synthetic = folders / "synthetic"
    good = (synthetic / "copy-of-60.png").read_bytes()
    (synthetic / "truncated.png").write_bytes(good[: len(good) // 2])
    (synthetic / "empty.png").write_bytes(b"")
    (synthetic / "text.png").write_text("hello")
    write_png(synthetic / "constant.png", np.full((80, 80), 7, dtype=np.uint8))
    holes = axial(60).astype(np.float32)
    holes[3, 4] = np.nan
    Image.fromarray(holes).save(synthetic / "holes.tiff")
    (synthetic / "notes.txt").write_text("no image")
    # A format that is not read is no reason to audit fewer images than there are.
    (synthetic / "copy-of-60.pgm").write_bytes(b"P5 2 2 255\n" + bytes(4))
    np.save(synthetic / "volume.npy", np.stack([axial(60)] * 5))
    result = audit()
    bad = ["constant.png", "copy-of-60.pgm", "empty.png", "holes.tiff", "text.png", "truncated.png", "volume.npy"]
    assert [entry.path for entry in result.skipped] == bad
    assert result.copy_fraction.total == 4
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert [entry["path"] for entry in summary["skipped"]] == bad
    assert all(entry["reason"] and entry["side"] == "synthetic" for entry in summary["skipped"])
    assert [file["path"] for file in summary["ignored_files"]["synthetic"]] == ["notes.txt"]
    told = capsys.readouterr().out
    assert "Skipped: 7 images" in told
    assert [name for name in bad if f"synthetic {name}:" not in told] == []
    assert "Ignored: 1 file or folder in synthetic are no images" in told


def test_a_side_without_one_usable_image_is_refused(audit, folders, capsys) -> None:
    for path in (folders / "synthetic").iterdir():
        path.write_bytes(b"")
    message = refusal(capsys, audit)
    assert "none of its 4 images can be used" in message
    assert "copy-of-60.png" in message


def test_one_training_image_is_allowed_with_a_warning(audit, folders, capsys) -> None:
    for path in sorted((folders / "training").iterdir())[1:]:
        path.unlink()
    result = audit()
    assert result.memorized_fraction.total == 1
    assert "one training image" in capsys.readouterr().err


def test_more_copies_than_the_gate_allows_end_with_status_3_and_a_report(audit, folders) -> None:
    with pytest.raises(SystemExit) as ended:
        audit(max_copy_fraction=0.49)
    assert ended.value.code == 3
    assert json.loads((folders / "out" / "summary.json").read_text())["gate"]["result"] == "exceeded"
    assert (folders / "out" / "report.html").is_file()


@pytest.mark.usefixtures("null_that_calls")
def test_exactly_as_many_copies_as_the_gate_allows_pass(audit) -> None:
    assert audit(max_copy_fraction=0.5, **LENIENT_GATE).gate.result == "passed"


@pytest.mark.usefixtures("null_that_calls")
def test_a_skipped_synthetic_image_counts_against_the_gate_as_if_it_were_a_copy(audit, folders, capsys) -> None:
    (folders / "synthetic" / "broken.png").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        audit(max_copy_fraction=0.5, **LENIENT_GATE)  # 2 of 4, but perhaps 3 of 5
    assert ended.value.code == 2
    assert "cannot be decided" in capsys.readouterr().err
    assert json.loads((folders / "out" / "summary.json").read_text())["gate"]["result"] == "undecided"
    assert audit(max_copy_fraction=0.6, **LENIENT_GATE).gate.result == "passed"


def test_with_a_skipped_training_image_no_gate_passes(audit, folders) -> None:
    (folders / "training" / "broken.png").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        audit(max_copy_fraction=1.0)
    assert ended.value.code == 2


def test_with_a_skipped_held_out_image_no_gate_passes(audit, folders, axial) -> None:
    write_png(folders / "holdout" / "sub-9_z105.png", axial(105))
    (folders / "holdout" / "broken.png").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        audit(max_copy_fraction=1.0, holdout_dir="holdout", **LENIENT_GATE)
    assert ended.value.code == 2
    gate = json.loads((folders / "out" / "summary.json").read_text())["gate"]
    assert "skipped_holdout" in [reason["code"] for reason in gate["reasons"]]


def test_a_skipped_training_image_does_not_shift_the_others(audit, folders) -> None:
    (folders / "training" / "a-broken.png").write_bytes(b"")  # before all others
    result = audit()
    assert set(result.memorized["training_path"]) == {"sub-2_z60.png", "sub-2_z75.png"}
    assert result.memorized_fraction.total == 10


def test_an_unreadable_output_folder_is_found_out_before_anything_is_embedded(audit, folders, capsys) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the file in the folder's place is tested above")
    (folders / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refusal(capsys, audit, output_dir="locked/out")


def test_a_process_that_cannot_reach_the_others_says_how_to_start_them(audit, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "Start it with torchrun" in refusal(capsys, audit)


def test_an_interrupt_ends_with_status_130_and_says_how_to_go_on(audit, monkeypatch, capsys) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("monai_deepssim.audit.embedded_sides.embed_images", interrupted)
    with pytest.raises(SystemExit) as ended:
        audit()
    assert ended.value.code == 130
    assert "continues where this stopped" in capsys.readouterr().err


def test_a_defect_of_our_own_is_not_reported_as_the_users_fault(audit, monkeypatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("monai_deepssim.audit.embedded_sides.embed_images", broken)
    with pytest.raises(ValueError, match="a defect"):
        audit()


def test_the_constructor_takes_anything_because_only_run_turns_errors_into_messages() -> None:
    Audit(training_dir=object(), top_k="x", no_such_option=1)
