"""The documentation says what is so: its examples run, its commands name what exists, its tables are complete."""

import ast
import doctest
import importlib
import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_deepssim.audit import Audit
from monai_deepssim.command_parser import BUNDLES, COMMANDS, make_parser
from monai_deepssim.data import PhantomBrainDataset, plant_controls
from monai_deepssim.options import option_fields, option_names
from monai_deepssim.report import MATCHES_COLUMNS, MEMORIZED_COLUMNS
from monai_deepssim.transforms import CONTROL_CHANGES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("papers/*.md")),
    *sorted(ROOT.glob("bundles/*/docs/*.md")),
]


def text_of(path):
    return path.read_text(encoding="utf-8")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def save_folders(folder):
    """What the README's first example finds: eight training images, and of three synthetic ones two copies."""
    phantoms = [item["image"][0].numpy() for item in PhantomBrainDataset(9, seed=71, progress=False)]
    sides = {"training": phantoms[:8], "synthetic": [phantoms[3][:, ::-1], phantoms[5][::-1], phantoms[8]]}
    for name, images in sides.items():
        (folder / name).mkdir()
        for number, image in enumerate(images):
            pixels = (image * 255).round().astype(np.uint8)
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in text_of(page)], ids=name_of)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    if page.name == "README.md" and page.parent == ROOT:
        save_folders(tmp_path)
        # A minute would be spent on controls, of which no example says anything.
        few = partial(plant_controls, changes=CONTROL_CHANGES[:1])
        monkeypatch.setattr("monai_deepssim.audit.controls.plant_controls", few)
        monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, name_of(page), str(page), 0)
    assert examples.examples
    report = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_files_that_a_page_names_exist(page):
    text = text_of(page).replace("$BUNDLE", "bundles/deepssim_brain_mri" if page.name == "training.md" else "bundles/*")
    named = set(re.findall(r"bundles/[\w*]+/[\w/]+\.\w+", text)) | set(re.findall(r"(?:benchmarks|docs)/\w+\.py", text))
    assert not {name for name in named if not list(ROOT.glob(name))}
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not {link for link in linked if not (page.parent / link).exists()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_finished(page):
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX|to be written|lorem)\b", text_of(page), re.IGNORECASE)


def test_a_page_of_the_guide_can_be_reached():
    listed = set(re.findall(r"^([\w/]+)$", text_of(DOCS / "index.md"), re.MULTILINE))
    assert listed == {page.stem for page in DOCS.glob("*.md")} - {"index"} | {"api/index", "papers/index"}


def test_the_guide_opens_with_a_route_for_each_reader():
    text = text_of(DOCS / "index.md")
    routes = ["Try it", "Audit my set", "Sign a release", "Use it in MONAI", "Extend it"]
    positions = [text.index(f"- **{route}.**") for route in routes] + [text.index("{toctree}")]
    assert positions == sorted(positions)


def test_the_reference_has_every_room():
    rooms = {path.parent.name for path in (ROOT / "monai_deepssim").glob("*/__init__.py")} | {
        "csv_cells",
        "errors",
        "files",
        "folder_lock",
        "interruptions",
        "memory",
        "options",
        "ranks",
        "stores",
    }
    assert {page.stem for page in (DOCS / "api").glob("*.md")} - {"index"} == rooms


def test_configs_and_tables_are_those_of_the_options():
    sys.path.insert(0, str(DOCS))
    try:
        write_options = importlib.import_module("write_options")
    finally:
        sys.path.pop(0)
    stale = [path.name for path, text in write_options.updated_files() if text_of(path) != text]
    assert not stale, "run python docs/write_options.py"


def test_the_guide_explains_every_option_and_column_of_an_audit():
    guide = text_of(DOCS / "auditing.md") + text_of(ROOT / "bundles/memorization_audit/docs/README.md")
    explained = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", guide, re.MULTILINE))))
    assert {*Audit.option_names(), *MATCHES_COLUMNS, *MEMORIZED_COLUMNS} - explained <= {"inferer", "handlers"}


PAPERS = sorted(DOCS.glob("papers/*.md"))


