"""Lists, folders, files and arrays of strangers: each gives images in [0, 1], or one message."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal_of

from monai_deepssim import deepssim, find_copies, find_duplicates, remove_copies
from monai_deepssim.data import list_images, load_slice

CSVS = {
    "empty": b"",
    "header alone": b"image\n",
    "no column of files": b"a,b\n1,2\n",
    "missing file": b"image\nnone.png\n",
    "outside": b"image\n../a.png\n",
    "absolute": b"image\n/etc/passwd\n",
    "its own folder": b"image\n.\n",
    "null byte": b"image\na\0.png\n",
    "expression": b"image\n$__import__('os').mkdir('ran')\n",
    "formula": b"image\n=cmd|' /C calc'!A0\n",
    "short row": b"image,patient_id\na.png\n",
    "long row": b"image\na.png,b\n",
    "open quote": b'image\n"a.png\n',
    "long cell": b"image\n" + b"x" * 200_000 + b"\n",
    "long name": b"image\n" + b"x" * 5_000 + b".png\n",
    "not UTF-8": b"image\n\xff\xfe\xfd\n",
    "slice is a word": b"image,slice\na.png,many\n",
    "slice is infinite": b"image,slice\na.png,inf\n",
    "slice is huge": b"image,slice\na.png,1e400\n",
    "axis is 9": b"image,slice_axis\na.png,9\n",
    "no image": b"image\nlist.csv\n",
    "two headers": b"image,image\na.png,a.png\n",
    "device": b"image\n../../../../dev/zero\n",
}
JSONS = {
    "empty": "",
    "text": "no JSON",
    "deep": "[" * 100_000,
    "number": "7",
    "null": "null",
    "object": "{}",
    "list of numbers": "[1, 2]",
    "no image": '[{"label": 1}]',
    "image is a number": '[{"image": 1}]',
    "image is a list": '[{"image": ["a.png"]}]',
    "image is null": '[{"image": null}]',
    "image is empty": '[{"image": ""}]',
    "missing": '[{"image": "none.png"}]',
    "outside": '[{"image": "../a.png"}]',
    "reference": '[{"image": "@a"}]',
    "component": '[{"image": {"_target_": "os.mkdir", "path": "ran"}}]',
    "slice is a list": '[{"image": "a.png", "slice": [1]}]',
    "slice is huge": '[{"image": "a.png", "slice": 1e400}]',
    "slice is NaN": '[{"image": "a.png", "slice": NaN}]',
    "axis is a word": '[{"image": "a.png", "slice_axis": "axial"}]',
}
ITEMS = {
    "number": 7,
    "bytes": b"a.png",
    "list of numbers": [1, 2],
    "no image": [{"label": 1}],
    "files are a word": [{"image": "a.png", "files": "x"}],
    "files are numbers": [{"image": "a.png", "files": [1]}],
    "image is an object": [{"image": object()}],
    "path is a number": [{"image": "a.png", "path": 7, "slice": "x"}],
}
NAMES = ["=a", "+a", "-a", "@a", "'=a", "$a", "%a", "a;b", "a,b", 'a"b', "a'b", "<b>a", "a\tb", "a\nb", "ä", "日本", "a\udcffb", " a", "a ", "[a]", "*", "?", "~", "#1", "&amp;", "CON", "a" * 200]  # fmt: skip # noqa: E501


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save("a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield tmp_path


@pytest.mark.parametrize("what", CSVS)
def test_a_list_that_cannot_be_used_is_named_with_its_line(place, what):
    Path("list.csv").write_bytes(CSVS[what])
    message = refusal_of(list_images, "list.csv")
    assert not Path("ran").exists()
    assert "list.csv" in message


@pytest.mark.parametrize("what", JSONS)
def test_a_data_list_that_cannot_be_used_is_named_with_its_entry(place, what):
    Path("list.json").write_text(JSONS[what])
    assert "list.json" in refusal_of(list_images, "list.json")
    assert not Path("ran").exists()


@pytest.mark.parametrize("what", ITEMS)
def test_items_that_cannot_be_used_are_refused(place, what):
    try:
        message = refusal_of(lambda: [load_slice(item) for item in list_images(ITEMS[what])])
    except TypeError as error:  # a mistake of the program that calls
        message = str(error)
    assert message


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_listed_under_it_and_read(place, name):
    Path("images").mkdir()
    os.link("a.png", f"images/{name}.png")
    (item,) = list_images("images")
    assert item["path"] == f"{name}.png"
    assert load_slice(item).shape == (1, 64, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"slices": "0:1000000000000"},
        {"slices": "-5:3:0"},
        {"slices": "1,,2"},
        {"slices": [10**30]},
        {"slices": ["$a"]},
        {"slices": {"_target_": "os.abort"}},
        {"slices": 1.5},
        {"slice_axis": 3},
        {"slice_axis": True},
        {"patient_id_pattern": "("},
        {"patient_id_pattern": "a"},
    ],
    ids=str,
)
def test_options_of_a_list_are_used_or_refused_within_seconds(place, options):
    import nibabel as nib

    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((8, 8, 8)), np.eye(4)), "a.nii")
    message = refusal_of(list_images, "a.nii", **options)
    if message is None:
        assert options["slices"] in ("0:1000000000000", "0:")


BATCH = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
IN_MEMORY = {
    "nothing": None,
    "number": 7,
    "text": "nowhere",
    "empty text": "",
    "empty list": [],
    "list of nothing": [None],
    "list of numbers": [1, 2],
    "no images": torch.zeros(0, 1, 64, 64),
    "no pixels": torch.zeros(2, 1, 0, 0),
    "one axis": torch.rand(64),
    "two axes": torch.rand(64, 64),
    "three axes": torch.rand(2, 64, 64),
    "three channels": torch.rand(2, 3, 64, 64),
    "six axes": torch.rand(1, 1, 4, 4, 4, 4),
    "not a number": torch.full((2, 1, 64, 64), torch.nan),
    "infinite": torch.full((2, 1, 64, 64), torch.inf),
    "one NaN": BATCH.clone().index_put_((torch.tensor(0),) * 4, torch.tensor(torch.nan)),
    "below 0": BATCH - 1,
    "8 bit": (BATCH * 255).to(torch.uint8),
    "complex": BATCH.to(torch.complex64),
    "objects": np.array([[[[object()]]]]),
    "words": np.array([["a"]]),
    "mapping": {"image": BATCH},
    "items without image": [{"label": 1}],
    "items of another shape": [{"image": torch.rand(64, 64, 3)}],
    "function": len,
    "sparse": BATCH.to_sparse(),
}


# A set of several images is used without the one that has a NaN.
@pytest.mark.parametrize("what", [what for what in IN_MEMORY if what != "one NaN"])
def test_images_in_memory_that_cannot_be_used_are_refused_by_the_name_of_their_side(place, what):
    value = IN_MEMORY[what]
    for call, side in (
        (lambda: find_copies(value, BATCH, controls=None), "training"),
        (lambda: find_copies(BATCH, value, controls=None), "synthetic"),
        (lambda: remove_copies(value, BATCH, controls=None), "training"),
        (lambda: find_duplicates(value), "training"),
    ):
        message = refusal_of(call)
        assert message is not None
        assert any(words in message for words in (side, "nowhere", "entry 0"))


@pytest.mark.parametrize(
    "what", sorted(set(IN_MEMORY) - {"nothing", "number", "function", "mapping", "text", "empty text"})
)
def test_pairs_in_memory_that_cannot_be_used_are_refused(place, what):
    try:
        message = refusal_of(deepssim, IN_MEMORY[what], BATCH)
    except TypeError as error:
        message = str(error)
    assert message


def spoilt(path: Path, how: str) -> None:
    content = path.read_bytes()
    changed = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "header": content[:100],
        "zeros": bytes(len(content)),
        "text": b"no image",
        "web page": b"<!DOCTYPE html>",
        "random": np.random.default_rng(1).bytes(len(content)),
        "head flipped": bytes(255 - byte for byte in content[:200]) + content[200:],
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["empty", "half", "header", "zeros", "text", "web page", "random", "head flipped"])
@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".nii", ".nii.gz", ".npy", ".mha", ".nrrd"]
)
def test_a_damaged_file_is_named_and_gives_no_image(place, suffix, how):
    import nibabel as nib

    path = Path(f"image{suffix}")
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    if suffix.startswith(".nii"):
        nib.save(nib.Nifti1Image(pixels[:, :, None].astype(np.int16), np.eye(4)), path)
    elif suffix == ".npy":
        np.save(path, pixels)
    elif suffix in (".mha", ".nrrd"):
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))
    else:
        Image.fromarray(pixels).save(path)
    spoilt(path, how)
    images: list = []
    message = refusal_of(lambda: images.extend(load_slice(item) for item in list_images(path)))
    if how == "half" and message is None:  # some decoders give what is there
        assert all(torch.isfinite(image).all() for image in images)
    else:
        assert path.name in message


def test_an_item_of_a_data_list_is_no_config(place):
    item = {"image": "a.png", "_target_": "os.mkdir", "path": "$ran", "note": "$__import__('os').mkdir('ran')"}
    (item,) = list_images([item])
    assert item["note"].startswith("$")
    assert not Path("ran").exists()
