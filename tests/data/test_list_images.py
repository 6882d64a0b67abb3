"""Folders, patterns, files, CSVs and data lists to items."""

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from monai_deepssim.data import files_of, list_images, load_slice, scan_images
from monai_deepssim.errors import UnusableInputError


@pytest.fixture
def picture(brain_slice):
    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(brain_slice).save(path)
        return path

    return write


def paths(items: list[dict]) -> list[str]:
    return [item["path"] for item in items]


def test_a_folder_is_searched_recursively_and_listed_in_order(tmp_path, picture):
    for name in ("b/2.png", "a.jpeg", "b/1.TIF", "b/c/10.png", "b/c/9.jpg"):
        picture(tmp_path / name)
    items = list_images(tmp_path)
    assert paths(items) == ["a.jpeg", "b/1.TIF", "b/2.png", "b/c/10.png", "b/c/9.jpg"]
    assert items == list_images(str(tmp_path))
    assert items[0] == {
        "image": str(tmp_path / "a.jpeg"),
        "path": "a.jpeg",
        "patient_id": "",
        "slice": 0,
        "slice_axis": 2,
        "volume": False,
        "files": "",
        "window": "",
        "spacing": "",
    }
    assert all(load_slice(item).shape == (1, 233, 197) for item in items)


def test_what_is_no_image_is_reported_with_its_reason(tmp_path, picture):
    picture(tmp_path / "a.png")
    picture(tmp_path / "._a.png")
    picture(tmp_path / ".cache/b.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "plan").write_bytes(Path(get_testdata_file("rtplan.dcm")).read_bytes())
    listing = scan_images(tmp_path)
    assert paths(listing.items) == ["a.png"]
    assert {file["path"]: (file["kind"], file["reason"]) for file in listing.ignored} == {
        "._a.png": ("unread", "a hidden file that could be an image"),
        ".cache": ("unread", "a hidden folder with files that could be images, such as b.png"),
        "notes.txt": ("note", "a table or note beside the images"),
        "plan": ("unread", "DICOM without an image (RT Plan Storage)"),
    }
    with pytest.warns(UserWarning, match=r"4 files were ignored: .*hidden"):
        assert list_images(tmp_path) == listing.items


def test_extensions_keep_only_what_was_asked_for(tmp_path, picture):
    for name in ("a.png", "b.tif"):
        picture(tmp_path / name)
    nib.save(nib.Nifti1Image(np.eye(9), np.eye(4)), tmp_path / "c.nii.gz")
    listing = scan_images(tmp_path, extensions=["png", ".NII.GZ"])
    assert paths(listing.items) == ["a.png", "c.nii.gz"]
    assert listing.ignored[0]["path"] == "b.tif"
    with pytest.raises(UnusableInputError, match=r"\.txt is not read"):
        scan_images(tmp_path, extensions=["txt"])


def test_a_single_file_is_a_source(tmp_path, picture):
    assert paths(list_images(picture(tmp_path / "a.png"))) == ["a.png"]
    assert paths(list_images(tmp_path / "a.png", slices="all")) == ["a.png"]


def test_a_pattern_takes_the_real_images_of_the_published_layout(tmp_path, picture):
    for uid in ("IXI002", "IXI013"):
        for name in ("training", "gen-0", "gen-1"):
            picture(tmp_path / uid / f"{name}.png")
    real = list_images(tmp_path / "*" / "training.png")
    assert paths(real) == ["IXI002/training.png", "IXI013/training.png"]
    assert [item["patient_id"] for item in real] == ["IXI002", "IXI013"]
    assert len(list_images(str(tmp_path / "**" / "gen-*.png"))) == 4


def test_an_unknown_patient_is_empty_and_not_one_per_folder(tmp_path, picture):
    picture(tmp_path / "scanner_a" / "1.png")
    assert list_images(tmp_path)[0]["patient_id"] == ""
    assert list_images(tmp_path, patient_id_pattern="folder")[0]["patient_id"] == "scanner_a"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"sub-(\d+)", ["012", ""]),
        (r"(ses|sub)-(?P<patient_id>\w+)/", ["012", ""]),
        ("folder", ["sub-012", ""]),
        (None, ["", ""]),
        (r"^(x)?sub", ["", ""]),
    ],
)
def test_patients_are_told_from_the_relative_path(tmp_path, picture, pattern, expected):
    for name in ("sub-012/anat/t1.png", "unnamed.png"):
        picture(tmp_path / "sub-999" / name)
    items = list_images(tmp_path / "sub-999", patient_id_pattern=pattern)
    assert [item["patient_id"] for item in items] == expected


@pytest.mark.parametrize("pattern", [r"sub-\d+", "sub-(", "*"])
def test_a_pattern_that_names_no_patient_is_refused(tmp_path, picture, pattern):
    picture(tmp_path / "sub-1.png")
    with pytest.raises(UnusableInputError, match="patient_id_pattern"):
        list_images(tmp_path, patient_id_pattern=pattern)