@pytest.mark.parametrize("page", PAPERS, ids=name_of)
def test_what_a_page_of_a_paper_names_exists(page):
    text = text_of(page)
    for path in re.findall(r"\{(?:func|class|data|meth|mod)\}`~?(monai_deepssim[\w.]*)`", text):
        module, name = path.rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), path
    bundle = "\n".join(text_of(path) for path in ROOT.glob("bundles/*/configs/*.json"))
    configs = {path.name for path in ROOT.glob("bundles/*/configs/*.json")} | {"summary.json"}
    assert set(re.findall(r"`(\w+\.json)`", text)) <= configs
    assert all((ROOT / "bundles" / name).is_dir() for name in re.findall(r"bundle\s+`(\w+)`", text))
    assert all((ROOT / name).is_file() for name in re.findall(r"`((?:tests|benchmarks|docs)/metrics/\w+\.py)`", text))
    assert set(re.findall(r"`(\w+)` of the same bundle", text)) <= set(re.findall(r'"(\w+)"', bundle))
    typed = re.findall(r"monai-deepssim ([\w-]+)((?:(?:[^`|\n]|(?<=\\)\n)*))", text)
    for command, rest in typed:
        kind = COMMANDS[command][0]
        flags = set(re.findall(r"--(\w+)", rest))
        assert flags <= set(option_names(kind)), command


def test_every_paper_has_a_page_and_every_page_says_what_departs():
    assert {"index.md", "deepssim.md", "memorization_index.md"} <= {page.name for page in PAPERS}
    for page in PAPERS:
        if page.name != "index.md":
            assert "| paper | ours | departures |" in text_of(page)


@pytest.mark.parametrize("command", ["main", "test"])
def test_a_command_of_the_readme_is_one_line_that_a_fresh_machine_can_run(command):
    blocks = re.findall(rf"<!-- ci: {command} -->\n```\n(.*?)\n```", text_of(ROOT / "README.md"), re.DOTALL)
    assert len(blocks) == 1
    assert "\n" not in blocks[0]
    assert blocks[0].startswith("python3 -m venv .venv && . .venv/bin/activate && pip install ")
    assert subprocess.run(["bash", "-n", "-c", blocks[0]]).returncode == 0
    words = shlex.split(blocks[0])
    extras = re.search(r"\[(\w+)\]", words[words.index("install") + 2])[1]
    assert f"\n{extras} =\n" in text_of(ROOT / "setup.cfg")


def commands_of(page):
    """The lines of a page's blocks of code, each with what follows a backslash, as words."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text_of(page), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    starts = ("monai-deepssim ", "python -m monai.bundle ", "torchrun ")
    return [shlex.split(re.sub(r"\s#.*", "", line)) for line in map(str.strip, lines) if line.startswith(starts)]


def value_of(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "gate.md"], ids=name_of)
def test_the_commands_of_a_page_can_be_typed(page):
    for command, *words in [words[1:] for words in commands_of(page) if words[0] == "monai-deepssim"]:
        given, unknown = make_parser().parse_known_args([command, *words])
        # --base#generator vae changes a part of an option, where the defaults are a bundle's.
        assert not unknown or (command in BUNDLES and all("#" in word for word in unknown[::2])), unknown
        typed = vars(given)
        for entry in option_fields(COMMANDS[command][0]) if command in COMMANDS else ():
            check, text = entry.metadata["check"], typed.get(entry.name)
            # DIR and model.pt stand for what the reader has.
            if isinstance(text, str) and not text.isupper() and check.kind != "file":
                check.read(entry.name, text if check.is_text else value_of(text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_bundle_commands_of_a_page_name_configs_and_ids_that_exist(page):
    for words in [words for words in commands_of(page) if "run" in words and "monai.bundle" in words]:
        options = dict(zip(words[words.index("run") + 1 :: 2], words[words.index("run") + 2 :: 2], strict=True))
        names = re.findall(r"configs/(\w+\.json)", options.pop("--config_file"))
        folders = [
            folder for folder in ROOT.glob("bundles/*/configs") if all((folder / name).is_file() for name in names)
        ]
        assert names, words
        assert folders, words
        ids = [
            set().union(*(json.loads(text_of(folder / name)) for name in names)) | {"bundle_root"} for folder in folders
        ]
        assert any({option[2:].partition("#")[0] for option in options} <= known for known in ids), words


def test_the_readme_shows_the_three_main_commands():
    assert {"audit", "filter", "deduplicate"} <= {words[1] for words in commands_of(ROOT / "README.md")}


def test_the_reference_has_every_public_constant():
    # automodule finds classes and functions by itself, and constants not at all.
    for page in sorted((DOCS / "api").glob("*.md")):
        module = importlib.import_module(f"monai_deepssim.{page.stem}" if page.stem != "index" else "monai_deepssim")
        names = [name for name in getattr(module, "__all__", ()) if not callable(getattr(module, name))]
        listed = re.findall(rf"^\.\. py:data:: {module.__name__}\.(\w+)$", text_of(page), re.MULTILINE)
        assert sorted(listed) == sorted(names), page.name
