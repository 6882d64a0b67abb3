"""The pipeline of ``docs/gate.md`` works as it is copied, in all of its forms."""

import inspect
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.stats import binom

from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.options import option_names

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
REQUIRED = {"TRAINING", "SYNTHETIC", "AUDIT", "RELEASE"}


def block(name):
    """The code behind a marker of the page."""
    (code,) = re.findall(rf"<!-- pipeline: {name} -->\n```\w*\n(.*?)\n```", PAGE, re.DOTALL)
    return code + "\n"


def run_script(folder, program, **variables):
    """Run the script in a folder, with a program of one's own in place of the command."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "monai-deepssim").write_text(program)
    (folder / "bin" / "monai-deepssim").chmod(0o755)
    (folder / "release.sh").write_text(block("shell"))
    environment = {
        "TRAINING": "training",
        "SYNTHETIC": "synthetic",
        "AUDIT": "audit",
        "RELEASE": "release",
        **variables,
    }
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "release.sh"],
        cwd=folder,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


# Writes what the command would, notes what it was called with, and ends with the status of AUDIT_ENDS and the like.
STUB = """#!/bin/sh
echo "$*" >> calls
case $1 in
  audit) mkdir -p audit && [ "$AUDIT_ENDS" != unusable ] && : > audit/summary.json; status=$AUDIT_ENDS ;;
  filter) mkdir -p audit/filtered_audit audit/filtered && : > audit/filtered_audit/summary.json
    : > audit/filtered/kept.png; status=$FILTER_ENDS ;;
  report) [ -f "$2/summary.json" ] && echo "of $2" > "$5" ; status=$? ;;
  verify) status=$VERIFY_ENDS ;;
