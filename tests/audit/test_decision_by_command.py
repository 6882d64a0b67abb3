"""Whatever a gate decides, by command: exit status, headline, colour, summary.json and every file say the same."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from monai_deepssim import progress
from monai_deepssim.command import main
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import CONTROL_CHANGES

#: No comparison on the pixels, so that an audit takes a second. Correlation at one place is blind to what is moved.
FAST = ["--detector", "ncc", "--verify", "false", "--thresholds", "0.95", "--image_size", "64,64", "--controls", "20"]
FILES = ["--gate_on", "files"]
#: Of 12 synthetic images two are copies: options, exit status, result, tone, and codes among the reasons.
CASES = {
    "no gate": ([], 0, None, "bad", {"controls_missed"}),
    "exceeded": (["--max_copy_fraction", "0.05", *FILES], 3, "exceeded", "bad", {"copies_exceeded", "controls_missed"}),
    "undecided": (["--max_copy_fraction", "0.95", *FILES], 2, "undecided", "unsure", {"controls_missed"}),
    "passed": (["--max_copy_fraction", "0.95", "--min_recall", "0", *FILES], 0, "passed", "unsure", set()),
    "passed by the letter": (["--max_copy_fraction", "1", "--min_recall", "0", *FILES], 0, "passed", "unsure", set()),
}
COLOURS = {"bad": "31", "unsure": "33", "good": "32"}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    phantoms = PhantomBrainDataset(52, seed=41, progress=False)
    return np.stack([(item["image"][0].numpy() * 255).round().astype(np.uint8) for item in phantoms])


@pytest.fixture(scope="module")
def sides(images, tmp_path_factory) -> Path:
    """40 training images of as many patients, and 12 synthetic ones, of which two are copies."""
    folder = tmp_path_factory.mktemp("sides")
    for side, pictures in (("training", images[:40]), ("synthetic", [*images[:2], *images[40:50]])):
        (folder / side).mkdir()
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / side / f"sub-{number:02}.png")
    return folder


def words_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def audit(sides: Path, *options: str) -> int:
    folders = [str(sides / "training"), str(sides / "synthetic"), "-o", str(sides / "out")]
    return main(["audit", *folders, "--shareable_report", "true", *FAST, *options])


@pytest.mark.parametrize("form", ["plain", "--quiet", "--json"])
@pytest.mark.parametrize("case", CASES)
def test_status_headline_colour_and_files_agree(case, form, sides, capsys, monkeypatch) -> None:
    options, status, result, tone, codes = CASES[case]
    said = []
    say = progress.say
    monkeypatch.setattr(
        "monai_deepssim.workflow.workflow.say", lambda *line, **how: said.append((line, how)) or say(*line, **how)
    )

    assert audit(sides, *options, *([] if form == "plain" else [form])) == status

    told = capsys.readouterr()
    out = sides / "out"
    summary = json.loads((out / "summary.json").read_text())
    headline, gate = summary["headline"], summary["gate"]
    assert (gate["result"], headline["tone"]) == (result, tone)
    assert codes <= {reason["code"] for reason in gate["reasons"]}
    if form == "plain":
        lines = [line for line in told.out.splitlines() if line and not line.startswith(("[", "ncc", "matching"))]
        title = next(line for line in lines if line.startswith(headline["title"]))
        assert lines.index(title) < next(
            number for number, line in enumerate(lines) if line.startswith("Copies: 2 of 12")
        )
        (coloured,) = [line[0] for line, how in said if how.get("colour")]
        assert coloured == title
        assert [how["colour"] for _, how in said if how.get("colour")] == [
            {"bad": "red", "unsure": "yellow", "good": "green"}[tone]
        ]
    elif form == "--json":
        assert json.loads(told.out) == summary
    else:
        assert told.out == ""
    assert ("the gate cannot be decided" in told.err) == (result == "undecided")
    for page in ("report.html", "report_shareable.html"):
        text = (out / page).read_text(encoding="utf-8")
        assert headline["title"] in html.unescape(text)
        assert f'<header class="{tone}">' in text
        assert [reason["text"] for reason in gate["reasons"] if reason["text"] not in words_of(text)] == []
    matches = pd.read_csv(out / "matches.csv")
    assert (matches["label"] == "duplicate").sum() == summary["num_copies"] == gate["suspicious"]["copies"] == 2


def test_copies_that_the_detector_is_blind_to_leave_the_gate_undecided_and_are_named(sides) -> None:
    assert audit(sides, "--max_copy_fraction", "0.95", "--min_recall", "0.7", *FILES) == 2
    gate = json.loads((sides / "out" / "summary.json").read_text())["gate"]
    assert [reason["code"] for reason in gate["reasons"]] == ["controls_missed"]
    assert re.search(r"\d of 20 shifted by 10 % of the side", gate["reason"])
    assert "blurred" not in gate["reason"], "by the reference change alone it passes"
    assert gate["reason"].endswith("Leave --verify true.")


def test_a_continued_audit_decides_by_the_options_of_the_last_run_alone(sides, monkeypatch) -> None:
    """No part of a decision may outlive the options that made it: each run is compared with one in a new folder."""
    few_changes = [
        change for change in CONTROL_CHANGES if change.name in ("none", "blur", "blur_2", "shift_10_percent")
    ]
    monkeypatch.setattr("monai_deepssim.data.controls.CONTROL_CHANGES", few_changes)
    changes = [
        ["--max_copy_fraction", "0.95", "--min_recall", "0", *FILES],
        ["--max_copy_fraction", "0.95", *FILES],
        ["--max_copy_fraction", "0.95", "--min_recall", "0"],
        ["--max_copy_fraction", "0.95", "--min_recall", "0", *FILES, "--fdr", "0.0001"],
        ["--max_copy_fraction", "0.95", "--min_recall", "0", *FILES, "--controls", "none"],
        ["--max_copy_fraction", "0.05", "--min_recall", "0", *FILES],
        [],
    ]
    seen, few = [], ["--controls", "5"]
    for options in changes:
        folders = [str(sides / "training"), str(sides / "synthetic")]
        statuses = [
            main(["audit", *folders, "-o", str(sides / name), *FAST, *few, *options, "--quiet"])
            for name in ("on", "new")
        ]
        continued, new = (json.loads((sides / name / "summary.json").read_text()) for name in ("on", "new"))
        assert statuses[0] == statuses[1]
        assert continued["gate"] == new["gate"]
        assert continued["headline"] == new["headline"]
        assert (sides / "on" / "controls.csv").exists() == (continued["controls"] is not None)
        seen.append((statuses[0], [reason["code"] for reason in continued["gate"]["reasons"]]))
        for file in sorted((sides / "new").rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    assert [status for status, _ in seen] == [0, 2, 0, 2, 2, 3, 0]
    assert [codes for _, codes in seen[:2]] == [[], ["controls_missed"]]
    assert "null_cannot_call" in seen[3][1]
    assert "recall_unknown" in seen[4][1]


@pytest.mark.parametrize(
    ("cause", "code", "words", "remedy"),
    [
        (["--fdr", "0.0001"], "null_cannot_call", "--fdr 0.05", ["--fdr", "0.05"]),
        (["--controls", "none"], "recall_unknown", "Give --controls 20", ["--controls", "20"]),
        (["--gate_on", "generator", "--max_copy_fraction", "0"], "copies_exceeded", "'monai-deepssim filter", None),
    ],
)
def test_the_remedy_that_a_reason_names_works_by_command(cause, code, words, remedy, sides) -> None:
    options = ["--max_copy_fraction", "0.95", "--min_recall", "0", *FILES]

    def reasons() -> dict[str, str]:
        gate = json.loads((sides / "out" / "summary.json").read_text())["gate"]
        return {reason["code"]: reason["text"] for reason in gate["reasons"]}

    assert audit(sides, *options, *cause) != 0
    assert words in reasons()[code]
    if remedy is None:
        text = re.search(r"'monai-deepssim (filter [^']*)'", reasons()[code])[1].split()
        folders = [str(sides / "training"), str(sides / "synthetic"), "-o", str(sides / "filter")]
        main([*text, *folders, *FAST, *options, "--max_copy_fraction", "0", "--overwrite"])
        gate = json.loads((sides / "filter" / "filtered_audit" / "summary.json").read_text())["gate"]
        assert code not in {reason["code"] for reason in gate["reasons"]}
        return
    audit(sides, *options, *remedy)
    assert code not in reasons()


HOSTILE = [
    "<script>alert(1)<b>",
    "line\nend",
    "x" * 200,
    "‮gnp.txet",
    "&amp;{{7*7}}",
    "MUELLER ANNA",
    "a'\"b",
    "O-Brien",
]


def test_no_hostile_name_is_in_a_report_that_can_be_shared(images, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "Klinik <i>Nord‮"
    for number, name in enumerate(HOSTILE):
        patient = f"{name}-{number}"
        for side, pixels in (
            ("training", images[number]),
            ("synthetic", images[number]),
            ("held", images[20 + number]),
        ):
            folder = root / side / (patient if side == "training" else f"of {patient}")
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / f"{name[:100]}.png")
    # A held-out image that is a training image is named in a sentence; so is a file that cannot be read.
    Image.fromarray(images[0]).save(root / "held" / "contaminated <u>.png")
    (root / "synthetic" / "broken <s>.png").write_bytes(b"")
    status = main(
        [
            "audit", str(root / "training"), str(root / "synthetic"), "--holdout", str(root / "held"), "-o", "out <o>",
            "--patient_id_pattern", "([^/]+)/[^/]*$", "--max_copy_fraction", "0.5", *FAST,
        ]
    )  # fmt: skip
    assert status == 3
    assert main(["report", "out <o>", "--shareable", "-o", "shared.html"]) == 0
    page = (tmp_path / "shared.html").read_text(encoding="utf-8")
    shown = html.unescape(page)
    parts = [*HOSTILE[:5], "MUELLER", "a'\"b", "O-Brien", "Klinik", "<i>Nord", "broken", "contaminated", "out <o>"]
    assert [part for part in parts if part in shown or part in page] == []
    assert "‮" not in page
    assert page.count("<script") == 0
    assert "8 of 8 synthetic images are copies" in shown
    confidential = (tmp_path / "out <o>" / "report.html").read_text(encoding="utf-8")
    assert "alert(1)<b>" not in confidential
    assert "‮" not in confidential
