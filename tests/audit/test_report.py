"""The report: one file, escaped, with the pictures or without a pixel of them."""

import base64
import html
import io
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from audit_files import IMAGE_SIZE, write_png
from pandas import DataFrame
from PIL import Image

from monai_deepssim.audit import report as report_module
from monai_deepssim.audit.report import _explain, score_histogram
from monai_deepssim.audit.verdict import PUBLISHED_THRESHOLDS
from monai_deepssim.data import ImageDataset, list_images


def pictures(report: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', report)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


@pytest.fixture
def read_report(folders):
    return lambda: (folders / "out" / "report.html").read_text(encoding="utf-8")


def test_the_report_shows_the_histogram_and_the_four_pictures_of_each_match(audit, folders, read_report) -> None:
    result = audit()
    sides, histogram, *pairs = pictures(read_report())
    assert sides.size[0] > 500  # the mean images of both sides
    assert histogram.size[0] > 1000
    assert len(pairs) == 4 * 4
    assert all(picture.size == (IMAGE_SIZE[1], IMAGE_SIZE[0]) for picture in pairs)
    # The strongest match is a copy: the same pixels twice, and those of the file.
    assert np.array_equal(np.asarray(pairs[0]), np.asarray(pairs[1]))
    item = next(i for i in list_images(folders / "synthetic") if i["path"] == result.matches["synthetic_path"].iloc[0])
    expected = ImageDataset([item], image_size=IMAGE_SIZE)[0]["image"][0]
    assert np.abs(np.asarray(pairs[0]) / 255 - expected.numpy()).max() < 0.003


def test_a_report_without_images_has_only_the_histogram(audit, read_report) -> None:
    audit(report_images="none")
    report = read_report()
    assert len(pictures(report)) == 1
    assert report.count("data:image") == 1
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
    assert "<script" not in report
    assert html.escape(name).replace("&#x27;", "&#39;") in report


def test_names_with_line_ends_escapes_or_bytes_that_are_no_text_do_no_harm(
    audit, folders, axial, read_report, capsys
) -> None:
    write_png(folders / "synthetic" / "a\n\x1b[2J.png", axial(60))
    write_png(folders / "synthetic" / b"bytes-\xff.png".decode("utf-8", "surrogateescape"), axial(75))
    result = audit()
    assert result.copy_fraction.count == 4
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert r"a\n\x1b[2J.png" in told
    assert r"a\n\x1b[2J.png" in read_report()
    assert b"bytes-\xff.png" in (folders / "out" / "matches.csv").read_bytes()


def test_the_report_needs_nothing_from_outside(audit, read_report) -> None:
    class Links(HTMLParser):
        outside: tuple[str, ...] = ()

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "link", "iframe", "object", "base"}
            for name, value in attributes:
                if name in {"src", "href"} and not str(value).startswith("data:"):
                    self.outside += (str(value),)

    audit()
    links = Links()
    links.feed(read_report())
    assert links.outside == ()


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
        "training images, by random halves",
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


@pytest.mark.parametrize("scores", [[0.6, 0.85, 1.0], [-0.4], [1.0], [0.0, 0.0]])
def test_the_histogram_takes_any_scores(scores) -> None:
    assert Image.open(io.BytesIO(score_histogram(np.array(scores), PUBLISHED_THRESHOLDS))).size[0] > 1000


def test_when_all_that_is_shown_are_copies_the_next_that_are_none_are_shown_too(
    audit, read_report, monkeypatch
) -> None:
    monkeypatch.setattr(report_module, "_NUM_PAIRS", 1)
    audit()
    report = re.sub(r"\s+", " ", read_report())
    assert "3 of 4 synthetic images: the 1 with the highest scores and the 2 next that are not copies" in report
    assert "1 more copies are in" in report
    assert "other-120.png" in report


@pytest.mark.parametrize(
    ("patients", "score", "words"),
    [
        (["a", "a", "a", "b"], 0.88, "2 more training images are of this patient, 1 of them among the 3 that were"),
        (["a", "b", "c", "d"], 0.88, "The only training image of this patient."),
        (["", "", "", ""], 0.88, "A copy of a neighbouring slice of the same patient would score like this, too."),
        (["a", "a", "a", "b"], 0.99, ""),
        (["a", "a", "a", "b"], 0.70, ""),
    ],
)
def test_a_match_that_may_be_a_neighbouring_slice_is_said_to_be(patients, score, words) -> None:
    match = SimpleNamespace(Index=0, patient_id=patients[0], score=score, label=PUBLISHED_THRESHOLDS.classify(score))
    result = SimpleNamespace(
        options=SimpleNamespace(verify=True),
        training=SimpleNamespace(usable_items=[{"patient_id": patient} for patient in patients]),
    )
    explanation = _explain(match, result, DataFrame({"training": [0, 1, 3]}))
    assert explanation.startswith(words)
    assert bool(explanation) == bool(words)
