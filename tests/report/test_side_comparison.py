"""Differences between the sides, as the report and the terminal tell them."""

from typing import Any

import pytest

from monai_deepssim.report import report_environment, side_lines


def comparison(*covered: bool, num_images: int = 9) -> dict[str, Any]:
    differences = [{"kind": "noise", "description": "<b>0.1</b> of noise.", "covered": flag} for flag in covered]
    return {
        "num_training": num_images,
        "num_synthetic": 8,
        "is_testable": num_images >= 5,
        "differences": differences,
    }


def render(sides_differ: dict[str, Any], mean_images: list[tuple[str, str]]) -> str:
    template = report_environment().get_template("side_comparison.html")
    return template.render(sides_differ=sides_differ, mean_images=mean_images)


def test_the_report_of_a_comparison_without_pictures_has_none() -> None:
    assert 'alt="Mean of 9 images"' in render(comparison(True), [("9 images", "data:image/png;base64,AA==")])
    assert "<img" not in render(comparison(True), [])


@pytest.mark.parametrize(("covered", "label"), [(True, "covered"), (False, "not covered")])
def test_the_report_shows_differences_escaped(covered: bool, label: str) -> None:
    page = render(comparison(covered), [])
    assert "&lt;b&gt;0.1&lt;/b&gt; of noise." in page
    assert f">{label}<" in page


@pytest.mark.parametrize(
    ("sides_differ", "words"),
    [
        (comparison(), "No difference was found"),
        (comparison(True), "copies are found in spite of this difference"),
        (comparison(True, False), "1 of 2 differences may hide copies"),
        (comparison(num_images=2), "This was not tested"),
    ],
)
def test_the_report_says_whether_a_difference_hides_copies(sides_differ, words: str) -> None:
    assert words in render(sides_differ, [])


def test_the_terminal_warns_of_what_hides_copies() -> None:
    assert any(line.startswith("  Warning: <b>0.1") for line in side_lines(comparison(False)))
    assert not any("Warning" in line for line in side_lines(comparison(True)))
    assert "not compared" in side_lines(comparison(num_images=2))[0]
