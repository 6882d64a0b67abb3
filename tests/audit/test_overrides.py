"""The bundle as MONAI runs it: overrides that name nothing, and values that MONAI's parsing has changed."""

import json
import subprocess
import sys
from pathlib import Path

import fire
import monai.bundle
import pytest
from fire.parser import DefaultParseValue

from monai_deepssim.audit import Audit
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.options import option_fields, read_options
from monai_deepssim.workflow import find_bundle
from monai_deepssim.workflow.overrides import as_typed, command_line_texts

CONFIG = find_bundle("memorization_audit") / "configs" / "inference.json"


def training_dir_as_typed(value, typed):
    return as_typed({"training_dir": value}, typed, option_fields(AuditOptions))["training_dir"]


@pytest.fixture
def command_line(folders, checkpoint, monkeypatch):
    """Run ``python -m monai.bundle run`` with our config in this process; returns the exit status."""
    monkeypatch.chdir(folders)
    always = [f"--config_file={CONFIG}", f"--checkpoint={checkpoint}", "--image_size=[64,64]", "--device=cpu"]
    always.append("--controls=none")

    def run(*arguments: str) -> int:
        words = ["run", *always, *arguments]
        monkeypatch.setattr(sys, "argv", ["monai.bundle", *words])
        try:
            fire.Fire({"run": monai.bundle.run}, command=words)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


FOLDERS = ("--training_dir", "training", "--synthetic_dir", "synthetic", "--output_dir", "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sythetic_dir", "synthetic"], ["--sythetic_dir", "Did you mean --synthetic_dir?"]),
        (["--max_copy_fracton=0.01"], ["--max_copy_fracton", "Did you mean --max_copy_fraction?"]),
        (["--reference_dir", "training"], ["--reference_dir", "no such option"]),
        (["--dataset_dir", "training"], ["--dataset_dir", "no such option"]),
        (["--zzz", "1"], ["--zzz", "The options are: training_dir, "]),
        (["--audit#topk", "5"], ["--topk", "Did you mean --top_k?"]),
        (["--max_copy_fraction", "None"], ["--max_copy_fraction", "None is not a value"]),
        (["--output_dir"], ["--output_dir", "without a value"]),
        (["--args_file", "mistyped.json"], ["--batchsize", "Did you mean --batch_size?"]),
        ([f"--config_file=['{CONFIG}','mistyped.json']"], ["--batchsize", "Did you mean --batch_size?"]),
    ],
    ids=lambda value: value[0][:40] if value[0].startswith("--") else "",
)
def test_an_override_that_names_nothing_ends_with_status_2(command_line, capsys, arguments, words) -> None:
    Path("mistyped.json").write_text(json.dumps({"batchsize": 8}))
    assert command_line(*FOLDERS, *arguments) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert not Path("out", "summary.json").exists()


@pytest.mark.parametrize(
    ("mistyped", "error"),
    [
        ("--audits#top_k", KeyError),
        ("--audit#tops#k", KeyError),
        ("--top_k#x", ValueError),
        ("--handlers#0", IndexError),
    ],
)
def test_an_id_that_leads_nowhere_is_refused_by_monai_before_the_audit_is_there(command_line, mistyped, error) -> None:
    with pytest.raises(error):  # a traceback and status 1: out of our reach, as workflow/overrides.py says
        command_line(*FOLDERS, mistyped, "5")
    assert not Path("out").exists()


@pytest.mark.parametrize("given", ["None", ""])
def test_folders_that_an_empty_variable_gave_do_not_start_the_demo(command_line, given) -> None:
    assert command_line(f"--training_dir={given}", f"--synthetic_dir={given}") == 2
    assert not Path("memorization_audit", "demo").exists()


@pytest.mark.usefixtures("null_that_calls")
def test_arguments_of_monai_itself_and_nested_ids_are_no_mistakes(command_line, folders) -> None:
    Path("arguments.json").write_text(json.dumps({"batch_size": 2, "patient_id_pattern": "(sub-.)"}))
    status = command_line(
        *FOLDERS, "--args_file", "arguments.json", "--bundle_root", str(CONFIG.parents[1]), "--audit#top_k", "3",
        "--thresholds", "[0.9,0.999]", "--max-copy-fraction", "0.6", "--gate_on", "files",
        "--controls", "1", "--min_recall", "0", "--init_id", "initialize", "--run_id", "run",
    )  # fmt: skip
    assert status == 0
    summary = json.loads(Path("out", "summary.json").read_text())
    assert summary["options"]["top_k"] == 3
    assert summary["options"]["patient_id_pattern"] == "(sub-.)"
    assert summary["gate"]["max_copy_fraction"] == 0.6
    assert summary["num_copies"] == 2


