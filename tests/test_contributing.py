"""CONTRIBUTING's pages on options, columns and detectors: their lines work as they are printed, in their place."""

import doctest
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from monai_deepssim.audit import options
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import detector_arguments, detectors, make_detector, verification
from monai_deepssim.options import read_options
from monai_deepssim.report import tables

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks_of(heading, language="python"):
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [code for name, code in blocks if name == language]


def test_the_option_of_the_page_is_checked_as_the_page_says():
    (line,) = blocks_of("Add an option")
    names = {**vars(options), "__annotations__": {}}
    exec(line.strip(), names)
    wider = type("Wider", (options.AuditOptions,), {k: names[k] for k in ("num_pairs", "__annotations__")})
    wider = dataclass(frozen=True)(wider)
    assert read_options(wider, {}).num_pairs == 5
    with pytest.raises(UnusableInputError, match="--num_pairs: is 0, wanted a whole number of at least 1"):
        read_options(wider, {"num_pairs": 0})


@pytest.mark.parametrize("size", [(8, 6), (8, 6, 4)])
def test_the_column_of_the_page_is_a_number_per_pair_of_slices_and_of_volumes(size):
    entry, value = blocks_of("Add a column")
    column = eval("{" + entry + "}", vars(tables))["brightness"]
    images = torch.stack([torch.full((1, *size), grey) for grey in (0.25, 0.5)])
    table = pd.DataFrame(eval("{" + value + "}", {**vars(verification), "y": images}))
    assert [column.form.format(cell) for cell in table["brightness"]] == ["0.250", "0.500"]


def test_the_detector_of_the_page_is_found_by_its_line(tmp_path, monkeypatch):
    (code,) = blocks_of("Add a detector")
    (line,) = blocks_of("Add a detector", "")
    ((name, target),) = eval("{" + line + "}").items()
    path = tmp_path / f"{target.partition('.')[0]}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert doctest.testmod(module) == (0, 2)
    monkeypatch.setitem(detectors.SUPPORTED_DETECTORS, name, getattr(module, target.partition(".")[2]))
    assert "bins" in detector_arguments(name)
    assert make_detector(name, bins=8).represent_batch(torch.rand(2, 1, 64, 64)).shape == (2, 8)
