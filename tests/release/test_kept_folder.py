"""Files come into the new folder as copies or links, whole or not at all, and never over anything."""

import json
import os
from pathlib import Path

import pytest

from monai_deepssim.audit.clean_up.file_units import file_units, source_root
from monai_deepssim.audit.sources import Side
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.release import check_kept_folder, write_kept_files


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "deep" / "a.png").write_bytes(b"a")
    (tmp_path / "set" / "b.png").write_bytes(b"b")
    (tmp_path / "set" / "c.png").write_bytes(b"c")
    return tmp_path / "set"


def kept(source: Path, *names: str) -> dict[str, str]:
    return {name: str(source / name) for name in names}


def test_copies_are_files_of_their_own(source, tmp_path) -> None:
    assert write_kept_files(tmp_path / "new", kept(source, "deep/a.png"), "copy", source)
    new = tmp_path / "new" / "deep" / "a.png"
    assert new.read_bytes() == b"a"
    assert not new.is_symlink()
    assert not os.path.samefile(new, source / "deep" / "a.png")


def test_links_lead_to_the_files_from_anywhere(source, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_kept_files(Path("soft"), {"deep/a.png": "set/deep/a.png"}, "symlink", Path("set"))
    write_kept_files(Path("hard"), {"deep/a.png": "set/deep/a.png"}, "hardlink", Path("set"))
    monkeypatch.chdir("/")
    assert os.path.isabs(os.readlink(tmp_path / "soft" / "deep" / "a.png"))
    for folder in ("soft", "hard"):
        assert os.path.samefile(tmp_path / folder / "deep" / "a.png", source / "deep" / "a.png")
    assert not (tmp_path / "hard" / "deep" / "a.png").is_symlink()


def test_what_is_there_already_is_left_as_it_is_and_anything_else_is_refused(source, tmp_path) -> None:
    new = tmp_path / "new"
    assert write_kept_files(new, kept(source, "b.png", "c.png"), "copy", source)
    assert not write_kept_files(new, kept(source, "b.png", "c.png"), "copy", source)
    with pytest.raises(UnusableInputError, match=r"c\.png"):
        write_kept_files(new, kept(source, "b.png"), "copy", source)
    (new / "c.png").write_bytes(b"changed")
    with pytest.raises(UnusableInputError, match=r"c\.png"):
        write_kept_files(new, kept(source, "b.png", "c.png"), "copy", source)
    assert (new / "c.png").read_bytes() == b"changed"


def test_a_folder_is_written_whole_or_not_at_all(source, tmp_path) -> None:
    with pytest.raises(UnusableInputError):
        write_kept_files(tmp_path / "new", kept(source, "b.png", "missing.png"), "copy", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]
    assert (source / "b.png").read_bytes() == b"b"


def test_a_manifest_that_is_not_ours_is_not_written_over(tmp_path) -> None:
    (tmp_path / "manifest.csv").write_text("name,owner\n")
    with pytest.raises(UnusableInputError, match="not one of this workflow's files"):
        check_kept_folder(tmp_path / "new", tmp_path / "manifest.csv", ["file", "kept"])
    check_kept_folder(tmp_path / "new", tmp_path / "another.csv", ["file", "kept"])


def test_of_a_list_the_rows_of_the_files_that_are_kept_go_with_them(source, tmp_path) -> None:
    (source / "list.csv").write_text("image;age\nb.png;40\n./c.png;50\ndeep;60\n")
    write_kept_files(tmp_path / "new", kept(source, "deep/a.png", "c.png"), "copy", source / "list.csv")
    assert (tmp_path / "new" / "list.csv").read_text().split() == ["image,age", "c.png,50", "deep,60"]
    assert not write_kept_files(tmp_path / "new", kept(source, "deep/a.png", "c.png"), "copy", source / "list.csv")

    rows = {"name": "mine", "training": [{"image": "b.png", "slice": 3}, {"image": "c.png"}]}
    (source / "list.json").write_text(json.dumps(rows))
    write_kept_files(tmp_path / "other", kept(source, "b.png"), "copy", source / "list.json")
    written = json.loads((tmp_path / "other" / "list.json").read_text())
    assert written == {"name": "mine", "training": [{"image": "b.png", "slice": 3}]}


def test_a_list_that_is_given_away_names_files_and_slices_alone(source, tmp_path) -> None:
    files = kept(source, "b.png")
    (source / "list.csv").write_text("patient_id,image,slice\nMRN-12,b.png,\nMRN-13,c.png,\n")
    write_kept_files(tmp_path / "new", files, "copy", source / "list.csv", names_only=True)
    assert (tmp_path / "new" / "list.csv").read_text().split() == ["image,slice", "b.png,"]
    rows = {"test": [{"image": "c.png"}], "training": [{"image": "b.png", "patient_id": "MRN-12", "slice": 3}]}
    (source / "list.json").write_text(json.dumps(rows))
    write_kept_files(tmp_path / "other", files, "copy", source / "list.json", names_only=True)
    written = json.loads((tmp_path / "other" / "list.json").read_text())
    assert written == {"training": [{"image": "b.png", "slice": 3}]}


def test_slices_of_a_volume_and_files_of_a_series_stand_and_fall_together() -> None:
    items = [
        {"image": "/d/1.dcm", "slice": 0, "files": ("/d/1.dcm", "/d/2.dcm")},
        {"image": "/v.nii", "slice": 4},
        {"image": "/d/1.dcm", "slice": 1, "files": ("/d/1.dcm", "/d/2.dcm")},
        {"image": "/d/2.dcm", "slice": None},  # the same file, named in a list by itself
        {"image": "/v.nii", "slice": 5},
    ]
    assert [(unit.files, unit.indices) for unit in file_units(items)] == [
        (("/d/1.dcm", "/d/2.dcm"), (0, 2, 3)),
        (("/v.nii",), (1, 4)),
    ]


def test_paths_are_relative_to_the_folder_the_list_or_the_part_of_a_pattern_without_wildcard(source) -> None:
    (source / "list.csv").write_text("image\nb.png\n")
    for named in (source, source / "list.csv", source / "*" / "a.png"):
        assert source_root(Side("training", named, [], [])) == source


def test_paths_of_a_list_are_relative_to_the_folder_that_its_files_share(source) -> None:
    items = [{"image": str(source / "a" / name), "path": name} for name in ("1.png", "b/2.png")]
    side = Side("training", Path("training images in memory"), items, [], in_memory=True)
    assert source_root(side) == source / "a"