@pytest.mark.parametrize("name", ["2024", "1e5", "out,1", "data#1"])
def test_a_folder_may_be_named_like_something_that_monai_parses(command_line, folders, name) -> None:
    (folders / "training").rename(folders / name)
    output = f"of {name}"
    assert command_line(f"--training_dir={name}", "--synthetic_dir", "synthetic", f"--output_dir={output}") == 0
    assert json.loads((folders / output / "summary.json").read_text())["training_dir"] == name


def test_a_number_in_an_args_file_names_a_folder_if_it_can_be_told_which(command_line, folders) -> None:
    (folders / "training").rename(folders / "2024")
    Path("arguments.json").write_text('{"training_dir": 2024, "synthetic_dir": "synthetic"}')
    assert command_line("--args_file", "arguments.json") == 0


def test_a_bundle_that_is_not_ours_may_have_ids_that_others_refer_to(command_line, folders) -> None:
    Path("site.json").write_text(json.dumps({"data": "training", "training_dir": "@data"}))
    assert command_line(f"--config_file=['{CONFIG}','site.json']", "--synthetic_dir", "synthetic") == 0


@pytest.mark.parametrize("name", ["$__import__('pathlib').Path('touched').touch()", "@bundle_root", "%other.json::a"])
def test_a_name_that_monai_evaluates_is_refused_before_anything_runs(command_line, folders, capsys, name) -> None:
    Path("other.json").write_text('{"a": "training"}')
    assert command_line("--training_dir", name, "--synthetic_dir", "synthetic") == 2
    assert "MONAI evaluates what begins with $, @ or %" in capsys.readouterr().err
    assert not Path("touched").exists()
    assert not Path("memorization_audit").exists()


def test_an_audit_in_a_bundle_of_somebody_else_takes_no_offence_at_its_ids(folders, checkpoint, monkeypatch) -> None:
    monkeypatch.chdir(folders)
    config = {
        "number_of_their_own": 7,
        "audit": {
            "_target_": "monai_deepssim.audit.Audit",
            "training_dir": "training",
            "synthetic_dir": "synthetic",
            "checkpoint": str(checkpoint),
            "image_size": [64, 64],
            "device": "cpu",
            "controls": None,
        },
        "run": "$@audit.run()",
    }
    Path("theirs.json").write_text(json.dumps(config))
    workflow = monai.bundle.ConfigWorkflow(
        "theirs.json", logging_file=str(CONFIG.parent / "logging.conf"), workflow_type=None
    )
    workflow.initialize()
    assert workflow.run()[0].copy_fraction.total == 4


def test_every_option_is_an_id_of_the_config_with_the_same_default() -> None:
    config = json.loads(CONFIG.read_text())
    names = Audit.option_names()
    assert [name for name in config["audit"] if name != "_target_"] == names
    assert all(config["audit"][name] == f"@{name}" for name in names)
    options = {name: config[name] for name in names if name not in Audit.objects}
    assert read_options(AuditOptions, options) == read_options(AuditOptions, {})


def test_monai_finds_the_properties_that_an_inference_bundle_has(folders, checkpoint) -> None:
    workflow = monai.bundle.ConfigWorkflow(
        config_file=str(CONFIG),
        workflow_type="inference",
        training_dir=str(folders / "training"),
        synthetic_dir=str(folders / "synthetic"),
        checkpoint=str(checkpoint),
        image_size=[64, 64],
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.evaluator.run()
    assert workflow.evaluator.state.output is not None
    assert len(workflow.dataset) == 10


@pytest.mark.parametrize("text", ["2024", "1e5", "out,1", "data#1", "0x10", "1_000", "True", "{a: b}", "a b/c", "007"])
def test_a_text_survives_monais_parsing(text) -> None:
    arrived = DefaultParseValue(text)
    arrived = arrived.replace("#", "::") if isinstance(arrived, str) else arrived
    assert training_dir_as_typed(arrived, {"training_dir": text}) == text


def test_text_is_taken_from_the_command_line_only_if_it_is_where_the_value_came_from() -> None:
    typed = command_line_texts(["run", "--training_dir", "1e5", "--", "--trace"])
    assert typed == {"training_dir": "1e5"}
    assert training_dir_as_typed(1e5, typed) == "1e5"
    assert training_dir_as_typed("elsewhere", typed) == "elsewhere"
    assert training_dir_as_typed("1e5", {"training_dir": "'1e5'"}) == "1e5"


def test_the_command_of_the_readme_ends_with_the_gates_status(folders, checkpoint) -> None:
    (folders / "training").rename(folders / "2024")
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG),
        "--bundle_root", str(CONFIG.parents[1]), "--training_dir", "2024", "--synthetic_dir=synthetic",
        "--output_dir", "out", "--checkpoint", str(checkpoint), "--image_size", "[64,64]",
        "--thresholds", "[0.9,0.999]", "--max_copy_fraction", "0.01", "--controls", "none",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=folders, capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "2 of 4 synthetic images are copies" in ended.stdout
    assert "EXCEEDED" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "training images: 100%" in ended.stderr