def test_a_pattern_that_backtracks_without_end_is_refused_with_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_deepssim.data.patient_ids._LONGEST_SECONDS", 0.2)
    (tmp_path / f"{'a' * 60}.png").write_bytes(b"")
    with pytest.raises(UnusableInputError, match=r"took more than 0.2 seconds for the path 'a{60}.png'"):
        list_images(tmp_path, patient_id_pattern="((a+)+)z")


def test_a_volume_gives_its_middle_axial_slice_unless_others_are_asked_for(tmp_path, icbm152_file):
    shutil.copy(icbm152_file, tmp_path / "sub-01.nii.gz")
    (item,) = list_images(tmp_path)
    assert (item["path"], item["slice"]) == ("sub-01.nii.gz", 94)
    items = list_images(tmp_path, slices="60:100:20")
    assert paths(items) == ["sub-01.nii.gz#z=60", "sub-01.nii.gz#z=80"]
    (coronal,) = list_images(tmp_path, slices=-1, slice_axis=1)
    assert (coronal["path"], coronal["slice"]) == ("sub-01.nii.gz#y=232", 232)
    assert len(list_images(tmp_path, slices="all", slice_axis=0)) == 197


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (None, [4]),
        (3, [3]),
        ([7, 1], [7, 1]),
        ((2,), [2]),
        ("3", [3]),
        ("[3,-1]", [3, 7]),
        ("ALL", list(range(8))),
        ("5:", [5, 6, 7]),
        (":-6", [0, 1]),
        ("-3:", [5, 6, 7]),
        ("1:8:3", [1, 4, 7]),
        ("6:100", [6, 7, 8]),
        ("20:40", [20]),
        (12, [12]),
    ],
)
def test_slices_are_chosen_and_none_that_is_missing_goes_unseen(tmp_path, lopsided, slices, expected):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "v.nii")
    items = list_images(tmp_path, slices=slices)
    assert [item["slice"] for item in items] == expected
    for item in items:
        if item["slice"] < 8:
            load_slice(item)
        else:
            with pytest.raises(UnusableInputError, match=r"v\.nii: slice \d+ .* 8 axial slices \(0 to 7\)"):
                load_slice(item)


@pytest.mark.parametrize("slices", ["", "middle", "1:2:3:4", "5:3", "1:9:0", 0.5, [0.5], [], True, "1;2", {"a": 1}])
def test_slices_that_mean_nothing_are_refused(tmp_path, picture, slices):
    picture(tmp_path / "a.png")
    with pytest.raises(UnusableInputError, match="slices="):
        list_images(tmp_path, slices=slices)


@pytest.mark.parametrize("slice_axis", [3, -1, "z", True, None])
def test_a_slice_axis_that_means_nothing_is_refused(tmp_path, picture, slice_axis):
    picture(tmp_path / "a.png")
    with pytest.raises(UnusableInputError, match=r"slice_axis .* 0 \(sagittal\)"):
        list_images(tmp_path, slice_axis=slice_axis)


@pytest.mark.parametrize("column", ["image", "path", "filename", "Filename"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_names_files_patients_and_slices(tmp_path, picture, icbm152_file, column, separator):
    picture(tmp_path / "images" / "b.png")
    shutil.copy(icbm152_file, tmp_path / "t1.nii.gz")
    rows = [[column, "patient_id", "slice", "sex"], ["t1.nii.gz", "007", "80", "f"], ["images/./b.png", "", "", "m"]]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n"
    (tmp_path / "list.csv").write_text(text, encoding="utf-8", newline="")
    items = list_images(tmp_path / "list.csv", patient_id_pattern=r"(\w)\.png")
    assert paths(items) == ["t1.nii.gz#z=80", "images/b.png"]
    assert [item["patient_id"] for item in items] == ["007", "b"]
    assert [item["slice"] for item in items] == [80, 0]
    assert [item["sex"] for item in items] == ["f", "m"]
    assert load_slice(items[0]).shape == load_slice(items[1]).shape == (1, 233, 197)


@pytest.mark.parametrize("name", ["../secret.png", "images/../../secret.png", "/etc/passwd", ".", ""])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_list_cannot_reach_outside_of_its_folder(tmp_path, picture, name, kind):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "data" / "images" / "a.png")
    file = tmp_path / "data" / f"list.{kind}"
    text = f"image,patient_id\nimages/a.png,1\n{name},2\n"
    file.write_text(text if kind == "csv" else json.dumps([{"image": "images/a.png"}, {"image": name}]))
    where = "line 3" if kind == "csv" else "entry 1"
    with pytest.raises(UnusableInputError, match=rf"list\.{kind}, {where}: .*(inside|no file)"):
        list_images(file)


def test_a_list_with_missing_files_is_refused_with_the_line_and_their_number(tmp_path, picture):
    picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image\na.png\nb.png\nc.png\n")
    with pytest.raises(UnusableInputError, match=r"line 3: .*b\.png does not exist, nor do the files of 1 other rows"):
        list_images(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("real_key,synth_key,label\na,b,1\n", "labelled_pairs"),
        ("name\na.png\n", "one that is named image, path or filename"),
        ("image\n", "no rows"),
        ("", "no rows"),
        ("image,patient_id\na.png\n", "line 2: the row has 1 cells"),
        ("image,slice\na.png,top\n", "line 2: slice is 'top'"),
        ("image\nlist.csv\n", "line 2: .* is not a PNG"),
    ],
)
def test_a_csv_that_is_no_list_of_images_is_refused(tmp_path, picture, text, message):
    picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UnusableInputError, match=message):
        list_images(tmp_path / "list.csv")


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"training": rows, "validation": []}])
def test_a_monai_data_list_is_a_source_in_memory_and_as_json(tmp_path, picture, wrap):
    picture(tmp_path / "a.png")
    rows = [{"image": "a.png", "patient_id": 7, "label": 1}]
    (tmp_path / "datalist.json").write_text(json.dumps(wrap(rows)))
    (from_json,) = list_images(tmp_path / "datalist.json")
    assert (from_json["path"], from_json["patient_id"], from_json["label"]) == ("a.png", "7", 1)
    (in_memory,) = list_images([{"image": tmp_path / "a.png", "label": 1}])
    assert in_memory["image"] == in_memory["path"] == str(tmp_path / "a.png")


