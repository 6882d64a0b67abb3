"""The list of an audit's files: series and volumes, lists, slices, and what could not be used."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest
from audit_files import write_dicom

from monai_deepssim import UnusableInputError, verify_release
from monai_deepssim.audit import CopyFilter
from monai_deepssim.command import main
from monai_deepssim.data import list_images
from monai_deepssim.engines import EmbeddingStore
from monai_deepssim.files import hash_file
from monai_deepssim.release import FILE_LIST, list_side_files, read_file_list


@pytest.fixture
def folder(tmp_path):
    """A series of three files, a volume of four slices, and a picture that is no picture."""
    pixels = np.arange(64 * 64).reshape(64, 64) % 251
    for number in range(3):
        write_dicom(tmp_path / "set" / "series" / f"IM{number}", pixels + number, series="1.2.3", height=number)
    volume = np.random.default_rng(0).integers(0, 200, (64, 64, 4)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "set" / "volume.nii.gz")
    (tmp_path / "set" / "broken.png").write_bytes(b"")
    return tmp_path / "set"


def records_of(items, unusable, folder):
    hashes = EmbeddingStore("", items, image_size=(64, 64), embedder_id="").file_hashes
    return {record.file: record for record in list_side_files(items, unusable, folder, hashes)}


@pytest.mark.parametrize(("slices", "num_images"), [(None, 1), ("1:3", 2), ("all", 4)])
def test_each_file_of_a_series_and_each_volume_is_listed_once(folder, slices, num_images):
    items = list_images(folder, slices=slices)
    broken = next(position for position, item in enumerate(items) if item["path"] == "broken.png")
    records = records_of(items, [broken], folder)
    assert {name: record.kind for name, record in records.items()} == {
        "broken.png": "skipped",
        "volume.nii.gz": "volume",
        **{f"series/IM{number}": "volume" for number in range(3)},
    }
    assert records["volume.nii.gz"].num_images == num_images
    for name, record in records.items():
        assert record.sha256 == hash_file(folder / name)
        assert record.size_bytes == (folder / name).stat().st_size


def test_a_volume_with_one_slice_that_cannot_be_used_was_not_judged(folder):
    items = list_images(folder, slices="all")
    one_slice = next(position for position, item in enumerate(items) if item["path"] == "volume.nii.gz#z=2")
    assert not records_of(items, [one_slice], folder)["volume.nii.gz"].was_judged


def test_a_file_that_is_gone_is_listed_as_unreadable(folder):
    items = list_images(folder)
    (folder / "volume.nii.gz").unlink()
    record = records_of(items, [], folder)["volume.nii.gz"]
    assert (record.size_bytes, record.sha256) == (0, "unreadable: No such file or directory")


def test_images_in_memory_are_no_files(folder):
    assert list_side_files(list_images(folder), [], None, {}) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing or damaged"),
        ("file,sha256\na.png,1\n", "its columns are file, sha256"),
        ("file,kind,num_images,size_bytes,sha256\na.png,image,1,2\n", "values to unpack"),
        ("file,kind,num_images,size_bytes,sha256\na.png,other,1,2,3\n", "another kind"),
        ("file,kind,num_images,size_bytes,sha256\na.png,image,1,2,3\na.png,image,1,2,4\n", "twice"),
        ('file,kind,num_images,size_bytes,sha256\n"a.png,image,1,2,3\n', "missing or damaged"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path, text, words):
    (tmp_path / FILE_LIST).write_text(text)
    with pytest.raises(UnusableInputError, match=words):
        read_file_list(tmp_path / FILE_LIST)


def test_the_list_beside_what_a_filter_kept_belongs_to_it_and_no_other_does(set_with_copies, run_workflow, tmp_path):
    for side in ("training", "synthetic"):
        shutil.copytree(set_with_copies / side, tmp_path / side)
    with (tmp_path / "synthetic" / "list.csv").open("w", newline="") as file:
        rows = [["copy-1.png", "Jane Doe"], ["a/other-8.png", "John Doe"]]
        csv.writer(file).writerows([["image", "patient_id"], *rows])
    sides = {"synthetic_dir": str(tmp_path / "synthetic" / "list.csv"), "max_copy_fraction": 0.9, "controls": None}
    run_workflow(CopyFilter, tmp_path, tmp_path / "out", **sides)
    release = tmp_path / "out" / "filtered"
    assert json.loads((tmp_path / "out" / "filter.json").read_text())["list"]["file"] == "list.csv"
    assert verify_release(tmp_path / "out", release).differences == ()
    shutil.copy(tmp_path / "synthetic" / "list.csv", release / "list.csv")
    (difference,) = verify_release(tmp_path / "out", release).differences
    assert (difference.file, difference.kind) == ("list.csv", "changed")


def test_it_is_said_that_of_a_volume_only_some_slices_were_judged(set_with_copies, run_workflow, tmp_path, capsys):
    shutil.copytree(set_with_copies / "training", tmp_path / "training")
    phantom = np.random.default_rng(0).integers(0, 200, (64, 64, 4)).astype(np.uint8)
    (tmp_path / "synthetic").mkdir()
    nibabel.save(nibabel.Nifti1Image(phantom, np.eye(4)), tmp_path / "synthetic" / "volume.nii")
    for slices in ("all", "1:3"):
        out = tmp_path / f"out {slices}"
        run_workflow(CopyFilter, tmp_path, out, slices=slices, controls=None)
        main(["verify", str(out), str(tmp_path / "synthetic")])
        assert ("Note: 1 of the files are volumes" in capsys.readouterr().out) == (slices != "all")
