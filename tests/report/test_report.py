"""The report: one file with all that an audit says, escaped, with the pictures or without a pixel of them."""

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from example_audit import ExampleAudit, make_audit
from PIL import Image
from torch import zeros

from monai_deepssim.report import (
    choose_form,
    closing_lines,
    draw_agreement,
    draw_image,
    render_report,
    render_shareable,
    score_histogram,
)
from monai_deepssim.report.figures import draw_detection_curve
from monai_deepssim.report.listed_pairs import explain_copy, list_pairs

HOSTILE = "<script>alert(1)</script><b>'\"&{{ 7 * 7 }}</style>"


def render(audit: ExampleAudit, **options: object) -> str:
    audit.summary["options"].update(options)
    return render_report(audit.summary, audit.tables, candidates=audit.candidates, pictures=audit.pictures)


def words_of(page: str) -> str:
    text = re.sub(r"<(style|script|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))


def pictures_of(page: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    ]


def test_the_first_screen_says_what_the_headline_rests_on_and_what_was_not_tested() -> None:
    words = words_of(render(make_audit()))
    first = words[: words.index("Affected patients")]
    expected = [
        "Release gate exceeded: 12 of 48 synthetic images are copies of a training image",
        "48 synthetic images with all 400 training images",
        "95 % (95 % interval 75 % to 100 %) of the 20 copies that were planted after this change were found:",
        "found: blur 2 px. 3 other mild changes were tried with 20 copies each, and after none of them were clearly "
        "fewer than 90 % found.",
        "1 of 120 held-out images is called a copy, though none is: 0.8 %",
        "this audit would call at most 41 % of all that this generator makes suspicious;",
        "with the copies that it misses, 43 %.",
        "What was not tested or may be missed",
        "Copies with these changes are often missed, as planted ones were: blur 3 px (55 % found)",
        "1 image could not be read.",
        "What keeps the release gate from passing exceeded : 12 of 48 images are suspicious.",
    ]
    assert [sentence for sentence in expected if sentence not in first] == []


def test_a_change_that_was_tried_with_few_copies_is_not_said_to_hide_none() -> None:
    audit = make_audit()
    for point in audit.summary["controls"]["curve"]:
        point["total"] = 2
    words = words_of(render(audit))
    assert "tried with 2 copies each" in words
    assert "So few show a change only where it hides most copies, if at all." in words


def test_changes_of_different_numbers_of_copies_are_said_to_have_at_least_the_fewest() -> None:
    audit = make_audit()
    mild = [point for point in audit.summary["controls"]["curve"] if point["upper_limit"] is not None]
    assert "tried with 20 copies each" in words_of(render(audit))
    mild[-1]["total"] = 60
    assert "tried with at least 20 copies each" in words_of(render(audit))


@pytest.mark.parametrize(
    ("read", "options", "expected"),
    [
        ([0, 0, 0], {}, None),
        ([2, 0, 1], {}, "Of 3 volumes the middle slice alone was audited; --slices all audits every slice."),
        ([0, 1, 0], {}, "Of 1 volume the middle slice alone was audited; --slices all audits every slice."),
        ([0, 0, 0], {"volumes": "whole"}, None),
        ([None, 0, 0], {}, "Of a volume, if there is one, the middle slice alone was audited."),
    ],
)
def test_the_middle_slice_is_spoken_of_where_volumes_were_read_by_it(
    read: list[int | None], options: dict[str, str], expected: str | None
) -> None:
    audit = make_audit()
    for images, count in zip(audit.summary["images"].values(), read, strict=True):
        images["num_middle_slices"] = count
        if count is None:  # of an audit of before there was such a number
            del images["num_middle_slices"]
    words = words_of(render(audit, **options))
    assert expected is None or expected in words
    assert ("middle slice alone" in words) == (expected is not None)


def test_sections_come_in_the_order_in_which_one_decides() -> None:
    page = render(make_audit())
    headings = [re.sub(r"<[^>]+>", "", text) for text in re.findall(r"<h2>(.*?)</h2>", page)]
    order = [
        "What this rests on",
        "What was not tested or may be missed",
        "Affected patients",
        "How many copies would have been found?",
        "Does the set know who was in training?",
        "What this means for anonymity",
        "Run and sign-off",
        "The pairs",
        "How it was measured",
    ]
    assert [heading for heading in headings if heading in order] == order


def test_the_report_of_an_audit_that_measured_nothing_more_says_so() -> None:
    words = words_of(render(make_audit(filled=False)))
    expected = [
        "Unknown: no copies were planted to see whether they would be found.",
        "This is not known: no copies of training images were planted.",
        "This was not tested: it takes held-out images of people who were not in training",
        "Without held-out images it was not tested whether the set knows who was in training",
        "no largest share of copies was set",
    ]
    assert [sentence for sentence in expected if sentence not in words] == []


def test_who_ran_it_when_with_which_command_and_version_is_said_beside_a_line_to_sign() -> None:
    words = words_of(render(make_audit()))
    signed = words[words.index("Run and sign-off") : words.index("How to read the scores")]
    for expected in (
        "jdoe-dpo",
        "26 November 2026, 11:40 UTC",
        "monai-deepssim audit /data/hospital/training",
        "0.2.0",
        "Signature",
    ):
        assert expected in signed


def test_findings_are_mapped_to_the_three_risks_with_what_is_not_covered() -> None:
    words = words_of(render(make_audit()))
    risks = words[words.index("What this means for anonymity") : words.index("Run and sign-off")]
    assert risks.index("Singling out") < risks.index("Linkability") < risks.index("Inference")
    assert "6 patients are affected" in risks
    assert "The set knows who was in training" in risks
    assert "Links to other images of these people" in risks


def test_all_copies_are_shown_by_patient_and_numbered_and_then_what_is_suspicious_or_similar() -> None:
    audit = make_audit(num_copies=80, num_similar=9)
    pairs = list_pairs(audit.summary, audit.tables, audit.candidates)
    assert [pair["number"] for pair in pairs] == list(range(1, 98))
    kinds = [pair["kind"] for pair in pairs]
    assert kinds == ["copy"] * 80 + ["twin"] + ["unexplained"] * 2 + ["similar"] * 6 + ["different"] * 8
    patients = [pair["match"]["patient_id"] for pair in pairs[:80]]
    assert patients == sorted(patients)
    assert pairs[1]["title"] == "Patient sub-000, copy 2 of 2"
    page = render(audit)
    assert len(pictures_of(page)) == 4 * len(pairs)


def test_suspicious_images_and_patients_are_named_with_the_pairs_that_show_them() -> None:
    page = render(make_audit())
    words = words_of(page)
    suspicious = words[words.index("Suspicious images that") : words.index("How many copies would have been found?")]
    assert "pair 14 : fake-0012.png scan-0012.png sub-006 0.840 unexplained" in suspicious
    assert "a copy (score 0.930) of fake-0000.png, which is a copy: it concerns the same patient" in suspicious
    assert '<a href="#pair-1" aria-label="Pair 1">1</a>, <a href="#pair-2" aria-label="Pair 2">2</a>' in page


def test_changes_that_hide_copies_come_first_among_the_sentences_of_the_controls() -> None:
    audit = make_audit()
    controls = audit.summary["controls"]
    controls["sentences"] = [f"sentence of {point['change']} {point['level']}" for point in controls["curve"]]
    words = words_of(render(audit))
    first, _, others = words.partition("more changes, after which enough copies were found")
    assert all(f"sentence of {name}" in first for name in ("blur 2.0", "blur 3.0", "mix 0.5", "crop 0.8"))
    assert all(f"sentence of {name}" in others for name in ("blur 1.0", "noise 0.05", "half_resolution None"))


def test_too_few_held_out_images_for_an_interval_are_told_without_numbers() -> None:
    audit = make_audit()
    members = audit.summary["members"]
    kept = ("num_members", "num_non_members", "auc", "roc", "sentence")
    members.update({name: None for name in members if name not in kept})
    members["sentence"] = "This takes 10 patients on each side, and there are 4 held-out ones."
    words = words_of(render(audit))
    assert "Area under the ROC curve (0.5: guessing) 0.710 " in words
    assert "Membership in the training set: This takes 10 patients on each side" in words
    assert "Risk above that" not in words


def test_what_a_second_detector_says_of_chosen_images_is_told() -> None:
    words = words_of(render(make_audit()))
    assert (
        "A second detector, phash, which did not choose these images, calls 1 of them suspicious: fake-0001.png."
        in words
    )


def test_each_picture_has_words_for_those_who_do_not_see_it_and_the_map_has_a_scale() -> None:
    page = render(make_audit(num_copies=2, num_similar=0, num_different=0))
    alternatives = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert alternatives[:4] == [
        "Pair 1, synthetic",
        "Pair 1, training",
        "Pair 1, training, aligned",
        "Pair 1, where they agree",
    ]
    assert re.search(
        r"where they agree<span class=\"scale\">0 <i style=\"background: linear-gradient.*?</i> 1 local SSIM", page
    )
    assert all(label for label in re.findall(r'<svg role="img" aria-label="([^"]*)"', page))


@pytest.mark.parametrize(("shown", "pairs"), [("all", 20), ("copies", 12), ("none", 0)])
def test_the_report_shows_the_images_that_it_was_asked_for(shown: str, pairs: int) -> None:
    audit = make_audit(num_different=2)
    mean = draw_image(zeros(1, 8, 8))
    audit.summary["options"]["report_images"] = shown
    page = render_report(
        audit.summary, audit.tables, candidates=audit.candidates, pictures=audit.pictures, mean_images=[mean, mean]
    )
    assert len(pictures_of(page)) == 4 * pairs + (2 if shown == "all" else 0)
    assert "fake-0017.png" in page
    assert ("holds patients' images and names" in page) == (shown != "none")


def test_a_banner_says_on_screen_and_on_each_printed_page_that_the_report_is_confidential() -> None:
    page = render(make_audit())
    assert "Confidential: this report holds patients' images and names." in words_of(page)
    assert re.search(r'@top-center \{ content: "CONFIDENTIAL: holds patients\' images and names"', page)
    # For browsers that print no margin boxes.
    assert '<div class="strip" aria-hidden="true">CONFIDENTIAL' in page


def test_names_are_shown_as_they_are_whatever_is_in_them() -> None:
    audit = make_audit(folder=f"/{HOSTILE}", patient=HOSTILE, training=HOSTILE, synthetic=HOSTILE)
    audit.summary["run"]["user"] = HOSTILE
    page = render(audit)
    assert HOSTILE not in page
    assert page.count("<script") == 1
    assert f"Patient {HOSTILE}-000" in words_of(page)
    assert "{{ 7 * 7 }}" in page


def test_the_page_allows_its_own_script_alone_and_needs_nothing_from_outside() -> None:
    class Links(HTMLParser):
        outside: tuple[str, ...] = ()

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in {"link", "iframe", "object", "base"}
            for name, value in attributes:
                assert not name.startswith("on")
                if name in {"src", "href"} and not str(value).startswith(("data:", "#pair-")):
                    self.outside += (str(value),)

    page = render(make_audit())
    links = Links()
    links.feed(page)
    assert links.outside == ()
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_a_set_of_5000_with_500_copies_stays_under_30_megabytes() -> None:
    audit = make_audit(num_copies=500, num_similar=200, num_different=4300)
    page = render(audit)
    assert len(pictures_of(page)[0].tobytes()) == 136 * 112 * 3  # compressed, and of full size
    assert 1e6 < len(page.encode()) < 30e6


@pytest.mark.parametrize(
    ("num_pictures", "kind", "scale"), [(200, "png", 1.0), (2800, "webp", 1.0), (20000, "webp", 0.38)]
)
def test_pictures_are_compressed_where_there_are_many_and_made_smaller_where_there_are_too_many(
    num_pictures: int, kind: str, scale: float
) -> None:
    form = choose_form(num_pictures, (136, 112))
    assert (form.kind, round(form.scale, 2)) == (kind, scale)
    picture = Image.new("L", (112, 136))
    data = base64.b64decode(form.uri(picture).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (round(112 * form.scale), round(136 * form.scale))


def test_the_map_of_agreement_lies_over_the_anatomy() -> None:
    image = zeros(1, 32, 32)
    image[:, 8:24, 8:24] = 1.0
    pixels = np.asarray(draw_agreement(image, image)).astype(int)
    # Where the two agree the colour is that of 1 everywhere, and brighter where the image is.
    assert (pixels[16, 16] > pixels[0, 0] + 50).all()
    other = image.flip(2).roll(8, 1)
    assert (np.asarray(draw_agreement(image, other)) != pixels).any()


@pytest.mark.parametrize("scores", [[0.6, 0.85, 1.0], [-0.4], [1.0], [0.0, 0.0], [-250.0, -3.0]])
def test_the_histogram_takes_any_scores_in_the_colours_of_the_page(scores: list[float]) -> None:
    thresholds = {"similar": {"value": 0.6}, "duplicate": {"value": 0.85, "score": "copy_score"}}
    svg = score_histogram(np.array(scores), thresholds)
    assert f"of {len(scores)} synthetic images" in svg
    assert "var(--ink)" in svg
    assert "<style" not in svg
    assert "font-family" not in svg


@pytest.mark.parametrize(
    ("compared", "patient", "others", "score", "words"),
    [
        (
            ["a", "a", "b"],
            "a",
            2,
            0.88,
            "May be of a neighbouring slice: 2 more training images are of this patient, 1 of them compared.",
        ),
        (["a", "b", "d"], "a", 0, 0.88, "The only training image of this patient."),
        (["", "", ""], "", 3, 0.88, "A copy of a neighbouring slice of the same patient would score like this, too."),
        (["a", "a", "b"], "a", 2, 0.99, ""),
    ],
)
def test_a_copy_that_may_be_of_a_neighbouring_slice_is_said_to_be(compared, patient, others, score, words) -> None:
    explanation = explain_copy(score, patient, compared, others)
    assert explanation.startswith(words)
    assert bool(explanation) == bool(words)


def test_the_terminal_says_what_the_summary_says(tmp_path) -> None:
    audit = make_audit()
    lines = closing_lines(json.loads(json.dumps(audit.summary)), audit.tables["matches"], tmp_path / "report.html")
    text = "\n".join(lines)
    expected = [
        "Release gate exceeded: 12 of 48 synthetic images are copies of a training image.",
        "Copies: 12 of 48 synthetic images, 25.0 % (95 % interval 12.0 % to 40.0 %).",
        "Look at these as well: 3 similar images score above all 120 held-out images.",
        "Memorized: 12 of 400 training images, of 6 patients.",
        "Controls: A copy blurred by 2 px would have been found with probability 0.95 (0.75 to 1.00).",
        "Members: The set knows who was in training",
        "at most 1 % of the images may be suspicious: EXCEEDED (12 of 48 synthetic images are suspicious.)",
    ]
    assert [line for line in expected if line not in text] == []
    assert next(line for line in lines if line).startswith("Release gate exceeded")


def test_an_image_in_two_classes_is_listed_once_in_the_more_serious() -> None:
    audit = make_audit(num_copies=2, num_similar=3)
    matches = audit.tables["matches"]
    matches["q_value"] = 0.001
    kinds = pd.Series([pair["kind"] for pair in list_pairs(audit.summary, audit.tables, audit.candidates)])
    assert kinds.value_counts().to_dict() == {"discovery": 30, "copy": 2, "unexplained": 2, "twin": 1}


def test_every_share_is_written_in_one_form_on_the_pages_and_on_the_terminal(tmp_path) -> None:
    for filled in (True, False):
        audit = make_audit(filled=filled)
        lines = closing_lines(audit.summary, audit.tables["matches"], tmp_path / "report.html")
        pages = [words_of(page) for page in (render(audit), render_shareable(audit.summary, audit.tables))]
        for text in ("\n".join(lines), *pages):
            assert re.findall(r".{20}\d%", text) == []
            assert re.search(r"\d[ \u00a0]%", text)


def test_what_the_gate_was_not_asked_is_on_the_first_screen() -> None:
    audit = make_audit()
    text = "Recall was not asked for (--min_recall 0)."
    audit.summary["gate"]["caveats"] = [{"code": "recall_not_asked", "title": "without recall", "text": text}]
    audit.summary["gate"]["min_recall"] = 0.0
    for page in (render(audit), render_shareable(audit.summary, audit.tables)):
        words = words_of(page)
        assert text in words[: words.index("Affected patients")]
        assert "The gate asks for no recall." in words
        # What is often missed is told by a share of the report's own.
        assert "Copies with these changes are often missed, as planted ones were: blur 3 px (55 % found)" in words
    lines = closing_lines(audit.summary, audit.tables["matches"], "report.html")
    assert any(text in line and line.startswith("Gate:") for line in lines)


def test_suspicious_images_are_counted_alike_in_the_card_and_among_the_risks() -> None:
    audit = make_audit()
    audit.summary["num_close"] = 3
    audit.summary["gate"]["suspicious"]["discoveries"] = 3
    words = words_of(render(audit))
    assert "Suspicious, but not copies by the threshold 6 3 closer than chance explains 2 unexplained" in words
    assert "1 copy of a synthetic copy" in words
    assert "and 6 more suspicious images may be" in words
    audit.summary["gate"]["suspicious"]["discoveries"] = 0
    assert "Suspicious, but not copies by the threshold 3 2 unexplained" in words_of(render(audit))
    assert "12 synthetic images are copies of a training image; 6 more are suspicious." in words
    audit.summary["gate"]["patients"]["memorized"] = 9
    words = words_of(render(audit))
    assert "6 of 80 by the identifiers given; 9 with those whom suspicious images resemble; upper 95 % limit" in words


def test_the_first_screen_names_the_mild_changes_that_hide_copies_and_what_stands_in_for_held_out_images() -> None:
    audit = make_audit()
    summary = audit.summary
    summary["controls"]["curve"][4]["upper_limit"] = 0.4
    summary.update(false_alarms=None, holdout_dir=None)
    words = words_of(render(audit))
    assert (
        "3 other mild changes were tried with 20 copies each, and copies are missed after rotation 10 degrees." in words
    )
    assert "Not measured: there were no held-out images. The training images, compared with each other, stand" in words
    first = words[: words.index("Affected patients")]
    assert summary["null"]["sentence"] not in first
    summary["null"]["can_call"] = False
    assert summary["null"]["sentence"] in words_of(render(audit))
    summary["holdout_dir"] = "/data/hospital/holdout"
    assert "Not measured: all held-out images are in training." in words_of(render(audit))


def test_similar_images_above_every_image_that_is_not_a_copy_are_on_the_first_screen() -> None:
    audit = make_audit()
    words = words_of(render(audit))
    card = words[
        words.index("Suspicious, but not copies by the threshold") : words.index("Release gate exceeded at most")
    ]
    assert re.search(r"Not counted: 3 similar images score above all 120 held-out images: pair \d+ , \d+ , \d+", card)
    assert "and yet not apart from the rest: look at these pairs." in words[: words.index("Affected patients")]
    audit.summary["num_similar_above_null"] = 0
    assert "above every image that is not a copy" not in words_of(render(audit))


def test_copies_that_scores_alone_could_not_tell_are_said_to_rest_on_their_pictures() -> None:
    audit = make_audit()
    said = "The copies above rest on the threshold and on their pictures."
    audit.summary["null"]["can_call"] = True
    assert said not in words_of(render(audit))
    audit.summary["null"]["can_call"] = False
    assert said in words_of(render(audit))
    audit.summary["num_copies"] = 0
    assert said not in words_of(render(audit))


def test_held_out_images_are_called_so_wherever_a_side_is_named() -> None:
    words = words_of(render(make_audit()))
    assert "Held-out images" in words
    assert "Holdout images" not in words


def test_the_detection_curve_marks_the_changes_that_have_to_be_found() -> None:
    curve = [
        {"change": name, "level": None, "unit": "", "value": 0.9, "interval": [0.7, 1.0], "upper_limit": limit}
        for name, limit in (("none", 0.99), ("warp", None), ("mix", None), ("blur", None))
    ]
    svg = str(draw_detection_curve(curve, 0.9, "blur"))
    hollow = re.findall(r'<use [^>]*style="fill: var\(--paper\)', svg)
    full = re.findall(r'<use [^>]*style="fill: var\(--different\)', svg)
    assert (len(full), len(hollow)) == (2, 2)
    assert svg.count("stroke-dasharray") > str(draw_detection_curve(curve, 0, "blur")).count("stroke-dasharray")


@pytest.mark.parametrize(("num_copies", "is_printed"), [(4, True), (30, False)])
def test_similar_pairs_are_printed_where_there_are_few_pairs(num_copies: int, is_printed: bool) -> None:
    audit = make_audit(num_copies=num_copies, num_similar=5)
    audit.summary["num_similar_above_null"] = 1
    page = render(audit)
    # The one that the first screen names is printed in any case.
    assert page.count('class="pair similar"') == (2 if is_printed else 1)
    assert 'class="pair different"' not in page


def test_a_number_of_held_out_images_that_excludes_nothing_is_said_to() -> None:
    audit = make_audit()
    said = "cannot exclude that each copy is a false alarm"
    assert said not in words_of(render(audit))
    audit.summary["false_alarms"]["interval"][1] = audit.summary["copy_fraction"]["value"]
    assert said in words_of(render(audit))