esac
[ "$status" = unusable ] && exit 2
exit "$status"
"""


@pytest.mark.parametrize(
    ("audit_ends", "filter_ends", "verify_ends"),
    list(itertools.product([0, 2, 3, "unusable"], [0, 2, 3], [0, 2, 3])),
)
def test_nothing_is_released_unless_every_step_says_0(tmp_path, audit_ends, filter_ends, verify_ends):
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "whole.png").touch()
    (tmp_path / "report_shareable.html").write_text("of an earlier run")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "summary.json").write_text("of an earlier run")
    ends = {"AUDIT_ENDS": audit_ends, "FILTER_ENDS": filter_ends, "VERIFY_ENDS": verify_ends}
    ended = run_script(tmp_path, STUB, **{name: str(status) for name, status in ends.items()})
    gate = filter_ends if audit_ends == 3 else audit_ends
    expected = 2 if gate == "unusable" else gate or verify_ends
    assert (ended.returncode == 0) == (expected == 0)
    assert ended.returncode == expected or gate == "unusable"
    assert (tmp_path / "release").exists() == (expected == 0)
    if expected == 0:
        kept = "kept.png" if audit_ends == 3 else "whole.png"
        assert [path.name for path in (tmp_path / "release").iterdir()] == [kept]
    report = tmp_path / "report_shareable.html"
    judged = "audit/filtered_audit" if audit_ends == 3 else "audit"
    assert (report.read_text() if report.exists() else None) == (None if gate == "unusable" else f"of {judged}\n")


def test_the_script_gives_every_step_the_same_images_and_keeps_names_with_blanks_whole(tmp_path):
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "a.png").touch()
    log = '#!/bin/sh\nfor word in "$@"; do printf "[%s]" "$word"; done >> calls; echo >> calls\n'
    log += "case $1 in audit) mkdir -p audit; : > audit/summary.json; exit 3 ;; filter) mkdir -p audit/filtered ;; esac"
    ended = run_script(tmp_path, log, TRAINING="a b", HOLDOUT="c d", PATIENTS="(x y)", MAX_COPY_FRACTION="0.1")
    audit, filtered, report, verify = (tmp_path / "calls").read_text().splitlines()
    common = (
        "[a b][synthetic][-o][audit][--max_copy_fraction][0.1][--quiet][--holdout][c d][--patient_id_pattern][(x y)]"
    )
    assert audit == f"[audit][--gate_on][generator]{common}"
    left_out = "[--leave_out][duplicate,part,twin,discovery,unexplained]"
    assert filtered == f"[filter][--gate_on][files]{left_out}{common}"
    assert report == "[report][audit/filtered_audit][--shareable][-o][report_shareable.html]"
    assert verify == "[verify][audit][release.unverified]"
    assert ended.returncode == 0


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_the_script_does_nothing_without_its_folders(tmp_path, missing):
    assert run_script(tmp_path, STUB, **{missing: ""}).returncode != 0
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("name", ["release", "release.unverified"])
def test_a_release_that_is_there_already_is_not_written_over(tmp_path, name):
    (tmp_path / "synthetic").mkdir()
    (tmp_path / name).mkdir()
    ended = run_script(tmp_path, STUB, AUDIT_ENDS="0", VERIFY_ENDS="0")
    assert ended.returncode == 2
    assert list((tmp_path / name).iterdir()) == []


def test_the_script_releases_phantoms_without_their_copies(tmp_path):
    pytest.importorskip("monai_deepssim.report")  # the report without names is made there
    phantoms = [item["image"][0].numpy() for item in PhantomBrainDataset(7, seed=31, progress=False)]
    sides = {"training": phantoms[:5], "synthetic": [phantoms[0][:, ::-1], phantoms[5], phantoms[6]]}
    for side, images in sides.items():
        (tmp_path / side).mkdir()
        for number, image in enumerate(images):
            pixels = np.ascontiguousarray((image * 255).round().astype(np.uint8))
            Image.fromarray(pixels).save(tmp_path / side / f"{number}.png")
    # One copy per change is planted: how many of them are found is not what this is about.
    program = '#!/bin/sh\ncase $1 in audit|filter) set -- "$@" --controls 1 ;; esac\n'
    program += f'exec "{sys.executable}" -m monai_deepssim "$@"\n'
    ended = run_script(tmp_path, program, GATE_ON="files", PYTHONPATH=str(ROOT))
    decided = json.loads((tmp_path / "audit" / "filtered_audit" / "summary.json").read_text())["gate"]["result"]
    assert ended.returncode == {"passed": 0, "undecided": 2, "exceeded": 3}[decided], ended.stderr
    assert (tmp_path / "release").exists() == (decided == "passed")
    assert "Traceback" not in ended.stderr
    page = (tmp_path / "report_shareable.html").read_text()
    assert str(tmp_path) not in page
    assert "training/0.png" not in page


def test_the_pipelines_run_the_script_with_variables_that_it_reads():
    used = set(re.findall(r"\$\{?([A-Z_]+)", block("shell")))
    github, gitlab = yaml.safe_load(block("github")), yaml.safe_load(block("gitlab"))
    (job,) = github["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    (other,) = gitlab.values()
    assert runs == other["script"] == ["sh release.sh"]
    for variables in (job["env"], other["variables"]):
        assert set(variables) <= used
        assert set(variables) >= REQUIRED
        assert all(isinstance(value, str) for value in variables.values())
    # Of all that is made, what leaves the machine is the report without names.
    (upload,) = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert [upload["with"]["path"]] == other["artifacts"]["paths"] == ["report_shareable.html"]
    assert upload["if"] == "always()"
    assert "report_shareable.html" in block("shell")


def test_the_script_is_one_that_any_shell_reads():
    for shell in filter(shutil.which, ("sh", "bash", "dash", "busybox")):
        typed = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
        assert subprocess.run(typed, input=block("shell"), text=True, check=False).returncode == 0, shell


def test_the_numbers_of_images_are_the_smallest_that_decide():
    rows = re.search(r"<!-- table: images needed -->\n.*?\n.*?\n(.*?)\n\n", PAGE, re.DOTALL)[1].splitlines()
    table = [[int(cell.replace(",", "")) for cell in row.strip("| ").split("|")] for row in rows]
    assert [row[0] for row in table] == [0, 1, 3]
    for count, *sizes in table:
        for size, accepted in zip(sizes, (0.05, 0.01, 0.005), strict=True):
            assert binom.cdf(count, size, accepted) <= 0.05 < binom.cdf(count, size - 1, accepted)
    assert binom.cdf(0, 314, 0.01 * 0.95) <= 0.05 < binom.cdf(0, 313, 0.01 * 0.95)


def test_the_options_that_decide_exist():
    named = set(re.findall(r"`--(\w+)", PAGE.partition("## The exit status")[0]))
    assert named - {"holdout"} <= set(option_names(AuditOptions))


def test_every_reason_of_a_gate_has_a_row():
    reasons = pytest.importorskip("monai_deepssim.calibration.gate_reasons")  # made in another room
    codes = set(re.findall(r'yield\s*\(?\s*"(\w+)"', inspect.getsource(reasons)))
    assert codes == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
