"""The bytes that are read are the bytes that were hashed, whatever is done to a file in between."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import monai_deepssim.data.loading as loading
from monai_deepssim import UnusableInputError
from monai_deepssim.data import (
    CHANGED,
    UNREADABLE,
    DerivedImage,
    ImageDataset,
    check_unchanged,
    content_of,
    digest_of_images,
    hash_items,
    load_slice,
)
from monai_deepssim.files import hash_file

SIZE = (8, 8)


def write(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, SIZE, dtype=np.uint8)).save(path)


@pytest.fixture
def path(tmp_path) -> Path:
    write(tmp_path / "a.png", 0)
    return tmp_path / "a.png"


@pytest.fixture
def item(path):
    return hash_items([{"image": str(path), "path": "a.png", "slice": None}])[0]


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something to the file when it has been read, but before what was read is used."""

    def when_read(*actions) -> None:
        read, pending = loading._read_pixels, list(actions)

        def read_then_act(*arguments):
            pixels = read(*arguments)
            if pending:
                pending.pop(0)()
            return pixels

        monkeypatch.setattr(loading, "_read_pixels", read_then_act)

    return when_read


def sample(item):
    return ImageDataset([item], image_size=SIZE)[0]


def test_each_file_is_hashed_once_and_an_item_keeps_what_it_was_hashed_with(path, monkeypatch) -> None:
    opened = []
    hash_stream = loading.read_unchanged.__globals__["hash_stream"]
    monkeypatch.setitem(
        loading.read_unchanged.__globals__, "hash_stream", lambda stream: opened.append(1) or hash_stream(stream)
    )
    items = [{"image": str(path), "path": "a.png", "slice": number} for number in range(3)]
    hashed = hash_items(items)
    assert [content_of(item) for item in hash_items(hashed)] == [hash_file(path)] * 3
    assert len(opened) == 1
    assert "contents" not in items[0]


@pytest.mark.parametrize("other", [{"slice": "4"}, {"slice_axis": "0"}, {"window": "40,80"}, {"volume": "whole"}])
def test_one_file_read_in_another_way_is_another_set(path, other) -> None:
    item = {"image": str(path), "path": "a.png", "slice": "3", "slice_axis": "2", "window": "40,400"}
    digest = digest_of_images([item])
    assert digest == digest_of_images([dict(item)])
    assert digest != digest_of_images([{**item, **other}])
    volumes = [{**item, "volume": "whole", "spacing": spacing} for spacing in ("", "1,1,1", "2,2,2")]
    assert len({digest_of_images([volume]) for volume in volumes}) == 3


def test_a_file_that_was_replaced_is_no_longer_read(path, item) -> None:
    before = hash_file(path)
    write(path, 1)
    assert sample(item)["problem_kind"] == CHANGED
    with pytest.raises(UnusableInputError) as refused:
        load_slice(item)
    for words in (str(path), "changed while the audit was running", before, hash_file(path)):
        assert words in str(refused.value)


def test_a_file_that_keeps_size_and_time_of_change_is_known_by_its_other_state(path, item) -> None:
    times, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sample(item)["problem_kind"] == CHANGED


def test_a_file_that_changes_after_it_was_read_gives_nothing(path, item, meanwhile) -> None:
    meanwhile(lambda: write(path, 1))
    assert sample(item)["problem_kind"] == CHANGED


def test_a_file_that_held_something_else_only_while_it_was_read_is_read_again(path, item, meanwhile) -> None:
    expected, original = load_slice(item), path.read_bytes()
    write(path, 1)  # what is read first
    meanwhile(lambda: path.write_bytes(original))
    assert torch.equal(load_slice(item), expected)


def test_a_file_that_is_only_touched_is_read(path, item) -> None:
    expected = load_slice(item)
    os.utime(path)
    path.chmod(0o600)
    assert torch.equal(load_slice(item), expected)
    check_unchanged([item])


def test_a_damaged_file_is_damaged_and_one_that_was_damaged_meanwhile_has_changed(path, item, tmp_path) -> None:
    (tmp_path / "b.png").write_bytes(path.read_bytes()[:60])
    damaged = hash_items([{"image": str(tmp_path / "b.png"), "path": "b.png", "slice": None}])[0]
    assert sample(damaged)["problem_kind"] == "damaged"
    path.write_bytes(path.read_bytes()[:60])
    assert sample(item)["problem_kind"] == CHANGED


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle"), MemoryError()],
    ids=lambda error: type(error).__name__ + str(getattr(error, "errno", "")),
)
def test_a_file_that_cannot_be_read_for_a_moment_is_not_damaged(item, monkeypatch, error) -> None:
    def fail(*_):
        raise error

    monkeypatch.setattr("monai_deepssim.data.readers.pictures.PictureReader.read", fail)
    assert sample(item)["problem_kind"] == UNREADABLE
    monkeypatch.undo()
    assert sample(item)["problem_kind"] == ""


def test_a_file_that_has_gone_may_come_back(path, item) -> None:
    content = path.read_bytes()
    path.unlink()
    assert sample(item)["problem_kind"] == UNREADABLE
    assert "does not exist" in sample(item)["problem"]
    path.write_bytes(content)
    assert sample(item)["problem_kind"] == ""


def test_a_file_that_could_not_be_hashed_is_not_read_under_that_name(path) -> None:
    content = path.read_bytes()
    path.unlink()
    item = hash_items([{"image": str(path), "path": "a.png", "slice": None}])[0]
    assert content_of(item).startswith("unreadable: No such file")
    path.write_bytes(content)
    assert sample(item)["problem_kind"] == UNREADABLE
    assert "could not be read when it was hashed" in sample(item)["problem"]


def test_an_image_that_is_made_of_a_file_that_changed_has_changed(path, item) -> None:
    control = {"image": DerivedImage((item,), lambda image: image.flip(2), "flipped"), "path": "a control"}
    assert sample(control)["problem_kind"] == ""
    write(path, 1)
    assert sample(control)["problem_kind"] == CHANGED


def test_all_files_of_a_series_are_watched(tmp_path) -> None:
    names = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, name in enumerate(names):
        write(Path(name), number)
    item = hash_items([{"image": names[0], "files": names, "path": "series", "slice": None}])[0]
    assert content_of(item) == " ".join(hash_file(name) for name in names)
    check_unchanged([item])
    write(Path(names[2]), 7)
    with pytest.raises(UnusableInputError, match=r"2\.png: changed while"):
        check_unchanged([item])


def test_the_check_at_the_end_names_a_file_and_counts_the_others(tmp_path) -> None:
    items = []
    for number in range(4):
        write(tmp_path / f"{number}.png", number)
        items.append({"image": str(tmp_path / f"{number}.png"), "path": f"{number}.png", "slice": None})
    items = hash_items(items)
    check_unchanged(items)
    write(tmp_path / "1.png", 9)
    (tmp_path / "3.png").unlink()
    with pytest.raises(UnusableInputError, match=r"1\.png: changed .* And 1 more files"):
        check_unchanged(items)


def test_a_file_that_is_written_to_while_it_is_hashed_is_refused(path, monkeypatch) -> None:
    count = iter(range(100))

    def hash_and_write(_) -> str:
        write(path, next(count))
        return "0" * 64

    monkeypatch.setitem(loading.read_unchanged.__globals__, "hash_stream", hash_and_write)
    with pytest.raises(UnusableInputError, match=r"a\.png: is written to while it is read"):
        hash_items([{"image": str(path), "path": "a.png", "slice": None}])
