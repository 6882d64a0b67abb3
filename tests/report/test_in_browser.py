"""The report in a headless Chromium: on a telephone, in the dark, in print, with its script and without a network."""

import json
import re
from importlib import resources

import pytest
from example_audit import make_audit

from monai_deepssim.report import render_report, render_shareable

HOSTILE = "<img src=https://example.org/a onerror=alert(1)>\"'&"
#: Names that a telephone cannot break at a space.
LONG = "averylongnamewithoutanyspaceinit" * 4

# Contrast as WCAG 2 defines it, of each element that has text of its own, with the first opaque colour behind it.
LOW_CONTRAST = r"""
(() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [red, green, blue] = numbers(colour).map((c) => linear(c / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
    return element.parentElement ? behind(element.parentElement) : "rgb(255, 255, 255)";
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent.trim());
    const isSvg = element instanceof SVGElement;
    if (!text.join("") || !(isSvg || element.offsetParent) || element.disabled) continue;
    const style = getComputedStyle(element);
    const levels = [light(isSvg ? style.fill : style.color), light(behind(element))].sort((one, other) => other - one);
    const contrast = (levels[0] + 0.05) / (levels[1] + 0.05);
    if (contrast < 4.5) low.push(`${element.tagName} ${text.join(" ")}: ${contrast}`);
  }
  return low;
})()
"""


@pytest.fixture
def show(browser, tmp_path):
    """Write the page of an audit and open it; returns the browser."""

    def show(audit, *, shareable=False, **how):
        path = tmp_path / "report.html"
        if shareable:
            path.write_text(render_shareable(audit.summary, audit.tables), encoding="utf-8")
        else:
            page = render_report(audit.summary, audit.tables, candidates=audit.candidates, pictures=audit.pictures)
            path.write_text(page, encoding="utf-8")
        browser.open(path, **how)
        return browser

    return show


def shown_pairs(browser) -> list[int]:
    script = "[...document.querySelectorAll('.pair')].filter(p => p.offsetParent).map(p => Number(p.dataset.number))"
    return browser.evaluate(script)


def choose(browser, role: str, value: str) -> None:
    control = f"document.querySelector('#pair-controls [data-role={role}]')"
    browser.evaluate(f"{control}.value = '{value}'; {control}.dispatchEvent(new Event('input'))")


def test_the_page_complains_of_nothing_asks_for_nothing_and_shows_hostile_names_as_they_are(show) -> None:
    browser = show(make_audit(patient=HOSTILE, training=HOSTILE, synthetic=HOSTILE, folder=f"/{HOSTILE}"))
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.evaluate("document.querySelector('.pair h4').textContent") == f"Patient {HOSTILE}-000, copy 1 of 2"
    assert browser.evaluate("document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0


def test_a_script_that_is_not_the_page_s_own_does_not_run(show) -> None:
    browser = show(make_audit())
    browser.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)"
    )
    assert browser.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)


