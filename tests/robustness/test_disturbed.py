"""Runs that are killed, interrupted or out of space at any change of a file: the next run ends as if undisturbed.

By default a few calls are tried; with ``-m sweep`` all of them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

COMMANDS = {
    "audit": ["audit", "training", "synthetic", "-o", "out", "--controls", "none"],
    "filter": ["filter", "training", "synthetic", "-o", "out", "--controls", "none"],
    "deduplicate": ["deduplicate", "training", "-o", "out"],
    "train": ["train", "out", "3"],
}
# At least as many as each changes files, which a test checks; those that are too many disturb nothing and are skipped.
CALLS = {"audit": 175, "filter": 240, "deduplicate": 115, "train": 22}
# What a summary says of the run itself, and not of the images.
_OF_THE_RUN = (
    "created",
    "continued",
    "run",
    "timings",
    "versions",
    "hashes",
    "timings_seconds",
    "result_files",
    "command",
)
pytestmark = pytest.mark.filterwarnings("ignore")


def places(default):
    """All calls in the sweep, of which these are tried by default."""
    return [
        pytest.param(name, call, marks=() if (name, call) in default else pytest.mark.sweep, id=f"{name}-{call}")
        for name in COMMANDS
        for call in range(1, CALLS[name] + 1)
    ]


@pytest.fixture(scope="session")
def undisturbed(fork_server, make_folders, tmp_path_factory):
    """What each command leaves in its output folder, and how many calls that takes."""
    results = {}

    def of(name):
        if name not in results:
            folder = make_folders(tmp_path_factory.mktemp("undisturbed") / name)
            outcome = fork_server.run(COMMANDS[name], folder)
            assert outcome.status == 0, outcome.err
            results[name] = (result_of(folder / "out"), outcome.calls)
        return results[name]

    return of


def without_run(value):
    if isinstance(value, dict):
        return {
            key: without_run(entry) for key, entry in value.items() if key not in _OF_THE_RUN and "sha256" not in key
        }
    return [without_run(entry) for entry in value] if isinstance(value, list) else value


def result_of(folder):
    """The results of a command by file, without what differs between two undisturbed runs."""
    results: dict = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(("embeddings/", "local_features/", "verified/", "filtered_audit/")):
            continue
        if path.suffix == ".json":
            results |= {f"{name}: {key}": value for key, value in without_run(json.loads(path.read_text())).items()}
        elif path.suffix in (".csv", ".png"):
            results[name] = path.read_bytes()
        elif path.suffix == ".pt":
            results[name] = {key: value.tolist() for key, value in torch.load(path)["network"].items()}
        else:
            results[name] = None  # pages and figures name the time of the run
    return results


def is_told(outcome):
    """One message at the end, and no traceback."""
    assert "Traceback" not in outcome.err, outcome.err
    return outcome.err.strip().splitlines()[-1]


def assert_ends_undisturbed(fork_server, undisturbed, name, folder):
    again = fork_server.run(COMMANDS[name], folder)
    assert again.status == 0, again.err
    expected, _ = undisturbed(name)
    result = result_of(folder / "out")
    assert not list((folder / "out").rglob("*.partial*"))  # in the stores, too
    assert result == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_the_sweep_reaches_the_last_change_of_a_file(undisturbed, name):
    assert undisturbed(name)[1] <= CALLS[name]


@pytest.mark.parametrize(("name", "call"), places({("audit", 41), ("filter", 57), ("train", 4), ("train", 7)}))
def test_a_run_killed_at_any_change_of_a_file_ends_at_the_next_run_as_undisturbed(
    fork_server, undisturbed, make_folders, tmp_path, name, call
):
    if call > undisturbed(name)[1]:
        pytest.skip("the command makes fewer calls")
    folder = make_folders(tmp_path / name)
    assert fork_server.run(COMMANDS[name], folder, how="kill", at=call).status == -9
    assert_ends_undisturbed(fork_server, undisturbed, name, folder)


@pytest.mark.parametrize(
    ("how", "status", "word"), [("interrupt", 130, "interrupted"), ("terminate", 143, "terminated")]
)
@pytest.mark.parametrize(("name", "call"), places({("audit", 30), ("train", 6)}))
def test_a_signal_ends_a_run_with_one_line_and_the_next_run_goes_on(
    fork_server, undisturbed, make_folders, tmp_path, name, call, how, status, word
):
    if call > undisturbed(name)[1]:
        pytest.skip("the command makes fewer calls")
    folder = make_folders(tmp_path / name)
    outcome = fork_server.run(COMMANDS[name], folder, how=how, at=call)
    assert is_told(outcome) == f"monai-deepssim: {word}. The same command continues where this stopped."
    assert outcome.status == status
    assert_ends_undisturbed(fork_server, undisturbed, name, folder)


@pytest.mark.parametrize(("name", "call"), places({("audit", 20), ("deduplicate", 40), ("train", 5)}))
def test_a_disk_that_is_full_from_any_call_on_is_said_and_later_the_run_goes_on(
    fork_server, undisturbed, make_folders, tmp_path, name, call
):
    if call > undisturbed(name)[1]:
        pytest.skip("the command makes fewer calls")
    folder = make_folders(tmp_path / name)
    outcome = fork_server.run(COMMANDS[name], folder, how="full", at=call)
    if outcome.calls < call:  # removals do not count here: a full disk can be cleaned up
        pytest.skip("the command makes fewer calls that need room")
    assert outcome.status == 2, (outcome.status, outcome.err)
    assert "No space left on device" in is_told(outcome)
    assert_ends_undisturbed(fork_server, undisturbed, name, folder)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of so many kilobytes, where root may."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs root and the right to mount")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [
        ("audit", 64),
        *(pytest.param("audit", size, marks=pytest.mark.sweep) for size in (16, 32, 96, 128, 256, 384, 512, 768, 1500)),
        *(pytest.param("filter", size, marks=pytest.mark.sweep) for size in (16, 48, 96, 192, 384, 768, 1500, 3000)),
        *(pytest.param("deduplicate", size, marks=pytest.mark.sweep) for size in (16, 48, 96, 192)),
        *(pytest.param("train", size, marks=pytest.mark.sweep) for size in (4, 8, 12, 20)),
    ],
)
def test_a_small_disk_is_said_to_be_full_and_no_result_stays_that_looks_whole(
    fork_server, undisturbed, make_folders, small_disk, tmp_path, name, kilobytes
):
    folder = make_folders(tmp_path / "images")
    disk = small_disk(kilobytes)
    command = [str(disk) if word == "out" else word for word in COMMANDS[name]]
    outcome = fork_server.run(command, folder)
    if outcome.status != 0:
        assert outcome.status == 2, outcome.err
        assert "No space left on device" in is_told(outcome)
        assert not (Path(disk) / "summary.json").exists()
        assert not (Path(disk) / "filter.json").exists()
    else:
        # A checkpoint of the training takes 8 kB, and a new one is written beside the old one.
        assert kilobytes >= (20 if name == "train" else 65)
        assert result_of(Path(disk)).keys() == undisturbed(name)[0].keys()


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_a_training_that_a_signal_ends_goes_on_to_the_same_weights(
    fork_server, undisturbed, make_folders, tmp_path, how
):
    folder = make_folders(tmp_path / "train")
    for call in (2, 6, 9):
        fork_server.run(COMMANDS["train"], folder, how=how, at=call)
    assert_ends_undisturbed(fork_server, undisturbed, "train", folder)


@pytest.mark.sweep
def test_of_two_audits_in_one_folder_the_second_is_refused(fork_server, make_folders, tmp_path):
    folder = make_folders(tmp_path / "two")
    command = [sys.executable, "-m", "monai_deepssim", *COMMANDS["audit"]]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, cwd=folder, **silent)
    try:
        while not (folder / "out").is_dir() and first.poll() is None:
            time.sleep(0.01)
        second = fork_server.run(COMMANDS["audit"], folder)
    finally:
        first.kill()
        first.wait()
    assert second.status == 2
    assert "another run is at work in out" in is_told(second)
    assert fork_server.run(COMMANDS["audit"], folder).status == 0  # the killed one has left no lock
