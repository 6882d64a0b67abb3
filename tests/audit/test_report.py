"""The report of an audit that was run: its pictures are those of the files, its numbers those of the result."""

import base64
import html
import io
import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from audit_files import IMAGE_SIZE, LENIENT_GATE, write_png
from PIL import Image

from monai_deepssim.data import ImageDataset, list_images
from monai_deepssim.report import shareable_report


def pictures(report: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', report)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


@pytest.fixture
def read_report(folders):
    return lambda: (folders / "out" / "report.html").read_text(encoding="utf-8")


def test_the_report_shows_the_mean_of_both_sides_and_the_four_pictures_of_each_match(
    audit, folders, read_report
) -> None:
    result = audit()
    training_mean, synthetic_mean, *pairs = pictures(read_report())
    assert len(pairs) == 4 * 4
    assert all(picture.size == (IMAGE_SIZE[1], IMAGE_SIZE[0]) for picture in (training_mean, synthetic_mean, *pairs))
    # The strongest match is a copy: the same pixels twice, and those of the file.
    assert np.array_equal(np.asarray(pairs[0]), np.asarray(pairs[1]))
    item = next(i for i in list_images(folders / "synthetic") if i["path"] == result.matches["synthetic_path"].iloc[0])
    expected = ImageDataset([item], image_size=IMAGE_SIZE)[0]["image"][0]
    assert np.abs(np.asarray(pairs[0]) / 255 - expected.numpy()).max() < 0.003


def test_a_report_without_images_has_none(audit, read_report) -> None:
    audit(report_images="none")
    report = read_report()
    assert "data:image" not in report
    assert "copy-of-60.png" in report


def test_the_report_says_what_the_score_is(audit, read_report) -> None:
    audit(report_images="none")
    words = re.sub(r"<[^>]+>", "", read_report())
    assert "less 0.1 for each pixel of deformation" in words
    assert "each pixel costs 0.1" in words


def test_names_of_files_are_escaped(audit, folders, axial, read_report) -> None:
    name = "<b>x</b> & 'y'.png"
    (folders / "synthetic" / "<script>alert(1)<").mkdir()
    write_png(folders / "synthetic" / "<script>alert(1)<" / name, axial(60))
    audit(patient_id_pattern="(<script>|sub-.)")
    report = read_report()
    assert "<b>x" not in report
    assert "<script>alert" not in report
    assert html.escape(name).replace("&#x27;", "&#39;") in report


def test_names_with_line_ends_escapes_or_bytes_that_are_no_text_do_no_harm(
    audit, folders, axial, read_report, capsys
) -> None:
    write_png(folders / "synthetic" / "a\n\x1b[2J.png", np.roll(axial(60), 2, 1))
    write_png(folders / "synthetic" / b"bytes-\xff.png".decode("utf-8", "surrogateescape"), np.roll(axial(75), 2, 1))
    result = audit(shareable_report=True)
    assert result.copy_fraction.count == 4
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert r"a\n\x1b[2J.png" in told
    assert r"a\n\x1b[2J.png" in read_report()
    assert b"bytes-\xff.png" in (folders / "out" / "matches.csv").read_bytes()
    assert shareable_report(folders / "out")


def test_the_report_states_the_verdict_the_numbers_and_the_limits(audit, folders, read_report) -> None:
    (folders / "training" / "broken.png").write_bytes(b"")
    audit(thresholds=None, patient_id_pattern=r"(sub-\d)")
    report = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", read_report())))
    expected = [
        "synthetic images are copies of a training image",
        "95 % interval",
        "no largest share of copies was set",
        "not calibrated on this data",
        "docs/measured.md",
        "training images, each against those of other patients",
        "Fewest that could be discovered",
        "broken.png",
        "brought to 64 x 64",
        "(SHA-256)",
        "monai 1.",
    ]
    assert [words for words in expected if words not in report] == []


def test_without_a_copy_the_report_does_not_promise_that_there_is_none(audit, folders, read_report) -> None:
    for path in (folders / "synthetic").glob("copy*"):
        path.unlink()
    audit()
    assert "No copy was found among 2 synthetic images" in read_report()
    assert "it does not prove that there is no copy" in read_report()


def test_affected_patients_are_named_with_their_files(audit, folders, read_report) -> None:
    result = audit(patient_id_pattern=r"(sub-\d)")
    report = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", read_report())))
    affected = report[report.index("Affected patients") : report.index("How many copies would have been found?")]
    assert result.patients["patient_id"].tolist() == ["sub-2"]
    assert "sub-2 2 of 3" in affected
    assert "copy-of-60.png, copy-of-75.png" in affected


def test_a_report_to_share_is_written_when_asked_for_and_can_be_made_later(audit, folders) -> None:
    audit(patient_id_pattern=r"(sub-\d)", shareable_report=True)
    page = (folders / "out" / "report_shareable.html").read_text(encoding="utf-8")
    assert shareable_report(folders / "out") == page
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["headline"]["title"] in page
    for name in ("sub-2", "copy-of-60", "z60", str(folders), "data:image"):
        assert name not in page


@pytest.mark.parametrize(("limit", "result", "tone"), [(0.5, "passed", "unsure"), (0.4, "exceeded", "bad")])
@pytest.mark.usefixtures("null_that_calls")
def test_no_headline_forbids_what_the_gate_lets_pass(audit, folders, limit, result, tone) -> None:
    with pytest.raises(SystemExit) if result == "exceeded" else nullcontext():
        audit(max_copy_fraction=limit, **LENIENT_GATE)
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert (summary["gate"]["result"], summary["headline"]["tone"]) == (result, tone)
    assert ("Do not share" in summary["headline"]["advice"]) == (result == "exceeded")