@pytest.mark.parametrize("shareable", [False, True])
@pytest.mark.parametrize("filled", [True, False])
def test_nothing_is_wider_than_a_telephone(show, shareable: bool, filled: bool) -> None:
    browser = show(
        make_audit(filled=filled, patient=LONG, training=LONG, folder=f"/{LONG}"), shareable=shareable, width=400
    )
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    inner = (
        "[...document.querySelectorAll('.panel, .pair, .card')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.evaluate(inner) == 0


def test_pairs_are_paged_filtered_and_sorted(show) -> None:
    browser = show(make_audit(num_copies=30, num_similar=6))
    assert shown_pairs(browser) == list(range(1, 13))
    browser.evaluate("document.querySelector('#pair-controls [data-role=forward]').click()")
    assert shown_pairs(browser) == list(range(13, 25))
    assert (
        browser.evaluate("document.querySelector('#pair-controls [data-role=status]').textContent") == "13 to 24 of 44"
    )
    choose(browser, "kind", "unexplained")
    assert shown_pairs(browser) == [32, 33]
    choose(browser, "kind", "")
    choose(browser, "search", "fake-0007 SUB-003")
    assert shown_pairs(browser) == [8]
    choose(browser, "search", "")
    choose(browser, "sort", "score up")
    scores = browser.evaluate(
        "[...document.querySelectorAll('.pair')].filter(p => p.offsetParent).map(p => Number(p.dataset.score))"
    )
    assert scores == sorted(scores)
    assert len(scores) == 12
    choose(browser, "size", "all")
    assert len(shown_pairs(browser)) == 44


@pytest.mark.parametrize("width", [400, 1280])
def test_patients_are_paged_on_any_screen(show, width: int) -> None:
    browser = show(make_audit(num_copies=50), width=width)
    rows = "[...document.querySelectorAll('tbody[data-list] tr')].filter(row => row.offsetParent).length"
    assert browser.evaluate(rows) == 10
    search = "document.querySelector('#patient-controls [data-role=search]')"
    browser.evaluate(f"{search}.value = 'sub-024'; {search}.dispatchEvent(new Event('input'))")
    assert browser.evaluate(rows) == 1


def test_a_picture_enlarges_and_its_neighbours_follow_by_key(show) -> None:
    browser = show(make_audit())
    browser.evaluate("document.querySelector('#pair-2 [data-enlarge]').click()")
    title = "document.querySelector('dialog[open] [data-role=title]').textContent"
    assert browser.evaluate(title) == "Pair 2: fake-0001.png beside scan-0001.png"
    width = browser.evaluate("document.querySelector('dialog img').getBoundingClientRect().width")
    assert width > 1.5 * browser.evaluate("document.querySelector('#pair-2 img').getBoundingClientRect().width")
    for key, expected in (("ArrowRight", "Pair 3"), ("ArrowLeft", "Pair 2")):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
        assert browser.evaluate(title).startswith(expected)
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    assert browser.evaluate("document.querySelector('dialog').open") is False


def test_a_link_to_a_pair_on_another_page_opens_its_pictures(show) -> None:
    browser = show(make_audit(num_copies=30))
    assert 31 not in shown_pairs(browser)
    browser.evaluate("document.querySelector('a[href=\"#pair-31\"]').click()")
    title = browser.evaluate("document.querySelector('dialog[open] [data-role=title]').textContent")
    assert title.startswith("Pair 31: fake-0032.png")


def test_without_scripts_everything_is_there(show, browser) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        show(make_audit(num_copies=30))
        document = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        assert len(browser.call("DOM.querySelectorAll", nodeId=document, selector=".pair:not(.off)")["nodeIds"]) == 44
        assert (
            browser.call("DOM.querySelectorAll", nodeId=document, selector=".controls:not([hidden])")["nodeIds"] == []
        )
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shareable", [False, True])
def test_text_stands_out_from_what_is_behind_it(show, dark: bool, shareable: bool) -> None:
    browser = show(make_audit(), dark=dark, shareable=shareable)
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(16, 21, 29)" if dark else "rgb(245, 247, 250)"
    )
    assert browser.evaluate(LOW_CONTRAST) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shareable", [False, True])
@pytest.mark.parametrize("filled", [False, True])
def test_axe_finds_no_barrier(show, dark: bool, shareable: bool, filled: bool) -> None:
    axe = pytest.importorskip("axe_core_python")
    browser = show(make_audit(filled=filled), dark=dark, shareable=shareable)
    browser.evaluate(resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8") + "; 0")
    found = browser.evaluate("axe.run().then(result => JSON.stringify([result.violations, result.passes]))")
    violations, passes = json.loads(found)
    assert [(rule["id"], rule["help"], [node["html"] for node in rule["nodes"]]) for rule in violations] == []
    assert {"color-contrast", "heading-order", "image-alt"} <= {rule["id"] for rule in passes} | (
        set() if filled and not shareable else {"image-alt"}
    )


def test_an_audit_like_the_demo_prints_on_eight_pages_at_most(show) -> None:
    audit = make_audit(num_copies=50, num_similar=35, num_different=115)
    audit.summary["members"] = None
    curve = audit.summary["controls"]["curve"]
    curve += [{**point, "change": f"{point['change']}_{number}"} for number in range(3) for point in curve]
    printed = show(audit).print()
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8


def test_each_printed_page_says_that_it_is_confidential_and_its_number(show) -> None:
    pypdf = pytest.importorskip("pypdf")
    from io import BytesIO

    pages = pypdf.PdfReader(BytesIO(show(make_audit(num_copies=50)).print())).pages
    texts = [page.extract_text() for page in pages]
    assert all("CONFIDENTIAL: holds patients' images and names" in text for text in texts)
    assert all(f"page {number} of {len(pages)}" in text for number, text in enumerate(texts, start=1))
    assert sum(text.count("Pair ") for text in texts) >= 50
