"""What is written is whole or not there, its owner's alone, and a disk that takes no more is said in words."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from monai_deepssim import UnusableInputError
from monai_deepssim.files import (
    atomic_file,
    ensure_writable,
    make_folder,
    open_private,
    private_umask,
    remove_files,
    write_text,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(params=[0o000, 0o022])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_is_its_owners_alone_before_a_byte_is_written_and_afterwards(tmp_path, umask) -> None:
    with atomic_file(tmp_path / "a.csv") as file:
        assert mode(tmp_path / "a.csv.partial") == 0o600
        file.write(b"patient 7")
    assert mode(tmp_path / "a.csv") == 0o600
    assert not (tmp_path / "a.csv.partial").exists()


def test_a_file_that_others_could_read_is_not_written_into(tmp_path) -> None:
    for name in ("a.csv", "a.csv.partial"):
        (tmp_path / name).write_text("before")
        (tmp_path / name).chmod(0o644)
    write_text(tmp_path / "a.csv", "patient 7")
    assert mode(tmp_path / "a.csv") == 0o600


def test_a_link_in_the_place_of_a_leftover_is_replaced_and_not_followed(tmp_path) -> None:
    (tmp_path / "elsewhere").write_text("somebody's")
    (tmp_path / "a.csv.partial").symlink_to(tmp_path / "elsewhere")
    write_text(tmp_path / "a.csv", "patient 7")
    assert (tmp_path / "elsewhere").read_text() == "somebody's"
    assert not (tmp_path / "a.csv").is_symlink()


def test_a_file_that_may_be_shared_has_the_mode_of_the_umask(tmp_path, umask) -> None:
    write_text(tmp_path / "report_shareable.html", "no names", private=False)
    assert mode(tmp_path / "report_shareable.html") == 0o666 & ~umask


def test_folders_that_are_made_are_their_owners_alone_and_others_stay_as_they_are(tmp_path, umask) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    before = mode(tmp_path / "there")
    make_folder(tmp_path / "there" / "a" / "b")
    assert [mode(tmp_path / "there" / name) for name in ("a", "a/b")] == [0o700, 0o700]
    assert mode(tmp_path / "there") == before


def test_what_other_packages_write_meanwhile_is_private_too(tmp_path, umask) -> None:
    with private_umask():
        (tmp_path / "events").write_text("pixels")
        (tmp_path / "tensorboard").mkdir()
    (tmp_path / "after").write_text("")
    assert [mode(tmp_path / name) for name in ("events", "tensorboard", "after")] == [0o600, 0o700, 0o666 & ~umask]


def test_a_block_that_fails_leaves_the_old_file_and_no_half_one(tmp_path) -> None:
    write_text(tmp_path / "a.csv", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.csv") as file:
        file.write(b"half" * (1 // 0))
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(file: int) -> None:
        calls.append(f"fsync {os.fstat(file).st_size}")
        fsync(file)

    def record_replace(*paths) -> None:
        calls.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(tmp_path / "a.csv", "patient 7")
    assert calls == ["fsync 9", "replace"]


FULL_DISK = """
import resource, signal
from pathlib import Path
import numpy as np, torch
from monai_deepssim import UnusableInputError
from monai_deepssim.files import atomic_file, write_text
from monai_deepssim.stores import ArrayStore, write_sealed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may be larger, as on a disk without space
folder = Path(FOLDER)
def torch_save():
    with atomic_file(folder / "a.pt") as file:
        torch.save(torch.zeros(100_000), file)
def numpy_save():
    with atomic_file(folder / "a.npy") as file:
        np.save(file, np.zeros(100_000))
for name, write in {
    "text": lambda: write_text(folder / "a.csv", "x" * 100_000),
    "sealed": lambda: write_sealed(folder / "a.json", "x" * 100_000),
    "arrays": lambda: ArrayStore(folder).save("a", "key", {"x": np.zeros(100_000)}),
    "torch": torch_save,
    "numpy": numpy_save,
}.items():
    try:
        write()
    except UnusableInputError as error:
        assert "cannot be written" in str(error), error
        assert not list(folder.iterdir()), list(folder.iterdir())
        print(name)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_disk_without_space_ends_in_a_message_and_leaves_no_half_file(tmp_path) -> None:
    script = FULL_DISK.replace("FOLDER", repr(str(tmp_path)))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["text", "sealed", "arrays", "torch", "numpy"], ended.stderr


@pytest.mark.parametrize("write", [ensure_writable, make_folder, lambda folder: write_text(folder / "a.csv", "")])
def test_a_place_that_cannot_be_written_is_named(tmp_path, write) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(UnusableInputError, match=r"a file.*cannot be written.*--output_dir"):
        write(tmp_path / "a file" / "out")


def test_what_a_killed_run_left_of_a_file_goes_with_it(tmp_path) -> None:
    open_private(tmp_path / "a.csv").close()
    open_private(tmp_path / "a.csv.partial").close()
    open_private(tmp_path / "b.csv.partial").close()
    remove_files([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_tried_holds_no_trace_of_it_not_even_of_a_run_that_was_killed_meanwhile(tmp_path) -> None:
    (tmp_path / ".writable-1").touch()
    ensure_writable(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_the_old_file_and_what_it_leaves_beside_it_is_private(tmp_path) -> None:
    write_text(tmp_path / "a.csv", "old")
    script = textwrap.dedent(
        f"""
        import os, signal
        from monai_deepssim.files import atomic_file
        with atomic_file({str(tmp_path / "a.csv")!r}) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode != 0
    assert (tmp_path / "a.csv").read_text() == "old"
    assert mode(tmp_path / "a.csv.partial") == 0o600
    write_text(tmp_path / "a.csv", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
