"""CSV and JSON lists as spreadsheets, scripts and strangers write them."""

import json

import numpy as np
import pytest
from PIL import Image

from monai_deepssim.data import list_images, read_table
from monai_deepssim.errors import UnusableInputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "images" / "ä.png")
    return tmp_path


def refusal(source) -> str:
    with pytest.raises(UnusableInputError) as error:
        list_images(source)
    return str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
@pytest.mark.parametrize("start", ["", "sep=;\r\n", "SEP=;\n"])
def test_what_spreadsheets_write_is_read(folder, encoding, start):
    text = f'{start}image;patient_id;note\r\nimages/ä.png;7;"two\r\nlines; and ""quotes"""\r\n'
    if encoding.endswith("-bom"):
        content = ("\ufeff" + text).encode(encoding.removesuffix("-bom"))
    else:
        content = text.encode(encoding)
    (folder / "list.csv").write_bytes(content)
    (item,) = list_images(folder / "list.csv")
    assert (item["path"], item["patient_id"]) == ("images/ä.png", "7")
    assert item["note"] == 'two\r\nlines; and "quotes"'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image\nimages/ä.png\n".encode("latin-1"), ["line 2", "0xe4", "Latin-1", "Save the file as UTF-8"]),
        ("image\nimages/ä.png\n".encode("utf-16-le"), ["NUL", "UTF-16"]),
        (b"image\na\0.png\n", ["line 2", "NUL"]),
        (b"image,Image\na.png,b.png\n", ["names the column image 2 times"]),
        (b"image\nimages\\a.png\n", ["line 2", "does not exist", "backslash", "'/'"]),
        (b"image\nC:\\data\\a.png\n", ["line 2", "Windows drive"]),
        (b'image\n"a.png\n', ["cannot be read as CSV"]),
        (b"sep=;\nimage;slice\nimages/x.png\n", ["line 3", "1 cells"]),
    ],
)
def test_a_message_names_the_true_cause(folder, content, words):
    (folder / "list.csv").write_bytes(content)
    message = refusal(folder / "list.csv")
    assert [word for word in words if word not in message] == []


def test_a_column_without_a_name_is_not_read(folder):
    (folder / "list.csv").write_text(",image,\n0,images/ä.png,x\n", encoding="utf-8")
    assert read_table(folder / "list.csv").columns == ("image",)
    assert len(list_images(folder / "list.csv")) == 1


@pytest.mark.parametrize("value", ["1e400", "1" * 400, "-1e400", "NaN", "1e30", "4294967296"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_slice_that_no_volume_has_is_refused(folder, kind, value):
    file = folder / f"list.{kind}"
    text = f"image,slice\nimages/ä.png,{value}\n"
    file.write_text(text if kind == "csv" else f'[{{"image": "images/ä.png", "slice": {value}}}]', encoding="utf-8")
    assert "slice is" in refusal(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, ["JSON"]),
        (b'{"training": ' * 50_000, ["JSON"]),
        (b'[{"image": "a", "slice": ' + b"9" * 10_000 + b"}]", []),
        (b"[\xff]", ["cannot be read as JSON"]),
        (b'[{"image": "../a.png"}]', ["inside"]),
    ],
)
def test_a_json_list_that_is_none_is_refused(folder, content, words):
    (folder / "list.json").write_bytes(content)
    message = refusal(folder / "list.json")
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_json_list_may_have_a_byte_order_mark(folder, encoding):
    (folder / "list.json").write_bytes(json.dumps([{"image": "images/ä.png"}], ensure_ascii=False).encode(encoding))
    assert len(list_images(folder / "list.json")) == 1


@pytest.mark.parametrize("files", ["[", 3, "{}{}", [3]])
def test_the_files_of_an_item_are_paths(folder, files):
    assert "files is" in refusal([{"image": "a.png", "files": files}])
