"""The commands ``monai-deepssim benchmark`` and ``study``, whose defaults are those of a bundle's config."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from monai_deepssim.benchmark.options import BenchmarkCommandOptions
from monai_deepssim.command import main
from monai_deepssim.options import option_fields
from monai_deepssim.study.options import StudyOptions

FEW = ["--quick", "--num_pairs", "6", "--gallery_size", "8", "--num_resamples", "5", "--perturbations", "none,mix"]
TINY = ["--base#width", "16", "--base#epochs=20", "--phantom#num_subjects", "70", "--estimate_only"]


def test_a_benchmark_has_the_detectors_of_the_bundle_and_the_options_that_were_typed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    named = "$__import__('os').system('touch pwned')"
    arguments = ["--only", "deepssim,ncc,torchscript", "--device", "cpu", "-o", named, "--json"]
    assert main(["benchmark", *FEW, *arguments, "--detectors#ncc#threshold", "0.99"]) == 0
    printed = capfd.readouterr()
    summary = json.loads(printed.out)
    assert summary["detectors"]["ncc"]["own_threshold"] == 0.99
    assert summary["detectors"]["deepssim"]["made_of"]["device"] == "cpu"
    assert summary["left_out"]["torchscript"] == "no weights: give --torchscript_file"
    assert "| `ncc` |" in printed.err
    assert Path(named, "report.html").is_file()
    assert not Path("pwned").exists()
    results = pd.read_csv(Path(named, "results.csv"))
    assert results["detector"].tolist() == ["deepssim", "deepssim", "ncc", "ncc"]
    assert main(["benchmark", *FEW, *arguments, "--quiet", "--num_pairs", "2"]) == 2
    assert capfd.readouterr().out == "", "a summary of an earlier run"


def test_quiet_prints_nothing(tmp_path, capfd):
    assert main(["benchmark", *FEW, "--only", "mse", "-o", str(tmp_path), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_the_estimate_of_a_study_has_the_grid_that_was_typed(tmp_path, capfd):
    arguments = ["study", *TINY, "--factors", "{'augmentation': [True]}", "-o", str(tmp_path / "study")]
    assert main([*arguments, "--num_seeds", "3"]) == 0
    # 2 cells of 3 seeds, 2 steps of 16 images in each of 20 epochs.
    assert "6 trainings (240 steps)" in capfd.readouterr().out
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["benchmark", "--perturbation", "mix"], "Did you mean --perturbations?"),
        (["benchmark", "--detector#ncc#threshold", "1"], "Did you mean --detectors?"),
        (["benchmark", "--detectors#nnc#threshold", "1"], "--detectors#nnc#threshold: there is no such part"),
        (["benchmark", "--detectors#ncc#treshold", "1"], "--detectors#ncc: cannot be made"),
        (["benchmark", "--checkpoint", "no_such.pt"], "no_such.pt"),
        (["benchmark", "--open_clip_model", "$model"], "wanted a value that does not begin with $, @ or %"),
        (["benchmark", "more"], "'more' is one argument too many"),
        (["benchmark", "--images", "no_such_folder"], "no_such_folder"),
        (["study", "--qick"], "Did you mean --quick?"),
        (["study", "--base#widht", "3"], "wanted a value for each of training_images"),
        (["study", "--base#width", "@evil"], "wanted a value that does not begin with $, @ or %"),
        (["study", "--base", "{'width': 3}", "--base#epochs", "2"], "was given together with --base"),
        (["study", "--factors", "{'colour': [1]}"], "'colour' is unknown"),
        (["study", "--num_samples", "4"], "--num_samples: is 4"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2_and_words(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capfd.readouterr().err
    assert words in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(("command", "options"), [("benchmark", BenchmarkCommandOptions), ("study", StudyOptions)])
def test_the_help_has_every_option_and_needs_no_torch(command, options):
    code = f"import sys; from monai_deepssim.command import main; main(['{command}', '--help']); "
    code += "assert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for entry in option_fields(options):
        assert (f"--{entry.name} " in ended.stdout) == (entry.name != "detectors"), entry.name
        assert entry.metadata["group"] in ended.stdout
    assert "Default: ." not in ended.stdout
