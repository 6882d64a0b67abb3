"""The command starts the other processes of a run itself, and none of them outlives it."""

import os
import signal

import pytest
from PIL import Image

from monai_deepssim import started_ranks as module
from monai_deepssim.__main__ import main
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.started_ranks import read_num_processes, started_ranks


@pytest.fixture
def sides(tmp_path):
    """Three training images, and synthetic ones of which the first two are copies."""
    cohort = PhantomBrainDataset(4, seed=5, progress=False)
    images = [(item["image"].as_tensor()[0] * 255).byte().numpy() for item in cohort]
    for side, chosen in (("training", images[:3]), ("synthetic", [images[0], images[1], images[3]])):
        (tmp_path / side).mkdir()
        for number, image in enumerate(chosen):
            Image.fromarray(image).save(tmp_path / side / f"{number}.png")
    return [str(tmp_path / side) for side in ("training", "synthetic")]


def test_two_processes_audit_together_and_the_status_of_the_gate_arrives(sides, tmp_path, capfd) -> None:
    settings = ["--controls", "none", "--max_copy_fraction", "0.01", "--gate_on", "files", "--processes", "2"]
    assert main(["audit", *sides, "--output_dir", str(tmp_path / "audit"), *settings]) == 3
    printed = capfd.readouterr()
    assert "2 of 3 synthetic images are copies" in printed.out
    assert "on 2 ranks" in printed.err
    assert (tmp_path / "audit" / "exit_status").read_text().strip() == "3"
    assert "WORLD_SIZE" not in os.environ


def test_a_process_that_has_ended_ends_the_others(sides, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(module, "_PROGRAM", "import os; os.abort()  # {path}")
    assert main(["audit", *sides, "--output_dir", str(tmp_path / "audit"), "--processes", "2"]) == 2
    assert "rank 1 was ended by SIGABRT" in capfd.readouterr().err


def test_an_error_of_all_is_said_once(sides, tmp_path, capfd) -> None:
    assert main(["audit", sides[0], str(tmp_path / "missing"), "-o", str(tmp_path / "audit"), "--processes", "2"]) == 2
    assert capfd.readouterr().err.count("missing") == 1


def test_an_interrupted_run_leaves_no_process(monkeypatch) -> None:
    monkeypatch.setattr(module, "_PROGRAM", "import time; time.sleep(600)  # {path}")
    started = []

    def interrupt() -> None:
        with started_ranks(3, []):
            started.extend(module._STARTED)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert len(started) == 2
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "257", "9" * 5000])
def test_a_number_of_processes_that_is_none_is_refused(text) -> None:
    with pytest.raises(UnusableInputError, match="wanted a whole number from 1 to 256"):
        read_num_processes(text)


def test_processes_of_torchrun_are_not_started_again(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert [read_num_processes(text) for text in ("4", "04", "\u0664")] == [1, 1, 1]
    with pytest.raises(UnusableInputError, match="torchrun has started 4"):
        read_num_processes("2")
