"""The container runs as an ordinary user without a network: what can be known of it without building it."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def instructions():
    """The instructions with what follows them, lines joined, comments left out."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in joined]


def last_stage():
    steps = instructions()
    return steps[max(number for number, step in enumerate(steps) if step[0] == "FROM") :]


def test_the_last_user_is_an_ordinary_one_and_the_command_is_ours():
    stage = last_stage()
    (user,) = [rest for name, rest in stage if name == "USER"]
    assert all(int(number) >= 1000 for number in user.split(":"))  # a number, which needs no look-up at run time
    assert stage[-2:] == [("ENTRYPOINT", '["monai-deepssim"]'), ("CMD", '["--help"]')]
    position = stage.index(("USER", user))
    assert not any("pip install" in rest for _, rest in stage[position:])


def test_all_that_is_written_at_run_time_lies_where_any_user_may_write():
    stage = last_stage()
    environment = dict(word.split("=", 1) for name, rest in stage if name == "ENV" for word in shlex.split(rest))
    assert environment["USER"]  # or MONAI cannot be imported by a user without a name
    home = environment["HOME"]
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        assert environment[name].startswith(f"{home}/")
    (compile_step,) = [rest for name, rest in stage if "compile_kernels" in rest]
    assert compile_step.endswith(f"chmod -R a+rwX {home}")
    assert stage.index(("RUN", compile_step)) > next(n for n, step in enumerate(stage) if step[0] == "USER")


def test_nothing_is_fetched_but_images_and_packages():
    text = "\n".join(" ".join(step) for step in instructions())
    assert not re.search(r"\b(curl|wget|git clone|apt|ADD)\b", text)
    images = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert all(re.fullmatch(r"docker\.io/library/python:3\.\d+-slim", image) for image in images)


def test_the_files_that_are_copied_exist_and_are_what_the_package_is_made_of():
    copied = [
        word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    ]
    assert set(copied) == {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "monai_deepssim", "bundles"}
    assert all((ROOT / name).exists() for name in copied)
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    (extra,) = re.search(r"whl\)\[(\w+)\]", (ROOT / "Containerfile").read_text()).groups()
    assert extra in config["options.extras_require"]


def test_the_containerfile_is_in_no_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert not (ROOT / "MANIFEST.in").exists()
    assert "Containerfile" not in str(dict(config["options.package_data"]))
    assert not [path for name in ("monai_deepssim", "bundles") for path in (ROOT / name).rglob("Containerfile*")]


def test_an_audit_needs_no_network_and_no_home(tmp_path):
    """The steps of the container: an ordinary user without a name, no network, and a home that cannot be written."""
    alone = ["unshare", "--user", "--map-user=10001", "--map-group=10001", "--net"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    code = (
        "import os, socket, sys, pathlib\n"
        "assert os.getuid() == 10001\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), 1); sys.exit('there is a network')\n"
        "except OSError: pass\n"
        "from monai_deepssim.data import write_copies_demo\n"
        "from monai_deepssim.command import main\n"
        "sides = write_copies_demo(pathlib.Path('demo'), num_training=8, num_synthetic=3, num_copies=1)\n"
        "sys.exit(main(['audit', *map(str, sides), '-o', 'out', '--device', 'cpu', '--controls', '1']))\n"
    )
    home = tmp_path / "home is a file"
    home.touch()
    environment = {
        "PATH": os.environ["PATH"],
        "USER": "auditor",
        "HOME": str(home),
    }
    ended = subprocess.run(
        [*alone, sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 of 3 synthetic images are copies" in ended.stdout.replace("is a copy", "are copies")
