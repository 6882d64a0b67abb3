"""The bundle's files, where it is found, and that a run leaves it as it was."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import monai_deepssim
from monai_deepssim.__main__ import main
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.workflow import bundles as bundles_module
from monai_deepssim.workflow import find_bundle, list_bundles

SCHEMA = Path(__file__).parents[1] / "data" / "monai_meta_schema_20240725.json"
BUNDLE = find_bundle("memorization_audit")


def test_the_metadata_are_valid_for_monais_schema() -> None:
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    assert metadata["version"] in metadata["changelog"]
    assert metadata["required_packages_version"]["monai-deepssim"] == monai_deepssim.__version__


def test_the_bundle_has_the_layout_of_the_model_zoo_and_no_python() -> None:
    files = {path.relative_to(BUNDLE).as_posix() for path in BUNDLE.rglob("*") if path.is_file()}
    assert {
        "LICENSE",
        "configs/inference.json",
        "configs/metadata.json",
        "configs/logging.conf",
        "docs/README.md",
    } <= files
    assert not [name for name in files if name.endswith(".py")]


def test_expressions_in_the_config_are_short() -> None:
    def texts(value):
        if isinstance(value, dict):
            value = list(value.values())
        return [text for item in value for text in texts(item)] if isinstance(value, list) else [value]

    expressions = [
        text
        for text in texts(json.loads((BUNDLE / "configs" / "inference.json").read_text()))
        if str(text).startswith("$")
    ]
    assert expressions
    assert max(map(len, expressions)) < 60


def test_a_run_writes_nothing_into_the_bundle(audit) -> None:
    before = {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")}
    audit()
    assert {path: path.stat().st_mtime_ns for path in BUNDLE.rglob("*")} == before


def test_the_command_prints_where_a_bundle_lies_and_lists_them(capsys) -> None:
    assert main(["bundle", "memorization_audit"]) == 0
    assert Path(capsys.readouterr().out.strip()) == BUNDLE
    assert main(["bundle"]) == 0
    assert capsys.readouterr().out.split() == list_bundles()
    assert main(["bundle", "memorisation"]) == 2
    assert "memorization_audit" in capsys.readouterr().err


def test_a_wheel_has_its_bundles_inside_the_package(tmp_path, monkeypatch) -> None:
    package = tmp_path / "site-packages" / "monai_deepssim"
    for root in (package, tmp_path / "site-packages"):
        (root / "bundles" / "memorization_audit" / "configs").mkdir(parents=True)
        (root / "bundles" / "memorization_audit" / "configs" / "metadata.json").write_text("{}")
    monkeypatch.setattr(bundles_module, "_PACKAGE", package)
    assert find_bundle("memorization_audit") == package / "bundles" / "memorization_audit"
    with pytest.raises(UnusableInputError, match="deepssim_brain_mri"):
        find_bundle("deepssim_brain_mri")


def test_python_dash_m_works_from_anywhere(tmp_path) -> None:
    command = [sys.executable, "-m", "monai_deepssim", "bundle", "memorization_audit"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(ended.stdout.strip()) == BUNDLE


def test_asking_for_a_bundle_does_not_wait_for_pytorch() -> None:
    program = "import sys, monai_deepssim.__main__ as m; m.main(['bundle']); print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "False"
