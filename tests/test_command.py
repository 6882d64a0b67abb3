"""The command ``monai-deepssim``: its help, its exit statuses, and that a name is a name."""

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import monai_deepssim
from monai_deepssim import progress
from monai_deepssim.__main__ import main as run_program
from monai_deepssim.audit import find_copies
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.training_options import EmbedderTrainingOptions
from monai_deepssim.command import main
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import load_deepssim
from monai_deepssim.options import option_fields, options_as_json, read_options
from monai_deepssim.workflow import exit_status, find_bundle

# What takes most of a second to import, and nothing that only says what there is waits for.
LATE = {"torch", "monai", "pandas", "scipy", "numba", "nibabel", "PIL", "matplotlib"}


@pytest.fixture(scope="module")
def phantoms():
    return [item["image"][0].numpy() for item in PhantomBrainDataset(12, seed=31, progress=False)]


@pytest.fixture
def folders(phantoms, tmp_path, monkeypatch):
    """Eight training images; four synthetic ones, of which two are mirrored copies."""
    monkeypatch.chdir(tmp_path)
    for folder, images in (
        ("training", phantoms[:8]),
        ("synthetic", [*(p[:, ::-1] for p in phantoms[:2]), *phantoms[8:10]]),
    ):
        Path(folder).mkdir()
        for number, image in enumerate(images):
            Image.fromarray((image * 255).round().astype(np.uint8)).save(f"{folder}/{number}.png")
    return tmp_path


def test_an_audit_needs_two_folders_and_nothing_else(folders, capfd):
    assert (
        main(["audit", "training", "synthetic", "-o", "out", "--controls", "none", "--max-copy-fraction", "0.1"]) == 3
    )
    told = capfd.readouterr()
    assert "2 of 4 synthetic images are copies" in told.out
    stages = [line for line in told.out.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in stages] == [
        f"[{number}/{len(stages)}" for number in range(1, len(stages) + 1)
    ]
    assert "EXCEEDED" in told.out
    assert "Warning" not in told.err
    assert {"summary.json", "report.html", "matches.csv"} <= {path.name for path in Path("out").iterdir()}


def test_a_status_that_cannot_be_recorded_is_told_where_all_else_was_well(folders, capfd, monkeypatch):
    def fail(path, text):
        raise UnusableInputError(f"{path}: cannot be written (No space left on device). Make room.")

    monkeypatch.setattr(exit_status, "write_text", fail)
    assert main(["deduplicate", "training", "-o", "out"]) == 2
    assert "exit_status: cannot be written (No space left on device)" in capfd.readouterr().err
    assert main(["audit", "training", "nowhere", "-o", "out"]) == 2
    assert "nowhere" in capfd.readouterr().err.splitlines()[-1]  # why it ended, and not what came after


def test_every_bar_reaches_its_total_and_goes_no_further(folders, monkeypatch):
    bars = []

    class Watched(progress.tqdm):
        def close(self):
            if not self.disable:
                bars.append((self.desc, self.n, self.total))
            super().close()

    monkeypatch.setattr(progress, "tqdm", Watched)
    assert main(["audit", "training", "synthetic", "-o", "out", "--controls", "2"]) == 0
    assert {"training images", "synthetic images", "control images"} <= {name for name, _, _ in bars}
    assert any(name.startswith("verifying") for name, _, _ in bars)
    assert [bar for bar in bars if bar[1] != bar[2]] == []


