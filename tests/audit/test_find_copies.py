"""An audit as a function: every form of a side, nothing printed or written unless asked, and a result to work with."""

import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset
from PIL import Image

import monai_deepssim
from monai_deepssim import UnusableInputError, find_copies
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.report import HELD_OUT_COLUMNS, MATCHES_COLUMNS, MEMORIZED_COLUMNS


@pytest.fixture(scope="module")
def phantoms():
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(14, seed=41, progress=False)])


@pytest.fixture(scope="module")
def sides(phantoms):
    """Eight training images; four synthetic ones, of which the first two are mirrored copies."""
    return phantoms[:8], torch.cat([phantoms[2:4].flip(3), phantoms[8:10]])


@pytest.fixture(scope="module")
def result(sides):
    return find_copies(
        *sides, patient_ids=["a", "a", "b", "b", "c", "c", "d", ""], max_copy_fraction=0.1, controls=None
    )


def copies_of(result):
    return result.matches[result.matches["label"] == "duplicate"].sort_index()["training_path"].tolist()


def save(folder, images):
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8)).save(path)
    return paths


def test_a_result_has_the_tables_of_the_files(result):
    assert list(result.matches) == MATCHES_COLUMNS
    assert copies_of(result) == ["training[2]", "training[3]"]
    assert list(result.memorized) == MEMORIZED_COLUMNS
    assert set(result.memorized["patient_id"]) == {"b"}
    assert result.held_out is None
    assert (result.copy_fraction.count, result.copy_fraction.total) == (2, 4)


def test_a_gate_that_is_not_passed_is_a_part_of_the_result(result):
    assert result.gate.result == "exceeded"
    assert "exceeded" in repr(result)
    assert "training[2]" in result._repr_html_()


