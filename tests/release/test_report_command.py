"""The second report, without names and pixels, of a finished audit."""

import json
import sys
import types

import pytest

from monai_deepssim.command import main


@pytest.fixture
def report_room(monkeypatch):
    """A room that tells which folder it was asked for."""
    room = types.ModuleType("monai_deepssim.report")
    room.SHAREABLE_REPORT = "report_shareable.html"
    room.shareable_report = lambda folder: f"<p>{folder.name}</p>"
    monkeypatch.setitem(sys.modules, "monai_deepssim.report", room)


def test_it_is_written_into_the_folder_of_the_audit_or_where_it_is_wanted(report_room, tmp_path, capsys):
    (tmp_path / "audit").mkdir()
    assert main(["report", str(tmp_path / "audit"), "--shareable"]) == 0
    assert (tmp_path / "audit" / "report_shareable.html").read_text() == "<p>audit</p>"
    assert str(tmp_path / "audit" / "report_shareable.html") in capsys.readouterr().out
    assert main(["report", str(tmp_path / "audit"), "--shareable", "-o", str(tmp_path / "a b.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shareable_report": str(tmp_path / "a b.html")}
    assert (tmp_path / "a b.html").read_text() == "<p>audit</p>"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "audit"], "--shareable: was not given. The full report is report.html"),
        (["report", "audit", "--shareable", "false"], "--shareable: was not given"),
        (["report", "audit", "--shareable", "-o", "no such folder/a.html"], "cannot be written"),
        (["report", "--shareable"], "AUDIT"),
        (["report", "audit", "--sharable"], "Did you mean --shareable?"),
        (["verify", "audit"], "RELEASED"),
        (["verify", "audit", "released", "--fdr", "0.1"], "--fdr: there is no such option"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2_and_words(report_room, capsys, arguments, words):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_report_of_an_audit_names_no_file(audited, tmp_path):
    pytest.importorskip("monai_deepssim.report")  # another room makes it
    assert main(["report", str(audited), "--shareable", "-o", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "other-8" not in page
    assert str(audited.parent) not in page
    assert main(["verify", str(audited), str(audited.parent / "synthetic"), "--quiet"]) == 2
