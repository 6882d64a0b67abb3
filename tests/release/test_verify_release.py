"""What is released is what was audited: every other file is named, and only a passed gate gives status 0."""

import json
import os
import shutil
from pathlib import Path

import pytest

from monai_deepssim import UnusableInputError, verify_release
from monai_deepssim.audit import Audit
from monai_deepssim.command import main
from monai_deepssim.release import FILE_LIST, hash_results, read_file_list
from monai_deepssim.stores import read_sealed, write_sealed


def set_gate(folder, result):
    """Write another decision into a finished audit; what else belongs together stays so."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary["gate"] = {"max_copy_fraction": 0.01, "result": result, "reason": "as set by the test"}
    path.write_text(json.dumps(summary))


@pytest.fixture
def audit(audited, tmp_path):
    """The audit of the whole set, its gate passed."""
    set_gate(Path(shutil.copytree(audited, tmp_path / "audit")), "passed")
    return tmp_path / "audit"


@pytest.fixture
def release(audited, tmp_path):
    """The four files of the set that were judged."""
    folder = Path(shutil.copytree(audited.parent / "synthetic", tmp_path / "release"))
    for name in ("notes.txt", "broken.png"):
        (folder / name).unlink()
    return folder


def kinds(verification):
    return {difference.file: difference.kind for difference in verification.differences}


def test_the_files_that_were_audited_are_verified(audit, release):
    verification = verify_release(audit, release)
    assert (verification.verdict, verification.status, verification.num_same) == ("verified", 0, 4)
    assert verification.num_partly_judged == 0


@pytest.mark.parametrize(
    ("result", "status", "verdict"),
    [
        ("passed", 0, "verified"),
        ("exceeded", 3, "exceeded"),
        ("undecided", 2, "undecided"),
        (None, 2, "no gate"),
        ("as if passed", 2, "undecided"),
        (["passed"], 2, "no gate"),
    ],
)
def test_the_status_of_the_same_files_is_that_of_the_gate(audit, release, result, status, verdict):
    set_gate(audit, result)
    verification = verify_release(audit, release)
    assert (verification.status, verification.verdict) == (status, verdict)


def write_over(release):
    path = release / "a" / "other-8.png"
    path.write_bytes(path.read_bytes() + b"\0")


def swap(release):
    (release / "x").write_bytes((release / "copy-1.png").read_bytes())
    (release / "b/other-9.png").replace(release / "copy-1.png")
    (release / "x").replace(release / "b/other-9.png")


def link_out(release):
    (release / "copy-1.png").replace(release.parent / "elsewhere.png")
    (release / "copy-1.png").symlink_to(release.parent / "elsewhere.png")


def link_folder(release):
    (release / "b").replace(release.parent / "b")
    (release / "b").symlink_to(release.parent / "b")


ATTACKS = {
    "another content": (write_over, {"a/other-8.png": "changed"}),
    "two contents swapped": (swap, {"copy-1.png": "changed", "b/other-9.png": "changed"}),
    "one file less": (lambda r: (r / "copy-1.png").unlink(), {"copy-1.png": "missing"}),
    "a file emptied": (lambda r: (r / "copy-1.png").write_bytes(b""), {"copy-1.png": "changed"}),
    "a hidden file": (lambda r: (r / ".names.csv").write_text("Jane Doe"), {".names.csv": "new"}),
    "a hidden folder": (
        lambda r: [(r / ".git").mkdir(), (r / ".git" / "config").write_text("")],
        {".git": "folder", ".git/config": "new"},
    ),
    "a table of names": (lambda r: (r / "a" / "patients.csv").write_text("Jane Doe"), {"a/patients.csv": "new"}),
    "a further image": (
        lambda r: shutil.copy(r.parent / "audit" / FILE_LIST, r / "a" / "more.png"),
        {"a/more.png": "new"},
    ),
    "a copy under a further name": (
        lambda r: shutil.copy(r / "copy-1.png", r / "Jane Doe.png"),
        {"Jane Doe.png": "new"},
    ),
    "another name": (
        lambda r: (r / "copy-1.png").rename(r / "Jane Doe.png"),
        {"Jane Doe.png": "renamed", "copy-1.png": "missing"},
    ),
    "another case": (
        lambda r: (r / "copy-1.png").rename(r / "COPY-1.png"),
        {"COPY-1.png": "renamed", "copy-1.png": "missing"},
    ),
    "another folder": (
        lambda r: (r / "b" / "other-9.png").rename(r / "a" / "other-9.png"),
        {"a/other-9.png": "renamed", "b/other-9.png": "missing"},
    ),
    "an empty folder with a name": (lambda r: (r / "Jane Doe").mkdir(), {"Jane Doe": "folder"}),
    "a link to an audited file": (link_out, {"copy-1.png": "link"}),
    "a link that leads nowhere": (lambda r: (r / "gone.png").symlink_to("nowhere"), {"gone.png": "link"}),
    "a linked folder": (link_folder, {"b": "link", "b/other-9.png": "missing"}),
    "a linked folder of one's own": (lambda r: (r / "loop").symlink_to("."), {"loop": "link"}),
    "a pipe": (lambda r: os.mkfifo(r / "pipe.png"), {"pipe.png": "special"}),
    "a file that the audit ignored": (lambda r: (r / "notes.txt").write_text("made on Monday"), {"notes.txt": "new"}),
    "a file that the audit could not use": (lambda r: (r / "broken.png").write_bytes(b""), {"broken.png": "new"}),
    "a name with a line break": (lambda r: (r / "a\n\x1b[2J.png").write_bytes(b""), {"a\n\x1b[2J.png": "new"}),
    "a name that is no text": (lambda r: Path(os.fsdecode(bytes(r) + b"/\xff.png")).touch(), {"\udcff.png": "new"}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_folder_that_is_not_what_was_audited_is_refused_and_the_file_is_named(audit, release, capsys, attack):
    change, expected = ATTACKS[attack]
    change(release)
    verification = verify_release(audit, release)
    assert kinds(verification) == expected
    assert (verification.verdict, verification.status) == ("different", 2)
    assert main(["verify", str(audit), str(release), "--json"]) == 2
    told = capsys.readouterr()
    assert {entry["file"]: entry["kind"] for entry in json.loads(told.out)["differences"]} == expected
    assert told.err.startswith("NOT VERIFIED")
    assert "\x1b[2J" not in told.err


def test_files_that_differ_are_status_2_even_where_the_gate_was_exceeded(audit, release):
    set_gate(audit, "exceeded")
    (release / "copy-1.png").unlink()
    assert verify_release(audit, release).status == 2


def test_it_is_said_why_a_file_was_not_judged(audit, audited):
    details = {d.file: d.detail for d in verify_release(audit, audited.parent / "synthetic").differences}
    assert details["broken.png"] == "the audit could not use it"
    assert details["notes.txt"].startswith("the audit ignored it: a table or note")


def test_a_folder_that_cannot_be_opened_is_refused(audit, release, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the superuser may open everything
    with pytest.raises(UnusableInputError, match="b: cannot be opened"):
        verify_release(audit, release)


@pytest.mark.parametrize("name", ["matches.csv", "memorized.csv", "report.html", FILE_LIST])
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_an_audit_whose_files_were_changed_verifies_nothing(audit, release, name, change):
    if change == "edited":
        before, after = (b"image,1", b"image,2") if name == FILE_LIST else (b".png", b".PNG")
        (audit / name).write_bytes((audit / name).read_bytes().replace(before, after, 1))
    else:
        (audit / name).unlink()
    if name == FILE_LIST and change == "removed":
        with pytest.raises(UnusableInputError, match="missing or damaged"):
            verify_release(audit, release)
        return
    verification = verify_release(audit, release)
    assert (verification.verdict, verification.status) == ("unreliable", 2)
    assert any(name in problem for problem in verification.audit.problems)


def test_a_list_of_files_that_was_rewritten_for_the_release_verifies_nothing(audit, release):
    write_over(release)
    records = read_file_list(audit / FILE_LIST)
    new = hash_results(release, records)
    text = (audit / FILE_LIST).read_text()
    for name, record in records.items():
        text = text.replace(record.sha256, new.get(name, record.sha256))
    (audit / FILE_LIST).write_text(text)
    verification = verify_release(audit, release)
    assert verification.differences == ()
    assert verification.status == 2


def test_embeddings_of_another_audit_are_noticed(audit, release):
    path = audit / "embeddings" / "training" / "fingerprint.json"
    write_sealed(path, {**read_sealed(path), "images": "0" * 64})
    verification = verify_release(audit, release)
    assert verification.status == 2
    assert "belongs to another audit" in verification.audit.problems[0]
    shutil.rmtree(audit / "embeddings")  # they need not be kept
    assert verify_release(audit, release).status == 0


def test_a_summary_of_an_earlier_version_verifies_nothing(audit, release):
    summary = json.loads((audit / "summary.json").read_text())
    del summary["result_files"]
    (audit / "summary.json").write_text(json.dumps(summary))
    assert verify_release(audit, release).status == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "not finished"), ("", "cannot be read"), ("[]", "holds list"), ("{", "cannot be read")],
)
def test_an_audit_that_is_not_finished_is_status_2_and_words(audit, release, capsys, content, words):
    (audit / "summary.json").unlink()
    if content is not None:
        (audit / "summary.json").write_text(content)
    assert main(["verify", str(audit), str(release)]) == 2
    assert words in capsys.readouterr().err


def test_a_release_that_is_not_there_is_status_2(audit, capsys):
    assert main(["verify", str(audit), "no such folder"]) == 2
    assert "no such folder: there is no such folder" in capsys.readouterr().err


def test_what_a_filter_kept_is_verified_by_the_audit_of_it(filtered):
    set_gate(filtered / "filtered_audit", "passed")
    refresh_filter(filtered)
    verification = verify_release(filtered, filtered / "filtered")
    assert (verification.status, verification.num_same) == (0, 2)
    assert verification.audit.folder == filtered / "filtered_audit"
    assert verify_release(filtered / "filtered_audit", filtered / "filtered").status == 0


def test_the_whole_set_is_not_what_a_filter_kept(filtered):
    details = {d.file: d.detail for d in verify_release(filtered, filtered.parent / "synthetic").differences}
    assert set(details) == {"a/copy-0.png", "copy-1.png", "notes.txt", "broken.png"}
    manifest = filtered / "manifest.csv"
    # Not the reason, which names a patient: this may go into the log of a pipeline.
    assert details["copy-1.png"] == f"the filter left it out (duplicate; {manifest} says why)"


def test_a_filter_whose_audit_was_repeated_verifies_nothing(filtered, tmp_path):
    folder = Path(shutil.copytree(filtered, tmp_path / "filter"))
    set_gate(folder / "filtered_audit", "passed")
    refresh_filter(folder)
    assert verify_release(folder, folder / "filtered").status == 0
    set_gate(folder, "passed")
    verification = verify_release(folder, folder / "filtered")
    assert verification.status == 2
    assert "was written for another audit of the whole set" in verification.audit.problems[0]
    (folder / "filtered_audit" / "summary.json").unlink()
    with pytest.raises(UnusableInputError, match="not finished"):
        verify_release(folder, folder / "filtered")


def test_an_audit_takes_away_the_filter_that_was_made_of_an_earlier_one(filtered, run_workflow, tmp_path):
    folder = Path(shutil.copytree(filtered, tmp_path / "filter"))
    run_workflow(Audit, filtered.parent, folder)
    assert not (folder / "filter.json").exists()
    assert verify_release(folder, filtered.parent / "synthetic").audit.folder == folder


def refresh_filter(folder):
    """Let ``filter.json`` belong to the summaries again."""
    path = folder / "filter.json"
    content = json.loads(path.read_text())
    for part, place in (("before", folder), ("after", folder / "filtered_audit")):
        content[part]["summary_sha256"] = hash_results(place, ["summary.json"])["summary.json"]
    path.write_text(json.dumps(content))


def test_the_command_says_it_in_words_and_quietly_by_its_status_alone(audit, release, capsys):
    assert main(["verify", str(audit), str(release)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert (
        told[0]
        == f"VERIFIED: the 4 files in {release} are those that were audited, byte for byte, and the gate was passed."
    )
    assert told[1] == "Gate: passed (as set by the test)"
    assert told[-1].endswith(hash_results(audit, ["summary.json"])["summary.json"])
    (release / "copy-1.png").unlink()
    assert main(["verify", str(audit), str(release), "--quiet"]) == 2
    assert capsys.readouterr() == ("", "")
    for number in range(30):
        (release / f"more-{number:02}.png").touch()
    assert main(["verify", str(audit), str(release)]) == 2
    told = capsys.readouterr().out
    assert "(1 missing, 30 new)" in told
    assert "  and 11 more; --json lists all of them" in told
