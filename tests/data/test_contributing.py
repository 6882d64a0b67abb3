"""CONTRIBUTING's page on formats: its reader and its test work as they are printed."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from monai_deepssim.data import READERS, list_images, load_slice
from monai_deepssim.data.readers import PictureReader

PAGE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Add a file format")[2]
READER, TEST = re.findall(r"^ *```python\n(.*?)^ *```", SECTION, re.DOTALL | re.MULTILINE)
PICTURE_LINE, VOLUME_LINE = re.findall(r"^```\n +(.*),\n```", SECTION, re.MULTILINE)


def module_of(code, path):
    path.write_text(textwrap.dedent(code))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_the_reader_of_the_page_passes_the_test_of_the_page(tmp_path, monkeypatch, signs, slice_axis):
    reader = module_of(READER, tmp_path / "matlab_volumes.py")
    monkeypatch.setattr("monai_deepssim.data.readers.READERS", [*READERS, eval(VOLUME_LINE, vars(reader))])
    test = module_of(TEST, tmp_path / "test_of_the_page.py")
    (tmp_path / "images").mkdir()
    test.test_a_matlab_volume_shows_what_nifti_shows(tmp_path / "images", signs, slice_axis)


def test_a_picture_format_is_the_line_of_the_page(tmp_path, monkeypatch):
    line = eval(PICTURE_LINE, {"PictureReader": PictureReader})
    monkeypatch.setattr("monai_deepssim.data.readers.READERS", [*READERS, line])
    picture = Image.linear_gradient("L")
    picture.save(tmp_path / "a.pgm")
    picture.save(tmp_path / "b.png")
    first, second = (load_slice(item) for item in list_images(tmp_path))
    assert first.equal(second)
