"""What audit, filter and deduplication write for programs has the shape that the schemas in the package promise."""

import json
from functools import partial
from importlib.resources import files

import jsonschema
import pytest
from audit_files import IMAGE_SIZE, write_png

from monai_deepssim.audit import CopyFilter, Deduplication, evidence
from monai_deepssim.data import write_copies_demo


def load_schema(name):
    return json.loads(files("monai_deepssim.audit").joinpath(f"{name}.schema.json").read_text(encoding="utf-8"))


def check(path, name):
    """Read a file, strictly as JSON, and compare it with its schema."""

    def refuse(constant):
        raise AssertionError(f"{path} has {constant}, which is no JSON")

    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    schema = jsonschema.Draft202012Validator(load_schema(name), format_checker=jsonschema.FormatChecker())
    assert [f"{error.json_path}: {error.message}" for error in schema.iter_errors(content)] == []
    return content


@pytest.mark.parametrize("name", ["summary", "filter", "deduplication"])
def test_a_schema_is_one_and_leaves_nothing_open_at_the_top(name):
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["created"] == {"$ref": "#/$defs/time"}


@pytest.mark.parametrize("name", ["summary", "filter", "deduplication"])
def test_every_entry_of_a_schema_is_always_there(name):
    assert set(load_schema(name)["required"]) == set(load_schema(name)["properties"])


def test_an_audit_has_the_shape_of_the_schema(audit, folders):
    with pytest.raises(SystemExit):
        audit(patient_id_pattern=r"(sub-\d)", max_copy_fraction=1.0)
    content = check(folders / "out" / "summary.json", "summary")
    assert content["holdout_dir"] is None
    assert content["gate"]["result"] == "undecided"  # ten images tell nothing from chance


def test_an_audit_with_held_out_images_and_without_a_gate_has_the_shape_of_the_schema(audit, folders, axial):
    for level in (105, 115, 125):
        write_png(folders / "holdout" / f"sub-9_z{level}.png", axial(level))
    (folders / "synthetic" / "broken.png").write_bytes(b"")
    (folders / "holdout" / "notes.txt").write_text("not an image")
    audit(holdout_dir="holdout", memorization_index=True)
    content = check(folders / "out" / "summary.json", "summary")
    assert content["false_alarms"]["total"] == 3
    assert content["ignored_files"]["holdout"]


def test_a_detector_of_two_classes_has_the_shape_of_the_schema(audit, folders):
    audit(detector="ncc", checkpoint=None, verify=False, thresholds=0.99)
    assert check(folders / "out" / "summary.json", "summary")["thresholds"]["similar"]["value"] is None


def test_a_demo_and_what_a_filter_keeps_of_it_have_the_shape_of_the_schemas(tmp_path, checkpoint, monkeypatch):
    small = partial(write_copies_demo, num_training=10, num_synthetic=5, num_copies=2, augmentation_prob=0.5)
    monkeypatch.setattr(evidence, "write_copies_demo", small)
    options = {"checkpoint": str(checkpoint), "image_size": IMAGE_SIZE, "device": "cpu", "controls": 2}
    CopyFilter(output_dir=str(tmp_path), **options).run()
    assert check(tmp_path / "summary.json", "summary")["demo"]["planted"] == 2
    after = check(tmp_path / "filtered_audit" / "summary.json", "summary")
    assert after["selection"]
    assert after["copy_fraction"]["interval"] is None
    assert check(tmp_path / "filter.json", "filter")["after"]["num_synthetic"] == after["num_synthetic"]


def test_a_list_and_a_set_of_which_nothing_is_left_have_the_shape_of_the_schema(folders, checkpoint):
    options = {"training_dir": str(folders / "training"), "checkpoint": str(checkpoint), "image_size": IMAGE_SIZE}
    options |= {"device": "cpu", "controls": None}
    (folders / "synthetic" / "list.csv").write_text("image,patient_id\ncopy-of-60.png,a\nother-120.png,b\n")
    source = str(folders / "synthetic" / "list.csv")
    CopyFilter(**options, thresholds=[0.9, 0.999], synthetic_dir=source, output_dir=str(folders / "kept")).run()
    assert check(folders / "kept" / "filter.json", "filter")["list"]["file"] == "list.csv"
    with pytest.raises(SystemExit):
        CopyFilter(**options, thresholds=[-1, -1], synthetic_dir=source, output_dir=str(folders / "none")).run()
    assert check(folders / "none" / "filter.json", "filter")["after"] is None


def test_a_deduplication_has_the_shape_of_the_schema(folders, checkpoint):
    Deduplication(
        training_dir=str(folders / "training"),
        output_dir=str(folders / "out"),
        checkpoint=str(checkpoint),
        image_size=IMAGE_SIZE,
        thresholds=[0.9, 0.999],
        device="cpu",
    ).run()
    check(folders / "out" / "summary.json", "deduplication")


def test_the_schema_refuses_what_is_damaged(audit, folders):
    audit()
    content = json.loads((folders / "out" / "summary.json").read_text(encoding="utf-8"))
    schema = load_schema("summary")
    jsonschema.validate(content, schema)
    entries = [("gate", None), ("num_copies", -1), ("num_copies", "2"), ("created", 3)]
    damages = [{**content, entry: value} for entry, value in [*entries, ("result_files", {"a.csv": "1234"}), ("x", 1)]]
    damages += [{k: v for k, v in content.items() if k != entry} for entry in ("gate", "num_copies", "created")]
    for damaged in damages:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(damaged, schema)
