"""What is typed after ``monai-deepssim``: unusable input ends with status 2 and one message, and names are names."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from monai_deepssim.__main__ import main
from monai_deepssim.audit import Audit
from monai_deepssim.workflow.config_steps import as_literal

SIDES = ["training", "synthetic"]
AUDIT = ["audit", *SIDES, "-o", "out", "--controls", "none"]
DEDUPLICATE = ["deduplicate", "training", "-o", "out"]
FILTER = ["filter", *SIDES, "-o", "out", "--controls", "none"]
TRAIN = ["train-embedder", "training", "-o", "out"]
BENCHMARK = ["benchmark", "--quick", "--only", "deepssim", "-o", "out"]
INDEX = ["--detector", "memorization_index", "--verify", "false", "--thresholds", "0.5", "--allow_torchscript", "true"]
ALLOW, NEVER_RUN = "--allow_torchscript true", "code of a checkpoint is never run"
RUN = "__import__('os').mkdir('ran')"
ODD_NAMES = [
    f"${RUN}",
    "@training",
    "%config.json",
    "-x",
    "=a",
    "a;b",
    "*",
    "?",
    "[a]",
    "`mkdir ran`",
    "$(mkdir ran)",
    "a\nb",
]

# What is typed, and words of the message.
REFUSED = {
    "nothing like it": (["no-such-command"], "no-such-command"),
    "no side": (["audit"], "TRAINING"),
    "one side": (["audit", "training"], "SYNTHETIC"),
    "too many": ([*AUDIT, "third"], "third"),
    "mistyped": ([*AUDIT, "--top-kk", "3"], "--top_k"),
    "missing folder": (["audit", "nowhere", "synthetic", "-o", "out"], "nowhere"),
    "empty folder": (["audit", "empty", "synthetic", "-o", "out"], "empty"),
    "same side": (["audit", "training", "training", "-o", "out"], "training"),
    "output in a side": (["audit", *SIDES, "-o", "training/out"], "--output_dir"),
    "output is a file": (["audit", *SIDES, "-o", "file"], "file"),
    "null byte": (["audit", "a\0b", "synthetic"], "null character"),
    "long name": (["audit", "x" * 5000, "synthetic"], "longer than a name"),
    "home of nobody": (["audit", "~nobody-of-this-name", "synthetic"], "home of a user"),
    "long path": (["audit", "x/" * 3000, "synthetic"], "longer than a name"),
    "no number": ([*AUDIT, "--top_k", "many"], "--top_k"),
    "huge slice": ([*AUDIT, "--slices", "0:1000000000000", "--patient_id_pattern", "("], "patient_id_pattern"),
    "bad pattern": ([*AUDIT, "--patient_id_pattern", "sub-("], "patient_id_pattern"),
    "no group": ([*AUDIT, "--patient_id_pattern", "a"], "patient_id_pattern"),
    "negative size": ([*AUDIT, "--image_size", "[-1, 64]"], "--image_size"),
    "three sizes": ([*AUDIT, "--image_size", "[64, 64, 64]"], "--image_size"),
    "deep size": ([*AUDIT, "--image_size", "[" * 5000], "--image_size"),
    "deep options": ([*AUDIT, "--detector_options", "a=" + "[" * 5000 + "]" * 5000], "--detector_options"),
    "unknown detector": ([*AUDIT, "--detector", "$print(1)"], "--detector"),
    "unknown argument": ([*AUDIT, "--detector", "phash", "--detector_options", "hashsize=3"], "hash_size"),
    "hidden argument": ([*AUDIT, "--detector_options", "allow_torchscript=true"], "allow_torchscript"),
    "thresholds": ([*AUDIT, "--thresholds", "[2, 3]"], "--thresholds"),
    "share": ([*AUDIT, "--max_copy_fraction", "2"], "--max_copy_fraction"),
    "device": ([*AUDIT, "--device", "cuda:99"], "--device"),
    "checkpoint missing": ([*AUDIT, "--checkpoint", "none.pt"], "none.pt"),
    "checkpoint is a folder": ([*AUDIT, "--checkpoint", "training"], "training"),
    "checkpoint is text": ([*AUDIT, "--checkpoint", "file"], "not a checkpoint"),
    "checkpoint with code": ([*AUDIT, "--checkpoint", "code.pt"], NEVER_RUN),
    "checkpoint of another": ([*AUDIT, "--checkpoint", "other.pt"], "other.pt"),
    "TorchScript": ([*AUDIT, "--checkpoint", "program.pt"], ALLOW),
    "TorchScript of MI": ([*AUDIT, *INDEX, "--checkpoint", "program.pt"], "TorchScript"),
    "no TorchScript": ([*AUDIT, "--detector", "torchscript", "--checkpoint", "other.pt"], "other.pt"),
    "autoencoder is text": ([*AUDIT[:-1], "1", "--autoencoder", "file"], "file"),
    "autoencoder with code": ([*AUDIT[:-1], "1", "--autoencoder", "code.pt"], "code.pt"),
    "filter without": (["filter", "training"], "SYNTHETIC"),
    "filter TorchScript": (
        [*FILTER, "--checkpoint", "program.pt"],
        "--allow_torchscript true",
    ),
    "filter what": (["filter", *SIDES, "-o", "out", "--leave_out", "everything"], "--leave_out"),
    "filter how": (["filter", *SIDES, "-o", "out", "--files", "move"], "--files"),
    "deduplicate nothing": (["deduplicate"], "TRAINING"),
    "deduplicate missing": (["deduplicate", "nowhere", "-o", "out"], "nowhere"),
    "deduplicate TorchScript": (
        ["deduplicate", "training", "-o", "out", "--checkpoint", "program.pt"],
        "--allow_torchscript true",
    ),
    "verify nothing": (["verify", "training", "synthetic"], "training"),
    "verify missing": (["verify", "nowhere", "synthetic"], "nowhere"),
    "verify a file": (["verify", "file", "synthetic"], "file"),
    "verify text": (["verify", "text", "synthetic"], "text"),
    "verify deep": (["verify", "deep", "synthetic"], "deep"),
    "reproduce missing": (["reproduce", "--images_dir", "nowhere", "--testset_csv", "text"], "text"),
    "reproduce without a list": (["reproduce", "--images_dir", "training"], "--testset_csv"),
    "reproduce matrices that are none": (
        ["reproduce", "--images_dir", "training", "--testset_csv", "file", "--matrices_dir", "training"],
        "--indices_dir",
    ),
    "report nothing": (["report", "training", "--shareable"], "training"),
    "report missing": (["report", "nowhere", "--shareable"], "nowhere"),
    "report text": (["report", "text", "--shareable"], "text"),
    "report deep": (["report", "deep", "--shareable"], "deep"),
    "train nothing": (["train-embedder"], "TRAINING"),
    "train missing": (["train-embedder", "nowhere", "-o", "out"], "nowhere"),
    "train on TorchScript": (
        [*TRAIN, "--checkpoint", "program.pt"],
        "cannot be trained on",
    ),
    "train on code": (
        [*TRAIN, "--checkpoint", "code.pt"],
        "code of a checkpoint is never run",
    ),
    "train on text": ([*TRAIN, "--checkpoint", "file"], "not a checkpoint"),
    "train goes on from text": (
        ["train-embedder", "training", "-o", "begun", "--items_per_batch", "2"],
        "begun/checkpoint.pt",
    ),
    "benchmark size": (["benchmark", "--quick", "--image_size", "[1, 1]"], "--image_size"),
    "benchmark unknown": (["benchmark", "--quick", "--only", "nothing"], "nothing"),
    "benchmark expression": (
        ["benchmark", "--quick", "--detectors#ssim#threshold", f"${RUN}"],
        "$",
    ),
    "benchmark nowhere": (["benchmark", "--quick", "--detectors#nothing#top_k", "3"], "nothing"),
    "benchmark TorchScript": (
        [*BENCHMARK, "--checkpoint", "program.pt"],
        "--allow_torchscript true",
    ),
    "benchmark code": (
        [*BENCHMARK, "--checkpoint", "code.pt"],
        "code of a checkpoint is never run",
    ),
    "study base": (["study", "--base#width", f"${RUN}", "-o", "out"], "$"),
    "study checkpoint": (["study", "--checkpoint", "none.pt", "-o", "out"], "none.pt"),
    "bundle": (["bundle", "../configs"], "../configs"),
}


class Attack:
    """Unpickled, it would leave a folder behind."""

    def __reduce__(self):
        return (Path.mkdir, (Path("ran"),))


@pytest.fixture
def place(folders):
    """The folders, and beside them what is no input."""
    Path("empty").mkdir()
    Path("file").write_text("no folder")
    Path("text").mkdir()
    Path("text/summary.json").write_text("no JSON")
    Path("deep").mkdir()
    Path("deep/summary.json").write_text("[" * 100_000)
    Path("begun").mkdir()
    Path("begun/checkpoint.pt").write_text("half of one")
    torch.save({"network": Attack()}, "code.pt")
    torch.save(nn.Linear(2, 2).state_dict(), "other.pt")
    torch.jit.script(nn.Flatten()).save("program.pt")
    return folders


def refusal(capfd, typed):
    """The message with which a command ends with status 2."""
    status = main(typed)
    written = capfd.readouterr()
    assert status == 2, (status, written.err[-500:])
    assert "Traceback" not in written.out + written.err
    assert not Path("ran").exists()
    assert not Path("out/summary.json").exists()
    return written.err.strip().splitlines()[-1]


@pytest.mark.parametrize("what", REFUSED)
def test_unusable_input_of_a_command_ends_with_status_2_and_one_message(place, capfd, what):
    typed, words = REFUSED[what]
    message = refusal(capfd, typed)
    assert message.startswith(("monai-deepssim: ", "monai-deepssim"))
    assert words in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("audit", name) for name in ODD_NAMES),
        *(("verify", name) for name in ODD_NAMES),
        *((command, f"${RUN}") for command in ("filter", "deduplicate", "train-embedder", "report")),
        pytest.param("benchmark", f"${RUN}", marks=pytest.mark.sweep),
    ],
)
def test_a_name_that_means_something_elsewhere_is_the_name_of_a_folder(place, capfd, command, name):
    Path(name).mkdir()  # there is such a folder, and it holds no images and no audit
    typed = f"./{name}" if name[0] == "-" else name
    options = {
        "audit": [typed, "synthetic", "-o", "out"],
        "filter": [typed, "synthetic", "-o", "out"],
        "verify": [typed, "synthetic"],
        "report": [typed, "--shareable"],
        "benchmark": ["--quick", f"--images={name}", "-o", "out"],
    }
    message = refusal(capfd, [command, *options.get(command, [typed, "-o", "out"])])
    shown = name.replace("\n", r"\n")
    assert any(words in message for words in (shown, "no images", "no summary.json", "not a file inside"))


@pytest.mark.parametrize("name", [f"${RUN}", "@synthetic_dir", "%config.json", "$(mkdir ran)"])
@pytest.mark.parametrize(
    "option", ["training_dir", "synthetic_dir", "holdout_dir", "output_dir", "checkpoint", "patient_id_pattern"]
)
def test_a_bundle_refuses_a_typed_name_that_monai_would_evaluate(folders, monkeypatch, capsys, option, name):
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", f"--{option}", name])
    with pytest.raises(SystemExit) as ended:
        Audit.refuse_evaluated_names()
    assert ended.value.code == 2
    assert f"--{option}: is" in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        f"${RUN}",
        "@a",
        "%a::b",
        "a#b::c",
        [f"${RUN}", 1],
        {"_target_": "os.mkdir", "path": "ran"},
        ("@a", None),
        [[{"a": "$1"}]],
        "'\"\\",
        "\udc80",
        True,
        None,
        -1.5,
    ],
    ids=repr,
)
def test_a_value_that_is_passed_on_to_a_config_arrives_as_it_is(tmp_path, monkeypatch, value):
    from monai.bundle import ConfigParser

    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({"a": 3, "value": as_literal(value), "use": {"inner": "@value"}})
    assert parser.get_parsed_content("use")["inner"] == value
    assert json.dumps(parser.get_parsed_content("value")) == json.dumps(value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("slices", [str([f"${RUN}"]), "{'_target_': 'os.mkdir', 'path': 'ran'}"])
def test_slices_of_a_training_are_no_code(place, capfd, slices):
    refusal(capfd, [*TRAIN, "--slices", slices])


@pytest.mark.parametrize("out", ["training", "training/out", "synthetic"])
def test_a_refused_run_leaves_nothing_among_the_images(place, capfd, out):
    before = sorted(place.rglob("*"))
    assert f"--output_dir: {out} lies in --" in refusal(capfd, ["audit", *SIDES, "-o", out])
    assert sorted(place.rglob("*")) == before


def test_a_file_in_the_place_of_the_output_folder_is_told_as_such(place, capfd):
    Path("out").write_text("notes")
    assert "it is, or lies below, a file where a folder is wanted" in refusal(capfd, ["audit", "a", "b", "-o", "out"])