def test_as_json_the_summary_alone_is_on_the_standard_output(folders, capfd):
    assert main(["audit", "training", "synthetic", "-o", "out", "--controls", "none", "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["num_copies"] == 2
    assert "2 of 4 synthetic images are copies" in told.err


def test_a_warning_of_the_package_is_shown_and_none_of_others(folders):
    with pytest.warns(UserWarning, match="8 training images are few") as warned:
        assert main(["audit", "training", "synthetic", "-o", "out", "--controls", "none", "--memorization_index"]) == 0
    assert all("monai_deepssim" in warning.filename for warning in warned)


def test_quiet_prints_nothing(folders, capfd):
    assert main(["audit", "training", "synthetic", "-o", "out", "--controls", "none", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_quiet_prints_errors_alone(folders, capfd):
    assert main(["audit", "training", "no_such_folder", "-o", "out", "--quiet"]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith("monai-deepssim: no_such_folder: there is no such file or folder")


@pytest.mark.parametrize("name", ["$__import__('os').system('touch pwned')", "@training", "%x.json::a", "1e5", "a#b"])
def test_a_name_is_taken_literally(folders, name):
    Path("training").rename(name.replace("/", "-"))
    assert main(["audit", name.replace("/", "-"), "synthetic", "-o", "out", "--controls", "none", "--quiet"]) == 0
    assert json.loads(Path("out/summary.json").read_text())["training_dir"] == name.replace("/", "-")
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["training", "$a#1@b%::c'"])
def test_an_embedder_is_trained_on_a_folder_whatever_its_name(folders, capfd, name):
    if name != "training":
        Path("training").rename(name)
    arguments = ["--max-epochs", "1", "--image_size", "[64, 64]", "--items_per_batch", "4", "--learning_rate", "1e-6"]
    assert main(["train-embedder", name, "-o", f"{name}-out", *arguments]) == 0
    assert "Trained 1 epochs; the best is number 1" in capfd.readouterr().out
    shipped = torch.load(find_bundle("deepssim_brain_mri") / "models" / "model.pt", weights_only=True)
    trained = load_deepssim(f"{name}-out/model.pt").state_dict()
    assert all(torch.allclose(trained[name], shipped[name].to(trained[name].dtype), atol=1e-3) for name in shipped)
    # Run again it goes on where it is, here at its end.
    assert main(["train-embedder", name, "-o", f"{name}-out", *arguments, "--json"]) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["best_epoch"] == 1


def test_an_embedder_starts_from_what_is_asked_for(folders, monkeypatch):
    started = []
    monkeypatch.setattr(
        "monai_deepssim.audit.embedder_training.run_config",
        lambda bundle, configs, overrides: started.append((configs, overrides.get("initial_weights"))),
    )
    Path("other.pt").write_bytes(b"")
    for start in (["--start", "random"], ["--start", "published"], ["--checkpoint", "other.pt"]):
        assert main(["train-embedder", "training", *start]) == 2  # no training, no result
    assert started == [
        (["train"], None),
        (["train", "published_network"], None),
        (["train", "fine_tune"], "$'other.pt'"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "a", "b", "--max_copy_fracton", "0.1"], "Did you mean --max_copy_fraction?"),
        (["audit", "a"], "SYNTHETIC"),
        (["audit", "a", "b", "c"], "'c' is one argument too many"),
        (["demo", "--training_dir", "a"], "--training_dir: there is no such option"),
        (["audit", "no_such_folder", "b"], "no_such_folder"),
        (["audit", "a", "b", "--top_k", "many"], "--top_k: is 'many', wanted a whole number"),
        (["train-embedder", "a", "--max_epoch", "1"], "Did you mean --max_epochs?"),
        (["train-embedder", "no_such_folder"], "no_such_folder"),
        (["train-embedder", "training", "--start", "random", "--checkpoint", "training/0.png"], "Leave one out"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2_and_words(folders, capfd, arguments, words):
    assert main(arguments) == 2
    told = capfd.readouterr().err
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("command", "kind"), [("audit", AuditOptions), ("train-embedder", EmbedderTrainingOptions)])
def test_the_help_of_a_command_has_every_option_and_waits_for_no_import(command, kind):
    code = f"import sys; from monai_deepssim.command import main; main(['{command}', '--help']); "
    code += f"assert not {LATE} & {{*sys.modules}}, {LATE} & {{*sys.modules}}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for entry in option_fields(kind):
        shown = (
            entry.name.removesuffix("_dir").upper()
            if entry.name in ("training_dir", "synthetic_dir")
            else f"--{entry.name}"
        )
        assert shown in ended.stdout
        assert entry.metadata["group"] in ended.stdout


def test_the_package_is_imported_in_a_moment():
    code = f"import sys, monai_deepssim; late = {LATE} | {{'numpy'}}; assert not late & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert monai_deepssim.find_copies is find_copies


def test_an_interrupt_while_torch_is_imported_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupt(command):
        raise KeyboardInterrupt

    monkeypatch.setattr("monai_deepssim.command._find_workflow", interrupt)
    assert run_program(["audit", "training", "synthetic"]) == 130
    assert capsys.readouterr().err.startswith("monai-deepssim: interrupted.")
    monkeypatch.setenv("RANK", "1")  # of several processes one says it
    assert run_program(["audit", "training", "synthetic"]) == 130
    assert capsys.readouterr().err == ""


def test_slices_may_be_a_range_of_pythons():
    options = read_options(AuditOptions, {"slices": range(2, 4)})
    assert json.loads(json.dumps(options_as_json(options)))["slices"] == [2, 3]


def test_the_verdict_alone_is_coloured_and_nothing_stays_switched(folders, monkeypatch):
    told = []
    monkeypatch.setattr("monai_deepssim.workflow.workflow.say", lambda line, colour=None: told.append((line, colour)))
    switched, filters = logging.root.manager.disable, list(warnings.filters)
    assert main(["audit", "training", "synthetic", "-o", "out", "--controls", "none"]) == 0
    ((line, colour),) = [entry for entry in told if entry[1] is not None]
    assert (line.startswith("2 of 4 synthetic images are copies"), colour) == (True, "red")
    assert (logging.root.manager.disable, list(warnings.filters)) == (switched, filters)