def test_nothing_is_printed_or_written_unless_asked(sides, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    find_copies(*sides, controls=None)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


FORMS = ["folder", "text", "paths", "data list", "array", "dataset", "list of dictionaries"]
FORMS += ["list of tensors", "dataset of arrays", "bfloat16", "flipped array"]


@pytest.mark.parametrize("form", FORMS)
def test_a_side_has_any_form_that_images_come_in(sides, tmp_path, form):
    training, synthetic = sides
    paths = save(tmp_path / "training", training)
    source = {
        "folder": tmp_path / "training",
        "text": str(tmp_path / "training"),
        "paths": paths,
        "data list": [{"image": str(path), "patient_id": "p"} for path in paths],
        "array": training.numpy(),
        "dataset": Dataset([{"image": image, "patient_id": "p"} for image in training]),
        "list of dictionaries": [{"image": image} for image in training],
        "list of tensors": list(training),
        "dataset of arrays": Dataset(training.numpy()),
        "bfloat16": training.bfloat16(),
        "flipped array": training.numpy()[..., ::-1],
    }[form]
    found = copies_of(find_copies(source, synthetic, controls=None))
    assert [re.search(r"(\d)(\]|\.png)$", path)[1] for path in found] == ["2", "3"]


def test_held_out_images_and_an_output_folder(sides, phantoms, tmp_path):
    result = find_copies(
        *sides,
        holdout=phantoms[10:14],
        patient_ids={"training": [*"abcdef", None, float("nan")], "holdout": list("wxyz")},
        output_dir=tmp_path / "out",
        top_k=np.int64(5),
        image_size=np.array([136, 112]),
        controls=None,
        device=torch.device("cpu"),
    )
    assert list(result.held_out) == HELD_OUT_COLUMNS
    assert set(result.held_out["patient_id"]) == set("wxyz")
    # Of two images nobody knows the patient, which makes them no one patient.
    assert [item["patient_id"] for item in result.training.usable_items] == [*"abcdef", "", ""]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["num_copies"] == 2
    again = find_copies(*sides, output_dir=str(tmp_path / "out"), controls=None)
    assert (result.training.continued, again.training.continued) == (False, True)
    table = pd.read_csv(tmp_path / "out" / "matches.csv").sort_values("score", ascending=False)
    assert np.allclose(table["score"], result.matches["score"], atol=1e-6)


def test_a_result_can_be_pickled_saved_and_shown(result, tmp_path):
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(again.matches, result.matches)
    again.save(tmp_path / "saved")
    again.to_html(tmp_path / "alone" / "report.html")
    assert "training[2]" in (tmp_path / "alone" / "report.html").read_text(encoding="utf-8")
    assert {"files.csv", "matches.csv", "memorized.csv", "patients.csv", "report.html", "summary.json"} == {
        p.name for p in (tmp_path / "saved").iterdir()
    }
    row = result.matches.index[0]
    assert len(result.show_pair(row)) == 4
    with pytest.raises(UnusableInputError, match="row: got 99, want an index"):
        result.show_pair(99)
    assert result.plot_scores().get_xlabel().startswith("copy score of the nearest training image")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": torch.rand(3, 2, 64, 64)}, r"training: got images of shape \(3, 2, 64, 64\), want \(N, 1,"),
        ({"training": torch.rand(3, 64, 64)}, r"Add the channel: images\[:, None\]"),
        ({"training": torch.rand(3, 64, 64, 1)}, "Move the channel to the second place"),
        ({"training": torch.rand(3, 3, 64, 64)}, "Take the mean of the three colours"),
        ({"training": torch.rand(3, 1, 64, 64, 64)}, 'Give volumes="true" for volumes'),
        ({"training": 300 * torch.rand(3, 1, 64, 64)}, r"training\[0\]: got intensities from .* want \[0, 1\]. Scale"),
        ({"training": (255 * torch.rand(3, 1, 64, 64)).byte()}, "Divide all images by 255"),
        ({"training": [{"t1": torch.rand(1, 64, 64)}]}, r"training\[0\]: got a dictionary with 't1', want one with"),
        (
            {"training": Dataset([{"image": "a.png"}])},
            r"training\[0\]: got the path 'a.png' .* Give the dictionaries as",
        ),
        ({"training": [(torch.rand(1, 64, 64), 0)]}, r"training\[0\]: got tuple, want an image \(1, rows, columns\)"),
        (
            {"training": DataLoader(torch.rand(3, 1, 64, 64))},
            "training: got DataLoader, .* Give the dataset that it reads",
        ),
        ({"training": map(str, ["a.png"])}, "training: got map, .* Give a list of them"),
        ({"training": pd.DataFrame({"image": ["a.png"]})}, "training: got DataFrame, .* Give a list of them"),
        ({"training": b"training"}, "training: got bytes, want a folder"),
        ({"training": None}, "training: got None, want images"),
        ({"synthetic": None}, "synthetic: got None, want images"),
        ({"patient_ids": ["a"]}, "patient_ids: got 1 for the 8 training images"),
        ({"patient_ids": 5}, "patient_ids: got int for the training images, want one for each"),
        ({"patient_ids": {"train": ["a"] * 8}}, "patient_ids: got 'train', want sides that are given: training, synth"),
        ({"patient_ids": {"holdout": ["a"]}}, "patient_ids: got 'holdout', want sides that are given"),
        ({"topk": 3}, "--topk: there is no such option. Did you mean --top_k?"),
        ({"training_dir": "a"}, "--training_dir: there is no such option"),
        ({"training": "no_such_folder"}, "no_such_folder"),
        ({"training": 5}, "training: got int, want a folder"),
    ],
)
def test_what_cannot_be_used_is_an_error_in_words(sides, change, words):
    arguments = {"training": sides[0], "synthetic": sides[1], **change}
    with pytest.raises(UnusableInputError, match=words):
        find_copies(**arguments)


@pytest.mark.parametrize("form", ["paths", "pattern", "data list"])
def test_no_result_is_written_among_the_images_of_a_list_or_a_pattern(sides, tmp_path, form):
    paths = save(tmp_path / "training", sides[0])
    source = {"paths": paths, "pattern": tmp_path / "training" / "*.png", "data list": [{"image": str(paths[0])}]}[form]
    with pytest.raises(
        UnusableInputError, match=r"--output_dir: .* holds training images, such as .*png. What the audit"
    ):
        find_copies(source, sides[1], output_dir=tmp_path / "training")
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == sorted(path.name for path in paths)


def test_an_image_with_nan_is_left_out_and_named(sides):
    synthetic = sides[1].clone()
    synthetic[0, 0, 5, 5] = float("nan")
    result = find_copies(sides[0], synthetic, controls=None)
    assert [skipped.path for skipped in result.skipped] == ["synthetic[0]"]
    assert "NaN" in result.skipped[0].reason
    assert len(result.matches) == 3


def test_the_top_level_names_are_there():
    assert {"AuditResult", "UnusableInputError", "find_copies"} <= set(dir(monai_deepssim))