def test_listed_items_are_a_source_again(tmp_path, picture, lopsided, write_series):
    picture(tmp_path / "P1" / "a.png")
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "P1" / "v.nii")
    write_series(tmp_path / "P2", lopsided, 2, [f"{i}.dcm" for i in range(8)])
    for slices in (None, "2:5"):
        items = list_images(tmp_path, slices=slices, patient_id_pattern="folder")
        assert list_images(items) == items


@pytest.mark.parametrize("rows", [[{"label": 1}], [{"image": ["a.png", "b.png"]}], ["a.png"], [{"image": 3}]])
def test_an_entry_without_one_file_is_refused(rows):
    with pytest.raises(UnusableInputError, match=r"entry 0 of the data list: .*'image'"):
        list_images(rows)


def test_an_entry_may_be_a_folder_of_dicom_files(tmp_path, lopsided, write_series):
    write_series(tmp_path / "P1" / "T1", lopsided, 2, [f"IM{i}" for i in range(8)])
    (item,) = list_images([{"image": str(tmp_path / "P1" / "T1"), "patient_id": "P1"}])
    assert (item["patient_id"], item["slice"], len(files_of(item))) == ("P1", 4, 8)


def test_a_file_that_a_pattern_matches_twice_is_listed_once(tmp_path, picture):
    picture(tmp_path / "P1" / "a.png")
    assert paths(scan_images(tmp_path / "**").items) == ["P1/a.png"]


def test_links_that_lead_in_circles_end(tmp_path, picture):
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    listing = scan_images(tmp_path)
    assert paths(listing.items) == ["a/1.png"]
    assert [file["path"] for file in listing.ignored] == ["a/up", "b"]


def test_links_to_places_elsewhere_are_followed_only_where_asked(tmp_path, picture):
    picture(tmp_path / "store" / "1.png")
    picture(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "store", target_is_directory=True)
    (tmp_path / "data" / "b.png").symlink_to(tmp_path / "store" / "1.png")
    listing = scan_images(tmp_path / "data")
    assert paths(listing.items) == ["a.png"]
    assert [(file["path"], file["kind"]) for file in listing.ignored] == [("b.png", "link"), ("linked", "link")]
    matched = scan_images(tmp_path / "data" / "*")
    assert (paths(matched.items), [file["path"] for file in matched.ignored]) == (["a.png"], ["b.png", "linked"])
    with pytest.raises(UnusableInputError, match="--follow_links true"):
        scan_images(tmp_path / "data" / "*" / "1.png")
    followed = scan_images(tmp_path / "data", follow_links=True)
    assert paths(followed.items) == ["a.png", "b.png"]
    assert [(repeat.item["path"], repeat.first) for repeat in followed.repeats] == [("linked/1.png", "b.png")]
    # A source that is a link itself was named by the user.
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    assert paths(scan_images(tmp_path / "alias").items) == ["a.png"]
    assert paths(scan_images(tmp_path / "*a*" / "a.png").items) == ["data/a.png"]


def test_nothing_to_list_ends_in_words(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "list.json").write_text("{}")
    for source, message in [
        (tmp_path / "missing", "missing: there is no such file or folder"),
        (tmp_path / "*.png", "nothing matches this pattern"),
        (tmp_path / "empty", "empty: there are no images in it"),
        (tmp_path / "texts", r"no images in it \(1 files ignored, such as a\.txt: a table or note"),
        (tmp_path / "texts" / "a.txt", "nor a CSV or JSON list"),
        (tmp_path / "list.json", "wanted a list of objects with 'image'"),
        ([], "the data list: there are no images"),
    ]:
        with pytest.raises(UnusableInputError, match=message):
            list_images(source)
    with pytest.raises(TypeError, match="source must be a path"):
        list_images(2024)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_opened_ends_the_listing(tmp_path, picture, monkeypatch):
    picture(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnusableInputError, match="locked: the folder cannot be opened"):
        list_images(tmp_path)
