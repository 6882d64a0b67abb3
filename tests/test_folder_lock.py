"""One run in a folder at a time, and none that has ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from monai_deepssim import UnusableInputError
from monai_deepssim.files import make_folder
from monai_deepssim.folder_lock import LOCK_FILE, locked_folder
from monai_deepssim.workflow.config_steps import perform_steps

HOLDER = """
import os, sys, time
from pathlib import Path
from monai_deepssim.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1])):
    if sys.argv[2] == "with a child":  # like a process that reads images
        if os.fork() == 0:
            print(os.getpid(), flush=True)  # by the child: what it does at the fork is done by then
            time.sleep(60)
            os._exit(0)
    else:
        print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Start a process that holds the lock of ``out``; it is killed at the end of the test."""
    processes = []

    def start(how: str = "alone") -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "out"), how], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        process.first = process.stdout.readline().strip()
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_second_run_is_told_who_is_at_work(tmp_path, hold) -> None:
    holder = hold()
    with pytest.raises(UnusableInputError) as refused, locked_folder(tmp_path / "out"):
        pass
    assert str(tmp_path / "out") in str(refused.value)
    assert f"process {holder.pid} on {socket.gethostname()}" in str(refused.value)
    assert "--output_dir" in str(refused.value)


def test_a_killed_run_leaves_no_lock(tmp_path, hold) -> None:
    holder = hold()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked_folder(tmp_path / "out"):
        pass


def test_a_process_that_outlives_the_killed_one_that_forked_it_keeps_no_lock(tmp_path, hold) -> None:
    holder = hold("with a child")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    child = int(holder.first)
    os.kill(child, 0)  # it is still there
    try:
        with locked_folder(tmp_path / "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_run_that_has_ended_leaves_neither_lock_nor_file(tmp_path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), locked_folder(tmp_path):
            raise KeyboardInterrupt
        assert not list(tmp_path.iterdir())


def test_steps_of_one_run_share_its_lock_by_whatever_name_of_the_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with locked_folder(Path("out")):
        with locked_folder(tmp_path / "out"):
            pass
        assert (tmp_path / "out" / LOCK_FILE).exists()


def test_another_thread_of_the_same_process_is_kept_out(tmp_path) -> None:
    refused = []

    def work() -> None:
        try:
            with locked_folder(tmp_path):
                pass
        except UnusableInputError as error:
            refused.append(str(error))

    with locked_folder(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with locked_folder(tmp_path):
        pass


def test_the_other_ranks_of_a_training_are_not_locked_out(tmp_path, hold, monkeypatch) -> None:
    hold()
    monkeypatch.setenv("RANK", "1")
    with locked_folder(tmp_path / "out"):
        pass


def test_the_name_of_who_holds_it_is_its_owners_alone(tmp_path) -> None:
    with locked_folder(tmp_path / "a" / "out"):
        assert (tmp_path / "a" / "out" / LOCK_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_lock_file_that_says_nothing_is_held_by_another_process(tmp_path, hold) -> None:
    make_folder(tmp_path / "out")
    hold()
    (tmp_path / "out" / LOCK_FILE).write_text("not JSON")
    with pytest.raises(UnusableInputError, match="another process"), locked_folder(tmp_path / "out"):
        pass


@pytest.fixture
def bundle(tmp_path) -> ConfigWorkflow:
    """A bundle whose only step writes a file as a package of others would."""
    config = {
        "imports": ["$from pathlib import Path"],
        "output_dir": str(tmp_path / "out"),
        "steps": ["$Path(@output_dir, 'events').write_text('pixels')"],
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.json").write_text(json.dumps(config))
    return ConfigWorkflow(str(tmp_path / "configs" / "train.json"), workflow_type=None, logging_file=False)


def test_the_steps_of_a_bundle_have_its_output_folder_for_themselves(tmp_path, bundle, hold) -> None:
    perform_steps(bundle)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["events"]
    assert (tmp_path / "out" / "events").stat().st_mode & 0o777 == 0o600
    hold()
    with pytest.raises(UnusableInputError, match="another run is at work in"):
        perform_steps(bundle)
